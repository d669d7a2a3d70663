package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mailplusd/admin/server"
	"mailplusd/cluster"
	"mailplusd/cluster/body"
	"mailplusd/cluster/forward"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"
	"mailplusd/cluster/vip"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// errAgain ends a run that is to be followed by another: the node starts anew.
var errAgain = errors.New("the node starts anew")

// proposer brings the state's entries into the log, wherever the leader is.
type proposer struct {
	*forward.Proposer
	book   *pair.Book
	writes sync.RWMutex // held for writing while nothing of this node may be acknowledged any more
	frozen atomic.Bool
}

var _ state.OnceProposer = (*proposer)(nil)

// Paired implements state.OnceProposer.
func (p *proposer) Paired() bool { return p.book.Facts().State != pair.Single }

// errFrozen refuses writes of a node whose history is being brought over to the other one.
var errFrozen = fmt.Errorf("%w: this node's mail is being brought over to the other one", state.ErrNoLeader)

func (p *proposer) pass(ctx context.Context, data []byte, propose func(context.Context, []byte) ([]byte, uint64, error)) ([]byte, uint64, error) {
	if p.frozen.Load() {
		return nil, 0, errFrozen
	}
	p.writes.RLock()
	defer p.writes.RUnlock()
	if p.frozen.Load() {
		return nil, 0, errFrozen
	}
	if state.IsUnread(ctx) {
		ctx = forward.Unseen(ctx)
	}
	out, index, err := propose(ctx, data)
	switch {
	case errors.Is(err, cluster.ErrUncertain):
		err = fmt.Errorf("%w: %w", state.ErrUncertain, err)
	case errors.As(err, new(cluster.ErrNotLeader)), errors.Is(err, cluster.ErrBusy):
		err = fmt.Errorf("%w: %w", state.ErrNoLeader, err)
	}
	return out, index, err
}

// Propose implements state.Proposer.
func (p *proposer) Propose(ctx context.Context, data []byte) ([]byte, uint64, error) {
	return p.pass(ctx, data, p.Proposer.Propose)
}

// ProposeOnce implements state.OnceProposer.
func (p *proposer) ProposeOnce(ctx context.Context, data []byte) ([]byte, uint64, error) {
	return p.pass(ctx, data, p.Proposer.ProposeOnce)
}

// freeze waits for what is under way and lets nothing more be acknowledged.
func (p *proposer) freeze() {
	p.frozen.Store(true)
	p.writes.Lock()
	defer p.writes.Unlock()
}

