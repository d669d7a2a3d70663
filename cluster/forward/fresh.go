package forward

import (
	"context"
	"errors"
	"fmt"

	"mailplusd/cluster"
)

// fresh is the questions for the leader's index. A reader may only use an answer to a
// question that was asked after it came, so readers that come while one is under way
// share the next.
type fresh struct {
	running bool
	next    *question
}

type question struct {
	done  chan struct{}
	index uint64
	err   error
}

// Fresh waits until this node has applied everything that was acknowledged on any node
// before the call, 2 s at most. An error says that it is not known whether it has: the
// caller may answer with an error, or let the leader answer. On a leader with a valid
// lease it costs nothing.
func (p *Proposer) Fresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, maxFresh)
	defer cancel()
	// What a leader acknowledges it has applied before.
	if p.opt.Leased != nil && p.opt.Node.IsLeader() && p.opt.Leased() {
		return nil
	}
	q := p.ask()
	if q == nil {
		return cluster.ErrClosed
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		return fmt.Errorf("forward: no index from the leader: %w", ctx.Err())
	}
	if q.err != nil {
		return q.err
	}
	if err := p.opt.Node.WaitApplied(ctx, q.index); err != nil {
		return fmt.Errorf("forward: entry %d is not applied here: %w", q.index, err)
	}
	return nil
}

// ask joins the next question, and asks it if none is under way.
func (p *Proposer) ask() *question {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return nil
	}
	f := &p.fresh
	if f.next == nil {
		f.next = &question{done: make(chan struct{})}
	}
	q := f.next
	if !f.running {
		f.running = true
		p.wg.Go(p.askAll)
	}
	return q
}

// askAll asks as long as readers come.
func (p *Proposer) askAll() {
	for {
		p.mu.Lock()
		q := p.fresh.next
		p.fresh.next = nil
		if q == nil {
			p.fresh.running = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		q.index, q.err = p.leaderIndex()
		close(q.done)
	}
}

// leaderIndex asks whoever leads, again while nobody is known to.
func (p *Proposer) leaderIndex() (uint64, error) {
	ctx, cancel := context.WithTimeout(p.ctx, maxFresh)
	defer cancel()
	wait, hint := firstWait, ""
	for {
		index, err := p.indexFrom(ctx, hint)
		if err == nil {
			return index, nil
		}
		hint = ""
		if not := (cluster.ErrNotLeader{}); errors.As(err, &not) && not.Leader != p.opt.ID {
			hint = not.Leader
		}
		if p.pause(ctx, wait) != nil {
			return 0, fmt.Errorf("forward: no index from the leader: %w", err)
		}
		wait = min(2*wait, lastWait)
	}
}

func (p *Proposer) indexFrom(ctx context.Context, leader string) (uint64, error) {
	if leader == "" {
		leader = p.opt.Node.LeaderID()
	}
	if leader == "" || leader == p.opt.ID {
		return p.opt.Node.ReadIndex(ctx)
	}
	b, err := p.opt.Caller.Call(ctx, leader, Method, []byte{version, kindIndex})
	if err != nil {
		return 0, err
	}
	out, err := parseOutcomes(b, 1)
	if err != nil {
		return 0, err
	}
	return out[0].index, out[0].err()
}
