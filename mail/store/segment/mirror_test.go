package segment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// second is a Mirror that keeps what it gets, or fails.
type second struct {
	mu       sync.Mutex
	active   bool
	bodies   map[ID][]byte
	ensured  []ID
	streamed int // octets that came before the end
	aborted  int
	canceled int
	err      error
}

func (m *second) Active() bool { return m.active }

func (m *second) take(id ID, raw []byte) Copy {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bodies[id] = bytes.Clone(raw)
	return secondCopy{m}
}

func (m *second) Send(b Stored) Copy {
	raw := bytes.Join(b.Data, nil)
	if b.Form == flagZstd {
		raw, _ = decoder.DecodeAll(raw, nil)
	}
	return m.take(b.ID, raw)
}

func (m *second) Ensure(id ID, _ int64) Copy {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ensured = append(m.ensured, id)
	return secondCopy{m}
}

func (m *second) Begin() Stream { return &secondStream{m: m} }

func (m *second) Commit(st Stream, prefix []byte, id ID, size int64, rest io.ReaderAt) Copy {
	raw := make([]byte, size-int64(len(prefix)))
	if n, err := rest.ReadAt(raw, 0); n != len(raw) {
		panic(err)
	}
	if st != nil {
		sent := st.(*secondStream).b
		m.streamed += len(sent)
		if !bytes.Equal(sent, raw) {
			panic("the stream is not the body")
		}
	}
	return m.take(id, append(bytes.Clone(prefix), raw...))
}

type secondStream struct {
	m *second
	b []byte
}

func (st *secondStream) Write(p []byte) { st.b = append(st.b, p...) }
func (st *secondStream) Abort()         { st.m.aborted++ }

type secondCopy struct{ m *second }

func (c secondCopy) Wait(context.Context) error { return c.m.err }
func (c secondCopy) Cancel()                    { c.m.canceled++ }

