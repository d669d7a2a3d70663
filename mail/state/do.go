package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// OnceProposer is a Proposer in a pair: the node that leads may change while an entry is
// under way.
type OnceProposer interface {
	Proposer
	// Paired tells whether another node may take over. Then entries are remembered by
	// their ID (Entry.Once) and go through ProposeOnce; a single node pays nothing.
	Paired() bool
	// ProposeOnce is Propose for an entry that may be proposed again. An error that is
	// ErrUncertain (it may be committed or not) or ErrNoLeader (it is not; nobody could take
	// it) makes Do repeat it, unchanged.
	ProposeOnce(ctx context.Context, entry []byte) (result []byte, index uint64, err error)
}

// unread is the key of Unread.
type unread struct{}

// Unread gives a context for a Do whose effect its caller won't read on this node, such as a
// delivery: in a pair it need not wait until this node has applied the entry.
func Unread(ctx context.Context) context.Context { return context.WithValue(ctx, unread{}, true) }

// IsUnread tells whether ctx is of Unread.
func IsUnread(ctx context.Context) bool { return ctx.Value(unread{}) != nil }

// Waits between two tries of one entry, and the end of trying. maxRetry must stay below the
// time for which an entry is remembered (see onceWindow).
const (
	minRetryWait = 5 * time.Millisecond
	maxRetryWait = 250 * time.Millisecond
	maxRetry     = time.Minute
)

// opID names the next entry of this node: node, epoch and sequence. The sequence starts at
// the clock, so a restart doesn't repeat one.
func (s *State) opID() (id OpID) {
	binary.BigEndian.PutUint64(id[:], s.regime.Load().Epoch)
	binary.BigEndian.PutUint16(id[:], s.node)
	binary.BigEndian.PutUint64(id[8:], s.seq.Add(1))
	return id
}

// maxAhead bounds how far an entry of a peer with a wrong clock moves ours.
const maxAhead = int64(5 * time.Minute)

// clock gives the entry's time, a hybrid logical clock: the wall clock, but never going back
// and never behind an entry that is applied here, so that "later" means later on both nodes.
func (s *State) clock() int64 {
	s.clockMu.Lock()
	defer s.clockMu.Unlock()
	now := s.now().UnixNano()
	if at := s.appliedAt.Load(); at < now+maxAhead {
		s.lastTime = max(s.lastTime, at)
	}
	s.lastTime = max(s.lastTime+1, now)
	return s.lastTime
}

// Do proposes operations as one entry and waits until they are applied here. Each
// result is decoded into the value of the same place in out; nil skips it. The error
// is a refusal of this package, or the proposer's. In a pair an entry whose fate is unknown
// is proposed again under the same ID, until ctx ends or for a minute: it is applied once.
func (s *State) Do(ctx context.Context, ops []Operation, out ...any) error {
	e := Entry{ID: s.opID(), Epoch: s.regime.Load().Epoch, Time: s.clock(), Ops: make([]Op, 0, len(ops))}
	once, _ := s.proposer.(OnceProposer)
	e.Once = once != nil && once.Paired()
	if s.keeps(ops) {
		ops = append([]Operation{Keeping{}}, ops...) // without a result: out stays as it is
	}
	for _, op := range ops {
		if err := s.levelAllows(op.kind()); err != nil {
			return err
		}
		o, err := NewOp(op)
		if err != nil {
			return fmt.Errorf("state: %w", err)
		}
		e.Ops = append(e.Ops, o)
	}
	data, err := EncodeEntry(&e)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	var raw []byte
	if e.Once {
		raw, err = proposeOnce(ctx, once, data)
	} else {
		raw, _, err = s.proposer.Propose(ctx, data)
	}
	if err != nil {
		return err
	}
	return decodeResult(raw, out)
}

func proposeOnce(ctx context.Context, p OnceProposer, data []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, maxRetry)
	defer cancel()
	wait := minRetryWait
	var doubt error // a try whose fate is unknown
	for {
		raw, _, err := p.ProposeOnce(ctx, data)
		if err == nil {
			return raw, nil
		}
		uncertain := errors.Is(err, ErrUncertain)
		if uncertain {
			doubt = err
		}
		if !uncertain && !errors.Is(err, ErrNoLeader) {
			return nil, errors.Join(err, doubt)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("%w; given up: %w", errors.Join(err, doubt), ctx.Err())
		case <-t.C:
		}
		wait = min(2*wait, maxRetryWait)
	}
}
