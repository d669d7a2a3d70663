package body

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestCopy(t *testing.T) {
	b := newMemory()
	here := newMemory()
	m := newTestMirror(t, newWire(t, b), MirrorOptions{Load: here.Load})
	ctx := context.Background()
	if err := m.Copy(ctx, whole(octets(1, 100))); err != nil || len(b.bodies) != 0 {
		t.Fatalf("without a peer: %v, %d bodies there", err, len(b.bodies))
	}
	m.SetPeer("b")
	for i, size := range []int{0, 1, 4096, smallBody + 1, MaxWhole - 1} {
		raw := octets(i, size)
		if err := m.Copy(ctx, whole(raw)); err != nil || !bytes.Equal(b.get(sha256.Sum256(raw)), raw) {
			t.Fatalf("%d octets: %v", size, err)
		}
	}
	raw := octets(50, 5000)
	rec := whole(raw)
	rec.Form, rec.Data = 1, [][]byte{flip(raw)}
	if err := m.Copy(ctx, rec); err != nil || !bytes.Equal(b.get(rec.ID), raw) {
		t.Fatalf("in another form: %v", err)
	}
	raw = octets(51, 3*MaxWhole)
	closed := false
	rec = Record{ID: sha256.Sum256(raw), Size: int64(len(raw)), Octets: bytes.NewReader(raw), Close: func() { closed = true }}
	if err := m.Copy(ctx, rec); err != nil || !bytes.Equal(b.get(rec.ID), raw) || !closed {
		t.Fatalf("too large for one frame: %v", err)
	}
	if st := m.Stats(); st.Copied != 7 || st.Waiting != 0 || st.Peer != "b" || st.LastAck.IsZero() {
		t.Errorf("%+v", st)
	}
}

func TestEnsure(t *testing.T) {
	b, here := newMemory(), newMemory()
	m := newTestMirror(t, newWire(t, b), MirrorOptions{Load: here.Load})
	m.SetPeer("b")
	ctx := context.Background()
	for i, size := range []int{500, 2 * MaxWhole} {
		raw := octets(i, size)
		id := here.add(raw)
		for range 2 { // it lacks it, and then it has it
			if err := m.Ensure(id, int64(size)).Wait(ctx); err != nil || !bytes.Equal(b.get(id), raw) {
				t.Fatal(err)
			}
		}
	}
	if b.puts != 2 {
		t.Errorf("%d writes, want 2", b.puts)
	}
	if err := m.Ensure(ID{9}, 5).Wait(ctx); !errors.Is(err, ErrNotCopied) || !errors.Is(err, ErrNotFound) {
		t.Errorf("a body that nobody has: %v", err)
	}
}

func TestStream(t *testing.T) {
	b := newMemory()
	m := newTestMirror(t, newWire(t, b), MirrorOptions{})
	if m.Begin() != nil {
		t.Fatal("a stream without a peer")
	}
	m.SetPeer("b")
	for i, size := range []int{0, 10, maxChunk, 300_000, 3 * maxBehind} {
		raw, prefix := octets(i, size), []byte("Received: by us\r\n")
		st := m.Begin()
		for rest := raw; len(rest) > 0; {
			n := min(len(rest), 30_000)
			st.Write(rest[:n])
			rest = rest[n:]
		}
		all := append(bytes.Clone(prefix), raw...)
		id := ID(sha256.Sum256(all))
		if err := m.Commit(st, prefix, id, int64(len(all)), bytes.NewReader(raw)).Wait(context.Background()); err != nil {
			t.Fatal(size, err)
		}
		if !bytes.Equal(b.get(id), all) {
			t.Fatalf("%d octets differ", size)
		}
	}
	st := m.Begin()
	st.Write([]byte("never finished"))
	st.Abort()
	st = m.Begin()
	st.Write(octets(1, 1000))
	c := m.Commit(st, nil, ID{1}, 1000, bytes.NewReader(octets(1, 1000)))
	if err := c.Wait(context.Background()); !errors.Is(err, ErrNotCopied) || !errors.Is(err, ErrCorrupt) {
		t.Errorf("under a wrong name: %v", err)
	}
	if n := m.peer.Load().streams.Load(); n != 0 {
		t.Errorf("%d streams are open", n)
	}
}