func openMirrored(t testing.TB) (*Store, *second) {
	t.Helper()
	m := &second{active: true, bodies: map[ID][]byte{}}
	s, err := Open(Options{Dir: t.TempDir(), Compress: true, Mirror: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, m
}

func TestMirrorGetsEveryBody(t *testing.T) {
	s, m := openMirrored(t)
	ctx := context.Background()
	for i, size := range []int{0, 10, 5000, 5001, streamFrom, streamFrom + 1, memory, memory + 1, 3 << 20} {
		for _, prefix := range []string{"", "Received: here\r\n", string(bytes.Repeat([]byte("x"), streamPrefix+1))} {
			raw := body(i, size)
			sp := s.NewSpool(0)
			for rest := raw; len(rest) > 0; {
				n := min(len(rest), 50_000)
				sp.Write(rest[:n])
				rest = rest[n:]
			}
			before := m.streamed
			id, _, err := sp.Commit(ctx, []byte(prefix))
			if err != nil || string(m.bodies[id]) != prefix+string(raw) || string(read(t, s, id)) != prefix+string(raw) {
				t.Fatalf("%d octets behind %d: %v", size, len(prefix), err)
			}
			if streamed := m.streamed > before; streamed != (size > streamFrom && len(prefix) < streamPrefix) {
				t.Errorf("%d octets behind %d: streamed: %v", size, len(prefix), streamed)
			}
		}
		id, _, err := s.Put(ctx, body(i, size)) // it's here already
		if err != nil || len(m.ensured) != i+1 || m.ensured[i] != id {
			t.Fatalf("%d octets again: not ensured: %v", size, err)
		}
	}
	sp := s.NewSpool(0)
	sp.Write(body(2, 2*streamFrom))
	aborted := m.aborted
	sp.Abort()
	if m.aborted != aborted+1 {
		t.Error("a spool that was given up leaves its stream")
	}
	m.active = false
	n := len(m.bodies)
	if _, _, err := s.Put(ctx, []byte("alone")); err != nil || len(m.bodies) != n {
		t.Errorf("copied though no copy is needed: %v", err)
	}
	if err := s.Receive().CommitAs(ctx, []byte("x"), sha256.Sum256([]byte("x")), 1); err != nil || len(m.bodies) != n {
		t.Errorf("what came from the second node goes back: %v", err)
	}
}

func TestCopyErrorIsToldApart(t *testing.T) {
	s, m := openMirrored(t)
	why := errors.New("peer is slow")
	m.err = why
	ctx := context.Background()
	large := s.NewSpool(0)
	large.Write(body(2, 2*memory))
	_, _, lerr := large.Commit(ctx, nil)
	_, _, perr := s.Put(ctx, []byte("a"))
	_, _, derr := s.Put(ctx, []byte("a"))
	for _, err := range []error{lerr, perr, derr} {
		if !errors.Is(err, ErrCopy) || !errors.Is(err, why) || IsNoSpace(err) {
			t.Errorf("%v", err)
		}
	}
	s.fatal = ErrNoSpace // as the writer answers on a full disk
	if _, _, err := s.Put(ctx, []byte("b")); !IsNoSpace(err) || errors.Is(err, ErrCopy) || m.canceled != 1 {
		t.Errorf("full disk here: %v, %d copies cancelled", err, m.canceled)
	}
	s.fatal = nil
}

// putStored waits for PutStored.
func putStored(s *Store, b Stored) error {
	done := make(chan error, 1)
	s.PutStored(b, func(err error) { done <- err })
	return <-done
}

func TestStoredGoesFromStoreToStore(t *testing.T) {
	a, b := open(t, t.TempDir(), 0), open(t, t.TempDir(), 0)
	for _, size := range []int{0, 100, 5001, 300_001} {
		raw := bytes.Repeat([]byte("Lorem ipsum dolor sit amet, "), size/28+1)[:size]
		id, _, err := a.Put(context.Background(), raw)
		if err != nil {
			t.Fatal(err)
		}
		st, err := a.LoadStored(id)
		if err != nil || size > minCompress && st.Form != flagZstd {
			t.Fatalf("%d octets: form %d, %v", size, st.Form, err)
		}
		for range 2 {
			if err := putStored(b, st); err != nil || !bytes.Equal(read(t, b, id), raw) {
				t.Fatalf("%d octets: %v", size, err)
			}
		}
		for _, bad := range []Stored{
			{ID: ID{1}, Size: st.Size, Form: st.Form, Data: st.Data},
			{ID: id, Size: st.Size + 1, Form: st.Form, Data: st.Data},
			{ID: id, Size: -1, Form: st.Form, Data: st.Data},
			{ID: id, Size: st.Size, Form: 7, Data: st.Data},
			{ID: id, Size: st.Size, Form: flagZstd, Data: [][]byte{append([]byte("x"), st.Data[0]...)}},
			{ID: id, Size: st.Size, Form: st.Form},
		} {
			if err := putStored(b, bad); !errors.Is(err, ErrMismatch) {
				t.Errorf("%d octets, %d of form %d as %v: %v", size, bad.Size, bad.Form, bad.ID, err)
			}
		}
	}
	if b.Stats().Bodies != 4 {
		t.Errorf("%d bodies, want 4", b.Stats().Bodies)
	}
	if _, err := a.LoadStored(ID{1}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	large, _, _ := a.Put(context.Background(), body(2, wholeStored+1))
	if _, err := a.LoadStored(large); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	b.Close()
	if err := putStored(b, Stored{ID: sha256.Sum256([]byte("y")), Size: 1, Data: [][]byte{[]byte("y")}}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestStoredBomb: a small record that would become enormous is refused within the limit of memory.
func TestStoredBomb(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	var z bytes.Buffer
	w, _ := zstd.NewWriter(&z)
	zeros := make([]byte, 1<<20)
	for range 256 {
		w.Write(zeros)
	}
	w.Close()
	if err := putStored(s, Stored{Size: wholeSize, Form: flagZstd, Data: [][]byte{z.Bytes()}}); !errors.Is(err, ErrMismatch) {
		t.Error(err)
	}
}

func TestCommitAs(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	ctx := context.Background()
	for _, spill := range []bool{false, true} {
		raw := body(2, 10_000)
		if spill {
			raw = body(4, 10_000)
		}
		all := append([]byte("prefix"), raw...)
		id := ID(sha256.Sum256(all))
		for _, c := range []struct {
			id   ID
			size int64
			want error
		}{{ID{1}, int64(len(all)), ErrMismatch}, {id, 5, ErrMismatch}, {id, int64(len(all)), nil}} {
			sp := s.Receive()
			sp.Write(raw)
			if spill {
				if err := sp.Spill(); err != nil {
					t.Fatal(err)
				}
			}
			if err := sp.CommitAs(ctx, []byte("prefix"), c.id, c.size); !errors.Is(err, c.want) {
				t.Errorf("spill %v, %d octets: %v", spill, c.size, err)
			}
			if s.Has(id) != (c.want == nil) {
				t.Errorf("spill %v: there: %v", spill, s.Has(id))
			}
		}
		if !bytes.Equal(read(t, s, id), all) {
			t.Error("it differs")
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.o.Dir, "spool-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// fetching opens a store that fetches from another one.
func fetching(t *testing.T, dir string, from *Store, calls *atomic.Int64) *Store {
	var s *Store
	s, err := Open(Options{Dir: dir, Compress: true, Fetch: func(_ context.Context, id ID) error {
		calls.Add(1)
		st, err := from.LoadStored(id)
		if err != nil {
			return err
		}
		return putStored(s, st)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestMissingBodyIsFetchedOnce(t *testing.T) {
	from := open(t, t.TempDir(), 0)
	var calls atomic.Int64
	s := fetching(t, t.TempDir(), from, &calls)
	want := body(1, 9000)
	id, _, _ := from.Put(context.Background(), want)
	var wg sync.WaitGroup
	for range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			b, err := s.Open(id)
			if err != nil {
				t.Error(err)
				return
			}
			defer b.Close()
			if got, _ := io.ReadAll(b); !bytes.Equal(got, want) {
				t.Error("it differs")
			}
		}()
	}
	wg.Wait()
	if n := s.Stats().Appends; n != 1 {
		t.Errorf("written %d times", n)
	}
	other, _, _ := from.Put(context.Background(), []byte("size"))
	if n, err := s.Size(other); n != 4 || err != nil {
		t.Error(n, err)
	}
	if _, err := s.Open(ID{7}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := s.Size(ID{7}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func damage(t *testing.T, s *Store, id ID) {
	t.Helper()
	l, _, _ := s.lookup(id)
	f, err := os.OpenFile(s.path(l.seg), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteAt([]byte("damage"), l.off+recordSize+l.stored/2)
}

func TestDamagedBodyIsRepaired(t *testing.T) {
	from, dir := open(t, t.TempDir(), 0), t.TempDir()
	var calls atomic.Int64
	s := fetching(t, dir, from, &calls)
	ctx := context.Background()
	var ids []ID
	for i := range 6 {
		id, _, _ := s.Put(ctx, body(i, 4000))
		ids = append(ids, id)
		if i != 5 {
			from.Put(ctx, body(i, 4000))
		}
	}
	damage(t, s, ids[1])
	if got := read(t, s, ids[1]); !bytes.Equal(got, body(1, 4000)) || calls.Load() != 1 {
		t.Errorf("it differs after %d calls", calls.Load())
	}
	damage(t, s, ids[2])
	damage(t, s, ids[5]) // the second node hasn't got it
	st, err := s.Verify(ctx, nil)
	if err != nil || st.Repaired != 1 || len(st.Damaged) != 1 || st.Damaged[0].ID != ids[5] {
		t.Fatalf("%+v %v", st, err)
	}
	if s.Sound(ids[5]) || !s.Sound(ids[2]) {
		t.Error("a damaged body counts as good, or a good one as damaged")
	}
	if _, _, err := s.Put(ctx, body(5, 4000)); err != nil || !bytes.Equal(read(t, s, ids[5]), body(5, 4000)) {
		t.Errorf("stored again it is good: %v", err)
	}
	check := func(s *Store) {
		t.Helper()
		for i, id := range ids {
			if b, err := s.OpenLocal(id); err != nil {
				t.Errorf("body %d: %v", i, err)
			} else {
				b.Close()
			}
		}
		if n := s.Stats().Bodies; n != 6 {
			t.Errorf("%d bodies are counted, want 6", n)
		}
	}
	check(s)
	s.Close()
	os.RemoveAll(filepath.Join(dir, "index"))
	check(open(t, dir, 0))
}

// TestDamageBeforeOthersWithoutIndex: one damaged body doesn't take the whole ones behind it along.
func TestDamageBeforeOthersWithoutIndex(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	var ids []ID
	for i := range 5 {
		id, _, _ := s.Put(context.Background(), body(i, 3000))
		ids = append(ids, id)
	}
	damage(t, s, ids[2])
	s.Close()
	os.RemoveAll(filepath.Join(dir, "index"))
	c := open(t, dir, 0)
	for i, id := range ids {
		if c.Has(id) != (i != 2) {
			t.Errorf("body %d: there: %v", i, c.Has(id))
		}
	}
	if _, _, err := c.Put(context.Background(), body(2, 3000)); err != nil || !bytes.Equal(read(t, c, ids[2]), body(2, 3000)) {
		t.Errorf("stored again it is good: %v", err)
	}
}

// TestDeleteSparesWhatIsStoredAgain: between a Put that finds its body here and the entry
// that names it, housekeeping must not remove the body.
func TestDeleteSparesWhatIsStoredAgain(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	ctx := context.Background()
	for i := range 2 {
		id, size, _ := s.Put(ctx, body(i, 100))
		if i == 0 {
			s.Put(ctx, body(i, 100))
		} else if !s.Keep(id, size) || s.Keep(id, size+1) || s.Keep(ID{}, 1) {
			t.Error("Keep")
		}
		if err := s.Delete(id); err != nil || !s.Has(id) {
			t.Errorf("deleted: %v", err)
		}
		s.keeps.until[id] = s.keeps.until[id].Add(-2 * keepFor)
		if err := s.Delete(id); err != nil || s.Has(id) {
			t.Errorf("never deleted: %v", err)
		}
	}
}
