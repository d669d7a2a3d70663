package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
	"mailplusd/mail/state"
)

func (s *Server) haRemove(ctx context.Context, c *Call, in *api.HARemoveIn) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{}, err
	}
	f := h.Book.Facts()
	switch {
	case f.State == pair.Single:
		return api.HAShowOut{}, op.Errorf(op.Refused, "this node is in no pair; the last node can't be removed").With("mpctl ha create")
	case in.Node == s.node:
		return api.HAShowOut{}, op.Errorf(op.Refused, "%s is this node: run the command on the node to be kept", in.Node).With(fmt.Sprintf("mpctl ha remove %s, on %s", in.Node, f.Peer.ID))
	case in.Node != f.Peer.ID:
		return api.HAShowOut{}, notFound("node", in.Node, "mpctl ha show")
	case c.DryRun:
		c.Diff(op.FieldDiff{Field: "node", Old: in.Node})
		return s.haView(h), nil
	}
	st := h.Controller.Status()
	if !in.Dead && !f.Parted && !st.PeerFresh {
		return api.HAShowOut{}, op.Errorf(op.Refused, "%s does not answer, so there can be no last synchronisation, and it can't be told that it is removed: %s. With --dead mail that only it has is lost; %s", in.Node, st.PeerFault, danger(in.Node, s.node)).
			With(fmt.Sprintf("start it, or if it is gone for good: mpctl ha remove %s --dead --confirm=%s", in.Node, in.Node))
	}
	if !in.Dead && !f.Parted {
		if err := s.waitSync(ctx, h, 90*time.Second); err != nil {
			return api.HAShowOut{}, err
		}
		if err := s.sameDigest(ctx, h, f.Peer.ID); err != nil {
			return api.HAShowOut{}, err
		}
	}
	if err := h.Controller.Introduce(f.Witness); err != nil { // it is told at the end
		return api.HAShowOut{}, haError(err)
	}
	defer h.Controller.Introduce(nil)
	told, err := s.dissolve(ctx, h, in.Dead)
	if err != nil {
		return api.HAShowOut{}, haError(err)
	}
	s.forgetWitness(ctx, c, h, f.Witness)
	if !told {
		c.Warn("%s was not told that it is removed: %s", in.Node, danger(in.Node, s.node))
	}
	c.Warn("the floating address is held by no node now: point firewall rules, port forwarding and DMZ to this node (R11.54)")
	c.Warn("change DNS records that name the floating address: mpctl domain dns-records, then mpctl check dns (R11.55)")
	return s.haView(h), nil
}

// danger is what a node can do that does not know of its removal.
func danger(node, kept string) string {
	return fmt.Sprintf("if %s still runs, or comes back where it does not reach %s, it may take the floating address and serve old mail: erase it or keep it off", node, kept)
}

// sameDigest compares both nodes at one index, some times: mail keeps coming.
func (s *Server) sameDigest(ctx context.Context, h *HA, peer string) error {
	for range 20 {
		mine, err := s.mail.State.Digest(ctx)
		if err != nil {
			return err
		}
		raw, err := h.Link.Call(ctx, peer, "ha.digest", nil)
		if err != nil {
			return haError(err)
		}
		var theirs state.Digest
		if err := json.Unmarshal(raw, &theirs); err != nil {
			return err
		}
		if mine.Applied == theirs.Applied {
			if mine.Sum != theirs.Sum {
				return op.Errorf(op.Refused, "at entry %d the nodes differ; nothing was removed", mine.Applied).With("mpctl storage verify on both nodes, then report this as a fault")
			}
			return nil
		}
	}
	return nil // mail comes faster than a digest is made; the log has brought both to the same entries
}

// dissolve takes the other node out of the log and makes this one single. told: the other node has
// said that it has left.
func (s *Server) dissolve(ctx context.Context, h *HA, dead bool) (told bool, err error) {
	f := h.Book.Facts()
	if f.State != pair.Single {
		if told, err = h.Controller.Remove(ctx, dead); err != nil {
			return told, err
		}
		if err := s.endPhase(ctx); err != nil {
			return told, err
		}
	}
	if err := s.mail.State.Update(ctx, state.DropPair); err != nil && !errors.Is(err, state.ErrNotFound) {
		return told, err
	}
	if f.State == pair.Single {
		return told, nil
	}
	return told, h.Controller.Disband(ctx)
}

func (s *Server) waitSync(ctx context.Context, h *HA, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		ok, why := h.Controller.InSync()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return op.Errorf(op.Failed, "not in sync within %s: %s", limit, why).With("mpctl ha show")
		case <-t.C:
		}
	}
}

// endPhase makes the state a single node's. The controller may start its epoch meanwhile, so
// the one in force is read again.
func (s *Server) endPhase(ctx context.Context) (err error) {
	for range 20 {
		g := s.mail.State.Regime()
		err = s.mail.State.Do(ctx, []state.Operation{state.PairSet{Epoch: g.Epoch, Phase: state.PhaseSingle, Owner: s.node, SettingsOwner: s.node}})
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	return err
}
