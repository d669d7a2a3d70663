package segment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Delete forgets bodies; their space comes back by Compact. Only the index forgets: if it
// is lost and made anew, they are back, and whoever compares the store with the state
// deletes them again. A body that somebody has asked to store meanwhile (Keep) stays.
func (s *Store) Delete(ids ...ID) error {
	b := s.index.NewBatch()
	defer b.Close()
	s.keeps.mu.Lock() // against keep
	defer s.keeps.mu.Unlock()
	for _, id := range ids {
		if s.keeps.kept(id) {
			continue
		}
		l, ok, err := s.lookup(id)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := b.Delete(bodyKey(id), nil); err != nil {
			return err
		}
		atomic.AddInt64(&s.stats.Bodies, -1)
		atomic.AddInt64(&s.stats.Live, -l.length())
	}
	return b.Commit(pebble.NoSync)
}

// Each calls fn for every body in the order of their names.
func (s *Store) Each(fn func(id ID, size int64) bool) error {
	it, err := s.index.NewIter(&pebble.IterOptions{LowerBound: []byte{'b'}, UpperBound: []byte{'c'}})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		var id ID
		copy(id[:], it.Key()[1:])
		if l, ok := decodeLoc(it.Value()); ok && !fn(id, l.size) {
			break
		}
	}
	return it.Error()
}

// CompactStats is what Compact did.
type CompactStats struct {
	Segments int   // removed
	Moved    int   // bodies
	Freed    int64 // octets
}

// segmentNumbers lists the segments that are not written any more.
func (s *Store) segmentNumbers() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []uint32
	for n, f := range s.files {
		if f != s.head {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Compact rewrites the segments of which at least the given share is dead. Bodies are
// moved to the head and on disk there before their old segment is removed; open readers
// stay valid.
func (s *Store) Compact(ctx context.Context, minDead float64, progress func(done, total int)) (CompactStats, error) {
	var out CompactStats
	list := s.segmentNumbers()
	for i, n := range list {
		if progress != nil {
			progress(i, len(list))
		}
		if err := ctx.Err(); err != nil {
			return out, err
		}
		f := s.acquire(n)
		if f == nil {
			continue
		}
		err := s.compactOne(ctx, f, minDead, &out)
		f.release()
		if err != nil {
			return out, fmt.Errorf("segment %d: %w", n, err)
		}
	}
	return out, nil
}

func (s *Store) compactOne(ctx context.Context, f *file, minDead float64, out *CompactStats) error {
	var live []record
	var liveBytes, total int64
	damaged := false
	err := s.walk(f, func(r record, off int64) bool {
		total += recordSize + r.stored
		if l, ok, err := s.lookup(r.id); err == nil && ok && l.seg == f.n && l.off == off {
			live = append(live, r)
			liveBytes += l.length()
			damaged = damaged || !s.sound(f, &r, off)
		}
		return true
	})
	if err != nil || damaged { // a damaged segment is evidence: it stays
		return err
	}
	if total > 0 && float64(total-liveBytes) < minDead*float64(total) {
		return nil
	}
	for _, r := range live {
		if err := s.move(ctx, f, r.id); err != nil {
			return err
		}
		out.Moved++
	}
	if err := s.index.Flush(); err != nil { // the index must not name the old place after a crash
		return err
	}
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.files, f.n)
	s.mu.Unlock()
	f.gone.Store(true)
	out.Segments++
	out.Freed += info.Size()
	return os.Remove(s.path(f.n))
}

// move writes a body again at the head.
func (s *Store) move(ctx context.Context, f *file, id ID) error {
	l, ok, err := s.lookup(id)
	if err != nil || !ok || l.seg != f.n {
		return err
	}
	raw := make([]byte, recordSize+l.stored)
	if _, err := f.f.ReadAt(raw, l.off); err != nil {
		return err
	}
	var r record
	if err := r.parse(raw); err != nil {
		return err
	}
	atomic.AddInt64(&s.stats.Bodies, -1)
	atomic.AddInt64(&s.stats.Live, -l.length())
	return s.submit(ctx, &put{rec: r, pieces: [][]byte{raw[recordSize:]}, moved: true})
}

// walk calls fn for every record of a segment.
func (s *Store) walk(f *file, fn func(r record, off int64) bool) error {
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	end := info.Size()
	s.mu.Lock()
	if f == s.head {
		end = s.end
	}
	s.mu.Unlock()
	head := make([]byte, recordSize)
	for off := int64(fileHeader); off+recordSize <= end; {
		if _, err := f.f.ReadAt(head, off); err != nil {
			return err
		}
		var r record
		if err := r.parse(head); err != nil {
			if errors.Is(err, errNoRecord) {
				return nil
			}
			return err
		}
		if !fn(r, off) {
			return nil
		}
		off += recordSize + r.stored
	}
	return nil
}

// VerifyStats is what Verify found.
type VerifyStats struct {
	Bodies   int
	Bytes    int64
	Damaged  []*CorruptError
	Repaired int // damaged ones of which the second node had a good copy, stored here anew
}

// Verify reads every body that the index names and names those that are damaged.
func (s *Store) Verify(ctx context.Context, progress func(done int)) (VerifyStats, error) {
	var out VerifyStats
	var ids []ID
	if err := s.Each(func(id ID, _ int64) bool { ids = append(ids, id); return true }); err != nil {
		return out, err
	}
	for i, id := range ids {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		b, err := s.OpenLocal(id)
		var ce *CorruptError
		switch {
		case errors.As(err, &ce) && s.mend(id, err):
			out.Repaired++
		case errors.As(err, &ce):
			out.Damaged = append(out.Damaged, ce)
		case errors.Is(err, ErrNotFound): // deleted meanwhile
		case err != nil:
			return out, err
		default:
			out.Bytes += b.Size()
			b.Close()
		}
		out.Bodies++
		if progress != nil && i%1000 == 0 {
			progress(i)
		}
	}
	return out, nil
}
