package pair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mailplusd/cluster/lease"
)

// leaveTime is how long a switchover waits for commands that are under way.
const leaveTime = time.Second

// Refusal is a no to an administrator, with the command that helps.
type Refusal struct{ Why, Remedy string }

func (r *Refusal) Error() string { return r.Why }

func deny(remedy, format string, args ...any) error {
	return &Refusal{fmt.Sprintf(format, args...), remedy}
}

// handOver is what the old primary says to the new one.
type handOver struct {
	Epoch uint64 `json:"epoch"`
	Turn  uint64 `json:"turn"` // of the new primary
	Word  []byte `json:"word"` // a Released frame
}

// Switchover makes the other node the primary: leadership first, then the address. To is the
// node that is to be the primary; from the secondary the primary is asked.
func (c *Controller) Switchover(ctx context.Context, to string) error {
	f := c.cfg.Book.Facts()
	switch {
	case f.State == Single:
		return deny("mpctl ha create", "this node is not part of a pair")
	case to != f.Self.ID && to != f.Peer.ID:
		return deny("mpctl ha show", "%s is no node of this pair", to)
	case f.State != Paired:
		return deny("mpctl ha show", "the nodes are not in sync, so the other can't take over: this node is in state %s", f.State)
	case to == f.Primary:
		return nil
	case f.Primary != f.Self.ID:
		_, err := c.cfg.Link.Call(ctx, f.Peer.ID, "pair.switch", []byte(to))
		return err
	}
	if err := c.greet(ctx, f); err != nil {
		return deny("mpctl ha show", "the other node does not answer: %v", err)
	}
	c.act.Lock()
	defer c.act.Unlock()
	f = c.cfg.Book.Facts() // somebody else may have been quicker
	if f.State != Paired || f.Primary != f.Self.ID {
		return deny("mpctl ha show", "the primary has changed meanwhile; it is %s", f.Primary)
	}
	h, fresh := c.view()
	last := c.cfg.Node.Status().LastIndex
	switch {
	case !fresh:
		return deny("mpctl ha show", "the other node does not answer")
	case h.State != Paired || h.Turn != f.Turn:
		return deny("mpctl ha show", "the other node is in state %s", h.State)
	case h.Missing != 0:
		return deny("mpctl ha wait --for sync", "the other node still lacks %d message bodies", h.Missing)
	case last > h.Applied+10_000:
		return deny("mpctl ha wait --for sync", "the other node is %d entries behind", last-h.Applied)
	}
	began := c.now()
	// What is under way is finished and answered here.
	lctx, left := context.WithTimeout(ctx, leaveTime)
	c.cfg.Address.Leave(lctx)
	left()
	defer c.cfg.Address.Stay() // if it is not released
	tctx, cancel := context.WithTimeout(ctx, c.cfg.Timing.Term)
	defer cancel()
	if err := c.cfg.Node.Transfer(tctx, f.Peer.ID); err != nil {
		return fmt.Errorf("leadership could not be handed over, nothing has changed: %w", err)
	}
	// From here on this node is not the primary any more, whatever happens.
	err := c.cfg.Book.Update(func(now *Facts) error {
		if now.State != Paired || now.Turn != f.Turn {
			return errors.New("overtaken by another decision")
		}
		now.Primary, now.Turn, now.Report = f.Peer.ID, f.Turn+1, false
		return nil
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.holds = false
	c.mu.Unlock()
	if err := c.cfg.Address.Release(context.WithoutCancel(ctx)); err != nil {
		c.log.Error("floating address not removed", "err", err)
		return err // the peer waits until the kernel has removed it
	}
	c.mu.Lock()
	word := c.lease.StepDown()
	c.mu.Unlock()
	c.align(c.cfg.Book.Facts())
	c.serve(Serving{Accept: true}, "", "")
	raw, err := word.AppendBinary(nil)
	if err != nil {
		return err
	}
	msg, err := json.Marshal(handOver{Epoch: f.Epoch, Turn: f.Turn + 1, Word: raw})
	if err != nil {
		return err
	}
	hctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timing.Term)
	defer cancel()
	if _, err := c.cfg.Link.Call(hctx, f.Peer.ID, "pair.take", msg); err != nil {
		return fmt.Errorf("%s was made the primary and did not say so; it takes the address with its next hello: %w", f.Peer.ID, err)
	}
	c.log.Info("handed over", "to", f.Peer.ID, "turn", f.Turn+1, "took", c.now()-began)
	return nil
}

// take is the other side of Switchover.
func (c *Controller) take(ctx context.Context, _ string, req []byte) ([]byte, error) {
	var m handOver
	if err := json.Unmarshal(req, &m); err != nil {
		return nil, err
	}
	frame, err := lease.ParseFrame(m.Word)
	if err != nil {
		return nil, err
	}
	c.act.Lock()
	defer c.act.Unlock()
	err = c.cfg.Book.Update(func(now *Facts) error {
		known := now.Turn == m.Turn && now.Primary == now.Self.ID // a hello was quicker
		if now.State != Paired || now.Epoch != m.Epoch || now.Turn+1 != m.Turn && !known {
			return fmt.Errorf("this node is in state %s, epoch %d, turn %d", now.State, now.Epoch, now.Turn)
		}
		now.Primary, now.Turn, now.Report = now.Self.ID, m.Turn, true
		return nil
	})
	if err != nil {
		return nil, err
	}
	now := c.now()
	c.mu.Lock()
	c.promise.Released(frame)
	c.released, c.handed = false, true
	// A sign of life: under load nothing else may have come for a while, and this node, the primary now, is
	// not to go on alone for it.
	c.detect.Heard(now)
	c.peer.heard = now
	c.mu.Unlock()
	f := c.cfg.Book.Facts()
	c.align(f)
	c.log.Info("this node is the primary now", "turn", f.Turn)
	c.kick()
	return nil, nil
}

// Recover makes this node serve alone on the administrator's word. force: although newer mail
// may be on the other node.
func (c *Controller) Recover(ctx context.Context, force bool) error {
	c.act.Lock()
	defer c.act.Unlock()
	f := c.cfg.Book.Facts()
	h, fresh := c.view()
	switch {
	case f.State == Single || f.State == Solo:
		return deny("mpctl ha show", "this node is in state %s and needs no recovery", f.State)
	case f.State == Paired && f.Primary == f.Self.ID && c.covered():
		return deny("mpctl ha show", "this node serves and needs no recovery")
	case f.State == Merging && fresh:
		return deny("mpctl ha show", "this node's mail is being brought over to the other one")
	case fresh && (h.State == Solo || h.State == Paired && h.Primary == h.Node && h.Address):
		return deny("mpctl ha show", "%s serves; two nodes that serve alone would have to be merged", h.Node)
	case !force:
		return deny(lastResort(f.Self.ID), "this is the last resort: mail that only %s has stays away until it comes back, and is merged then", f.Peer.ID)
	case f.Partial:
		return deny("start "+f.Peer.ID, "this node has never had all mail; it can't serve")
	}
	if !c.becomeSolo(f, true, ByAdministrator, c.cfg.Node.Status()) {
		return errors.New("the decision could not be kept; see the log")
	}
	c.stepSolo(ctx, c.cfg.Book.Facts())
	if f.State == Merging {
		c.cfg.Hooks.Rejoin() // the merge that never ended holds writes
	}
	return nil
}

// lastResort is the command with which an administrator lets a node serve alone.
func lastResort(node string) string { return "mpctl ha recover " + node + " --force --confirm=" + node }

// arbiter notes what the arbiter said last.
func (c *Controller) arbiter(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arbiterAt, c.arbiterErr = c.now(), ""
	if err != nil {
		c.arbiterErr = err.Error()
	}
}

// refusal is why this node may not serve alone: the answer to its question, whatever the contact
// says that keeps a claim fresh meanwhile.
func (c *Controller) refusal() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused != "" {
		return c.refused
	}
	return c.arbiterErr
}

