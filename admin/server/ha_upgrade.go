package server

import (
	"context"
	"fmt"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// haUpgrade shows what both nodes run, and raises the feature level when both know it.
func (s *Server) haUpgrade(ctx context.Context, c *Call, in *api.HAUpgradeIn) ([]api.HAUpgradeRow, error) {
	h, err := s.pairing()
	if err != nil {
		return nil, err
	}
	level := s.mail.State.Level()
	row := func(node, version, formats string) api.HAUpgradeRow {
		return api.HAUpgradeRow{Node: node, Version: version, Formats: formats, Level: fmt.Sprint(level)}
	}
	st := h.Controller.Status()
	out := []api.HAUpgradeRow{row(s.node, model.Version, h.Formats)}
	f := st.Facts
	if f.State != pair.Single {
		if !st.PeerFresh {
			if in.Finish {
				return nil, op.Errorf(op.Refused, "%s does not answer, so it is not known what it can read", f.Peer.ID).With("mpctl ha show")
			}
			return append(out, row(f.Peer.ID, "unknown", "unknown")), nil
		}
		out = append(out, row(f.Peer.ID, st.Peer.Version, st.Peer.Formats))
	}
	if !in.Finish {
		return out, nil
	}
	if f.State != pair.Single && st.Peer.Formats != h.Formats {
		return nil, op.Errorf(op.Refused, "%s reads %s, this node %s: formats are raised when both run the new program", f.Peer.ID, st.Peer.Formats, h.Formats).With("upgrade mailplusd on " + f.Peer.ID)
	}
	if level >= state.FeatureLevel {
		c.Warn("nothing to do: level %d is in force", level)
		return out, nil
	}
	c.Diff(op.FieldDiff{Field: "level", Old: fmt.Sprint(level), New: fmt.Sprint(state.FeatureLevel)})
	if c.DryRun {
		return out, nil
	}
	return out, s.mail.State.Do(ctx, []state.Operation{state.RaiseLevel{Level: state.FeatureLevel}})
}
