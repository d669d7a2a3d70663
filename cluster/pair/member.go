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

// Introduce lets this node reach a witness that the set-up does not name: one that is being added or
// removed. nil ends that. Who is asked follows the set-up alone, on both nodes.
func (c *Controller) Introduce(m *Member) error {
	c.mu.Lock()
	c.guest = m
	c.mu.Unlock()
	return c.pin()
}

func (c *Controller) setWitness(m *Member) error {
	err := c.cfg.Book.Update(func(f *Facts) error {
		if m == nil || f.Witness == nil || string(m.Key) != string(f.Witness.Key) {
			f.Revision = 0
		}
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

// Remove ends the pair and keeps this node, which must be the one that serves. The arbiter is asked,
// so that it refuses the other node from then on, and the other node is told and must say that it has
// left; told reports that. dead: neither is waited for, the administrator says that the node is gone.
func (c *Controller) Remove(ctx context.Context, dead bool) (told bool, err error) {
	c.act.Lock()
	defer c.act.Unlock()
	f := c.cfg.Book.Facts()
	switch {
	case f.State == Single:
		return false, deny("mpctl ha create", "this node is not part of a pair")
	case f.Primary != f.Self.ID || f.State != Solo && f.State != Paired:
		return false, deny("mpctl ha switchover "+f.Self.ID, "only the primary can remove the other node; it is %s", f.Primary)
	}
	if !dead && !f.Parted {
		if ok, why := c.InSync(); !ok {
			return false, deny("mpctl ha wait --for sync", "%s", why)
		}
	}
	c.noReturn(removeTime)
	if f.State == Paired { // alone from here on, whatever comes
		if err := c.part(ctx, f, dead); err != nil {
			c.noReturn(0)
			return false, err
		}
	}
	if told = f.Parted; !told {
		err := c.tellRemoved(ctx, f)
		if told = err == nil; !told && !dead {
			c.noReturn(0)
			return false, deny(fmt.Sprintf("mpctl ha remove %s again when both are in sync, or if it is lost for good: mpctl ha remove %s --dead --confirm=%s", f.Peer.ID, f.Peer.ID, f.Peer.ID),
				"%s did not say that it has left, and could take over later: %v. The pair is kept; this node serves alone until %s has followed again", f.Peer.ID, err, f.Peer.ID)
		}
	}
	c.copyTo("")
	rctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !c.cfg.Node.IsLeader() {
		return told, errors.New("this node does not lead the log yet; repeat the command")
	}
	if err := c.cfg.Node.Remove(rctx, f.Peer.ID); err != nil {
		return told, fmt.Errorf("the other node could not be taken out of the log; repeat the command: %w", err)
	}
	return told, nil
}

// part makes this node the one that serves alone, so that the pair can be ended. An arbiter that keeps
// a record must have written that down first: the other node would be granted otherwise.
func (c *Controller) part(ctx context.Context, f Facts, dead bool) error {
	c.asking.Lock()
	defer c.asking.Unlock()
	s := c.cfg.Node.Status()
	actx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	arb := c.cfg.Arbiter(c.cfg.Hooks.Setup())
	lasting, err := arb.RequestSolo(actx, SoloRequest{
		Cluster: f.Cluster, Node: f.Self.ID, Epoch: f.Epoch + 1, Turn: f.Turn, Primary: c.covered(), LastIndex: s.LastIndex,
	})
	switch {
	case err != nil && lasting && !dead:
		return deny("start the "+arb.Name()+", or do without it: mpctl ha witness remove", "the %s was not told that this node goes on alone, and could let %s take over: %v", arb.Name(), f.Peer.ID, err)
	case err != nil:
		c.log.Info("the pair is ended without the arbiter's word", "arbiter", arb.Name(), "err", err)
	}
	if !c.becomeSolo(f, false, "the pair was ended", s) {
		return errors.New("the decision could not be kept; see the log")
	}
	return nil
}

// tellRemoved has the other node leave, and returns without an error when it has written that down.
func (c *Controller) tellRemoved(ctx context.Context, f Facts) error {
	tctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := c.cfg.Link.Call(tctx, f.Peer.ID, "pair.remove", nil); err != nil {
		return err
	}
	return c.cfg.Book.Update(func(now *Facts) error { now.Parted = true; return nil })
}

// removeTime is how long a node that was removed is not taken in again by itself, so that the
// rest of its removal can be done.
const removeTime = 30 * time.Second

func (c *Controller) noReturn(d time.Duration) {
	now := c.now()
	c.mu.Lock()
	c.removing = now + d
	c.mu.Unlock()
}

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
