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
	if !n.enter() {
		return nil, 0, n.orFailure(ErrClosed)
	}
	wait := maxEnqueue
	if d, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(d), time.Nanosecond))
	}
	p := proposals.Get().(*proposal)
	p.future = n.raft.Apply(data, wait)
	n.inflight <- p
	select {
	case <-p.done:
	case <-ctx.Done():
		return nil, 0, ctx.Err() // p is left to the completer and the collector
	case <-n.failed:
		return nil, 0, n.failure()
	case <-n.done:
		return nil, 0, ErrUncertain
	}
	result, index, err = p.result, p.index, p.err
	p.result, p.err, p.index = nil, nil, 0
	proposals.Put(p)
	return result, index, err
}

// complete answers proposals in the order in which the log took them, so that a caller
// can stop waiting without a goroutine of its own for each call.
func (n *Node) complete() {
	defer n.wg.Done()
	for p := range n.inflight {
		err := p.future.Error()
		if err == nil {
			switch r := p.future.Response().(type) {
			case *[]byte:
				p.result = *r
			case error:
				err = r
			}
			p.index = p.future.Index()
		}
		p.err = n.translate(err)
		p.future = nil
		p.done <- struct{}{}
		n.leave()
	}
}

// enter counts a call that Close has to wait for; false when the node is closing.
func (n *Node) enter() bool {
	n.gateMu.RLock()
	defer n.gateMu.RUnlock()
	if n.closing {
		return false
	}
	n.calls.Add(1)
	return true
}

func (n *Node) leave() { n.calls.Done() }

// shut refuses new calls and waits until those under way have an answer, or until
// drain is over.
func (n *Node) shut(drain time.Duration) (drained bool) {
	n.gateMu.Lock()
	n.closing = true
	n.gateMu.Unlock()
	done := make(chan struct{})
	go func() { n.calls.Wait(); close(done) }()
	t := time.NewTimer(drain)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}
