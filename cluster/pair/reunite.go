package pair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"mailplusd/cluster"
)

// lagLimit is how many entries a node may be behind to count as up to date.
const lagLimit = 64

// adopt takes over what the peer knows better. It reports whether facts have changed.
func (c *Controller) adopt(f Facts, h Hello) bool {
	rel := Relate(f.History, h.History)
	serves := h.State == Solo || h.State == Paired
	switch {
	case rel == Behind && (f.State == Paired || f.State == Joining):
		// The peer went on without this node: follow it.
		return c.update("the other node went on alone, this one follows", func(now *Facts) {
			if now.State == Paired {
				now.Whole = now.History.Epoch()
			}
			now.History, now.Epoch, now.Turn, now.Primary = h.History, h.Epoch, h.Turn, h.Primary
			now.State, now.Stale, now.Took, now.Report = Joining, true, false, false
		})
	case rel == Behind && f.State == Solo && serves, rel == Diverged && f.State == Paired && serves:
		// What this node acknowledged alone, the peer may lack: it had served with less.
		return c.update("the other node served without having everything, this one's mail is brought over", func(now *Facts) { now.State = Merging })
	case rel == Same && f.State == Joining && h.State == Paired && h.Epoch == f.Epoch && c.whole(f, h):
		return c.update("in sync: this node counts again", func(now *Facts) {
			now.State, now.Primary, now.Turn, now.Stale, now.Partial, now.Epoch = Paired, h.Primary, h.Turn, false, false, h.Epoch
		})
	case rel == Same && f.State == Paired && h.State == Paired && h.Turn > f.Turn:
		return c.update("the primary is "+h.Primary, func(now *Facts) {
			now.Turn, now.Primary, now.Report = h.Turn, h.Primary, h.Primary == now.Self.ID
		})
	case rel == Same && f.State == Paired && h.State == Paired && f.Stale:
		return c.update("the other node has not gone on alone after all", func(now *Facts) { now.Stale = false })
	case rel == Same && f.State == Joining && h.State != Paired && h.Turn > f.Turn:
		return c.update("the primary is "+h.Primary, func(now *Facts) { now.Turn, now.Primary = h.Turn, h.Primary })
	}
	if v := h.Verdict; v != nil && f.State == Solo && rel == Diverged && v.Winner == h.Node && verdictFits(*v, f, h) {
		return c.update("the other node's history wins, this one's is brought over", func(now *Facts) { now.State = Merging })
	}
	return false
}

// whole tells whether this node's vote counts and it has everything that was acknowledged
// before: an own configuration may be one of an earlier pair.
func (c *Controller) whole(f Facts, h Hello) bool {
	return slices.Contains(h.Voters, f.Self.ID) && c.votes(f.Self.ID) && c.cfg.Node.Status().CommitIndex >= h.Last
}

func (c *Controller) votes(id string) bool {
	members, err := c.cfg.Node.Members()
	if err != nil {
		return false
	}
	for _, m := range members {
		if m.ID == id && m.Voter {
			return true
		}
	}
	return false
}

func (c *Controller) update(why string, change func(*Facts)) bool {
	if err := c.cfg.Book.Update(func(f *Facts) error { change(f); return nil }); err != nil {
		c.log.Error("pair", "err", err)
		return false
	}
	f := c.cfg.Book.Facts()
	c.mu.Lock()
	c.verdict, c.released, c.handed, c.upToDate, c.unreported = nil, false, false, 0, 0
	c.mu.Unlock()
	c.align(f)
	c.log.Info("pair", "state", f.State, "epoch", f.Epoch, "turn", f.Turn, "primary", f.Primary, "why", why)
	return true
}

