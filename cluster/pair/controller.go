package pair

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"mailplusd/cluster/lease"
)

// Controller is the part of a node that keeps the pair together.
type Controller struct {
	cfg      Config
	log      *slog.Logger
	now      func() time.Duration
	instance string
	started  time.Duration

	act sync.Mutex // held by whoever changes what this node is: the brain, or an administrator's call

	// asking is held from a question to the arbiter until its answer is written down. Calls of
	// the peer that must not come in between take it, and not act: whoever holds act may be
	// waiting for the peer.
	asking sync.Mutex

	mu         sync.Mutex // what follows
	peer       view
	contacted  bool             // the peer has been heard since the start
	lease      *lease.Primary   // what the secondary has promised this node
	promise    *lease.Secondary // what this node has promised the primary
	detect     *lease.Detector  // is the peer alive?
	mode       string           // what lease and promise were last set to
	word       string           // mode for which the guard knows what to say
	guest      *Member          // a witness that is being added or removed: reached, and not asked
	seq        uint64           // of the last hello
	parted     time.Duration    // when this node was told to leave the pair: its answer must get out before it starts anew
	full       time.Duration    // when this node's disk had no room last; 0: never
	removing   time.Duration    // until then the peer is not taken in again: it is being removed
	released   bool             // the primary has let go
	handed     bool             // the address was handed to us: no probe
	unled      time.Duration    // primary: since when this node has not led the log; 0: it leads
	unreported time.Duration    // since when the arbiter is to be told that both are in sync; 0: it knows
	stalled    bool             // primary: the other node answers, but the log does not get there
	open       bool
	mirror     string
	floor      uint64 // newest entry of the log when copying to mirror began
	missing    int64
	holds      bool
	heldFrom   time.Time // wall time at which this node took the address
	verdict    *Verdict
	serving    Serving
	alarm      string // why the node isn't where it should be
	advice     string
	since      time.Duration // of the present capacity
	upToDate   time.Duration // since when the peer has had everything; 0: it hasn't
	marks      []mark        // how long the log was, lately
	readded    string        // instance of the peer for which replication was restarted
	lastTry    map[string]time.Duration
	said       map[string]time.Duration // what was logged when, as this node is now
	saidAs     string                   // what it was then
	arbiterErr string                   // of the last contact, or question
	refused    string                   // what the last question to serve alone was answered with; empty: granted, or not asked
	arbiterAt  time.Duration

	wake   chan struct{}
	renew  chan struct{}
	ask    chan struct{} // the other node's promise is needed now, not at the next frame
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New makes a Controller; Start sets it going.
func New(cfg Config) (*Controller, error) {
	cfg.Timing.Defaults()
	if err := cfg.Timing.Validate(); err != nil {
		return nil, fmt.Errorf("pair: times of the lease: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = lease.Now
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var id [8]byte
	rand.Read(id[:])
	c := &Controller{
		cfg: cfg, log: cfg.Logger, now: cfg.Now, instance: hex.EncodeToString(id[:]), started: cfg.Now(),
		wake: make(chan struct{}, 1), renew: make(chan struct{}, 1), ask: make(chan struct{}, 1), missing: -1, lastTry: map[string]time.Duration{}, said: map[string]time.Duration{},
	}
	c.lease = lease.NewPrimary(cfg.Timing.Settings)
	c.promise = lease.NewSecondary(cfg.Timing.Settings, 0, c.started)
	c.promise.Stop()
	c.detect = lease.NewDetector(cfg.Timing.Settings, c.started)
	c.align(cfg.Book.Facts())
	if err := c.pin(); err != nil {
		return nil, err
	}
	c.handle()
	return c, nil
}

// Start runs the controller until Stop.
func (c *Controller) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	for _, loop := range []func(context.Context){c.brain, c.helloLoop, c.leaseLoop, c.promiseLoop, c.renewLoop, c.arbiterLoop} {
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			loop(ctx)
		}()
	}
}

// Stop lets go of what this node holds, telling the peer, so that nobody waits for it.
func (c *Controller) Stop(ctx context.Context) {
	if c.cancel == nil {
		return // never started
	}
	f := c.cfg.Book.Facts()
	if f.State == Paired && f.Primary == f.Self.ID {
		if err := c.Switchover(ctx, f.Peer.ID); err != nil {
			c.log.Info("the peer did not take over at this stop", "err", err)
		}
	}
	if f.State != Single && f.Peer.ID != "" {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		c.cfg.Link.Call(ctx, f.Peer.ID, "pair.leave", nil) // who does not hear it finds out
	}
	c.cancel()
	c.wg.Wait()
	if err := c.cfg.Address.Release(context.WithoutCancel(ctx)); err != nil {
		c.log.Error("floating address not removed", "err", err)
	}
}

// Kill stops the controller as a crash would, for tests.
func (c *Controller) Kill() {
	c.cancel()
	c.wg.Wait()
}

// pin tells the link whom to talk to.
func (c *Controller) pin() error {
	f := c.cfg.Book.Facts()
	var members []Member
	if f.Peer.ID != "" {
		members = append(members, f.Peer)
	}
	if f.Witness != nil {
		members = append(members, *f.Witness)
	}
	if f.Former != nil && f.Former.ID != f.Peer.ID {
		members = append(members, *f.Former)
	}
	c.mu.Lock()
	guest := c.guest
	c.mu.Unlock()
	if guest != nil && guest.ID != f.Peer.ID {
		// A witness with a new disk has its old name and another key.
		members = slices.DeleteFunc(members, func(m Member) bool { return m.ID == guest.ID })
		members = append(members, *guest)
	}
	return c.cfg.Link.SetMembers(members...)
}

// pause waits for d; false when ctx ends.
func (c *Controller) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (c *Controller) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// brain does one step after the other.
func (c *Controller) brain(ctx context.Context) {
	t := time.NewTicker(max(c.cfg.Timing.Frame/4, 10*time.Millisecond))
	defer t.Stop()
	for {
		c.act.Lock()
		c.step(ctx)
		c.act.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-c.wake:
		}
	}
}

