package pair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailplusd/cluster"
)

// stepPrimary: the lease runs, the address is here, the log is led here.
func (c *Controller) stepPrimary(ctx context.Context, f Facts) {
	set := c.setup()
	h, fresh := c.view()
	if fresh && Relate(f.History, h.History) != Diverged {
		c.follow(f.Peer.ID, true)
	}
	c.copyTo(f.Peer.ID)
	c.setMissing(0, true) // what this node acknowledged or took over is on its disk
	if c.cfg.Node.Leadership().Self {
		c.mu.Lock()
		c.unled, c.stalled = 0, false
		c.mu.Unlock()
	}
	if d, dead := c.dead(); dead {
		c.mu.Lock()
		handed := c.handed // the other has let go in this node's favour, and there was no lease yet
		c.mu.Unlock()
		if c.goSolo(ctx, f, SoloRequest{Primary: c.covered(), Released: handed}, c.away("the other node is silent")) {
			return
		}
		if !c.covered() {
			c.letGo(ctx)
			c.serve(Serving{Why: "cut off"}, "this node serves nothing: the other node does not answer and the arbiter does not let it go on alone: "+c.refusal(),
				"mpctl ha show; if the other node is really down: "+lastResort(f.Self.ID))
			return
		}
		c.lead(ctx, f, fresh) // where it is only the log that can't be led
		c.serve(Serving{Accept: true, Address: c.held()}, c.away("the other node has been silent for "+d.Round(100*time.Millisecond).String()), "")
		return
	}
	if !f.Report && f.Told != set.Arbiter {
		// A witness that was just added is asked only once the state says so: what the gateway
		// rule was told before that, the witness has not heard.
		if c.update("another arbiter decides", func(now *Facts) { now.Report = true }) {
			f = c.cfg.Book.Facts()
		}
	}
	if f.Report && fresh && c.every("report", 2*c.cfg.Timing.Frame) {
		c.report(ctx, f, h)
	}
	if !c.lead(ctx, f, fresh) {
		if !c.covered() {
			c.letGo(ctx)
		}
		c.serve(Serving{Accept: fresh, Address: c.held()}, "this node does not lead the log yet", "")
		return
	}
	if !c.covered() {
		c.letGo(ctx)
		c.serve(Serving{Why: "no lease"}, "no lease from the other node", "")
		return
	}
	if err := c.cfg.Hooks.Together(ctx, f.Epoch); err != nil && c.every("together", 10*time.Second) {
		c.log.Warn("the state was not told that both nodes are in sync", "err", err)
	}
	if err := c.wantAddress(ctx, set); err != nil && len(set.Addresses) > 0 && !c.held() {
		c.serve(Serving{Accept: true}, "the floating address could not be taken: "+err.Error(), "find out who has it: mpctl ha show")
		return
	}
	if fresh {
		c.yield(ctx, f, h)
	}
	c.serve(Serving{Accept: true, Address: c.held()}, c.warning(f), "")
}

func (c *Controller) held() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holds
}

// warning is what does not stop anything. The other node learns of its vote by a hello, and signs
// then that both are in sync: only what lasts is worth a word.
func (c *Controller) warning(f Facts) string {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !f.Report:
		c.unreported = 0
	case c.unreported == 0:
		c.unreported = now
	case now-c.unreported > 2*c.cfg.Timing.Silent+c.cfg.Timing.Term:
		return "the arbiter does not know yet that both nodes are in sync: " + c.arbiterErr
	}
	return ""
}

// lead sees to it that the primary leads the log.
func (c *Controller) lead(ctx context.Context, f Facts, fresh bool) bool {
	l := c.cfg.Node.Leadership()
	now := c.now()
	c.mu.Lock()
	switch {
	case l.Self:
		c.unled, c.stalled = 0, false
	case c.unled == 0:
		c.unled = now
	case now-c.unled > 2*c.cfg.Timing.Term && fresh:
		// It promises the lease and can't be reached for the log: it is of no use, and as long
		// as it promises it takes nothing over.
		c.stalled = true
	}
	unled := c.unled
	c.mu.Unlock()
	if l.Self {
		return true
	}
	// Another leader hands over by itself; see stepSecondary. This node, once elected, needs a moment until
	// it may say that it leads: another election would only depose it.
	elected := l.Leader == f.Self.ID && now-unled <= c.cfg.Timing.Term
	if fresh && l.Leader != f.Peer.ID && !elected && c.every("campaign", 2*c.cfg.Timing.Frame) {
		if err := c.cfg.Node.Campaign(ctx); err != nil {
			c.log.Warn("no election", "err", err)
		}
	}
	return false
}

