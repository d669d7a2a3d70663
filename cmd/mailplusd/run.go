package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"mailplusd/admin/server"
	"mailplusd/cluster"
	"mailplusd/cluster/forward"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"
	"mailplusd/mail"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// node is everything that runs on this machine, in the order in which it was started.
type node struct {
	cfg     Config
	log     *slog.Logger
	state   *state.State
	bodies  *segment.Store
	cluster *cluster.Node
	mail    *mail.Server
	admin   *server.Server

	room      *room      // on the disk
	book      *pair.Book // what this node is in a pair
	identity  *transport.Identity
	link      *transport.Transport // nil: this node has no link
	gate      *pair.Gate
	links     *bodyLinks
	proposer  *proposer
	floating  *floating
	sharing   *sharing
	counting  *counting
	hooks     *hooks
	ha        *server.HA
	ctl       *pair.Controller
	pair      atomic.Pointer[pair.Controller] // the same, for who may come early or late
	plane     atomic.Pointer[server.Server]   // the admin plane, for who may come early
	accepting atomic.Bool                     // mail may be accepted
	again     chan struct{}                   // the node is to start anew
	broken    chan error                      // message bodies can't be written any more

	devPassword string // of the dev command
	devMade     bool   // this start has made the dev system
	close       []func()
}

// faultTime is how long a node may take to end after a fault.
const faultTime = 10 * time.Second

// run runs a node until ctx ends, and anew when its log has to begin anew.
func run(ctx context.Context, cfg Config) (err error) {
	log, err := newLogger(cfg)
	if err != nil {
		return err
	}
	defer func() { err = logEnd(cfg, log, err) }()
	if err = shareLog(cfg, log); err != nil {
		return err
	}
	if cfg.spawner, err = lessPrivileged(cfg, log); err != nil {
		return err
	}
	if cfg.spawner != nil {
		defer cfg.spawner.Close()
	}
	for {
		if err := runOnce(ctx, cfg); !errors.Is(err, errAgain) {
			return err
		}
	}
}

// runOnce starts a node, serves until ctx ends, and stops it in the opposite order.
func runOnce(ctx context.Context, cfg Config) (err error) {
	log, err := newLogger(cfg)
	if err != nil {
		return err
	}
	n := &node{cfg: cfg, log: log, again: make(chan struct{}, 1), broken: make(chan error, 1)}
	n.accepting.Store(true)
	ended := make(chan struct{})
	defer close(ended)
	defer n.stop()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"data directory", n.openData},
		{"node link", n.openLink},
		{"space on the disk", n.openRoom},
		{"state", n.openState},
		{"message bodies", n.openBodies},
		{"replicated log", n.openCluster},
		{"mail services", n.openMail},
		{"pair", n.openPair},
		{"administration", n.openAdmin},
		{"first set-up", n.setUpDev},
		{"metrics", n.openMetrics},
	} {
		started := time.Now()
		if err := step.do(ctx); err != nil {
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				log.Info("stopping before everything was open", "step", step.name)
				return nil
			}
			return fmt.Errorf("%s: %w", step.name, err)
		}
		log.Debug("started", "step", step.name, "took", time.Since(started))
	}
	n.mail.Start()
	if n.ctl != nil {
		n.ctl.Start()
	}
	n.watchRoom()
	n.announce()
	daemon.SdNotify(false, daemon.SdNotifyReady)
	debug.FreeOSMemory() // what starting took is not needed again
	quiet, stopTrim := context.WithCancel(ctx)
	var trims sync.WaitGroup
	trims.Go(func() { trim(quiet) })
	n.later(func() { stopTrim(); trims.Wait() })
	select {
	case <-ctx.Done():
		log.Info("stopping: finishing what has been accepted")
	case <-n.again:
		log.Info("starting anew")
		return errAgain
	case <-n.cluster.Failed():
		err = n.cluster.Fault()
		log.Error("stopping", "err", err)
	case err = <-n.broken:
		log.Error("stopping", "err", err)
	case <-n.book.Failed():
		err = n.book.Fault()
		log.Error("stopping", "err", err)
	}
	go n.boundEnd(err, ended)
	daemon.SdNotify(false, daemon.SdNotifyStopping)
	return err
}

// boundEnd sees to it that a node ends whose disk has failed, before it began to stop or while it does.
// Who waits for such a disk may wait for ever, and as long as this process is there its address and
// its place in the pair are not free.
func (n *node) boundEnd(err error, ended <-chan struct{}) {
	if err == nil {
		select {
		case err = <-n.broken:
		case <-n.cluster.Failed():
			err = n.cluster.Fault()
		case <-ended:
			return
		}
		n.log.Error("the disk fails while this node stops", "err", err)
	}
	select {
	case <-time.After(faultTime):
		n.log.Error("not everything could be closed")
		os.Exit(1)
	case <-ended:
	}
}

