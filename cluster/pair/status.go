package pair

import (
	"fmt"
	"net/netip"
	"time"
)

// Status is what an administrator wants to know at 3 a.m.
type Status struct {
	Facts       Facts
	Capacity    string        // single, joining, pair, solo-primary, solo-secondary, isolated, merging, cold
	For         time.Duration // in the present capacity
	Serving     Serving
	Held        []netip.Prefix
	HeldFrom    time.Time     // since when
	Lease       time.Duration // left, as primary; 0: none
	Alarm       string
	Advice      string
	Peer        Hello
	PeerFresh   bool
	PeerSilence time.Duration
	PeerFault   string
	Skew        time.Duration
	Lag         uint64 // entries that the peer, or this node, is behind
	Missing     int64  // bodies that this node lacks; -1: not known
	Arbiter     string // what it said last; empty: fine
	ArbiterAge  time.Duration
	Leader      string
	CanFail     []string // what may fail now without an interruption that lasts
	CantFail    []string // what must not
}

// Status gathers the present status.
func (c *Controller) Status() Status {
	f := c.cfg.Book.Facts()
	h, fresh := c.view()
	behind := c.behind(h)
	silence, _ := c.dead()
	n := c.cfg.Node.Status()
	now := c.now()
	held := c.cfg.Address.Held()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{
		Facts: f, Serving: c.serving, For: now - c.since, Held: held, HeldFrom: c.heldFrom, Alarm: c.alarm, Advice: c.advice,
		Peer: h, PeerFresh: fresh, PeerSilence: silence, PeerFault: c.peer.fault, Skew: c.peer.skew,
		Missing: c.missing, Arbiter: c.arbiterErr, Leader: n.Leader,
	}
	if c.arbiterAt > 0 {
		s.ArbiterAge = now - c.arbiterAt
	}
	if end := c.lease.LeaseEnd(); f.State == Paired && end > now {
		s.Lease = end - now
	}
	s.Capacity = c.capacity(f, s.Lease)
	mine := max(n.LastIndex, n.AppliedIndex)
	if fresh {
		if f.Primary == f.Self.ID {
			s.Lag = behind
		} else {
			s.Lag = h.Last - min(h.Last, mine)
		}
	}
	s.CanFail, s.CantFail = whatMayFail(f, s, fresh)
	return s
}

func (c *Controller) capacity(f Facts, lease time.Duration) string {
	switch {
	case f.State == Solo && f.Took:
		return "solo-secondary"
	case f.State == Solo:
		return "solo-primary"
	case f.State == Paired && !c.contacted:
		return "cold"
	case f.State == Paired && f.Primary == f.Self.ID && lease <= 0:
		return "isolated"
	}
	return string(f.State)
}

func whatMayFail(f Facts, s Status, fresh bool) (can, cant []string) {
	if f.State == Single {
		return nil, nil
	}
	arbiter := "the arbiter answers"
	if s.Arbiter != "" {
		arbiter = "the arbiter says: " + s.Arbiter
	}
	switch {
	case f.State == Paired && fresh && s.Arbiter == "" && !f.Report:
		can = append(can, fmt.Sprintf("%s or %s, one at a time: the other takes over (%s)", f.Self.ID, f.Peer.ID, arbiter), "the arbiter: nothing happens as long as both nodes are up")
	case f.State == Paired && fresh:
		can = append(can, "nothing at the moment: "+arbiter)
		cant = append(cant, "either node: the other could not go on alone")
	case f.State == Solo:
		cant = append(cant, f.Self.ID+": mail that came since "+f.Peer.ID+" is away exists here only")
		can = append(can, "the arbiter: this node has its grant")
	default:
		cant = append(cant, f.Self.ID)
	}
	return can, cant
}
