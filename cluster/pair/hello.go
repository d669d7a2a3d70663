package pair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// maxHello bounds what is read of a peer's hello.
const maxHello = 1 << 20

// Hello is what the nodes tell each other every frame.
type Hello struct {
	Cluster  string        `json:"cluster"`
	Node     string        `json:"node"`
	Number   uint8         `json:"number"`
	Instance string        `json:"instance"` // of the process
	Seq      uint64        `json:"seq"`      // counts its hellos
	Version  string        `json:"version"`
	Formats  string        `json:"formats"`
	State    State         `json:"state"`
	Epoch    uint64        `json:"epoch"`
	Turn     uint64        `json:"turn"`
	Primary  string        `json:"primary"`
	Took     bool          `json:"took,omitempty"`
	Stale    bool          `json:"stale,omitempty"`
	History  History       `json:"history,omitempty"`
	Last     uint64        `json:"last"`    // newest entry of its log
	Applied  uint64        `json:"applied"` // newest entry in its state
	Missing  int64         `json:"missing"` // bodies that its state names and its disk lacks; -1: not known yet
	Leader   string        `json:"leader"`  // of the log
	Voters   []string      `json:"voters"`  // of the log, as it knows them
	Open     bool          `json:"open"`    // it takes the log from its peer
	Copies   bool          `json:"copies"`  // it copies bodies to the other node before it names them
	Floor    uint64        `json:"floor"`   // its newest entry when that began
	Address  bool          `json:"address"` // it holds the floating address
	From     time.Time     `json:"from"`    // since then
	Verdict  *Verdict      `json:"verdict,omitempty"`
	Witness  string        `json:"witness,omitempty"`
	Reported bool          `json:"reported"`       // its arbiter knows that both nodes are in sync
	Full     bool          `json:"full,omitempty"` // its own disk has no room for mail
	Since    time.Duration `json:"since"`          // it has been running so long
	Wall     time.Time     `json:"wall"`
	Load     []byte        `json:"load,omitempty"`
}

// Verdict names the winner of two histories that have come apart. Node number 0 gives it.
type Verdict struct {
	Winner string `json:"winner"`
	Epoch0 uint64 `json:"epoch0"` // last epochs of the two, so that an old verdict isn't taken for a new one
	Epoch1 uint64 `json:"epoch1"`
}

// view is what this node knows of its peer.
type view struct {
	hello Hello
	heard time.Duration // last word of it, either way; 0: never
	full  time.Duration // its disk failed it then; 0: never
	left  bool          // it has said that it stops
	fault string
	skew  time.Duration
}

func (c *Controller) hello() Hello {
	c.mu.Lock()
	c.seq++
	seq := c.seq // what is said under a higher number was read later
	c.mu.Unlock()
	f := c.cfg.Book.Facts()
	s := c.cfg.Node.Status()
	load := c.cfg.Hooks.Load() // may ask for Status
	c.mu.Lock()
	defer c.mu.Unlock()
	return Hello{
		Cluster: f.Cluster, Node: f.Self.ID, Number: f.Self.Number, Instance: c.instance, Seq: seq, Version: c.cfg.Version, Formats: c.cfg.Formats,
		State: f.State, Epoch: f.Epoch, Turn: f.Turn, Primary: f.Primary, Took: f.Took, Stale: f.Stale, History: f.History,
		Last: s.LastIndex, Applied: s.AppliedIndex, Missing: c.missing, Leader: s.Leader, Voters: s.Voters, Open: c.open,
		Copies: c.mirror == f.Peer.ID && f.Peer.ID != "", Floor: c.floor,
		Address: c.holds, From: c.heldFrom, Verdict: c.verdict, Witness: witnessID(f), Reported: !f.Report, Full: c.noRoom(), Since: c.now() - c.started, Wall: c.cfg.Wall(), Load: load,
	}
}

func witnessID(f Facts) string {
	if f.Witness == nil {
		return ""
	}
	return f.Witness.ID
}

// helloLoop talks to the peer every frame.
func (c *Controller) helloLoop(ctx context.Context) {
	wait := c.cfg.Timing.Frame
	for c.pause(ctx, wait) {
		wait = c.cfg.Timing.Frame
		f := c.cfg.Book.Facts()
		if f.State == Single || f.Peer.ID == "" {
			continue
		}
		if errors.Is(c.greet(ctx, f), syscall.ECONNREFUSED) {
			wait = min(wait, 300*time.Millisecond) // three of them in a second mean a dead process
		}
	}
}

func (c *Controller) greet(ctx context.Context, f Facts) error {
	raw, err := json.Marshal(c.hello())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Silent)
	defer cancel()
	sent := c.now()
	answer, err := c.cfg.Link.Call(ctx, f.Peer.ID, "pair.hello", raw)
	if err != nil {
		c.missed(err, sent)
		if errors.Is(err, ErrRemoved) {
			c.removed(f)
		}
		return err
	}
	var h Hello
	if err := json.Unmarshal(answer, &h); err != nil {
		c.log.Warn("the peer's hello can't be read", "err", err)
		return err
	}
	c.met(h, sent, true)
	return nil
}