// step looks at facts and evidence and does the next thing.
func (c *Controller) step(ctx context.Context) {
	f := c.cfg.Book.Facts()
	if h, ok := c.view(); ok && f.State != Single {
		if c.adopt(f, h) {
			f = c.cfg.Book.Facts()
		}
	}
	if f.State != Single {
		c.keepSetup()
		f = c.syncWitness(f)
		c.markLog()
	}
	// Whoever is not the primary promises the lease only when the address is gone from here.
	if primary := f.Primary == f.Self.ID && (f.State == Paired || f.State == Solo); primary || c.letGo(ctx) {
		c.align(f)
	}
	switch f.State {
	case Single:
		c.follow("", false)
		c.copyTo("")
		c.letGo(ctx)
		if f.Aside != "" {
			c.serve(Serving{Why: "removed from the pair"}, "", "")
			if c.saidSo() {
				c.cfg.Hooks.Rejoin()
			}
			return
		}
		c.serve(Serving{Accept: true}, "", "")
	case Joining:
		c.stepJoining(ctx, f)
	case Paired:
		if f.Primary == f.Self.ID {
			c.stepPrimary(ctx, f)
		} else {
			c.stepSecondary(ctx, f)
		}
	case Solo:
		c.stepSolo(ctx, f)
	case Merging:
		c.stepMerging(ctx, f)
	}
}

// saidSo tells whether the answer "I have left" has had the time to reach the other node.
func (c *Controller) saidSo() bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parted == 0 || now-c.parted > 300*time.Millisecond
}

// syncWitness takes over the witness that the replicated set-up names, and gives up one that it
// names no more.
func (c *Controller) syncWitness(f Facts) Facts {
	set := c.setup()
	w := set.Witness
	switch {
	case w == nil && (f.Witness == nil || !set.Known):
		return f
	case w != nil && f.Witness != nil && f.Witness.ID == w.ID && string(f.Witness.Key) == string(w.Key) && slices.Equal(f.Witness.Addrs, w.Addrs):
		return f
	}
	if err := c.setWitness(w); err != nil && c.every("witness log", 10*time.Second) {
		c.log.Error("witness", "err", err)
	}
	return c.cfg.Book.Facts()
}

