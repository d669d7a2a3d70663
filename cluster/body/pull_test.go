package body

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestFetch(t *testing.T) {
	a, b := newMemory(), newMemory()
	p := newTestPuller(t, newWire(t, b), a)
	ctx := context.Background()
	for i, size := range []int{0, 100, 200_000, MaxWhole + 1, 5 * MaxWhole} {
		raw := octets(i, size)
		id := b.add(raw)
		if err := p.Fetch(ctx, id); err != nil || !bytes.Equal(a.get(id), raw) {
			t.Fatalf("%d octets: %v", size, err)
		}
	}
	if err := p.Fetch(ctx, ID{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("what the peer lacks: %v", err)
	}
	id := b.add([]byte("x"))
	b.damaged[id] = true
	if err := p.Fetch(ctx, id); !errors.Is(err, ErrCorrupt) || a.Has(id, -1) {
		t.Errorf("what is damaged there: %v", err)
	}
	a.fail(ErrNoSpace)
	if err := p.Fetch(ctx, b.add([]byte("y"))); !errors.Is(err, ErrNoSpace) {
		t.Errorf("full disk here: %v", err)
	}
	p.SetPeer("")
	if err := p.Fetch(ctx, id); !errors.Is(err, ErrNoPeer) {
		t.Errorf("nobody to ask: %v", err)
	}
}

// TestLyingPeer: a peer that answers with other octets can't make them be stored.
func TestLyingPeer(t *testing.T) {
	a, b := newMemory(), newMemory()
	p := newTestPuller(t, newWire(t, b), a)
	for _, size := range []int{100, MaxWhole + 5} {
		id := b.add(octets(1, size))
		b.bodies[id] = octets(2, size)
		if err := p.Fetch(context.Background(), id); !errors.Is(err, ErrCorrupt) || len(a.bodies) != 0 {
			t.Errorf("%d octets: %v, %d bodies", size, err, len(a.bodies))
		}
	}
}

func TestHave(t *testing.T) {
	a, b := newMemory(), newMemory()
	p := newTestPuller(t, newWire(t, b), a)
	var ids []ID
	var want []ID
	for i := range 3*MaxNames + 17 {
		id := ID{byte(i), byte(i >> 8), 1}
		ids = append(ids, id)
		if i%7 == 0 || i == 3*MaxNames+16 {
			want = append(want, id)
		} else {
			b.bodies[id] = nil
		}
	}
	var lacks []ID
	if err := p.PeerMissing(context.Background(), slices.Values(ids), func(id ID) { lacks = append(lacks, id) }); err != nil || !slices.Equal(lacks, want) {
		t.Errorf("%d, want %d: %v", len(lacks), len(want), err)
	}
	if _, err := p.Have(context.Background(), ids[:MaxNames+1]); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	a.bodies = maps.Clone(b.bodies)
	if n, err := p.Missing(context.Background(), slices.Values(ids)); err != nil || int(n) != len(want) {
		t.Errorf("%d missing, want %d: %v", n, len(want), err)
	}
}

func TestBackfill(t *testing.T) {
	a, b := newMemory(), newMemory()
	w := newWire(t, b)
	p := newTestPuller(t, w, a)
	var want []ID
	for i := range 10_000 {
		size := 50
		if i == 7000 {
			size = 2 * MaxWhole
		}
		id := b.add(octets(i, size))
		want = append(want, id)
		if i%10 == 0 {
			a.bodies[id] = b.bodies[id]
		}
	}
	missing, corrupt := want[2001], want[5003]
	delete(b.bodies, missing)
	b.damaged[corrupt] = true
	cuts, calls := 0, 0
	st, err := p.Backfill(context.Background(), slices.Values(want), BackfillOptions{Progress: func(st BackfillStats) {
		if calls++; calls%10 == 0 {
			w.cut()
			cuts++
		}
	}})
	if err != nil || st.Checked != 10_000 || st.Missing != 1 || st.Corrupt != 1 || len(st.Names) != 2 || cuts == 0 {
		t.Fatalf("%+v %v, %d cuts", st, err, cuts)
	}
	for _, id := range want {
		if id != missing && id != corrupt && !bytes.Equal(a.get(id), b.get(id)) {
			t.Fatalf("%v is not here", id)
		}
	}
	if n, _ := p.Missing(context.Background(), slices.Values(want)); n != 2 {
		t.Errorf("%d missing, want 2", n)
	}
	puts := a.puts
	delete(b.damaged, corrupt)
	st, err = p.Backfill(context.Background(), slices.Values(want), BackfillOptions{})
	if err != nil || st.Fetched != 1 || a.puts != puts+1 {
		t.Errorf("again: %+v %v", st, err)
	}
}

func TestBackfillStops(t *testing.T) {
	a, b := newMemory(), newMemory()
	w := newWire(t, b)
	p := newTestPuller(t, w, a)
	var want []ID
	for i := range 500 {
		want = append(want, b.add(octets(i, 50)))
	}
	a.fail(ErrNoSpace)
	if _, err := p.Backfill(context.Background(), slices.Values(want), BackfillOptions{}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("full disk here: %v", err)
	}
	a.fail(nil)
	ctx, cancel := context.WithCancel(context.Background())
	st, err := p.Backfill(ctx, slices.Values(want), BackfillOptions{Progress: func(BackfillStats) { cancel() }})
	if !errors.Is(err, context.Canceled) || st.Checked == 500 {
		t.Errorf("%+v %v", st, err)
	}
	var once sync.Once
	st, err = p.Backfill(context.Background(), slices.Values(want), BackfillOptions{InFlight: 1, Progress: func(BackfillStats) {
		once.Do(func() { p.SetPeer("") })
	}})
	if !errors.Is(err, ErrNoPeer) && !a.Has(want[499], -1) {
		t.Errorf("%+v %v", st, err)
	}
}

// TestBackfillRate: no more than burst and rate allow; a slow machine makes it only slower.
func TestBackfillRate(t *testing.T) {
	a, b := newMemory(), newMemory()
	p := newTestPuller(t, newWire(t, b), a)
	var want []ID
	for i := range 20 {
		want = append(want, b.add(octets(i, 100_000)))
	}
	began := time.Now()
	if _, err := p.Backfill(context.Background(), slices.Values(want), BackfillOptions{RateMBps: 4}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 200*time.Millisecond { // 2 MB, of which 1 MiB at once
		t.Errorf("2 MB at 4 MB/s took %v", took)
	}
}
