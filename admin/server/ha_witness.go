package server

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"
	"mailplusd/cluster/witness"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) haWitnessAdd(ctx context.Context, c *Call, in *api.HAWitnessAddIn) (api.HAWitnessOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAWitnessOut{}, err
	}
	f := h.Book.Facts()
	if f.State == pair.Single {
		return api.HAWitnessOut{}, op.Errorf(op.Refused, "this node is in no pair").With("mpctl ha create")
	}
	if c.DryRun {
		c.Diff(op.FieldDiff{Field: "witness", New: in.Address})
		return api.HAWitnessOut{Address: in.Address}, nil
	}
	res, err := h.Link.Pair(ctx, in.Address, transport.Credential{Token: string(in.Token)})
	if err != nil {
		return api.HAWitnessOut{}, pairError(err)
	}
	w := &pair.Member{ID: res.ID, Number: 0, Addrs: []string{in.Address}, Key: res.Key}
	if err := h.Controller.Introduce(w); err != nil {
		return api.HAWitnessOut{}, haError(err)
	}
	defer h.Controller.Introduce(nil)
	enrol, err := json.Marshal(witness.Enrol{
		Cluster: f.Cluster, Epoch: f.Epoch, Turn: f.Turn, Primary: f.Primary, Solo: f.State == pair.Solo,
		Nodes: []witness.Node{{ID: f.Self.ID, Addrs: f.Self.Addrs, Key: f.Self.Key}, {ID: f.Peer.ID, Addrs: f.Peer.Addrs, Key: f.Peer.Key}},
	})
	if err != nil {
		return api.HAWitnessOut{}, err
	}
	if _, err := h.Link.Call(ctx, res.ID, "witness.enrol", enrol); err != nil {
		return api.HAWitnessOut{}, haError(err)
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		p, err := state.ReadPair(tx)
		if err != nil {
			return err
		}
		p.Arbiter.Mode, p.Arbiter.Witness, p.Arbiter.WitnessKey = model.ArbiterWitness, in.Address, res.Key
		p.Arbiter.WitnessID, p.Arbiter.Fallback = res.ID, in.Fallback
		return state.StorePair(tx, p)
	})
	if err != nil {
		return api.HAWitnessOut{}, err
	}
	if !h.knownToWitness(ctx, w) {
		c.Warn("the witness has not heard yet that both nodes are in sync: until then neither can go on alone; mpctl ha wait --for sync")
	}
	return s.witnessOf(ctx, h, w)
}

// witnessTime is how long an answer to ha witness add may wait for the witness to have heard both nodes.
const witnessTime = 10 * time.Second

// knownToWitness waits until the primary has taken w as its arbiter, and has told it that both nodes
// are in sync; a node that serves alone has nothing to tell. Who pulls a plug the moment
// after the answer must find the pair protected.
func (h *HA) knownToWitness(ctx context.Context, w *pair.Member) bool {
	ctx, cancel := context.WithTimeout(ctx, witnessTime)
	defer cancel()
	for {
		f := h.Book.Facts()
		if f.Witness != nil && bytes.Equal(f.Witness.Key, w.Key) && (f.State != pair.Paired || !f.Report) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) haWitnessRemove(ctx context.Context, c *Call, _ *op.None) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{}, err
	}
	w := h.Book.Facts().Witness
	if err := h.Controller.Introduce(w); err != nil { // both nodes let go of it as soon as the state does
		return s.haView(h), haError(err)
	}
	defer h.Controller.Introduce(nil)
	err = s.change(ctx, c, func(tx *state.Tx) error {
		p, err := state.ReadPair(tx)
		if err != nil {
			return err
		}
		if p.Arbiter.Witness == "" {
			return op.Errorf(op.Refused, "there is no witness").With("mpctl ha witness add")
		}
		p.Arbiter = model.Arbiter{Mode: model.ArbiterGateway, Targets: p.Arbiter.Targets}
		return state.StorePair(tx, p)
	})
	if err != nil || c.DryRun {
		return s.haView(h), err
	}
	s.forgetWitness(ctx, c, h, w)
	return s.haView(h), nil
}

// forgetWitness tells a witness that it is not needed any more; it must be reachable still.
func (s *Server) forgetWitness(ctx context.Context, c *Call, h *HA, w *pair.Member) {
	if w == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if _, err := h.Link.Call(ctx, w.ID, "witness.forget", nil); err != nil {
		c.Warn("the witness %s was not told: %v; stop it", w.ID, err)
	}
}

func (s *Server) haWitnessShow(ctx context.Context, _ *Call, _ *op.None) (api.HAWitnessOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAWitnessOut{}, err
	}
	return s.witnessView(ctx, h)
}

func (s *Server) witnessView(ctx context.Context, h *HA) (api.HAWitnessOut, error) {
	return s.witnessOf(ctx, h, h.Book.Facts().Witness)
}

func (s *Server) witnessOf(ctx context.Context, h *HA, w *pair.Member) (api.HAWitnessOut, error) {
	if w == nil {
		return api.HAWitnessOut{}, op.Errorf(op.NotFound, "there is no witness").With("mpctl ha witness add HOST:PORT --invite-file FILE")
	}
	out := api.HAWitnessOut{Address: strings.Join(w.Addrs, ", "), InSync: []string{}}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	raw, err := h.Link.Call(ctx, w.ID, "witness.show", nil)
	if err != nil {
		return out, op.Errorf(op.Unreachable, "the witness does not answer: %v", err).With("start it: mailplusd witness")
	}
	var r witness.Record
	if err := json.Unmarshal(raw, &r); err != nil {
		return out, err
	}
	out.Reached, out.Epoch, out.Primary, out.InSync, out.Holder, out.Changed = true, r.Epoch, r.Primary, r.InSync, r.Holder, r.Changed.Local().Format(time.DateTime)
	return out, nil
}