// every lets something happen once in d.
func (c *Controller) every(what string, d time.Duration) bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.lastTry[what]; ok && now-last < d {
		return false
	}
	c.lastTry[what] = now
	return true
}

func (c *Controller) follow(node string, open bool) {
	c.mu.Lock()
	same := c.open == open
	c.open = open
	c.mu.Unlock()
	if !same {
		c.cfg.Hooks.Follow(node, open)
	}
}

func (c *Controller) copyTo(node string) {
	c.mu.Lock()
	same := c.mirror == node
	c.mu.Unlock()
	if same {
		return
	}
	c.cfg.Hooks.Mirror(node)
	last := c.cfg.Node.Status().LastIndex
	c.mu.Lock()
	c.mirror, c.floor = node, last
	c.mu.Unlock()
}

// serve tells the services their capacity, and people what is wrong.
func (c *Controller) serve(s Serving, alarm, advice string) {
	f := c.cfg.Book.Facts()
	c.sayOnce(fmt.Sprint(f.State, f.Epoch, f.Turn), alarm, func() { c.log.Warn("pair", "alarm", alarm, "state", f.State) })
	c.mu.Lock()
	c.alarm, c.advice = alarm, advice
	same := c.serving == s
	if !same {
		c.serving, c.since = s, c.now()
	}
	c.mu.Unlock()
	if !same {
		c.cfg.Hooks.Serve(s)
	}
}

// takeAddress takes the floating address for as long as this node may hold it.
func (c *Controller) takeAddress(ctx context.Context, set Setup) error {
	c.mu.Lock()
	probe := !c.handed
	c.mu.Unlock()
	if _, ok := c.until(); !ok {
		return errNoLease
	}
	c.leaveWord()
	if err := c.cfg.Address.Acquire(ctx, set.Addresses, probe, c.until); err != nil {
		return err
	}
	c.mu.Lock()
	c.holds, c.handed, c.heldFrom = true, false, c.cfg.Wall()
	c.mu.Unlock()
	c.log.Info("floating address taken", "addresses", set.Addresses, "probed", probe)
	return nil
}

// leaveWord gives the guard what to say if this process dies: it counts for one epoch and turn.
func (c *Controller) leaveWord() {
	f := c.cfg.Book.Facts()
	c.mu.Lock()
	said := c.word == c.mode && c.mode != ""
	c.word = c.mode
	c.mu.Unlock()
	if !said {
		c.cfg.Address.LastWord(c.farewell(f), f.Peer.Addrs)
	}
}

// wantAddress takes the floating address if this node does not have all of it.
func (c *Controller) wantAddress(ctx context.Context, set Setup) error {
	held := c.cfg.Address.Held()
	if len(held) > 0 {
		c.leaveWord()
	}
	if len(held) == len(set.Addresses) && containsAll(held, set.Addresses) {
		return nil
	}
	if !c.every("address", c.cfg.Timing.Frame) {
		return nil
	}
	return c.takeAddress(ctx, set)
}

func containsAll(have, want []netip.Prefix) bool {
	for _, w := range want {
		found := false
		for _, h := range have {
			found = found || h == w
		}
		if !found {
			return false
		}
	}
	return true
}

// letGo removes the floating address from this node. It reports whether it is gone.
func (c *Controller) letGo(ctx context.Context) bool {
	c.mu.Lock()
	held := c.holds
	c.holds = false
	c.mu.Unlock()
	if !held && len(c.cfg.Address.Held()) == 0 {
		return true
	}
	if err := c.cfg.Address.Release(ctx); err != nil {
		c.log.Error("floating address not removed", "err", err)
		return false
	}
	c.log.Info("floating address released")
	return true
}