// stepSecondary: the log is followed, sessions are shared, and the primary is watched.
func (c *Controller) stepSecondary(ctx context.Context, f Facts) {
	c.letGo(ctx)
	h, fresh := c.view()
	if fresh && Relate(f.History, h.History) != Diverged {
		c.follow(f.Peer.ID, true)
	}
	c.copyTo(f.Peer.ID)
	c.setMissing(0, true) // a node in sync has everything
	if f.Report && fresh && h.Reported && h.State == Paired && h.Turn == f.Turn && sameWitness(f, h) {
		c.update("the arbiter knows that both nodes are in sync", func(now *Facts) { now.Report = false })
	}
	if l := c.cfg.Node.Leadership(); l.Self && fresh && h.Instance != "" && c.every("hand over", 2*c.cfg.Timing.Frame) {
		// Won an election that nobody needed: the primary leads.
		tctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Term)
		if err := c.cfg.Node.Transfer(tctx, f.Peer.ID); err != nil {
			c.log.Info("leadership not handed over", "err", err)
		}
		cancel()
	}
	c.mu.Lock()
	released := c.released
	may := c.promise.MayTakeOver(c.now())
	c.mu.Unlock()
	if _, dead := c.dead(); !released && (!may || !dead) {
		c.serve(Serving{Accept: fresh}, c.quiet(fresh), "")
		return
	}
	why := "the primary's lease is over"
	if released {
		why = "the primary has let go"
	}
	if !c.goSolo(ctx, f, SoloRequest{Released: released}, why) {
		c.serve(Serving{Why: "secondary without a primary"}, "the primary is silent and the arbiter does not let this node take over: "+c.refusal(),
			"mpctl ha show; if the other node is really down: "+lastResort(f.Self.ID))
	}
}

// sameWitness tells whether the peer has told this node's witness.
func sameWitness(f Facts, h Hello) bool {
	return f.Witness == nil && h.Witness == "" || f.Witness != nil && f.Witness.ID == h.Witness
}

func (c *Controller) quiet(fresh bool) string {
	if fresh {
		return ""
	}
	return "the primary does not answer"
}

// setMissing notes how many bodies are still to come.
func (c *Controller) setMissing(n int64, ok bool) {
	if !ok {
		n = -1
	}
	c.mu.Lock()
	c.missing = n
	c.mu.Unlock()
}

// goSolo asks the arbiter and, when it agrees, makes this node the one that serves.
func (c *Controller) goSolo(ctx context.Context, f Facts, r SoloRequest, why string) bool {
	if !c.every("solo", c.cfg.Timing.Frame/2) || !c.askSolo(ctx, f, r, why) {
		return false
	}
	c.stepSolo(ctx, c.cfg.Book.Facts())
	return true
}

// askSolo asks, and writes down that it may.
func (c *Controller) askSolo(ctx context.Context, f Facts, r SoloRequest, why string) bool {
	c.asking.Lock()
	defer c.asking.Unlock()
	set := c.setup()
	s := c.cfg.Node.Status()
	r.Cluster, r.Node, r.Epoch, r.Turn, r.Stale, r.LastIndex, r.Revision = f.Cluster, f.Self.ID, f.Epoch+1, f.Turn, f.Stale, s.LastIndex, f.Revision
	c.mu.Lock()
	if !c.contacted {
		r.Uncontacted = c.now() - c.started
	}
	c.mu.Unlock()
	for _, p := range set.Addresses {
		r.Addresses = append(r.Addresses, p.Addr())
	}
	arb := c.cfg.Arbiter(set)
	wait := c.cfg.Timing.Decide
	if !r.Primary {
		c.mu.Lock()
		c.promise.Stop() // from here on the primary gets no more promises
		c.mode = ""
		c.mu.Unlock()
		wait = max(wait, 3*time.Second) // nothing is lost by it, and probes take a second
	}
	actx, cancel := context.WithTimeout(ctx, wait)
	lasting, err := arb.RequestSolo(actx, r)
	cancel()
	c.arbiter(err)
	c.mu.Lock()
	if c.refused = ""; err != nil {
		c.refused = err.Error()
	}
	c.mu.Unlock()
	if err != nil {
		c.align(c.cfg.Book.Facts())
		if errors.Is(err, errPartition) && !f.Stale {
			if err := c.cfg.Book.Update(func(f *Facts) error { f.Stale = true; return nil }); err != nil {
				c.log.Error("pair", "err", err)
			}
		}
		c.sayOnce(fmt.Sprint(f.State, f.Epoch, f.Turn), "asked: "+err.Error(), func() {
			c.log.Warn("not allowed to serve alone", "arbiter", arb.Name(), "why asked", why, "err", err)
		})
		return false
	}
	// A lasting grant must be used: from now on the other node would be refused. What was
	// only seen counts no more if the other came back, or this process was frozen.
	if _, dead := c.dead(); !dead && !r.Released && !lasting {
		c.align(c.cfg.Book.Facts())
		return false
	}
	return c.becomeSolo(f, !r.Primary, arb.Name()+": "+why, s)
}

