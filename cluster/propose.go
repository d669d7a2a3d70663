package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// maxEnqueue bounds the wait for a place in raft's queue when the context has no deadline.
const maxEnqueue = 30 * time.Second

// proposal is one call of Propose that waits for its entry.
type proposal struct {
	future raft.ApplyFuture
	result []byte
	index  uint64
	err    error
	done   chan struct{} // cap 1
}

var proposals = sync.Pool{New: func() any { return &proposal{done: make(chan struct{}, 1)} }}

// Propose brings data into the log and returns the state machine's result and the
// entry's index after this node has applied it. It must be called on the leader:
// ErrNotLeader says who that is. data must not be changed afterwards. An end of ctx or
// ErrUncertain leaves open whether the entry will be committed. Call it from as many
// goroutines as there is work: they share the fsync.
func (n *Node) Propose(ctx context.Context, data []byte) (result []byte, index uint64, err error) {
	if len(data) > n.cfg.MaxEntry {
		return nil, 0, fmt.Errorf("%w: %d octets, the limit is %d", ErrTooLarge, len(data), n.cfg.MaxEntry)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	e, err := n.enter()
	if err != nil {
		return nil, 0, err
	}
	wait := maxEnqueue
	if d, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(d), time.Nanosecond))
	}
	p := proposals.Get().(*proposal)
	p.future = e.raft.Apply(data, wait)
	select {
	case e.inflight <- p:
	case <-e.gone:
		return nil, 0, n.orFailure(ErrUncertain)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return nil, 0, ctx.Err() // p is left to the completer and the collector
	case <-n.failed:
		return nil, 0, n.failure()
	case <-e.gone:
		select {
		case <-p.done:
		default:
			return nil, 0, n.orFailure(ErrUncertain)
		}
	}
	result, index, err = p.result, p.index, p.err
	p.result, p.err, p.index = nil, nil, 0
	proposals.Put(p)
	return result, index, err
}
