package pair

import "time"

// shareLag is how far the peer's state may be behind for it to be given sessions.
const shareLag = time.Second

// mark is how long the log was at some time.
type mark struct {
	at   time.Duration
	last uint64
}

// Share names the peer while it may be given sessions: this node is the primary of a pair in
// sync, and the peer is alive, serves, and has applied what was in the log a second or two ago.
func (c *Controller) Share() (peer string, ok bool) {
	f := c.cfg.Book.Facts()
	if f.State != Paired || f.Primary != f.Self.ID {
		return "", false
	}
	h, fresh := c.view()
	_, dead := c.dead()
	s := c.cfg.Node.Status()
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now-c.marks[1].at >= shareLag {
		c.marks[0], c.marks[1] = c.marks[1], mark{now, max(s.LastIndex, s.AppliedIndex)}
	}
	if !fresh || dead || h.State != Paired || !c.serving.Accept || h.Missing > 0 {
		return "", false
	}
	return f.Peer.ID, h.Applied >= c.marks[0].last
}
