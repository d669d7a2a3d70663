package forward

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mailplusd/cluster"
)

// Caller asks a method of another node.
type Caller interface {
	Call(ctx context.Context, node, method string, req []byte) ([]byte, error)
}

// Options of a Proposer.
type Options struct {
	Node   *cluster.Node // this node
	ID     string        // its ID
	Caller Caller
	// NotSent says of an error of Caller that the request has surely not reached the other
	// node. nil: no error says so.
	NotSent func(error) bool
	// Leased says that this node, if it leads, surely is the only one that does; reads
	// then need no question to a majority. nil: always ask.
	Leased func() bool
	// CallTimeout bounds one call to the leader; 0: 10 s.
	CallTimeout time.Duration
}

const (
	maxCalls  = 4               // proposals' calls under way
	maxQueued = 16384           // proposals that wait for one
	maxFresh  = 2 * time.Second // bound of Fresh
	firstWait = 2 * time.Millisecond
	lastWait  = 100 * time.Millisecond
)

// Proposer proposes and reads on any node. Its methods may be called from any goroutine.
type Proposer struct {
	opt  Options
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	queues map[string]*queue // by leader
	fresh  fresh
}

// queue holds the proposals for one leader.
type queue struct {
	waiting []*request
	calls   int
}

// request is one proposal on its way.
type request struct {
	data []byte
	done chan struct{}
	out  outcome
	err  error // instead of an outcome
	sent bool  // with err: may have happened
}