func (n *node) openData(context.Context) error {
	if err := os.MkdirAll(n.cfg.Data, 0o700); err != nil {
		return err
	}
	probe := filepath.Join(n.cfg.Data, ".writable")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return fmt.Errorf("%s is not writable for this user: %w", n.cfg.Data, err)
	}
	if err := os.Remove(probe); err != nil {
		return err
	}
	return n.lockDir(n.cfg.Data)
}

func (n *node) path(elem string) string { return filepath.Join(n.cfg.Data, elem) }

func (n *node) openState(context.Context) (err error) {
	if n.state, err = state.Open(state.Options{Dir: n.path("state"), Node: uint16(n.book.Facts().Self.Number), Logger: n.log,
		OnFault: n.ownFault, NoRoom: func() { n.room.Give() }}); err != nil {
		return err
	}
	n.later(func() { n.done("state", n.state.Close()) })
	return nil
}

func (n *node) openBodies(context.Context) (err error) {
	dial := func(ctx context.Context, node string) (net.Conn, error) {
		if n.link == nil {
			return nil, errors.New("this node has no link")
		}
		return n.link.Dial(ctx, node, transport.Body)
	}
	fault := func(node string, err error) {
		n.log.Error("the other node can't store bodies", "node", node, "err", err)
		if c := n.pair.Load(); c != nil {
			c.PeerFault(err)
		}
	}
	n.bodies, n.links, err = openLinked(segment.Options{
		Dir: n.path("bodies"), Compress: true, Logger: n.log, OnFault: n.ownFault,
		Keep: n.room.keep, Short: n.room.Short, NoRoom: func() { n.room.Give() },
	}, dial, fault)
	if err != nil {
		return err
	}
	n.later(func() { n.links.Close(); n.done("message bodies", n.bodies.Close()) })
	return nil
}

// ownFault is told of what this node could not write. With a full disk it goes on, and the other node is
// to take over; after anything else nobody knows what is on the disk.
func (n *node) ownFault(err error) {
	if !segment.IsNoSpace(err) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		select {
		case n.broken <- err:
		default:
		}
		return
	}
	if c := n.pair.Load(); c != nil {
		c.OwnFault(err)
	}
}

// maxEntry holds a transaction with 10,000 recipients, the most that can be set.
const maxEntry = 8 << 20

