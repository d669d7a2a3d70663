package state

import (
	"sync"

	"mailplusd/mail/model"
)

// Feed tells its owner whose mailboxes have changed, for work over all accounts in the background.
// What happens between two calls of Take is gathered.
type Feed struct {
	bus *bus
	c   chan struct{}
	mu  sync.Mutex
	got Fed
}

// Fed is what a feed has gathered.
type Fed struct {
	Accounts map[model.AccountID]struct{} // with mailboxes that were made, changed or deleted
	Rows     bool                         // a table may have changed
	All      bool                         // the whole state was replaced
}

// Feed opens a feed of everything that is applied from now on.
func (s *State) Feed() *Feed {
	f := &Feed{bus: s.bus, c: make(chan struct{}, 1), got: Fed{Accounts: map[model.AccountID]struct{}{}}}
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.bus.feeds[f] = struct{}{}
	return f
}

// C has a value when there is something to take.
func (f *Feed) C() <-chan struct{} { return f.c }

// Take gives what has been gathered, and starts anew.
func (f *Feed) Take() Fed {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.got
	f.got = Fed{Accounts: map[model.AccountID]struct{}{}}
	return out
}

// Close ends the feed.
func (f *Feed) Close() {
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	delete(f.bus.feeds, f)
}

func (f *Feed) note(accounts []model.AccountID, rows, all bool) {
	if len(accounts) == 0 && !rows && !all {
		return
	}
	f.mu.Lock()
	for _, a := range accounts {
		f.got.Accounts[a] = struct{}{}
	}
	f.got.Rows, f.got.All = f.got.Rows || rows, f.got.All || all
	f.mu.Unlock()
	select {
	case f.c <- struct{}{}:
	default:
	}
}