// TestCutAtEveryStep breaks the first connections after every possible number of octets.
func TestCutAtEveryStep(t *testing.T) {
	small, large := octets(1, 150), octets(2, 400)
	prefix := []byte("prefix")
	all := append(bytes.Clone(prefix), large...)
	run := func(t *testing.T, write, read int64) {
		b := newMemory()
		w := newWire(t, b)
		w.set(func(n int64, c net.Conn) net.Conn {
			if n <= 2 { // both lanes
				return &shortConn{Conn: c, write: write, read: read}
			}
			return c
		})
		m := newTestMirror(t, w, MirrorOptions{Stall: 200 * time.Millisecond})
		m.SetPeer("b")
		st := m.Begin()
		st.Write(large[:100])
		c := m.Send(whole(small))
		st.Write(large[100:])
		id := ID(sha256.Sum256(all))
		d := m.Commit(st, prefix, id, int64(len(all)), bytes.NewReader(large))
		for _, c := range []*Copy{c, d} {
			if err := c.Wait(context.Background()); err != nil {
				t.Fatalf("cut after %d written, %d read: %v", write, read, err)
			}
		}
		if !bytes.Equal(b.get(sha256.Sum256(small)), small) || !bytes.Equal(b.get(id), all) {
			t.Fatalf("cut after %d written, %d read: acknowledged and not there", write, read)
		}
		m.Close()
	}
	for n := int64(0); n < 520; n += 13 {
		run(t, n, -1)
	}
	for n := int64(0); n < 20; n++ {
		run(t, -1, n)
	}
}

func TestDamagedOnTheWay(t *testing.T) {
	raw := octets(1, 1000)
	id := ID(sha256.Sum256(raw))
	for _, always := range []bool{false, true} {
		for _, large := range []bool{false, true} {
			b := newMemory()
			w := newWire(t, b)
			at := int64(len(preface) + frameHead + putHead + 500)
			w.set(func(n int64, c net.Conn) net.Conn {
				if always {
					return &everyConn{c}
				}
				if n <= 2 {
					return &badConn{c, at}
				}
				return c
			})
			m := newTestMirror(t, w, MirrorOptions{Limit: 20 * time.Second})
			m.SetPeer("b")
			rec := whole(raw)
			if large {
				rec.Data, rec.Octets = nil, bytes.NewReader(raw)
			}
			err := m.Copy(context.Background(), rec)
			if always != errors.Is(err, ErrCorrupt) || always != errors.Is(err, ErrNotCopied) {
				t.Errorf("always %v, large %v: %v", always, large, err)
			}
			if got := b.get(id); always && got != nil || !always && !bytes.Equal(got, raw) {
				t.Errorf("always %v, large %v: stored %d octets", always, large, len(got))
			}
			m.Close()
		}
	}
}

// everyConn flips a bit in the middle of everything that is long.
type everyConn struct{ net.Conn }

func (c *everyConn) Write(b []byte) (int, error) {
	if len(b) > 900 {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
	}
	return c.Conn.Write(b)
}