// met takes in what the peer says of itself; sent is when that can have been true at the
// earliest, echo that it answers a question of ours.
func (c *Controller) met(h Hello, sent time.Duration, echo bool) {
	f := c.cfg.Book.Facts()
	if err := h.History.Validate(); err != nil {
		c.log.Error("the peer's hello", "err", err)
		return
	}
	if h.Node != f.Peer.ID || h.Cluster != f.Cluster {
		c.log.Error("the peer belongs to another cluster", "peer", h.Node, "its cluster", h.Cluster, "ours", f.Cluster)
		return
	}
	now := c.now()
	c.mu.Lock()
	if sent < c.peer.heard-c.cfg.Timing.Silent {
		c.mu.Unlock()
		return // an answer that was long on its way: newer ones are here
	}
	if h.Instance != c.peer.hello.Instance {
		c.peer.left = false
		c.released = false
	}
	if h.Instance != c.peer.hello.Instance || h.Seq > c.peer.hello.Seq {
		c.peer.hello = h // or it was overtaken on its way
	}
	c.peer.heard = max(sent, c.peer.heard)
	if echo {
		c.detect.Heard(now)
		c.peer.fault = ""
	}
	c.peer.skew = c.cfg.Wall().Sub(h.Wall)
	c.contacted = true
	c.mu.Unlock()
	c.kick()
}

// missed records that the peer did not answer, and whether it can't: nobody listens there.
func (c *Controller) missed(err error, started time.Duration) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer.fault = err.Error()
	if errors.Is(err, syscall.ECONNREFUSED) {
		c.detect.Refused(started, now)
	} else {
		c.detect.Failed(started, now)
	}
}

// PeerFault says that the peer's disk can't take what it must have: it is of no use until it
// says hello as another process, or answers again and its disk works.
func (c *Controller) PeerFault(err error) {
	c.mu.Lock()
	c.peer.fault = err.Error()
	c.peer.full = c.now()
	c.mu.Unlock()
	c.kick()
}

// OwnFault says that this node's disk has no room for mail. If it is the primary, and the other
// node is fit for it, that one becomes it. It does not wait.
func (c *Controller) OwnFault(err error) {
	c.mu.Lock()
	c.full = c.now()
	c.mu.Unlock()
	if c.every("full log", 10*time.Second) {
		c.log.Error("no room for mail on this node", "err", err)
	}
	c.kick()
}

// fullTime is how long a node counts as full after a write that found no room.
const fullTime = 10 * time.Second

// noRoom tells whether this node was full lately. c.mu is held.
func (c *Controller) noRoom() bool { return c.full > 0 && c.now()-c.full < fullTime }

// yield hands over to the other node, because this one's disk is full and the other's is not.
func (c *Controller) yield(ctx context.Context, f Facts, h Hello) {
	c.mu.Lock()
	full := c.noRoom()
	c.mu.Unlock()
	if !full || h.Full || !c.every("yield", fullTime) {
		return
	}
	c.wg.Add(1)
	go func() { // not from within a step, which holds what a switchover takes
		defer c.wg.Done()
		if err := c.Switchover(ctx, f.Peer.ID); err != nil && ctx.Err() == nil {
			c.log.Warn("this node has no room for mail, and the other one does not take over", "err", err)
		}
	}()
}

// dead tells whether the peer counts as dead, and for how long it has been silent.
func (c *Controller) dead() (silence time.Duration, dead bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.detect.Silence(now), c.peer.left || c.stalled || c.peer.full > 0 && now-c.peer.full < fullTime || c.detect.Dead(now)
}

// away says why the peer counts as dead: silent is the word for one that is.
func (c *Controller) away(silent string) string {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.peer.left:
		return "the other node has stopped"
	case c.detect.Dead(now):
		return silent
	case c.peer.full > 0 && now-c.peer.full < fullTime:
		return "the other node can't store mail"
	case c.stalled:
		return "the other node answers, but the log does not get there"
	}
	return silent
}

// view copies what is known of the peer, if it is fresh.
func (c *Controller) view() (Hello, bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer.hello, c.peer.heard > 0 && now-c.peer.heard < c.cfg.Timing.Silent && !c.peer.left
}

// handle answers the peer's calls.
func (c *Controller) handle() {
	type handler = func(ctx context.Context, node string, req []byte) ([]byte, error)
	own := func(h handler) handler {
		return func(ctx context.Context, node string, req []byte) ([]byte, error) {
			f := c.cfg.Book.Facts()
			if f.Former != nil && node == f.Former.ID && node != f.Peer.ID {
				return nil, ErrRemoved
			}
			if f.State == Single || node != f.Peer.ID {
				return nil, fmt.Errorf("%s is no node of this pair", node)
			}
			if len(req) > maxHello {
				return nil, errors.New("request too long")
			}
			return h(ctx, node, req)
		}
	}
	c.cfg.Link.Handle("pair.hello", own(func(_ context.Context, _ string, req []byte) ([]byte, error) {
		var h Hello
		if err := json.Unmarshal(req, &h); err != nil {
			return nil, err
		}
		// What came in may have waited on the way: it counts from half a frame ago.
		c.met(h, c.now()-c.cfg.Timing.Frame/2, false)
		return json.Marshal(c.hello())
	}))
	c.cfg.Link.Handle("pair.take", own(c.take))
	c.cfg.Link.Handle("pair.sign", own(c.sign))
	c.cfg.Link.Handle("pair.terms", own(c.terms))
	c.cfg.Link.Handle("pair.switch", own(func(ctx context.Context, _ string, req []byte) ([]byte, error) {
		return nil, c.Switchover(ctx, string(req))
	}))
	c.cfg.Link.Handle("pair.remove", own(func(_ context.Context, node string, _ []byte) ([]byte, error) {
		if c.cfg.Book.Facts().Primary != node {
			return nil, errors.New("only the primary of this pair removes this node")
		}
		c.log.Warn("the other node removes this one from the pair; what is here is put aside", "node", node)
		now := c.now()
		c.mu.Lock()
		c.parted = now
		c.mu.Unlock()
		return nil, c.Leave()
	}))
	c.cfg.Link.Handle("pair.leave", own(func(context.Context, string, []byte) ([]byte, error) {
		c.mu.Lock()
		c.peer.left = true
		c.mu.Unlock()
		c.kick()
		return nil, nil
	}))
}
