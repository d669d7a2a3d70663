package segment

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestCompany: one writer alone waits for nobody, whatever slow senders are about; the others for
// no more than are under way, and never for fewer than came the last time.
func TestCompany(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		last, writers := rapid.IntRange(0, 200).Draw(t, "last"), rapid.IntRange(0, 5000).Draw(t, "writers")
		got := company(last, writers)
		switch {
		case last <= 1 && got != 1:
			t.Fatalf("%d for one alone", got)
		case last > 1 && (got < min(last, gatherTo) || got > max(last, writers/2) || got > gatherTo):
			t.Fatalf("%d", got)
		}
	})
	for _, tc := range [][2]time.Duration{{0, gatherMin}, {3 * time.Millisecond, 3 * time.Millisecond}, {time.Second, gatherMax}} {
		if got := patience(tc[0]); got != tc[1] {
			t.Errorf("a sync of %s: %s", tc[0], got)
		}
	}
}

// TestGather: with an hour to wait, these end only because they need not wait.
func TestGather(t *testing.T) {
	one := func() *put { return &put{} }
	s := &Store{puts: make(chan *put, 8)}
	if got := s.gather([]*put{one()}, 1, time.Hour); len(got) != 1 {
		t.Errorf("alone: %d", len(got))
	}
	s.puts <- one()
	s.puts <- one()
	if got := s.gather([]*put{one()}, 2, time.Hour); len(got) != 3 {
		t.Errorf("all that waits comes along: %d", len(got))
	}
	go func() { s.puts <- one() }()
	if got := s.gather([]*put{one()}, 2, time.Hour); len(got) != 2 {
		t.Errorf("one came: %d", len(got))
	}
	if got := s.gather([]*put{one()}, 2, time.Microsecond); len(got) != 1 {
		t.Errorf("nobody came: %d", len(got))
	}
	full := one()
	full.rec.stored = maxBatch
	s.puts <- one()
	if got := s.gather([]*put{full}, 2, time.Hour); len(got) != 1 {
		t.Errorf("a full batch: %d", len(got))
	}
}

// TestSpoolsCounted: a spool counts from its begin to its end, once.
func TestSpoolsCounted(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	a, b, c := s.NewSpool(0), s.NewSpool(0), s.Receive()
	if n := s.spools.Load(); n != 3 {
		t.Errorf("three open: %d", n)
	}
	c.Abort()
	a.Abort()
	a.Abort()
	b.Write([]byte("body"))
	if _, _, err := b.Commit(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	b.Abort()
	if n := s.spools.Load(); n != 0 {
		t.Errorf("none open: %d", n)
	}
}