// openPair starts the controller: from here on the node does what the pair needs.
func (n *node) openPair(context.Context) error {
	if n.link == nil {
		return nil
	}
	n.link.Handle(forward.Method, n.fromPeer(forward.Serve(n.cluster)))
	n.takeMerge()
	n.shareLogs()
	n.shareCounts()
	n.link.Handle(settleMethod, n.fromPeer(n.settle))
	n.shareKeys()
	settings, err := leaseSettings(n.cfg.Lease)
	if err != nil {
		return err
	}
	kind := vip.KindNetlink
	if n.cfg.VIPDriver == "loopback" {
		kind = vip.KindLoopback
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	n.floating = &floating{
		kind: kind, exe: exe, spawn: n.cfg.spawner, frame: settings.Frame, log: n.log,
		guards: map[string]*vip.Guard{}, held: map[netip.Prefix]*vip.Holder{},
		vips:  n.vips,
		moved: func(addrs []netip.Addr) { n.mail.Listeners.Float(addrs, n.state.Current()) },
		leave: func(ctx context.Context, a netip.Addr) {
			var both sync.WaitGroup
			both.Go(func() { n.sharing.Leave(ctx, a) })
			n.mail.Listeners.Leave(ctx, a)
			both.Wait()
		},
		ports: n.mail.Listeners.Sockets,
		cut:   n.mail.Listeners.Cut,
		clash: func(a netip.Addr, mac net.HardwareAddr) {
			n.log.Error("another machine claims the floating address", "address", a, "mac", mac)
		},
	}
	n.later(func() { n.done("floating address", n.floating.Close()) })
	h := &hooks{n: n, serving: func(s pair.Serving) { n.mail.Listeners.Pause(!s.Accept) }}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	ctl, err := pair.New(pair.Config{
		Node: n.cluster, Book: n.book, Link: pairLink{n.link}, Address: n.floating, Hooks: h,
		Arbiter: n.arbiter, Timing: pair.Timing{Settings: settings, Cold: n.cfg.ColdWait}, Version: model.Version, Formats: formats(),
		Sign: n.identity.Sign, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.ctl = ctl
	n.pair.Store(ctl)
	n.hooks = h
	go func() {
		if err := n.links.server.Serve(peerOnly{n.link.Listen(transport.Body), n.book}); err != nil && !errors.Is(err, net.ErrClosed) {
			n.log.Error("bodies for the other node", "err", err)
		}
	}()
	n.ha = &server.HA{Controller: ctl, Link: n.link, Book: n.book, Loopback: kind == vip.KindLoopback, Formats: formats(), Ask: n.floating.Ask}
	n.sharing.start()
	n.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if f := n.book.Facts(); f.State != pair.Single && f.Primary != f.Self.ID {
			// Once the other node knows that this one stops, their way is cut.
			n.mail.Listeners.Pause(true)
			bye, done := context.WithTimeout(ctx, peerTime)
			n.goodbye(bye)
			done()
		}
		ctl.Stop(ctx)
		n.pair.Store(nil)
		h.cancel()
		h.wg.Wait()
	})
	return nil
}

// formats names what this program reads, for the other node to compare.
func formats() string {
	return fmt.Sprintf("log %d, state %d, level %d", cluster.Format, state.Format, state.FeatureLevel)
}

// vips are the floating addresses that the replicated facts name.
func (n *node) vips() []model.VIP {
	p, err := n.state.Pair()
	if err != nil {
		return nil
	}
	// The interface may have another name on this node: it is the one with the link's address.
	for i, v := range p.VIPs {
		for _, a := range n.book.Facts().Self.Addrs {
			ap, err := netip.ParseAddrPort(a)
			if err != nil || !v.SameSubnet(ap.Addr()) {
				continue
			}
			if own, ok, err := vip.Owner(ap.Addr()); err == nil && ok {
				p.VIPs[i].Interface = own.Interface
			}
		}
	}
	return p.VIPs
}

// arbiter is who decides whether this node may serve alone.
func (n *node) arbiter(s pair.Setup) pair.Arbiter {
	gateway := &pair.Gateway{Probe: prober{n.floating}, Targets: s.Targets, Cold: n.cfg.ColdWait, Stale: time.Minute, StaleAuto: s.StaleAuto}
	if gateway.Cold == 0 {
		gateway.Cold = 2 * time.Minute
	}
	switch s.Arbiter {
	case string(model.ArbiterWitness):
		w := &pair.Witness{Link: pairLink{n.link}}
		if f := n.book.Facts(); f.Witness != nil {
			w.Node = f.Witness.ID
		}
		if s.Fallback == "gateway" {
			return pair.Fallback{First: w, Then: gateway}
		}
		return w
	case string(model.ArbiterManual):
		return pair.Manual{}
	}
	return gateway
}

// hooks are what the controller needs of this node.
type hooks struct {
	n       *node
	serving func(pair.Serving)
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex
	filling string    // node that a back-fill runs from
	notYet  time.Time // after a pass that failed
	missing int64
	full    uint64 // a pass that began after this entry was applied found everything
	passed  bool
}

// Setup implements pair.Hooks.
func (h *hooks) Setup() pair.Setup {
	p, err := h.n.state.Pair()
	if err != nil {
		return pair.Setup{Arbiter: string(model.ArbiterGateway)}
	}
	s := pair.Setup{Known: true, Arbiter: string(p.Arbiter.Mode), StaleAuto: p.Arbiter.Mode == model.ArbiterGateway}
	if p.Arbiter.Fallback {
		s.Fallback = "gateway"
	}
	if p.Arbiter.Witness != "" && p.Arbiter.WitnessID != "" {
		s.Witness = &pair.Member{ID: p.Arbiter.WitnessID, Addrs: []string{p.Arbiter.Witness}, Key: p.Arbiter.WitnessKey}
	}
	for _, v := range p.VIPs {
		s.Addresses = append(s.Addresses, v.Prefix)
	}
	for _, t := range p.Arbiter.Targets {
		if a, err := netip.ParseAddr(t); err == nil {
			s.Targets = append(s.Targets, a)
		}
	}
	return s
}

// Epoch implements pair.Hooks.
func (h *hooks) Epoch() uint64 { return h.n.state.Regime().Epoch }

// StartEpoch implements pair.Hooks.
func (h *hooks) StartEpoch(ctx context.Context, b pair.Branch, forced, _ bool) error {
	f := h.n.book.Facts()
	return h.n.state.Do(ctx, []state.Operation{state.EpochStart{
		Epoch: b.Epoch, Owner: b.Owner, Node: uint16(f.Self.Number), Forced: forced, Phase: state.PhaseSolo,
		Index: b.Index, Term: b.Term, Reason: b.Reason,
	}})
}

// Together implements pair.Hooks.
func (h *hooks) Together(ctx context.Context, epoch uint64) error {
	g := h.n.state.Regime()
	if g.Phase == state.PhasePair || g.Epoch != epoch {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return h.n.state.Do(ctx, []state.Operation{state.PairSet{Epoch: epoch, Phase: state.PhasePair}})
}

// Mirror implements pair.Hooks.
func (h *hooks) Mirror(node string) { h.n.links.mirror.SetPeer(node) }

// Missing implements pair.Hooks.
func (h *hooks) Missing(node string, since uint64) (int64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.filling == "" && node != "" && !(h.passed && h.full >= since) && time.Now().After(h.notYet) {
		h.filling = node
		h.wg.Add(1)
		go h.fill(node)
	}
	return h.missing, h.passed && h.full >= since && h.missing == 0
}

// fill is one pass over all names of the state.
func (h *hooks) fill(node string) {
	defer h.wg.Done()
	h.n.links.puller.SetPeer(node)
	began := h.n.cluster.Applied() // of the log: configurations count, too
	var unread error
	st, err := h.n.links.puller.Backfill(h.ctx, wantedBodies(h.n.state, &unread), body.BackfillOptions{})
	err = errors.Join(err, unread)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.filling = ""
	h.missing = st.Missing + st.Corrupt
	if err == nil && h.missing == 0 {
		h.full, h.passed = began, true
		return
	}
	h.passed = false
	if err != nil {
		h.notYet = time.Now().Add(time.Second) // a disk that is full is so for longer
	}
	if h.ctx.Err() == nil {
		h.n.log.Info("back-fill", "fetched", st.Fetched, "missing there", st.Missing, "damaged there", st.Corrupt, "err", err)
	}
}

// Follow implements pair.Hooks.
func (h *hooks) Follow(node string, open bool) {
	h.n.gate.Set(open)
	if open {
		h.n.links.puller.SetPeer(node)
	} else if cut := h.n.sharing.Cut(); cut > 0 {
		h.n.log.Warn("sessions shared with the other node were ended", "sessions", cut)
	}
}

// Serve implements pair.Hooks.
func (h *hooks) Serve(s pair.Serving) {
	was := h.n.accepting.Swap(s.Accept)
	h.serving(s)
	if was && !s.Accept {
		h.wg.Go(func() { // who serves nothing any more says so, while the way to the clients is there
			ctx, cancel := context.WithTimeout(h.ctx, peerTime)
			defer cancel()
			h.n.goodbye(ctx)
		})
	}
}

// Merge implements pair.Hooks.
func (h *hooks) Merge(ctx context.Context, winner string, b pair.Branch) error {
	h.n.proposer.freeze()
	return h.n.merge(ctx, winner, b)
}

// Rejoin implements pair.Hooks.
func (h *hooks) Rejoin() {
	select {
	case h.n.again <- struct{}{}:
	default:
	}
}

// Load implements pair.Hooks.
func (h *hooks) Load() []byte {
	if s := h.n.plane.Load(); s != nil {
		return s.NodeLoad()
	}
	return nil
}
