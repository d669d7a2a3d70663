package body

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
)

// Limits of what one connection may have under way.
const (
	maxStreams   = 1024
	maxCommits   = 16       // large bodies hashed and written at once
	maxUnwritten = 32 << 20 // octets on their way to the disk
	maxBuffered  = 32 << 20 // octets that streams hold in memory; above it they go to files
)

// inbox takes in the bodies that come over one connection. Its methods are for the
// goroutine that reads the connection; done is called from any.
type inbox struct {
	store    Store
	done     func(seq uint64, err error)
	ctx      context.Context
	cancel   context.CancelFunc
	budget   *budget
	commits  chan struct{}
	streams  map[uint64]*inStream
	buffered int64
	wg       sync.WaitGroup
}

// inStream is a body that comes in chunks.
type inStream struct {
	spool Spool
	held  int64 // octets in memory
	err   error // why the rest is thrown away
}

func newInbox(ctx context.Context, store Store, done func(uint64, error)) *inbox {
	in := &inbox{
		store: store, done: done, budget: newBudget(maxUnwritten),
		commits: make(chan struct{}, maxCommits), streams: map[uint64]*inStream{},
	}
	in.ctx, in.cancel = context.WithCancel(ctx)
	context.AfterFunc(in.ctx, in.budget.close)
	return in
}

// close forgets what is not finished and waits for what is being finished.
func (in *inbox) close() {
	in.cancel()
	for _, st := range in.streams {
		st.spool.Abort()
	}
	in.streams = nil
	in.wg.Wait()
}

// put takes a whole body; b is freed when it is stored.
func (in *inbox) put(b *buffer) error {
	n := int64(len(b.b))
	if !in.budget.take(n) {
		b.free()
		return ErrClosed
	}
	p := b.b
	seq := binary.BigEndian.Uint64(p)
	rec := Record{ID: ID(p[8:40]), Size: int64(binary.BigEndian.Uint64(p[40:])), Form: p[48], Data: [][]byte{p[putHead:]}}
	in.store.Put(rec, func(err error) {
		b.free()
		in.budget.give(n)
		in.done(seq, err)
	})
	return nil
}

// data takes a chunk of a stream.
func (in *inbox) data(p []byte) error {
	id, p := binary.BigEndian.Uint64(p), p[8:]
	st := in.streams[id]
	if st == nil {
		if len(in.streams) >= maxStreams {
			return fmt.Errorf("%w: more than %d streams", errProtocol, maxStreams)
		}
		st = &inStream{spool: in.store.Spool()}
		in.streams[id] = st
	}
	if st.err != nil {
		return nil
	}
	if _, st.err = st.spool.Write(p); st.err != nil {
		in.release(st)
		return nil
	}
	if st.held >= 0 {
		st.held += int64(len(p))
		in.buffered += int64(len(p))
		if in.buffered > maxBuffered || st.held > MaxWhole {
			in.release(st)
			st.held = -1
			st.err = st.spool.Spill()
		}
	}
	return nil
}

// release counts a stream's octets as no longer in memory.
func (in *inbox) release(st *inStream) {
	if st.held > 0 {
		in.buffered -= st.held
	}
	st.held = 0
}

func (in *inbox) abort(p []byte) {
	id := binary.BigEndian.Uint64(p)
	if st := in.streams[id]; st != nil {
		in.release(st)
		st.spool.Abort()
		delete(in.streams, id)
	}
}

// commit ends a stream. A body that is all prefix has no data before it.
func (in *inbox) commit(p []byte) error {
	seq, stream := binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
	id, size := ID(p[16:48]), int64(binary.BigEndian.Uint64(p[48:]))
	prefix := append([]byte(nil), p[commitHead:]...)
	st := in.streams[stream]
	if st == nil {
		st = &inStream{spool: in.store.Spool()}
	}
	delete(in.streams, stream)
	in.release(st)
	if st.err != nil {
		st.spool.Abort()
		in.done(seq, st.err)
		return nil
	}
	select {
	case in.commits <- struct{}{}:
	case <-in.ctx.Done():
		st.spool.Abort()
		return ErrClosed
	}
	in.wg.Add(1)
	go func() {
		defer in.wg.Done()
		err := st.spool.Commit(in.ctx, prefix, id, size)
		<-in.commits
		in.done(seq, err)
	}()
	return nil
}

// budget bounds octets; take waits for room. One body larger than all of it passes alone.
type budget struct {
	mu     sync.Mutex
	cond   sync.Cond
	left   int64
	all    int64
	closed bool
}

func newBudget(n int64) *budget {
	b := &budget{left: n, all: n}
	b.cond.L = &b.mu
	return b
}

func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.left < n && b.left < b.all && !b.closed {
		b.cond.Wait()
	}
	b.left -= n
	return !b.closed
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.left += n
	b.mu.Unlock()
	b.cond.Signal()
}

func (b *budget) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cond.Broadcast()
}
