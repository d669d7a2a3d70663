package queue

import (
	"context"
	"errors"

	"mailplusd/mail/state"
)

// recorder puts outcomes that come at the same time into one entry: whoever finds it idle writes
// for all who have come meanwhile.
type recorder struct {
	state State
	in    chan recording
	idle  chan struct{}
}

type recording struct {
	ops  []state.Operation
	done chan error
}

// maxOps is how many operations an entry may have.
const maxOps = 500

// do records operations and waits until they are stored.
func (r *recorder) do(ctx context.Context, ops ...state.Operation) error {
	if len(ops) == 0 {
		return nil
	}
	mine := recording{ops, make(chan error, 1)}
	select {
	case r.idle <- struct{}{}: // nobody writes
		defer func() { <-r.idle }()
		r.write(ctx, mine)
		return <-mine.done
	case r.in <- mine: // somebody will
		return <-mine.done
	}
}

// write stores mine and all that wait.
func (r *recorder) write(ctx context.Context, mine recording) {
	list := []recording{mine}
	n := len(mine.ops)
	for n < maxOps {
		select {
		case other := <-r.in:
			list = append(list, other)
			n += len(other.ops)
			continue
		default:
		}
		break
	}
	ops := make([]state.Operation, 0, n)
	for _, x := range list {
		ops = append(ops, x.ops...)
	}
	err := r.state.Do(ctx, ops)
	for _, x := range list {
		if errors.Is(err, state.ErrNotFound) { // a message was cleared meanwhile; the others count
			x.done <- r.each(ctx, x.ops)
			continue
		}
		x.done <- err
	}
}

func (r *recorder) each(ctx context.Context, ops []state.Operation) (last error) {
	for _, op := range ops {
		if err := r.state.Do(ctx, []state.Operation{op}); err != nil && !errors.Is(err, state.ErrNotFound) {
			last = err
		}
	}
	return last
}