// arbiterLoop keeps the primary's claim fresh at the arbiter, and finds out whether it is there.
func (c *Controller) arbiterLoop(ctx context.Context) {
	for c.pause(ctx, 2*c.cfg.Timing.Frame) {
		f := c.cfg.Book.Facts()
		if f.State != Paired && f.State != Solo {
			continue
		}
		if c.cfg.Arbiter == nil || f.State == Paired && f.Primary == f.Self.ID && !c.covered() {
			continue // who is cut off has no claim to keep
		}
		actx, cancel := context.WithTimeout(ctx, 2*time.Second)
		revision, err := c.cfg.Arbiter(c.setup()).Contact(actx, SoloRequest{
			Cluster: f.Cluster, Node: f.Self.ID, Epoch: f.Epoch, Turn: f.Turn, Primary: f.Primary == f.Self.ID, Paired: f.State == Paired, Revision: f.Revision,
		})
		cancel()
		if err == nil && revision > f.Revision {
			err = c.cfg.Book.Update(func(now *Facts) error {
				if witnessID(*now) == witnessID(f) {
					now.Revision = max(now.Revision, revision)
				}
				return nil
			})
		}
		if errors.Is(err, ErrUnreported) {
			if err = nil; !f.Report {
				err = c.cfg.Book.Update(func(now *Facts) error {
					now.Report = now.State == Paired && now.Primary == now.Self.ID
					return nil
				})
			}
		}
		if ctx.Err() == nil {
			c.arbiter(err)
		}
	}
}
