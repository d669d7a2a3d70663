package segment

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Limits of bringing bodies from the second node for readers.
const (
	fetchLimit = 10 * time.Second
	maxFetches = 16 // at once
)

// flights are the bodies that are being fetched, each once.
type flights struct {
	mu   sync.Mutex
	byID map[ID]*flight
	room chan struct{}
}

type flight struct {
	done chan struct{}
	err  error
}

// fetch brings a good copy of a body from the second node into this store; whoever asks for
// the same body meanwhile waits for the same copy.
func (s *Store) fetch(id ID) error {
	fl := &s.flights
	fl.mu.Lock()
	f := fl.byID[id]
	if f != nil {
		fl.mu.Unlock()
		<-f.done
		return f.err
	}
	f = &flight{done: make(chan struct{})}
	fl.byID[id] = f
	fl.mu.Unlock()
	defer func() {
		fl.mu.Lock()
		delete(fl.byID, id)
		fl.mu.Unlock()
		close(f.done)
	}()
	ctx, cancel := context.WithTimeout(s.ctx, fetchLimit)
	defer cancel()
	select {
	case fl.room <- struct{}{}:
		defer func() { <-fl.room }()
	case <-ctx.Done():
		f.err = ctx.Err()
		return f.err
	}
	if f.err = s.o.Fetch(ctx, id); f.err == nil && !s.Sound(id) {
		f.err = ErrNotFound
	}
	if f.err == nil {
		s.log.Info("body brought from the second node", "body", id.String())
	}
	return f.err
}

// Sound tells whether a body is here and not known to be damaged.
func (s *Store) Sound(id ID) bool { return s.Has(id) && !s.keeps.isDamaged(id) }

// mend tries to bring a good copy of a body that is missing or damaged here.
func (s *Store) mend(id ID, err error) bool {
	var ce *CorruptError
	if errors.As(err, &ce) {
		s.keeps.markDamaged(id)
	} else if !errors.Is(err, ErrNotFound) {
		return false
	}
	return s.o.Fetch != nil && s.fetch(id) == nil
}