// TestSlowPeer: nothing is acknowledged before it is durable there, and patience ends.
func TestSlowPeer(t *testing.T) {
	b := newMemory()
	b.gate = make(chan struct{})
	m := newTestMirror(t, newWire(t, b), MirrorOptions{Limit: 300 * time.Millisecond})
	m.SetPeer("b")
	if err := m.Copy(context.Background(), whole(octets(1, 10))); !errors.Is(err, ErrNotCopied) {
		t.Errorf("after the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := m.Send(whole(octets(2, 10)))
	cancel()
	if err := c.Wait(ctx); !errors.Is(err, ErrNotCopied) || !errors.Is(err, context.Canceled) {
		t.Errorf("after ctx: %v", err)
	}
	m.o.Limit = time.Minute
	c = m.Send(whole(octets(3, 10)))
	close(b.gate)
	if err := c.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestHungPeerIsDialledAgain(t *testing.T) {
	b := newMemory()
	w := newWire(t, b)
	hung, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	w.set(func(n int64, c net.Conn) net.Conn {
		if n > 4 {
			return c
		}
		c.Close()
		c, err := net.Dial("tcp", hung.Addr().String())
		if err != nil {
			t.Error(err)
		}
		return c
	})
	m := newTestMirror(t, w, MirrorOptions{Stall: 30 * time.Millisecond})
	m.SetPeer("b")
	raw := octets(1, 100)
	rec := Record{ID: sha256.Sum256(raw), Size: 100, Octets: bytes.NewReader(raw)}
	for _, rec := range []Record{whole(octets(2, 100)), rec} {
		if err := m.Copy(context.Background(), rec); err != nil || !b.Has(rec.ID, 100) {
			t.Error(err)
		}
	}
}

// TestSlowIsNotHung: a peer that works longer than Stall says so and keeps its connection.
func TestSlowIsNotHung(t *testing.T) {
	b := newMemory()
	b.gate = make(chan struct{})
	w := newWire(t, b)
	m := newTestMirror(t, w, MirrorOptions{Stall: 4 * aliveEvery})
	m.SetPeer("b")
	c := m.Send(whole(octets(1, 10)))
	l := &m.peer.Load().small
	until(t, "a connection", func() bool { return w.dials.Load() == 2 })
	for range 2 { // it says it again and again
		before := l.heard.Load()
		until(t, "a sign of life", func() bool { return l.heard.Load() > before })
	}
	close(b.gate)
	if err := c.Wait(context.Background()); err != nil || l.lost.Load() != 0 {
		t.Errorf("%v, %d connections lost", err, l.lost.Load())
	}
}

func TestFullDiskOfThePeer(t *testing.T) {
	b := newMemory()
	b.fail(fmt.Errorf("really: %w", ErrNoSpace))
	var told atomic.Pointer[error]
	m := newTestMirror(t, newWire(t, b), MirrorOptions{OnFault: func(node string, err error) {
		if node == "b" {
			told.Store(&err)
		}
	}})
	m.SetPeer("b")
	c := m.Send(whole(octets(1, 100)))
	done := make(chan error, 1)
	go func() { done <- c.Wait(context.Background()) }()
	until(t, "OnFault", func() bool { return told.Load() != nil })
	if err := *told.Load(); !errors.Is(err, ErrNoSpace) {
		t.Errorf("told %v", err)
	}
	b.fail(nil)
	if err := <-done; err != nil || !b.Has(c.rec.ID, 100) {
		t.Errorf("when there is space again: %v", err)
	}
	b.fail(ErrFault)
	m.o.Limit = 100 * time.Millisecond
	if err := m.Copy(context.Background(), whole(octets(2, 100))); !errors.Is(err, ErrNotCopied) || !errors.Is(err, ErrFault) {
		t.Errorf("a failed disk: %v", err)
	}
}

// TestSetPeerLetsGo: whoever waits is let go without error when no copy is promised any more.
func TestSetPeerLetsGo(t *testing.T) {
	b, here := newMemory(), newMemory()
	b.gate = make(chan struct{})
	w := newWire(t, b)
	for _, how := range []string{"slow", "dead", "full"} {
		m := newTestMirror(t, w, MirrorOptions{Load: here.Load})
		switch how {
		case "dead":
			w.set(func(_ int64, c net.Conn) net.Conn { c.Close(); return c })
		case "full":
			w.set(nil)
			b.fail(ErrNoSpace)
			close(b.gate)
		}
		m.SetPeer("b")
		id := here.add(octets(7, 70))
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				raw := octets(i, 100)
				var c *Copy
				switch i % 3 {
				case 0:
					c = m.Send(whole(raw))
				case 1:
					c = m.Ensure(id, 70)
				default:
					st := m.Begin()
					if st != nil {
						st.Write(raw)
					}
					c = m.Commit(st, nil, sha256.Sum256(raw), 100, bytes.NewReader(raw))
				}
				if err := c.Wait(context.Background()); err != nil {
					t.Errorf("%s: %v", how, err)
				}
			}()
		}
		until(t, "all wait", func() bool { return m.Stats().Waiting == 100 })
		m.SetPeer("")
		wg.Wait()
		if st := m.Stats(); st.Released != 100 || st.Waiting != 0 {
			t.Errorf("%s: %+v", how, st)
		}
	}
}

func TestManyAtOnceThroughCuts(t *testing.T) {
	b := newMemory()
	w := newWire(t, b)
	m := newTestMirror(t, w, MirrorOptions{})
	m.SetPeer("b")
	stop := make(chan struct{})
	var cutter sync.WaitGroup
	cutter.Add(1)
	go func() {
		defer cutter.Done()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for last := int64(0); ; {
			select {
			case <-tick.C: // after some progress each time
				if n := m.Stats().Copied; n >= last+10 {
					last = n
					w.cut()
				}
			case <-stop:
				return
			}
		}
	}()
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 30 {
				raw := octets(g*1000+i, 10+i*i*100)
				rec := whole(raw)
				if i%5 == 4 {
					rec.Data, rec.Octets = nil, bytes.NewReader(raw)
				}
				if err := m.Copy(context.Background(), rec); err != nil || !bytes.Equal(b.get(rec.ID), raw) {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	close(stop)
	cutter.Wait()
}
