package pair

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Create makes this single node the primary of a new pair whose other node has agreed. It
// serves alone until that one has everything.
func (c *Controller) Create(cluster string, self, peer Member) error {
	c.act.Lock()
	defer c.act.Unlock()
	s := c.cfg.Node.Status()
	err := c.cfg.Book.Update(func(f *Facts) error {
		if f.State != Single {
			return deny("mpctl ha show", "this node is part of a pair already")
		}
		b := Branch{Epoch: f.Epoch + 1, Owner: self.ID, Index: s.LastIndex, Term: s.Term, Reason: "the pair was made", Time: c.cfg.Wall().UTC()}
		*f = Facts{
			State: Solo, Cluster: cluster, Self: self, Peer: peer, Epoch: b.Epoch, Turn: f.Turn + 1, Primary: self.ID,
			Making: true, History: append(f.History, b),
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.changed()
}

// Made says that the other node has joined.
func (c *Controller) Made() error {
	c.act.Lock()
	defer c.act.Unlock()
	return c.cfg.Book.Update(func(f *Facts) error { f.Making = false; return nil })
}

// changed brings link and lease to new facts. c.act is held.
func (c *Controller) changed() error {
	c.mu.Lock()
	c.peer, c.contacted, c.upToDate, c.readded, c.verdict, c.released, c.removing = view{}, false, 0, "", nil, false, 0
	c.mu.Unlock()
	c.align(c.cfg.Book.Facts())
	err := c.pin()
	c.kick()
	return err
}

// Join makes an empty node the secondary of a pair. Hooks.Rejoin starts it anew.
func (c *Controller) Join(cluster string, self, peer Member, history History, epoch, turn uint64) error {
	c.act.Lock()
	defer c.act.Unlock()
	err := c.cfg.Book.Update(func(f *Facts) error {
		if f.State != Single {
			return deny("mpctl ha show", "this node is part of a pair already")
		}
		*f = Facts{
			State: Joining, Cluster: cluster, Self: self, Peer: peer, Epoch: epoch, Turn: turn, Primary: peer.ID,
			Partial: true, History: history, Aside: fmt.Sprintf("single-%d-%d", epoch, c.cfg.Wall().UnixNano()),
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.changed()
}

// SetWitness names the witness, nil for none.
func (c *Controller) SetWitness(m *Member) error {
	c.act.Lock()
	defer c.act.Unlock()
	return c.setWitness(m)
}

func (c *Controller) setWitness(m *Member) error {
	err := c.cfg.Book.Update(func(f *Facts) error {
		f.Witness = m
		f.Report = f.Report || m != nil && f.State == Paired && f.Primary == f.Self.ID // it must learn that both are in sync
		return nil
	})
	if err != nil {
		return err
	}
	return c.pin()
}

// InSync tells whether the peer has everything that this node has, now.
func (c *Controller) InSync() (bool, string) {
	f := c.cfg.Book.Facts()
	h, fresh := c.view()
	behind := c.behind(h)
	c.mu.Lock()
	missing := c.missing
	c.mu.Unlock()
	switch {
	case f.State != Paired:
		return false, "the pair is not in sync: this node is in state " + string(f.State)
	case !fresh:
		return false, f.Peer.ID + " does not answer"
	case h.Missing != 0:
		return false, fmt.Sprintf("%s lacks %d message bodies", f.Peer.ID, h.Missing)
	case f.Primary != f.Self.ID && missing != 0:
		return false, fmt.Sprintf("this node lacks %d message bodies", missing)
	case behind > lagLimit:
		return false, fmt.Sprintf("%s is %d entries behind", f.Peer.ID, behind)
	}
	return true, ""
}

// Remove ends the pair and keeps this node, which must be the one that serves. dead: the other node is
// not asked for a last comparison.
func (c *Controller) Remove(ctx context.Context, dead bool) error {
	c.act.Lock()
	defer c.act.Unlock()
	f := c.cfg.Book.Facts()
	switch {
	case f.State == Single:
		return deny("mpctl ha create", "this node is not part of a pair")
	case f.Primary != f.Self.ID || f.State != Solo && f.State != Paired:
		return deny("mpctl ha switchover "+f.Self.ID, "only the primary can remove the other node; it is %s", f.Primary)
	}
	if !dead {
		if ok, why := c.InSync(); !ok {
			return deny("mpctl ha wait --for sync", "%s", why)
		}
	}
	c.mu.Lock()
	c.removing = c.now() + removeTime
	c.mu.Unlock()
	if err := c.cfg.Book.Update(func(f *Facts) error {
		if f.State == Paired {
			f.Epoch++
			s := c.cfg.Node.Status()
			f.History = append(f.History, Branch{Epoch: f.Epoch, Owner: f.Self.ID, Index: s.LastIndex, Term: s.Term, Reason: "the pair was ended", Time: c.cfg.Wall().UTC()})
		}
		f.State = Solo // alone from here on, whatever comes
		return nil
	}); err != nil {
		return err
	}
	c.align(c.cfg.Book.Facts())
	c.copyTo("")
	rctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !c.cfg.Node.IsLeader() {
		return errors.New("this node does not lead the log yet; repeat the command")
	}
	if err := c.cfg.Node.Remove(rctx, f.Peer.ID); err != nil {
		return fmt.Errorf("the other node could not be taken out of the log; repeat the command: %w", err)
	}
	return nil
}

// removeTime is how long a node that was removed is not taken in again by itself, so that the
// rest of its removal can be done.
const removeTime = 30 * time.Second

func (c *Controller) ending() bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return now < c.removing
}

// Disband makes this node single, after Remove and after the state has been told.
func (c *Controller) Disband(ctx context.Context) error {
	c.act.Lock()
	defer c.act.Unlock()
	c.letGo(ctx)
	c.follow("", false)
	if err := c.cfg.Book.Update(func(f *Facts) error {
		former := f.Peer
		*f = Facts{State: Single, Epoch: f.Epoch, Turn: f.Turn, History: f.History, Former: &former}
		return nil
	}); err != nil {
		return err
	}
	return c.changed()
}

// ErrRemoved is the answer to a node that has been removed from the pair.
var ErrRemoved = errors.New("this node was removed from the pair")

// removed leaves the pair after the other node has said that this one is not in it any more. A node
// that serves alone stays what it is: its mail may be nowhere else.
func (c *Controller) removed(before Facts) {
	f := c.cfg.Book.Facts()
	if f.State != Joining && f.State != Paired || f.Epoch != before.Epoch || f.Peer.ID != before.Peer.ID {
		return
	}
	c.log.Warn("the other node has removed this one from the pair; what is here is put aside", "node", f.Peer.ID)
	if err := c.Leave(); err != nil {
		c.log.Error("pair", "err", err)
	}
}

// Leave makes this node an empty single one, after its primary has removed it: what it has is
// put aside, and Hooks.Rejoin starts it anew.
func (c *Controller) Leave() error {
	c.act.Lock()
	defer c.act.Unlock()
	if err := c.cfg.Book.Update(func(f *Facts) error {
		*f = Facts{State: Single, Aside: fmt.Sprintf("removed-%d-%d", f.Epoch, c.cfg.Wall().UnixNano())}
		return nil
	}); err != nil {
		return err
	}
	c.kick()
	return nil
}