// New makes a Proposer. Close ends it.
func New(opt Options) *Proposer {
	if opt.NotSent == nil {
		opt.NotSent = func(error) bool { return false }
	}
	if opt.CallTimeout == 0 {
		opt.CallTimeout = 10 * time.Second
	}
	p := &Proposer{opt: opt, queues: map[string]*queue{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// Close ends calls under way; their callers get ErrUncertain. The node stays open.
func (p *Proposer) Close() {
	p.mu.Lock()
	p.stop()
	p.mu.Unlock()
	p.wg.Wait()
}

// unseen is the key of Unseen.
type unseen struct{}

// Unseen gives a context for proposals whose effect the caller won't read on this node: they
// return when the leader has applied the entry, up to two Timeouts.Commit earlier.
func Unseen(ctx context.Context) context.Context { return context.WithValue(ctx, unseen{}, true) }

// Propose brings data into the log, through whichever node leads, and returns the state
// machine's result and the entry's index after this node has applied it. While it is sure
// that nothing has happened (no leader, another leader, leader out of reach or busy) it
// tries again until ctx ends; the error then wraps the last reason and that of ctx.
// ErrUncertain: the entry may be committed, now or later. An end of ctx while it is under
// way says the same.
func (p *Proposer) Propose(ctx context.Context, data []byte) (result []byte, index uint64, err error) {
	return p.propose(ctx, data, false)
}

// ProposeOnce is Propose for an entry that the state machine applies once however often it
// is in the log, by its operation ID, with the same result. It is tried again after
// ErrUncertain, too, so that only an end of ctx leaves it open.
func (p *Proposer) ProposeOnce(ctx context.Context, data []byte) (result []byte, index uint64, err error) {
	return p.propose(ctx, data, true)
}

func (p *Proposer) propose(ctx context.Context, data []byte, once bool) ([]byte, uint64, error) {
	wait, hint := firstWait, ""
	hinted := false // the one immediate try is used up
	maybe := false  // an earlier try may have happened
	for {
		result, index, err := p.try(ctx, data, hint)
		var not cluster.ErrNotLeader
		switch {
		case err == nil:
			return result, index, nil
		case errors.As(err, &not):
			// Whom a former leader names is asked next, unless that is this node.
			hint = not.Leader
			if hint == p.opt.ID {
				hint = ""
			}
			if hint != "" && !hinted && ctx.Err() == nil {
				hinted = true
				continue
			}
		case errors.Is(err, errNotSent), errors.Is(err, cluster.ErrBusy):
			hint = ""
		case errors.Is(err, cluster.ErrUncertain) && once:
			hint, maybe = "", true
		default:
			return nil, 0, err
		}
		if p.ctx.Err() != nil {
			return nil, 0, cluster.ErrClosed
		}
		if p.pause(ctx, wait) != nil {
			if maybe {
				err = cluster.ErrUncertain
			}
			return nil, 0, fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		wait = min(2*wait, lastWait)
	}
}

// pause waits for d, for another leadership or for the end of ctx.
func (p *Proposer) pause(ctx context.Context, d time.Duration) error {
	ch, stop := p.opt.Node.Watch()
	defer stop()
	<-ch // the present one
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ch:
	case <-t.C:
	case <-p.ctx.Done():
	case <-ctx.Done():
	}
	return ctx.Err()
}

// errNotSent says that a request has not reached the leader.
var errNotSent = errors.New("forward: the leader can't be reached")

// try makes one attempt, at hint if it isn't empty.
func (p *Proposer) try(ctx context.Context, data []byte, hint string) ([]byte, uint64, error) {
	leader := hint
	if leader == "" {
		leader = p.opt.Node.LeaderID()
	}
	if leader == "" || leader == p.opt.ID {
		return p.opt.Node.Propose(ctx, data)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if len(data) > maxRequest-64 {
		return nil, 0, fmt.Errorf("%w: %d octets", cluster.ErrTooLarge, len(data))
	}
	r := &request{data: data, done: make(chan struct{})}
	if err := p.enqueue(leader, r); err != nil {
		return nil, 0, err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	switch {
	case r.err != nil && r.sent:
		return nil, 0, fmt.Errorf("%w: %w", cluster.ErrUncertain, r.err)
	case r.err != nil:
		return nil, 0, fmt.Errorf("%w: %w", errNotSent, r.err)
	}
	if err := r.out.err(); err != nil {
		return nil, 0, err
	}
	if ctx.Value(unseen{}) != nil {
		return r.out.data, r.out.index, nil
	}
	if err := p.opt.Node.WaitApplied(ctx, r.out.index); err != nil {
		return nil, 0, err
	}
	return r.out.data, r.out.index, nil
}

// enqueue hands r to a call: at once if few are under way, else with others.
func (p *Proposer) enqueue(leader string, r *request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return cluster.ErrClosed
	}
	q := p.queues[leader]
	if q == nil {
		q = &queue{}
		p.queues[leader] = q
	}
	if len(q.waiting) >= maxQueued {
		return cluster.ErrBusy
	}
	q.waiting = append(q.waiting, r)
	if q.calls < maxCalls {
		q.calls++
		p.wg.Go(func() { p.send(leader, q) })
	}
	return nil
}

// send makes calls as long as something waits.
func (p *Proposer) send(leader string, q *queue) {
	for {
		p.mu.Lock()
		batch := q.take()
		if len(batch) == 0 {
			if q.calls--; q.calls == 0 {
				delete(p.queues, leader)
			}
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		p.call(leader, batch)
	}
}

// take cuts the next batch off the queue.
func (q *queue) take() []*request {
	n, size := 0, 0
	for n < len(q.waiting) && n < maxBatch {
		size += len(q.waiting[n].data)
		if n > 0 && size > maxBytes {
			break
		}
		n++
	}
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return batch
}

// call sends one batch and answers its requests.
func (p *Proposer) call(leader string, batch []*request) {
	entries := make([][]byte, len(batch))
	size := 16
	for i, r := range batch {
		entries[i] = r.data
		size += len(r.data) + 10
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.opt.CallTimeout)
	b, err := p.opt.Caller.Call(ctx, leader, Method, appendEntries(make([]byte, 0, size), entries))
	cancel()
	var outs []outcome
	sent := true
	if err == nil {
		outs, err = parseOutcomes(b, len(batch))
	} else {
		sent = !p.opt.NotSent(err)
	}
	for i, r := range batch {
		if r.err, r.sent = err, sent; err == nil {
			r.out = outs[i]
		}
		close(r.done)
	}
}
