package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// waiters wakes goroutines that wait for the applied index, all at once: entries are
// applied in batches, and few wait.
type waiters struct {
	mu     sync.Mutex
	ch     chan struct{}
	waited atomic.Bool
}

func (w *waiters) wake() {
	if !w.waited.Load() {
		return
	}
	w.mu.Lock()
	close(w.ch)
	w.ch = nil
	w.waited.Store(false)
	w.mu.Unlock()
}

// next gives a channel that is closed at the next wake.
func (w *waiters) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ch == nil {
		w.ch = make(chan struct{})
		w.waited.Store(true)
	}
	return w.ch
}

// Applied is the index of the last entry that this node has applied.
func (n *Node) Applied() uint64 { return n.fsm.applied.Load() }

// WaitApplied waits until this node has applied the entry of an index that Propose or
// ReadIndex gave, on this node or another.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	for n.Applied() < index {
		next := n.waiters.next()
		if n.Applied() >= index {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.failed:
			return n.failure()
		case <-n.done:
			return ErrClosed
		}
	}
	return nil
}

// ReadIndex gives an index that is at least that of every entry acknowledged before the
// call. A node that has applied it serves reads that never show the past. Leader only:
// it asks a majority whether it still leads, without touching the disk.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	if !n.IsLeader() {
		return 0, n.notLeader()
	}
	applied := n.Applied()
	if err := n.await(ctx, func(e *engine) error { return e.raft.VerifyLeader().Error() }); err != nil {
		return 0, err
	}
	return applied, nil
}

// Barrier waits until everything committed so far has been applied here. Leader only.
func (n *Node) Barrier(ctx context.Context) error {
	return n.await(ctx, func(e *engine) error { return e.raft.Barrier(maxEnqueue).Error() })
}

// await runs a blocking call of the library and stops waiting when ctx ends.
func (n *Node) await(ctx context.Context, call func(*engine) error) error {
	e, err := n.enter()
	if err != nil {
		return err
	}
	res := make(chan error, 1)
	go func() {
		defer e.gate.leave()
		res <- call(e)
	}()
	select {
	case err := <-res:
		return n.translate(err)
	case <-ctx.Done():
		return ctx.Err()
	case <-e.gone:
		return n.orFailure(n.endedAs())
	}
}

// endedAs is what a call finds when its engine has ended.
func (n *Node) endedAs() error {
	if n.isClosing() {
		return ErrClosed
	}
	return ErrUncertain
}

// within gives the time left for a call of the library, 0 for no limit.
func within(ctx context.Context) time.Duration {
	d, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(d), time.Nanosecond)
}

// kick wakes a goroutine that listens on a channel of capacity 1.
func kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
