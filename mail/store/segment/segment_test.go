package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func open(t testing.TB, dir string, size int64) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir, SegmentBytes: size, Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func body(n, size int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	b := make([]byte, size)
	for i := range b {
		if n%2 == 0 {
			b[i] = byte(r.Uint32()) // can't be compressed
		} else {
			b[i] = "abcdefgh"[r.IntN(8)]
		}
	}
	return b
}

func read(t testing.TB, s *Store, id ID) []byte {
	t.Helper()
	b, err := s.Open(id)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	defer b.Close()
	all, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPutOpenReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 64<<10)
	ctx := context.Background()
	ids := map[ID][]byte{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 20 {
				b := body(w*100+i, 1+(w*3571+i*977)%9000)
				id, n, err := s.Put(ctx, b[:len(b)/2], b[len(b)/2:])
				if err != nil || n != int64(len(b)) {
					t.Error(n, err)
				}
				mu.Lock()
				ids[id] = b
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	check := func(s *Store) {
		t.Helper()
		for id, want := range ids {
			if got := read(t, s, id); !bytes.Equal(got, want) {
				t.Fatalf("%s differs", id)
			}
		}
	}
	check(s)
	if st := s.Stats(); st.Segments < 3 || st.Bodies != int64(len(ids)) {
		t.Errorf("%+v", st)
	}
	s.Close()
	check(open(t, dir, 64<<10))
}

// The same body from many at the same moment is counted once.
func TestSameBodyAtOnce(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	text := body(2, 5000)
	for round := range 20 {
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if _, _, err := s.Put(context.Background(), text, []byte{byte(round)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n := int64(round + 1)
		if st := s.Stats(); st.Bodies != n || st.Live < n*5000 || st.Live > n*5200 {
			t.Fatalf("%d bodies were stored: %+v", n, st)
		}
	}
}

func TestIndexLostAndCrash(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 32<<10)
	var ids []ID
	for i := range 60 {
		id, _, err := s.Put(context.Background(), body(i, 2000))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, lose := range []bool{false, true} { // as a crash leaves it, and without any index
		copyTo := t.TempDir()
		list, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
		for _, p := range list {
			b, _ := os.ReadFile(p)
			os.WriteFile(filepath.Join(copyTo, filepath.Base(p)), b, 0o600)
		}
		if !lose {
			os.CopyFS(filepath.Join(copyTo, "index"), os.DirFS(filepath.Join(dir, "index")))
		}
		c := open(t, copyTo, 32<<10)
		for i, id := range ids {
			if got := read(t, c, id); !bytes.Equal(got, body(i, 2000)) {
				t.Fatalf("lose index %v: body %d differs", lose, i)
			}
		}
		if got := c.Stats().Bodies; got != int64(len(ids)) {
			t.Errorf("lose index %v: %d bodies counted, want %d", lose, got, len(ids))
		}
	}
}

func TestTornTailIsCutOff(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20)
	first, _, _ := s.Put(context.Background(), body(2, 3000))
	end := s.end
	s.Close()
	os.RemoveAll(filepath.Join(dir, "index"))
	path := filepath.Join(dir, "00000001.seg")
	for cut := range 4 { // a second record, torn at different places
		var r record
		data := body(4, 3000)
		r.size, r.stored = 3000, 3000
		rec := make([]byte, recordSize)
		r.put(rec)
		rec = append(rec, data...)[:[]int{10, recordSize, recordSize + 100, recordSize + 3000}[cut]]
		f, _ := os.OpenFile(path, os.O_RDWR, 0)
		f.Truncate(end)
		f.WriteAt(rec, end)
		f.Close()
		os.RemoveAll(filepath.Join(dir, "index"))
		c := open(t, dir, 1<<20)
		if c.end != end {
			t.Errorf("cut %d: the store goes on at %d, want %d", cut, c.end, end)
		}
		if got := read(t, c, first); len(got) != 3000 {
			t.Errorf("cut %d: the whole body before it is gone", cut)
		}
		c.Close()
	}
}

func TestFlippedBitIsNamedAndNeverServed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20)
	id, _, _ := s.Put(context.Background(), body(1, 5000))
	good, _, _ := s.Put(context.Background(), body(3, 5000))
	l, _, _ := s.lookup(id)
	path := filepath.Join(dir, "00000001.seg")
	for at := l.off; at < l.off+l.length(); at += 37 {
		f, _ := os.OpenFile(path, os.O_RDWR, 0)
		var b [1]byte
		f.ReadAt(b[:], at)
		f.WriteAt([]byte{b[0] ^ 0x10}, at)
		body, err := s.Open(id)
		var ce *CorruptError
		if !errors.As(err, &ce) || ce.ID != id {
			padding := at-l.off >= 64 && at-l.off < recordSize || at-l.off >= 6 && at-l.off < 8
			if !padding {
				t.Errorf("octet %d flipped: %v, %v", at-l.off, body, err)
			}
		}
		if at == l.off+l.length()/2 || at == l.off+37*3 {
			st, verr := s.Verify(context.Background(), nil)
			if verr != nil || len(st.Damaged) != 1 || st.Damaged[0].ID != id {
				t.Errorf("verify: %+v %v", st, verr)
			}
		}
		f.WriteAt(b[:], at)
		f.Close()
	}
	read(t, s, good)
}

