package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mailplusd/cluster/body"
	"mailplusd/cluster/pair"
	"mailplusd/mail/model"
	"mailplusd/mail/state"

	"github.com/fxamacker/cbor/v2"
)

// Calls of a merge, from the node whose history is replayed to the one whose is kept.
const (
	callPull  = "merge.pull"  // names of bodies: have them on your disk
	callMerge = "merge.apply" // a state.Merge
	callDone  = "merge.done"  // a state.MergeDone
)

// mergeNames is how many names one call carries.
const mergeNames = 4096

// merge brings what this node did since branch to the winner: first the bodies, then the
// changes. Both may be repeated. Nothing of this node is under way any more.
func (n *node) merge(ctx context.Context, winner string, b pair.Branch) error {
	f := n.book.Facts()
	r, err := n.state.NewReplay(f.Self.ID, uint16(f.Self.Number), b.Index)
	if err != nil {
		return err
	}
	defer r.Close()
	var names []model.BodyID
	pull := func() error {
		if len(names) == 0 {
			return nil
		}
		raw, err := cbor.Marshal(names)
		if err != nil {
			return err
		}
		names = names[:0]
		_, err = n.link.Call(ctx, winner, callPull, raw)
		return err
	}
	err = r.Bodies(func(id model.BodyID) error {
		if names = append(names, id); len(names) < mergeNames {
			return nil
		}
		return pull()
	})
	if err == nil {
		err = pull()
	}
	if err != nil {
		return fmt.Errorf("bodies of the merge: %w", err)
	}
	count, digest, err := r.Run(ctx, func(ctx context.Context, m *state.Merge) (out state.Merged, err error) {
		raw, err := cbor.Marshal(m)
		if err != nil {
			return out, err
		}
		answer, err := n.link.Call(ctx, winner, callMerge, raw)
		if err != nil {
			return out, err
		}
		return out, cbor.Unmarshal(answer, &out)
	})
	if err != nil {
		return err
	}
	raw, err := cbor.Marshal(state.MergeDone{Branch: r.Branch(), Count: count, Digest: digest})
	if err != nil {
		return err
	}
	if _, err := n.link.Call(ctx, winner, callDone, raw); err != nil {
		return err
	}
	n.log.Info("this node's own history has been brought over", "winner", winner, "since entry", b.Index, "changes", count)
	return nil
}

// takeMerge answers the calls of a node whose history is replayed here.
func (n *node) takeMerge() {
	solo := func(h func(ctx context.Context, node string, req []byte) ([]byte, error)) func(context.Context, string, []byte) ([]byte, error) {
		return n.fromPeer(func(ctx context.Context, node string, req []byte) ([]byte, error) {
			if s := n.book.Facts().State; s != pair.Solo && s != pair.Paired {
				return nil, fmt.Errorf("this node is in state %s and takes no history in", s)
			}
			return h(ctx, node, req)
		})
	}
	n.link.Handle(callPull, solo(func(ctx context.Context, node string, req []byte) ([]byte, error) {
		var names []body.ID
		if err := cbor.Unmarshal(req, &names); err != nil || len(names) > mergeNames {
			return nil, errors.New("names of bodies")
		}
		n.links.puller.SetPeer(node)
		st, err := n.links.puller.Backfill(ctx, slices.Values(names), body.BackfillOptions{})
		if err == nil && st.Missing+st.Corrupt > 0 {
			n.log.Error("bodies of a merge are damaged on the other node; their messages will name them", "missing", st.Missing, "damaged", st.Corrupt, "names", st.Names)
		}
		return nil, err
	}))
	n.link.Handle(callMerge, solo(func(ctx context.Context, _ string, req []byte) ([]byte, error) {
		var m state.Merge
		if err := cbor.Unmarshal(req, &m); err != nil {
			return nil, err
		}
		var out state.Merged
		if err := n.state.Do(ctx, []state.Operation{m}, &out); err != nil {
			return nil, err
		}
		return cbor.Marshal(out)
	}))
	n.link.Handle(callDone, solo(func(ctx context.Context, _ string, req []byte) ([]byte, error) {
		var m state.MergeDone
		if err := cbor.Unmarshal(req, &m); err != nil {
			return nil, err
		}
		return nil, n.state.Do(ctx, []state.Operation{m})
	}))
}