// stepJoining: receive what is lacking, take over nothing.
func (c *Controller) stepJoining(ctx context.Context, f Facts) {
	c.letGo(ctx)
	c.copyTo("")
	if f.Aside != "" {
		c.follow(f.Peer.ID, false)
		c.serve(Serving{Why: "starting anew"}, "", "")
		c.cfg.Hooks.Rejoin()
		return
	}
	h, fresh := c.view()
	if fresh && Relate(f.History, h.History) == Same {
		c.follow(f.Peer.ID, true)
	} else {
		c.follow(f.Peer.ID, false)
	}
	since := uint64(math.MaxUint64)
	if fresh && h.Copies {
		since = h.Floor
	}
	c.setMissing(c.cfg.Hooks.Missing(f.Peer.ID, since))
	if fresh {
		c.serve(Serving{Why: "receiving mail of the other node"}, "", "")
		return
	}
	alarm, advice := "the node that serves does not answer, and this one does not have everything", "start "+f.Peer.ID
	if !f.Partial {
		advice += "; only if it is lost for good: " + lastResort(f.Self.ID)
		c.mu.Lock()
		quiet := c.now() - max(c.peer.heard, c.started)
		c.mu.Unlock()
		if quiet > c.cfg.Timing.Stale && c.goSolo(ctx, f, SoloRequest{Stale: true}, "the node with newer mail does not come back") {
			return
		}
		alarm += ": " + c.refusal()
	}
	c.serve(Serving{Why: "waiting for the other node"}, alarm, advice)
}

// reunite brings a follower up to date and makes it a voter.
func (c *Controller) reunite(ctx context.Context, f Facts, h Hello) {
	c.follow(f.Peer.ID, true)
	if !h.Open {
		return // it will say so with its next hello
	}
	c.mu.Lock()
	again := c.readded != h.Instance
	c.mu.Unlock()
	if again && c.every("add", 2*c.cfg.Timing.Frame) {
		actx, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := c.cfg.Node.Readd(actx, f.Peer.ID)
		cancel()
		if err != nil {
			c.log.Warn("the other node can't be added to the log", "err", err)
			return
		}
		c.mu.Lock()
		c.readded = h.Instance
		c.mu.Unlock()
	}
	if again {
		return
	}
	behind := c.behind(h)
	now := c.now()
	c.mu.Lock()
	full := h.Full || c.peer.full > 0 && now-c.peer.full < fullTime
	c.mu.Unlock()
	near := behind <= 1000 && !full
	switch {
	case near:
		c.copyTo(f.Peer.ID) // from here on nothing new will be missing
	case full:
		c.copyTo("") // or mail would wait for a copy that it can't store
	}
	ready := near && behind <= lagLimit && h.Missing == 0
	c.mu.Lock()
	if !ready {
		c.upToDate = 0
	} else if c.upToDate == 0 {
		c.upToDate = now
	}
	// The lease must run already: the right to serve alone is given up for it.
	stable := c.upToDate > 0 && now-c.upToDate >= c.cfg.Timing.Stable && c.lease.LeaseEnd()-now > c.cfg.Timing.Term/2
	c.mu.Unlock()
	if stable {
		c.promote(ctx, f)
	}
}

// mark is how long the log was at a moment.
type mark struct {
	at   time.Duration
	last uint64
}

// markLog remembers the length of the log for some seconds.
func (c *Controller) markLog() {
	now, last := c.now(), c.cfg.Node.Status().LastIndex
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.marks) > 0 && now-c.marks[0].at > 10*time.Second {
		c.marks = c.marks[1:]
	}
	c.marks = append(c.marks, mark{now, last})
}

// behind is how many entries the peer lacks of those that were in the log a second before it
// spoke: what came since may just be on its way, and under load that is always something.
func (c *Controller) behind(h Hello) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.peer.heard - time.Second
	last := uint64(0)
	for _, m := range c.marks {
		if m.at > before {
			break
		}
		last = m.last
	}
	if last == 0 && len(c.marks) > 0 {
		last = c.marks[0].last
	}
	return last - min(last, h.Applied)
}

// promote makes the follower a voter. The right to serve alone is given up on disk first.
func (c *Controller) promote(ctx context.Context, f Facts) {
	err := c.cfg.Book.Update(func(now *Facts) error {
		if now.State != Solo || now.Epoch != f.Epoch {
			return errors.New("overtaken by another decision")
		}
		now.State, now.Took, now.Stale, now.Report = Paired, false, false, true
		return nil
	})
	if err != nil {
		c.log.Error("pair", "err", err)
		return
	}
	c.align(c.cfg.Book.Facts())
	pctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Silent)
	defer cancel()
	if err := c.cfg.Node.AddVoter(pctx, f.Peer.ID); err != nil {
		c.log.Warn("the other node could not be made a voter", "err", err)
		return // silent or not, the primary's step goes on from here
	}
	c.log.Info("both nodes are in sync", "epoch", f.Epoch)
	c.kick()
}

