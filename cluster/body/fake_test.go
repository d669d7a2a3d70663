package body

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Store whose form 1 is the body with every bit flipped.
type memory struct {
	mu      sync.Mutex
	bodies  map[ID][]byte
	damaged map[ID]bool // Load says so
	err     error       // of every write
	gate    chan struct{}
	spilled int
	puts    int
}

func newMemory() *memory { return &memory{bodies: map[ID][]byte{}, damaged: map[ID]bool{}} }

func flip(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = ^b[i]
	}
	return out
}

func (m *memory) add(b []byte) ID {
	id := ID(sha256.Sum256(b))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bodies[id] = b
	return id
}

func (m *memory) get(id ID) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bodies[id]
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// write stores verified octets as a disk would: after the gate, or not at all.
func (m *memory) write(ctx context.Context, id ID, raw []byte) error {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.puts++
	m.bodies[id] = raw
	return nil
}

func (m *memory) Put(rec Record, done func(error)) {
	raw := bytes.Clone(rec.Data[0])
	if rec.Form == 1 {
		raw = flip(raw)
	}
	if int64(len(raw)) != rec.Size || ID(sha256.Sum256(raw)) != rec.ID || rec.Form > 1 {
		done(ErrCorrupt)
		return
	}
	m.mu.Lock()
	waits := m.gate != nil
	m.mu.Unlock()
	if waits {
		go func() { done(m.write(context.Background(), rec.ID, raw)) }()
		return
	}
	done(m.write(context.Background(), rec.ID, raw))
}

func (m *memory) Has(id ID, size int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.bodies[id]
	return ok && (size < 0 || int64(len(b)) == size)
}

func (m *memory) Load(id ID) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.bodies[id]
	switch {
	case !ok:
		return Record{}, ErrNotFound
	case m.damaged[id]:
		return Record{}, ErrCorrupt
	case len(b) > MaxWhole:
		return Record{ID: id, Size: int64(len(b)), Octets: bytes.NewReader(b)}, nil
	}
	return Record{ID: id, Size: int64(len(b)), Form: 1, Data: [][]byte{flip(b)}}, nil
}

func (m *memory) Spool() Spool { return &memorySpool{m: m} }

type memorySpool struct {
	m *memory
	b []byte
}

func (sp *memorySpool) Write(p []byte) (int, error) { sp.b = append(sp.b, p...); return len(p), nil }

func (sp *memorySpool) Spill() error {
	sp.m.mu.Lock()
	defer sp.m.mu.Unlock()
	sp.m.spilled++
	return nil
}

func (sp *memorySpool) Abort() {}

func (sp *memorySpool) Commit(ctx context.Context, prefix []byte, id ID, size int64) error {
	all := append(bytes.Clone(prefix), sp.b...)
	if int64(len(all)) != size || ID(sha256.Sum256(all)) != id {
		return ErrCorrupt
	}
	return sp.m.write(ctx, id, all)
}

// wire is a network of one server; taint may change what a dialled connection is.
type wire struct {
	t     testing.TB
	l     net.Listener
	dials atomic.Int64
	mu    sync.Mutex
	taint func(n int64, c net.Conn) net.Conn
	open  map[net.Conn]bool
}

func newWire(t testing.TB, store Store) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := NewServer(store, nil)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return &wire{t: t, l: l, open: map[net.Conn]bool{}}
}

func (w *wire) set(taint func(n int64, c net.Conn) net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taint = taint
}

func (w *wire) dial(ctx context.Context, node string) (net.Conn, error) {
	if node != "b" {
		return nil, fmt.Errorf("no node %q", node)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", w.l.Addr().String())
	if err != nil {
		return nil, err
	}
	n := w.dials.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[c] = true
	if w.taint != nil {
		return w.taint(n, c), nil
	}
	return c, nil
}

// cut breaks every connection.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		c.Close()
	}
	clear(w.open)
}

// shortConn breaks after some octets were written or read.
type shortConn struct {
	net.Conn
	mu          sync.Mutex
	write, read int64 // octets left; negative: no limit
}

func (c *shortConn) left(p *int64, n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *p < 0 {
		return n
	}
	n = int(min(int64(n), *p))
	*p -= int64(n)
	return n
}

func (c *shortConn) Write(b []byte) (int, error) {
	n := c.left(&c.write, len(b))
	k, err := c.Conn.Write(b[:n])
	if err == nil && n < len(b) {
		c.Conn.Close()
		err = io.ErrClosedPipe
	}
	return k, err
}

func (c *shortConn) Read(b []byte) (int, error) {
	n := c.left(&c.read, len(b))
	if n == 0 {
		c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return c.Conn.Read(b[:n])
}

// badConn flips a bit of the n-th octet written.
type badConn struct {
	net.Conn
	at int64
}

func (c *badConn) Write(b []byte) (int, error) {
	if c.at >= 0 && c.at < int64(len(b)) {
		b = bytes.Clone(b)
		b[c.at] ^= 4
	}
	c.at -= int64(len(b))
	return c.Conn.Write(b)
}

func newTestMirror(t testing.TB, w *wire, o MirrorOptions) *Mirror {
	o.Dial = w.dial
	m := NewMirror(o)
	t.Cleanup(m.Close)
	return m
}

func newTestPuller(t testing.TB, w *wire, store Store) *Puller {
	p := NewPuller(PullOptions{Dial: w.dial, Store: store})
	t.Cleanup(p.Close)
	p.SetPeer("b")
	return p
}

// octets makes a body that no other seed gives.
func octets(seed, size int) []byte {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func whole(b []byte) Record {
	half := len(b) / 3
	return Record{ID: sha256.Sum256(b), Size: int64(len(b)), Data: [][]byte{b[:half], b[half:]}}
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