// becomeSolo writes the decision down; the next step acts on it.
func (c *Controller) becomeSolo(f Facts, took bool, why string, s cluster.Status) bool {
	b := Branch{Epoch: f.Epoch + 1, Owner: f.Self.ID, Index: s.LastIndex, Term: s.Term, Reason: why, Time: c.cfg.Wall().UTC()}
	err := c.cfg.Book.Update(func(now *Facts) error {
		if now.Epoch != f.Epoch || now.Turn != f.Turn || now.State != f.State {
			return errors.New("overtaken by another decision")
		}
		if now.State == Joining {
			// Of the newest branches this node lacks entries: to whoever has them its history
			// must not look like one that goes on from them.
			now.History = upTo(now.History, now.Whole)
		}
		now.State, now.Took, now.Epoch, now.Report = Solo, took, b.Epoch, false
		if now.Primary != now.Self.ID {
			now.Primary = now.Self.ID
			now.Turn++
		}
		now.History = append(now.History, b)
		return nil
	})
	if err != nil {
		c.log.Error("the decision to serve alone can't be kept", "err", err)
		return false
	}
	c.mu.Lock()
	c.upToDate, c.released, c.handed, c.unled, c.stalled = 0, false, false, 0, false
	c.mu.Unlock()
	c.align(c.cfg.Book.Facts())
	c.log.Warn("this node serves alone from now on", "epoch", b.Epoch, "took over", took, "reason", why)
	return true
}

// stepSolo: nobody else serves; whoever comes back follows.
func (c *Controller) stepSolo(ctx context.Context, f Facts) {
	h, fresh := c.view()
	rel := Relate(f.History, h.History)
	apart := fresh && rel == Diverged && (h.State == Solo || h.State == Merging)
	follows := fresh && !apart && rel != Diverged && rel != Behind && h.State == Joining && !c.ending()
	if !follows {
		c.follow(f.Peer.ID, false)
		c.copyTo("")
		c.mu.Lock()
		c.upToDate, c.readded = 0, ""
		c.mu.Unlock()
	}
	if err := c.alone(ctx, f, follows); err != nil {
		c.serve(Serving{Why: "taking over"}, "this node may serve alone and does not yet: "+err.Error(), "")
		return
	}
	c.setMissing(0, true)
	set := c.setup()
	alarm, advice := f.Peer.ID+" does not serve: there is one copy of new mail", "start or repair "+f.Peer.ID+"; if it is lost for good: mpctl ha remove "+f.Peer.ID+" --dead --confirm="+f.Peer.ID
	if follows {
		alarm, advice = f.Peer.ID+" does not have everything yet: until then there is one copy of new mail", "wait: mpctl ha wait --for sync"
	}
	if fresh && h.Full {
		alarm, advice = "the disk of "+f.Peer.ID+" is full: there is one copy of new mail", "make room on "+f.Peer.ID
	}
	if err := c.wantAddress(ctx, set); err != nil && !c.held() && len(set.Addresses) > 0 {
		alarm = "the floating address could not be taken: " + err.Error()
	}
	c.serve(Serving{Accept: true, Address: c.held()}, alarm, advice)
	switch {
	case apart:
		c.judge(f, h)
	case follows:
		c.reunite(ctx, f, h)
	}
}

// alone makes this node the only voter, if it is not, and starts the epoch in the state.
func (c *Controller) alone(ctx context.Context, f Facts, follows bool) error {
	members, err := c.cfg.Node.Members()
	if err != nil {
		return err
	}
	peerVotes := slices.ContainsFunc(members, func(m cluster.Member) bool { return m.ID != f.Self.ID && m.Voter })
	selfVotes := slices.ContainsFunc(members, func(m cluster.Member) bool { return m.ID == f.Self.ID && m.Voter })
	if peerVotes || !selfVotes {
		dctx, cancel := context.WithTimeout(ctx, time.Second)
		err := errNotLeading
		if c.cfg.Node.IsLeader() {
			err = c.cfg.Node.Demote(dctx, f.Peer.ID)
		}
		cancel()
		if err != nil {
			// Leadership is gone: a configuration of a new epoch, on top of everything in the log.
			c.follow(f.Peer.ID, false)
			if err := c.force(ctx, f); err != nil {
				return err
			}
		}
	}
	if !c.cfg.Node.IsLeader() {
		pause := c.cfg.Timing.Frame
		if c.cfg.Node.Leadership().Leader == f.Self.ID { // elected, and not through with what was before: see lead
			pause = c.cfg.Timing.Term
		}
		if c.every("campaign", pause) {
			c.cfg.Node.Campaign(ctx)
		}
		wctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Frame)
		defer cancel()
		if id, err := c.cfg.Node.WaitLeader(wctx); err != nil || id != f.Self.ID {
			return errNotLeading
		}
	}
	if !follows {
		c.copyTo("")
	}
	if c.cfg.Hooks.Epoch() < f.Epoch && len(f.History) > 0 {
		b := f.History[len(f.History)-1]
		ectx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return c.cfg.Hooks.StartEpoch(ectx, b, f.Took, f.Self.Number == 0)
	}
	return nil
}

var errNotLeading = errors.New("the log has no leader here yet")

// force makes a configuration of a new epoch in which this node is the only voter.
func (c *Controller) force(ctx context.Context, f Facts) error {
	fctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	began := c.now()
	err := c.cfg.Node.Force(fctx, cluster.Forced{Epoch: f.Epoch, NodeBit: f.Self.Number, Others: []string{f.Peer.ID}})
	if err == nil {
		c.log.Info("only voter of the log", "epoch", f.Epoch, "took", c.now()-began)
	}
	return err
}
