package clustertest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Load is a number of writers that propose entries of their own, each named once, until
// they are stopped.
type Load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	count  atomic.Int64

	mu    sync.Mutex
	acked []string
}

// NewLoad starts writers. An entry whose proposal fails is not tried again.
func NewLoad(t testing.TB, name string, writers int, propose func(ctx context.Context, data string) error) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{cancel: cancel}
	for w := range writers {
		l.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				data := fmt.Sprintf("%s.%d.%d", name, w, i)
				if propose(ctx, data) != nil {
					select { // nobody leads: don't turn in a circle
					case <-time.After(time.Millisecond):
					case <-ctx.Done():
					}
					continue
				}
				l.mu.Lock()
				l.acked = append(l.acked, data)
				l.mu.Unlock()
				l.count.Add(1)
			}
		})
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

// Count is how many entries have been acknowledged so far.
func (l *Load) Count() int { return int(l.count.Load()) }

// Stop ends the writers and returns what was acknowledged.
func (l *Load) Stop() []string {
	l.cancel()
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked
}

// CheckAcked compares what a state machine holds with what was acknowledged: nothing is
// there twice, nothing acknowledged is missing.
func CheckAcked(t interface{ Errorf(string, ...any) }, held, acked []string) {
	seen := make(map[string]bool, len(held))
	for _, d := range held {
		if seen[d] {
			t.Errorf("%s is there twice", d)
		}
		seen[d] = true
	}
	missing := 0
	for _, d := range acked {
		if !seen[d] {
			if missing++; missing <= 5 {
				t.Errorf("%s was acknowledged and is missing", d)
			}
		}
	}
	if missing > 5 {
		t.Errorf("%d acknowledged entries are missing", missing)
	}
}