// report tells the arbiter that both nodes are in sync, with both signatures.
func (c *Controller) report(ctx context.Context, f Facts, h Hello) {
	if !c.votes(f.Peer.ID) {
		pctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Silent)
		defer cancel()
		if err := c.cfg.Node.AddVoter(pctx, f.Peer.ID); err != nil {
			c.log.Warn("the other node could not be made a voter", "err", err)
		}
		return
	}
	if h.State != Paired || h.Epoch != f.Epoch || h.Turn != f.Turn {
		return // it would not sign yet
	}
	rctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	set := c.setup()
	err := c.tellPair(rctx, f)
	c.arbiter(err)
	if err != nil {
		if c.every("report log", 30*time.Second) {
			c.log.Warn("the arbiter was not told that both nodes are in sync", "err", err)
		}
		return
	}
	c.update("the arbiter knows that both nodes are in sync", func(now *Facts) { now.Report, now.Told = false, set.Arbiter })
}

func (c *Controller) tellPair(ctx context.Context, f Facts) error {
	set := c.setup()
	arb := c.cfg.Arbiter(set)
	serial, err := arb.Serial(ctx)
	if err != nil {
		return err
	}
	r := PairReport{Cluster: f.Cluster, Epoch: f.Epoch, Turn: f.Turn, Primary: f.Primary, Serial: serial, Arbiter: set.Arbiter}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	sig, err := c.cfg.Link.Call(ctx, f.Peer.ID, "pair.sign", raw)
	if err != nil {
		return err
	}
	r.Signatures = map[string][]byte{f.Peer.ID: sig, f.Self.ID: c.cfg.Sign(r.Statement())}
	return arb.ReportPair(ctx, r)
}