func TestSpool(t *testing.T) {
	s := open(t, t.TempDir(), 8<<20)
	for _, size := range []int{0, 10, memory - 1, memory + 1, 3 << 20} {
		sp := s.NewSpool(4 << 20)
		want := body(2, size)
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 70_000)
			if _, err := sp.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		r, err := sp.Reader()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(io.NewSectionReader(r, 0, sp.Size())); !bytes.Equal(got, want) {
			t.Fatalf("%d: the reader differs", size)
		}
		id, n, err := sp.Commit(context.Background(), []byte("prefix\r\n"))
		if err != nil || n != int64(size+8) {
			t.Fatal(n, err)
		}
		if got := read(t, s, id); string(got) != "prefix\r\n"+string(want) {
			t.Fatalf("%d: what was stored differs", size)
		}
	}
	sp := s.NewSpool(100)
	if _, err := sp.Write(make([]byte, 101)); !IsTooLarge(err) {
		t.Errorf("above the limit: %v", err)
	}
	sp.Abort()
	if left, _ := filepath.Glob(filepath.Join(s.o.Dir, "spool-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDeleteAndCompact(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 32<<10)
	var ids []ID
	for i := range 100 {
		id, _, err := s.Put(context.Background(), body(i*2, 2000))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	held, err := s.Open(ids[1])
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if i%4 != 1 {
			if err := s.Delete(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := s.Stats()
	st, err := s.Compact(context.Background(), 0.3, nil)
	if err != nil || st.Segments == 0 || st.Moved == 0 {
		t.Fatalf("%+v %v", st, err)
	}
	if after := s.Stats(); after.Bytes >= before.Bytes || after.Bodies != 25 {
		t.Errorf("before %+v after %+v", before, after)
	}
	if got, _ := io.ReadAll(held); !bytes.Equal(got, body(2, 2000)) {
		t.Error("an open reader lost its body")
	}
	held.Close()
	s.Close()
	c := open(t, dir, 32<<10)
	for i, id := range ids {
		if i%4 == 1 {
			if !bytes.Equal(read(t, c, id), body(i*2, 2000)) {
				t.Errorf("body %d differs after compaction", i)
			}
		} else if c.Has(id) {
			t.Errorf("body %d is back", i)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	s.Close()
	f, _ := os.OpenFile(filepath.Join(dir, "00000001.seg"), os.O_RDWR, 0)
	f.WriteAt([]byte{9}, 7)
	f.Close()
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("%v", err)
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte("MPBO"))
	var r record
	b := make([]byte, recordSize)
	r.size, r.stored = 5, 5
	r.put(b)
	f.Add(append(b, "hello"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		head := make([]byte, fileHeader)
		copy(head, fileMagic)
		os.WriteFile(filepath.Join(dir, "00000001.seg"), append(head, data...), 0o600)
		s, err := Open(Options{Dir: dir})
		if err != nil {
			return
		}
		defer s.Close()
		s.Each(func(id ID, _ int64) bool {
			if b, err := s.Open(id); err == nil {
				b.Close()
			}
			return true
		})
	})
}

func BenchmarkPut(b *testing.B) {
	for _, workers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			s := open(b, b.TempDir(), 0)
			b.SetParallelism(max(1, workers/2))
			b.RunParallel(func(pb *testing.PB) {
				data := make([]byte, 4096)
				for i := range data {
					data[i] = "Lorem ipsum dolor sit amet, "[i%28]
				}
				for pb.Next() {
					copy(data, fmt.Sprintf("%d %d", rand.Uint64(), rand.Uint64()))
					if _, _, err := s.Put(context.Background(), data); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
