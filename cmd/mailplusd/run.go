package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"mailplusd/admin/server"
	"mailplusd/cluster"
	"mailplusd/mail"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"

	"github.com/coreos/go-systemd/v22/daemon"
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

	devPassword string // of the dev command
	devMade     bool   // this start has made the dev system
	close       []func()
}

// run starts a node, serves until ctx ends, and stops it in the opposite order.
func run(ctx context.Context, cfg Config) (err error) {
	log, err := newLogger(cfg)
	if err != nil {
		return err
	}
	n := &node{cfg: cfg, log: log}
	defer n.stop()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"data directory", n.openData},
		{"state", n.openState},
		{"message bodies", n.openBodies},
		{"replicated log", n.openCluster},
		{"mail services", n.openMail},
		{"administration", n.openAdmin},
		{"first set-up", n.setUpDev},
		{"metrics", n.openMetrics},
	} {
		started := time.Now()
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		log.Debug("started", "step", step.name, "took", time.Since(started))
	}
	n.mail.Start()
	n.announce()
	daemon.SdNotify(false, daemon.SdNotifyReady)
	debug.FreeOSMemory() // what starting took is not needed again
	select {
	case <-ctx.Done():
		log.Info("stopping: finishing what has been accepted")
	case <-n.cluster.Failed():
		err = n.cluster.Fault()
		log.Error("stopping", "err", err)
	}
	daemon.SdNotify(false, daemon.SdNotifyStopping)
	return err
}

func (n *node) openData(context.Context) error {
	if err := os.MkdirAll(n.cfg.Data, 0o700); err != nil {
		return err
	}
	probe := filepath.Join(n.cfg.Data, ".writable")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return fmt.Errorf("%s is not writable for this user: %w", n.cfg.Data, err)
	}
	return os.Remove(probe)
}

func (n *node) path(elem string) string { return filepath.Join(n.cfg.Data, elem) }

func (n *node) openState(context.Context) (err error) {
	if err := n.lockDir(n.cfg.Data); err != nil {
		return err
	}
	if n.state, err = state.Open(state.Options{Dir: n.path("state"), Logger: n.log}); err != nil {
		return err
	}
	n.later(func() { n.done("state", n.state.Close()) })
	return nil
}

func (n *node) openBodies(context.Context) (err error) {
	n.bodies, err = segment.Open(segment.Options{Dir: n.path("bodies"), Compress: true, Logger: n.log})
	if err != nil {
		return err
	}
	n.later(func() { n.done("message bodies", n.bodies.Close()) })
	return nil
}

// maxEntry holds a transaction with 10,000 recipients, the most that can be set.
const maxEntry = 8 << 20

func (n *node) openCluster(ctx context.Context) (err error) {
	n.cluster, err = cluster.Open(cluster.Config{
		ID: n.cfg.Name, DataDir: n.path("raft"), FSM: fsm{n.state}, Logger: n.log, Bootstrap: true,
		MaxEntry: maxEntry,
	})
	if err != nil {
		return err
	}
	n.later(func() { n.done("replicated log", n.cluster.Close()) })
	n.state.SetProposer(n.cluster)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err = n.cluster.WaitLeader(ctx)
	return err
}

// openAdmin opens the admin socket and, when asked for, the TLS listener.
func (n *node) openAdmin(context.Context) (err error) {
	n.admin, err = server.New(server.Options{Mail: n.mail, Cluster: n.cluster, Log: n.log, Node: n.cfg.Name, Data: n.cfg.Data})
	if err != nil {
		return err
	}
	l, err := server.ListenUnix(n.cfg.Socket)
	if err != nil {
		return err
	}
	n.admin.Serve(l)
	n.later(n.admin.Close)
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
	n.mail, err = mail.New(mail.Options{
		Data: n.cfg.Data, Bind: n.cfg.Bind, State: n.state, Bodies: n.bodies, Log: n.log,
		Leading: n.cluster.IsLeader,
	})
	if err != nil {
		return err
	}
	n.later(n.mail.Stop)
	return nil
}

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
