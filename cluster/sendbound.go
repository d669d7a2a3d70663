package cluster

import (
	"sync"
	"time"
)

// sendBound keeps the log from the snapshot on that a peer is receiving. Otherwise a leader
// under load has cut it by the time the peer has the state, and sends the next, for ever.
type sendBound struct {
	mu    sync.Mutex
	grace time.Duration
	open  int       // streams under way
	index uint64    // entries from here on are wanted; 0: none
	until time.Time // when open is 0
}

// begin notes that a state that has at least index is being sent.
func (b *sendBound) begin(index uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open++
	b.index = index
}

func (b *sendBound) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
	b.until = time.Now().Add(b.grace)
}

// forget ends the bound: this node's log is replaced itself.
func (b *sendBound) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.index = 0
}

// first is the oldest entry that is wanted, 0 for none.
func (b *sendBound) first() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.index != 0 && b.open == 0 && time.Now().After(b.until) {
		b.index = 0
	}
	return b.index
}
