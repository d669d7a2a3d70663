package state

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// handle is one opened database and the number of those who read it. Restore puts another
// in its place; the old one is closed when the last reader lets go of it.
type handle struct {
	db   *pebble.DB
	dir  string
	refs atomic.Int64  // one for the State, one for each reader; 0: closed
	done chan struct{} // closed when nobody holds it any more
}

var _ pebble.Reader = (*handle)(nil)

// What is written collects in tables in memory of that size; more than one exists while others are flushed.
const (
	memTableSize = 16 << 20
	memTables    = 2
)

// openDB opens the database in dir; fresh allows that there is none yet.
func (s *State) openDB(dir string, fresh bool) (*handle, error) {
	cache := pebble.NewCache(s.cacheSize + memTables*memTableSize) // pebble takes what is not flushed yet from it
	defer cache.Unref()
	opts := &pebble.Options{
		Cache:              cache,
		DisableWAL:         true,
		FS:                 s.fs,
		ErrorIfNotExists:   !fresh,
		Merger:             refMerger,
		MemTableSize:       memTableSize,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             pebbleLogger{s.log},
		EventListener:      &pebble.EventListener{BackgroundError: s.background},
	}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("state: open %s: %w", dir, err)
	}
	h := &handle{db: db, dir: dir, done: make(chan struct{})}
	h.refs.Store(1)
	return h, nil
}

// background is told that pebble could not write. It tries again at once, for ever.
func (s *State) background(err error) {
	if s.onFault != nil {
		s.onFault(err)
	}
	time.Sleep(50 * time.Millisecond) // or it would do nothing else
}

// acquire gives the database in force; the caller must release it. After Close it gives one
// that answers every read with ErrClosed.
func (s *State) acquire() *handle {
	for {
		h := s.db.Load()
		if h.db == nil {
			return h
		}
		if n := h.refs.Load(); n > 0 && h.refs.CompareAndSwap(n, n+1) {
			return h
		}
		// Restore has put another in its place, or somebody else came first: look again.
	}
}

func (h *handle) release() {
	if h != nil && h.db != nil && h.refs.Add(-1) == 0 {
		close(h.done)
	}
}

// closedHandle is what a closed State reads from.
var closedHandle = &handle{}

// Get implements pebble.Reader.
func (h *handle) Get(key []byte) ([]byte, io.Closer, error) {
	if h.db == nil {
		return nil, nil, ErrClosed
	}
	return h.db.Get(key)
}

// NewIter implements pebble.Reader.
func (h *handle) NewIter(o *pebble.IterOptions) (*pebble.Iterator, error) {
	return h.NewIterWithContext(context.Background(), o)
}

// NewIterWithContext implements pebble.Reader.
func (h *handle) NewIterWithContext(ctx context.Context, o *pebble.IterOptions) (*pebble.Iterator, error) {
	if h.db == nil {
		return nil, ErrClosed
	}
	return h.db.NewIterWithContext(ctx, o)
}

// Close lets go of the handle.
func (h *handle) Close() error {
	h.release()
	return nil
}

// snapshot is the state at one moment, which Restore doesn't pull away.
type snapshot struct {
	pebble.Reader
	h *handle
}

// snap gives a snapshot; the caller must close it.
func (s *State) snap() snapshot {
	h := s.acquire()
	if h.db == nil {
		return snapshot{h, h}
	}
	return snapshot{h.db.NewSnapshot(), h}
}

// Close ends the snapshot.
func (s snapshot) Close() error {
	var err error
	if s.h.db != nil {
		err = s.Reader.Close()
	}
	s.h.release()
	return err
}
