package segment

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrCopy says that a body is on this node's disk, but was not on the second node's in time.
var ErrCopy = errors.New("body is not on the second node yet")

// Mirror brings bodies to a second node. While it is active, Put and Spool.Commit return
// when a body is durable on both.
type Mirror interface {
	// Active tells whether a second copy is promised at the moment.
	Active() bool
	// Send begins to copy a body; its octets stay as they are until the Copy is done.
	Send(b Stored) Copy
	// Ensure begins to copy a body that is here already, if the second node lacks it.
	Ensure(id ID, size int64) Copy
	// Begin starts a body that still comes in; nil: it goes at its end.
	Begin() Stream
	// Commit ends a stream (nil: there is none): the body is prefix and the first octets of rest, size together.
	Commit(st Stream, prefix []byte, id ID, size int64, rest io.ReaderAt) Copy
}

// Stream takes the octets of a body while they come in. Write never waits.
type Stream interface {
	Write(p []byte)
	Abort()
}

// Copy is a body on its way to the second node. Wait or Cancel is called once.
type Copy interface {
	// Wait returns nil when the second node has the body on its disk or no second copy is promised any more.
	Wait(ctx context.Context) error
	Cancel()
}

// Limits of what goes to the second node at once.
const (
	streamFrom   = 64 << 10 // a spool larger than this is sent while it comes in
	wholeStored  = 1 << 20  // more stored octets go as a stream
	wholeSize    = 16 << 20 // so do bodies larger than this
	streamPrefix = 1 << 20  // most that can be put in front at a stream's end
)

// mirror gives the Mirror if a second copy is needed now.
func (s *Store) mirror() Mirror {
	if m := s.o.Mirror; m != nil && m.Active() {
		return m
	}
	return nil
}

// joined is octets and what comes behind them.
type joined struct {
	head []byte
	rest io.ReaderAt
}

func (j joined) ReadAt(p []byte, off int64) (n int, err error) {
	if off < int64(len(j.head)) {
		if n = copy(p, j.head[off:]); n == len(p) {
			return n, nil
		}
	}
	if j.rest == nil {
		return n, io.EOF
	}
	k, err := j.rest.ReadAt(p[n:], off+int64(n)-int64(len(j.head)))
	return n + k, err
}

// copyOf begins the copy of a body that is about to be written. st is what has been sent of
// it already, raw its octets before compression: what is put in front, and the rest.
func (s *Store) copyOf(p *put, st Stream, prefix []byte, rest io.ReaderAt) Copy {
	m := s.mirror()
	if m == nil {
		if st != nil {
			st.Abort()
		}
		return nil
	}
	if st == nil && p.from == nil && p.rec.stored <= wholeStored && p.rec.size <= wholeSize {
		return m.Send(Stored{ID: p.rec.id, Size: p.rec.size, Form: p.rec.flags, Data: p.pieces})
	}
	if len(prefix) > streamPrefix {
		if st != nil {
			st.Abort()
			st = nil
		}
		prefix, rest = nil, joined{prefix, rest}
	}
	return m.Commit(st, prefix, p.rec.id, p.rec.size, rest)
}

// ensure makes sure that the second node has a body that is here.
func (s *Store) ensure(ctx context.Context, st Stream, id ID, size int64) error {
	if st != nil {
		st.Abort()
	}
	if m := s.mirror(); m != nil {
		return copied(ctx, m.Ensure(id, size), nil)
	}
	return nil
}

// copied waits for a copy after the local write, which has ended with err.
func copied(ctx context.Context, c Copy, err error) error {
	if c == nil {
		return err
	}
	if err != nil {
		c.Cancel()
		return err
	}
	if err := c.Wait(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrCopy, err)
	}
	return nil
}
