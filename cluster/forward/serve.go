package forward

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"mailplusd/cluster"
)

// Method is the name under which Serve's function is to be registered.
const Method = "forward"

// maxServed is how many requests are worked on at a time; more are refused as busy.
const maxServed = 64

// Serve gives the function that answers other nodes' Proposers. It works on any node: one
// that doesn't lead says who does. It may be called from many goroutines.
func Serve(node *cluster.Node) func(ctx context.Context, from string, req []byte) ([]byte, error) {
	slots := make(chan struct{}, maxServed)
	return func(ctx context.Context, _ string, req []byte) ([]byte, error) {
		if len(req) < 2 || len(req) > maxRequest {
			return nil, errWire
		}
		if req[0] != version {
			return nil, fmt.Errorf("forward: version %d of the request is not known here", req[0])
		}
		switch req[1] {
		case kindPropose:
			return servePropose(ctx, node, slots, req[2:])
		case kindIndex:
			index, err := node.ReadIndex(ctx)
			o := outcomeOf(nil, index, err)
			return appendOutcomes(nil, []outcome{o}), nil
		case kindProgress:
			p := node.Progress()
			b := binary.AppendUvarint([]byte{version}, p.Term)
			b = binary.AppendUvarint(b, p.Last)
			return binary.AppendUvarint(b, p.Applied), nil
		}
		return nil, errWire
	}
}

// servePropose proposes all entries side by side, so that they share the fsync.
func servePropose(ctx context.Context, node *cluster.Node, slots chan struct{}, b []byte) ([]byte, error) {
	entries, err := parseEntries(b)
	if err != nil {
		return nil, err
	}
	out := make([]outcome, len(entries))
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		for i := range out {
			out[i] = outcome{status: statusBusy}
		}
		return appendOutcomes(nil, out), nil
	}
	var wg sync.WaitGroup
	for i, e := range entries {
		wg.Go(func() {
			// The request's memory is the transport's; the log keeps what it gets.
			out[i] = outcomeOf(node.Propose(ctx, append([]byte(nil), e...)))
		})
	}
	wg.Wait()
	return appendOutcomes(nil, out), nil
}

// Ask asks node id how far it is.
func Ask(ctx context.Context, caller Caller, id string) (cluster.Progress, error) {
	var p cluster.Progress
	b, err := caller.Call(ctx, id, Method, []byte{version, kindProgress})
	if err != nil {
		return p, err
	}
	if len(b) == 0 || b[0] != version {
		return p, errWire
	}
	b = b[1:]
	for _, v := range []*uint64{&p.Term, &p.Last, &p.Applied} {
		if *v, b, err = number(b); err != nil {
			return cluster.Progress{}, err
		}
	}
	return p, nil
}
