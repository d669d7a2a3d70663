package forward

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"mailplusd/cluster"

	"pgregory.net/rapid"
)

func TestWireRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, maxBatch).Draw(t, "entries")
		got, err := parseEntries(appendEntries(nil, entries)[2:])
		if err != nil || len(got) != len(entries) {
			t.Fatalf("%d entries of %d: %v", len(got), len(entries), err)
		}
		outs := make([]outcome, len(entries))
		for i := range got {
			if !bytes.Equal(got[i], entries[i]) {
				t.Fatalf("entry %d", i)
			}
			outs[i] = outcome{rapid.ByteRange(0, statusFailed).Draw(t, "status"), rapid.Uint64().Draw(t, "index"), entries[i]}
		}
		back, err := parseOutcomes(appendOutcomes(nil, outs), len(outs))
		if err != nil {
			t.Fatal(err)
		}
		for i := range back {
			if back[i].status != outs[i].status || back[i].index != outs[i].index || !bytes.Equal(back[i].data, outs[i].data) {
				t.Fatalf("outcome %d: %+v", i, back[i])
			}
		}
	})
}

// Every error of Propose keeps its kind over the line; what is unknown is uncertain.
func TestErrorsOverTheLine(t *testing.T) {
	for _, err := range []error{cluster.ErrBusy, cluster.ErrTooLarge, cluster.ErrUncertain} {
		o := outcomeOf(nil, 0, err)
		if got := o.err(); !errors.Is(got, err) {
			t.Errorf("%v arrives as %v", err, got)
		}
	}
	o := outcomeOf(nil, 0, cluster.ErrNotLeader{Leader: "b"})
	if not := (cluster.ErrNotLeader{}); !errors.As(o.err(), &not) || not.Leader != "b" {
		t.Errorf("not leader: %v", o.err())
	}
	for _, err := range []error{cluster.ErrFailed, cluster.ErrClosed, context.Canceled} {
		if o := outcomeOf(nil, 0, err); !errors.Is(o.err(), cluster.ErrUncertain) {
			t.Errorf("%v arrives as %v", err, o.err())
		}
	}
}

// Batches hold up to 256 entries or 1 MiB, and any single entry.
func TestTake(t *testing.T) {
	q := &queue{}
	for range maxBatch + 5 {
		q.waiting = append(q.waiting, &request{})
	}
	for _, n := range []int{maxBytes - 1, 1, 2 * maxBytes, 3} {
		q.waiting = append(q.waiting, &request{data: make([]byte, n)})
	}
	for _, want := range []int{maxBatch, 7, 1, 1, 0} {
		if got := len(q.take()); got != want {
			t.Errorf("batch of %d, want %d", got, want)
		}
	}
}

func FuzzWire(f *testing.F) {
	f.Add(appendEntries(nil, [][]byte{{1}, nil})[2:], 2)
	f.Add(appendOutcomes(nil, []outcome{{1, 2, []byte("b")}}), 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if entries, err := parseEntries(b); err == nil && !bytes.Equal(appendEntries(nil, entries)[2:], b) && len(entries) > maxBatch {
			t.Errorf("%d entries", len(entries))
		}
		if n >= 0 && n <= maxBatch {
			if out, err := parseOutcomes(b, n); err == nil && len(out) != n {
				t.Errorf("%d outcomes", len(out))
			}
		}
	})
}
