package pair

// Share names the peer while it may be given sessions: this node is the primary of a pair in
// sync, and the peer is alive, serves, has room for mail, and has applied what was in the log a second before it spoke.
func (c *Controller) Share() (peer string, ok bool) {
	f := c.cfg.Book.Facts()
	if f.State != Paired || f.Primary != f.Self.ID {
		return "", false
	}
	h, fresh := c.view()
	_, dead := c.dead()
	behind := c.behind(h)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !fresh || dead || h.State != Paired || !c.serving.Accept || h.Missing > 0 || h.Full {
		return "", false
	}
	return f.Peer.ID, behind == 0
}