// sign signs a report that is true for this node, too. Not while this node is asking to
// serve alone: the answer may be on its way.
func (c *Controller) sign(_ context.Context, _ string, req []byte) ([]byte, error) {
	var r PairReport
	if err := json.Unmarshal(req, &r); err != nil {
		return nil, err
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	f := c.cfg.Book.Facts()
	if f.State != Paired || r.Cluster != f.Cluster || r.Epoch != f.Epoch || r.Turn != f.Turn || r.Primary != f.Primary {
		return nil, fmt.Errorf("not in sync as said: here state %s, epoch %d, turn %d, primary %s", f.State, f.Epoch, f.Turn, f.Primary)
	}
	if r.Arbiter != "" && (f.Setup == nil || f.Setup.Arbiter != r.Arbiter) {
		return nil, fmt.Errorf("this node does not know yet that the arbiter is %s", r.Arbiter)
	}
	return c.cfg.Sign(r.Statement()), nil
}

// judge decides, on node 0, whose history is kept when both have gone their own ways. Only the
// cost depends on it, never what is kept.
func (c *Controller) judge(f Facts, h Hello) {
	if f.Self.Number != 0 || h.State != Solo {
		return
	}
	mine, _ := fork(f.History, h.History)
	theirs, _ := fork(h.History, f.History)
	win := true
	manual := func(b Branch) bool { return b.Reason == ByAdministrator }
	last := c.cfg.Node.Status().LastIndex
	switch a, b := last-min(mine.Index, last), h.Last-min(theirs.Index, h.Last); {
	case manual(mine) != manual(theirs):
		win = manual(mine)
	case a != b:
		win = a > b
	}
	v := Verdict{Winner: h.Node, Epoch0: f.Epoch, Epoch1: h.Epoch}
	if win {
		v.Winner = f.Self.ID
	}
	c.mu.Lock()
	old := c.verdict
	c.mu.Unlock()
	if old != nil && old.Epoch0 == v.Epoch0 && old.Epoch1 == v.Epoch1 {
		v = *old // a verdict stays
	}
	c.mu.Lock()
	c.verdict = &v
	c.mu.Unlock()
	if v.Winner != f.Self.ID {
		c.update("the other node's history wins, this one's is brought over", func(now *Facts) { now.State = Merging })
	}
}

func verdictFits(v Verdict, f Facts, h Hello) bool {
	if f.Self.Number == 0 {
		return v.Epoch0 == f.Epoch && v.Epoch1 == h.Epoch
	}
	return v.Epoch1 == f.Epoch && v.Epoch0 == h.Epoch
}

// stepMerging: this node's own branch is replayed on the peer; then it starts anew from it.
func (c *Controller) stepMerging(ctx context.Context, f Facts) {
	c.letGo(ctx)
	c.copyTo("")
	c.follow(f.Peer.ID, false)
	c.serve(Serving{Why: "merging"}, "both nodes had served alone; this one's mail is being brought over", "mpctl ha merge list")
	h, fresh := c.view()
	if fresh && h.State == Merging && f.Self.Number == 0 {
		// Each has taken the other for the winner: a verdict crossed the start of its judge.
		if c.update("the other node waits, too: this one serves", func(now *Facts) { now.State = Solo }) {
			c.cfg.Hooks.Rejoin()
		}
		return
	}
	if !fresh || h.State != Solo && h.State != Paired || !c.every("merge", 2*c.cfg.Timing.Frame) {
		return
	}
	b, ok := fork(f.History, h.History)
	if !ok && len(f.History) > 0 {
		b, ok = f.History[len(f.History)-1], true
	}
	if ok {
		other, branched := fork(h.History, f.History)
		if !branched {
			other = b
		}
		common, err := c.common(ctx, f, b, other)
		if err != nil {
			c.log.Error("merge: the last common entry is not found", "err", err)
			return
		}
		b.Index = common
		if err := c.cfg.Hooks.Merge(ctx, f.Peer.ID, b); err != nil {
			if ctx.Err() == nil {
				c.log.Error("merge", "err", err)
			}
			return
		}
	}
	name := fmt.Sprintf("diverged-%d-%d", f.Epoch, c.cfg.Wall().Unix())
	if c.update("merged", func(now *Facts) {
		now.State, now.History, now.Epoch, now.Turn, now.Primary = Joining, h.History, h.Epoch, h.Turn, h.Primary
		now.Partial, now.Stale, now.Took, now.Report, now.Aside = true, false, false, false, name
		now.Setup = nil // its entries are counted in another way from here on
	}) {
		c.cfg.Hooks.Rejoin()
	}
}

// around is how far before and behind the branches the logs are compared.
const around = 4096

// termRange asks for the terms of commands; the answer has as many as there are.
type termRange struct {
	From  uint64            `json:"from"`
	To    uint64            `json:"to"`
	Terms map[uint64]uint64 `json:"terms,omitempty"` // by index
}

// terms answers which commands this node's log holds.
func (c *Controller) terms(ctx context.Context, _ string, req []byte) ([]byte, error) {
	var r termRange
	if err := json.Unmarshal(req, &r); err != nil {
		return nil, err
	}
	if r.To < r.From || r.To-r.From > 4*around {
		return nil, errors.New("range of terms")
	}
	var err error
	if r.Terms, err = c.readTerms(ctx, r.From, r.To); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

func (c *Controller) readTerms(ctx context.Context, from, to uint64) (map[uint64]uint64, error) {
	s := c.cfg.Node.Status()
	from, to = max(from, s.FirstIndex), min(to, s.LastIndex)
	out := map[uint64]uint64{}
	if s.FirstIndex == 0 || to < from {
		return out, nil
	}
	err := c.cfg.Node.ReadLog(ctx, from, to, func(e cluster.Entry) error {
		out[e.Index] = e.Term
		return nil
	})
	return out, err
}

// common finds the last entry that both logs hold. The indexes in the branches are those of the
// moments of decision: entries on their way then may be on either side. Entries with one
// index and one term are one entry.
func (c *Controller) common(ctx context.Context, f Facts, mine, theirs Branch) (uint64, error) {
	low := min(mine.Index, theirs.Index)
	r := termRange{From: max(low, around) - around + 1, To: max(mine.Index, theirs.Index, low) + around}
	r.To = min(r.To, r.From+4*around)
	raw, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	answer, err := c.cfg.Link.Call(cctx, f.Peer.ID, "pair.terms", raw)
	if err != nil {
		return 0, err
	}
	var got termRange
	if err := json.Unmarshal(answer, &got); err != nil {
		return 0, err
	}
	own, err := c.readTerms(ctx, r.From, r.To)
	if err != nil {
		return 0, err
	}
	last := uint64(0)
	for index, term := range own {
		if got.Terms[index] == term {
			last = max(last, index)
		}
	}
	if last == 0 {
		// Neither log reaches back so far any more, or nothing but elections was common there.
		last = low
	}
	return last, nil
}

// ByAdministrator is the reason of a branch that ha recover --force began.
const ByAdministrator = "by the administrator"
