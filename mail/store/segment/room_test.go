package segment

import (
	"context"
	"crypto/sha256"
	"io"
	"strings"
	"sync/atomic"
	"testing"
)

// TestLittleSpace: while space is short no new body is taken, in whatever way it comes; what is here is known,
// read and moved.
func TestLittleSpace(t *testing.T) {
	ctx := context.Background()
	var short, told atomic.Int32
	s, err := Open(Options{
		Dir: t.TempDir(), SegmentBytes: 64 << 10, Short: func() bool { return short.Load() > 0 },
		OnFault: func(err error) {
			if IsNoSpace(err) {
				told.Add(1)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var ids []ID
	for i := range 20 {
		id, _, err := s.Put(ctx, body(2*i, 10_000))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	large := strings.Repeat("a large message ", memory/8)
	half := s.NewSpool(0)
	io.WriteString(half, large[:memory+1]) // goes to a file while there is room
	stored := Stored{ID: sha256.Sum256([]byte("abc")), Size: 3, Data: [][]byte{[]byte("abc")}}
	short.Store(1)
	ways := map[string]func() error{
		"put": func() error { _, _, err := s.Put(ctx, []byte("new")); return err },
		"a small spool": func() error {
			sp := s.NewSpool(0)
			io.WriteString(sp, "new")
			_, _, err := sp.Commit(ctx, nil)
			return err
		},
		"a large spool":  func() error { sp := s.NewSpool(0); defer sp.Abort(); _, err := io.WriteString(sp, large); return err },
		"a spool's rest": func() error { defer half.Abort(); _, err := io.WriteString(half, large); return err },
		"from the peer":  func() error { c := make(chan error, 1); s.PutStored(stored, func(err error) { c <- err }); return <-c },
	}
	for name, way := range ways {
		before := told.Load()
		if err := way(); !IsNoSpace(err) || told.Load() == before {
			t.Errorf("%s: %v, %d times told", name, err, told.Load()-before)
		}
	}
	if _, _, err := s.Put(ctx, body(0, 10_000)); err != nil {
		t.Errorf("a body that is here: %v", err)
	}
	s.Delete(ids[1], ids[3])
	if st, err := s.Compact(ctx, 0.1, nil); err != nil || st.Segments == 0 || st.Moved == 0 {
		t.Errorf("what is here was not moved: %+v %v", st, err)
	}
	for i, id := range ids {
		if i != 1 && i != 3 && string(read(t, s, id)) != string(body(2*i, 10_000)) {
			t.Errorf("body %d", i)
		}
	}
	short.Store(0)
	if err := ways["put"](); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// TestSpaceIsKept: bodies leave free what they are told to, also within the pause between two looks at the disk.
func TestSpaceIsKept(t *testing.T) {
	ctx := context.Background()
	s, err := Open(Options{Dir: t.TempDir(), SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first, _, err := s.Put(ctx, body(2, 10_000))
	if err != nil {
		t.Fatal(err)
	}
	s.o.Keep = 1 << 60 // more than there is
	s.alloc = s.end    // what was reserved ahead is used up
	if _, _, err := s.Put(ctx, body(4, 10_000)); !IsNoSpace(err) {
		t.Errorf("what was to stay free was taken: %v", err)
	}
	if err := s.allocate(s.end+100, true); err != nil {
		t.Errorf("what is moved, and makes room by it: %v", err)
	}
	if string(read(t, s, first)) != string(body(2, 10_000)) {
		t.Error("the body before")
	}
}