func (n *node) openCluster(ctx context.Context) (err error) {
	f := n.book.Facts()
	cfg := cluster.Config{
		ID: n.cfg.Name, DataDir: n.path("raft"), FSM: fsm{n.state}, Logger: n.log, MaxEntry: maxEntry, NoRoom: n.room.Give,
		Bootstrap: f.State == pair.Single, Join: f.State == pair.Joining && f.Partial,
	}
	if f.State != pair.Single {
		// A follower learns of a commit one to two of these later, when nothing else comes.
		cfg.Timeouts.Commit = 10 * time.Millisecond
	}
	if n.link != nil {
		stream := n.link.Stream()
		n.gate = pair.NewGate(peerStream{stream, peerOnly{stream, n.book}})
		cfg.Stream = n.gate
	}
	if n.cluster, err = cluster.Open(cfg); err != nil {
		return err
	}
	n.later(func() { n.done("replicated log", n.cluster.Close()) })
	n.proposer = &proposer{book: n.book, Proposer: forward.New(forward.Options{
		Node: n.cluster, ID: n.cfg.Name, Caller: n.caller(), Leased: n.leased,
		NotSent: func(err error) bool {
			return errors.Is(err, transport.ErrUnreachable) || errors.Is(err, transport.ErrNoMethod)
		},
	})}
	n.later(n.proposer.Close)
	n.state.SetProposer(n.proposer)
	if f.State != pair.Single {
		return nil // who leads depends on the other node, too
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err = n.cluster.WaitLeader(ctx)
	return err
}

// forwarder is the way of the admin plane to the node that leads.
func (n *node) forwarder() server.Forwarder {
	if n.link == nil {
		return nil
	}
	return adminWay{n}
}

type adminWay struct{ n *node }

// Leader implements server.Forwarder.
func (w adminWay) Leader() (string, bool) {
	l := w.n.cluster.Leadership()
	return l.Leader, l.Self
}

// Dial implements server.Forwarder.
func (w adminWay) Dial(ctx context.Context, node string) (net.Conn, error) {
	return w.n.link.Dial(ctx, node, transport.Admin)
}

// WaitApplied implements server.Forwarder.
func (w adminWay) WaitApplied(ctx context.Context, index uint64) error {
	return w.n.cluster.WaitApplied(ctx, index)
}

// Fresh implements server.Forwarder.
func (w adminWay) Fresh(ctx context.Context) error { return w.n.proposer.Fresh(ctx) }

// caller makes calls to the other node.
func (n *node) caller() forward.Caller {
	if n.link == nil {
		return noCaller{}
	}
	return n.link
}

type noCaller struct{}

func (noCaller) Call(context.Context, string, string, []byte) ([]byte, error) {
	return nil, transport.ErrUnreachable
}

// leased tells whether this node, if it leads, is surely the only one that does.
func (n *node) leased() bool {
	if c := n.pair.Load(); c != nil {
		return c.Covered()
	}
	return n.book.Facts().State == pair.Single // not yet, or no more: who knows
}

// isReady tells whether mail can be stored at all.
func (n *node) isReady() bool { return n.accepting.Load() }

// openAdmin opens the admin socket and, when asked for, the TLS listener.
func (n *node) openAdmin(context.Context) (err error) {
	n.admin, err = server.New(server.Options{Mail: n.mail, Cluster: n.cluster, Log: n.log, Node: n.cfg.Name, Data: n.cfg.Data, HA: n.ha, Forward: n.forwarder()})
	if err != nil {
		return err
	}
	n.plane.Store(n.admin)
	l, err := server.ListenUnix(n.cfg.Socket)
	if err != nil {
		return err
	}
	n.admin.Serve(l)
	n.later(n.admin.Close)
	if n.link != nil {
		n.admin.ServeNodes(peerOnly{n.link.Listen(transport.Admin), n.book})
	}
	if n.cfg.AdminTLS == "" {
		return nil
	}
	cfg := n.mail.Keyring.Config().Clone()
	cfg.ClientAuth = tls.RequestClientCert // known by its hash, see mpctl token add --cert
	tl, err := tls.Listen("tcp", n.cfg.AdminTLS, cfg)
	if err != nil {
		return err
	}
	n.admin.Serve(tl)
	return nil
}

func (n *node) openMail(context.Context) (err error) {
	o := mail.Options{
		Data: n.cfg.Data, Bind: n.cfg.Bind, State: n.state, Bodies: n.bodies, Log: n.log,
		Leading: n.isActing, Ready: n.isReady, Hold: n.holdBodies, Node: n.numbered, Fresh: n.proposer.Fresh,
	}
	if n.link != nil {
		n.sharing = newSharing(n)
		n.later(n.sharing.Close)
		o.Steer, o.ShareLogin, o.MaildropElsewhere, o.Unblock = n.sharing.For, n.sharing.tell, n.sharing.maildrop, n.unblockThere
		o.Settle = n.settleThere
	}
	n.mail, err = mail.New(o)
	if err != nil {
		return err
	}
	n.later(n.mail.Stop)
	return nil
}

// isActing tells whether this node does what one node of a pair does: the queue, scheduled work.
func (n *node) isActing() bool { return n.cluster.IsLeader() && n.accepting.Load() }

// numbered gives this node's number, and whether it has another one.
func (n *node) numbered() (uint16, bool) {
	f := n.book.Facts()
	return uint16(f.Self.Number), f.State != pair.Single
}

// holdBodies tells whether unused bodies must stay: the other node is away, or has not merged yet;
// or this node's state is behind its log, so that what it does not name may be named there.
func (n *node) holdBodies() bool {
	if s := n.book.Facts().State; s != pair.Single && s != pair.Paired {
		return true
	}
	s := n.cluster.Status()
	return s.AppliedIndex+holdLag < s.LastIndex
}

// holdLag is some seconds' worth of entries.
const holdLag = 1000

func (n *node) later(f func()) { n.close = append(n.close, f) }

func (n *node) done(what string, err error) {
	if err != nil {
		n.log.Error("not closed cleanly", "what", what, "err", err)
	}
}

func (n *node) stop() {
	for i := len(n.close) - 1; i >= 0; i-- {
		n.close[i]()
	}
}

// fsm shows the state to the replicated log.
type fsm struct{ *state.State }

// Apply implements cluster.FSM. What the state can't apply stops the node: going on would make nodes differ.
func (f fsm) Apply(entries []cluster.Entry) ([][]byte, error) {
	in := make([]state.LogEntry, len(entries))
	for i, e := range entries {
		in[i] = state.LogEntry{Index: e.Index, Data: e.Data}
	}
	out, err := f.State.Apply(in)
	if errors.Is(err, state.ErrNewer) {
		err = fmt.Errorf("the replicated log has entries of a newer version, start the newer mailplusd: %w", err)
	}
	return out, err
}
