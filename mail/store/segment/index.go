package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// loc is where a body is.
type loc struct {
	seg    uint32
	off    int64 // of the record's header
	stored int64
	size   int64
	flags  uint8
}

const locSize = 4 + 8 + 8 + 8 + 1

func (l loc) encode() []byte {
	b := make([]byte, 0, locSize)
	b = binary.BigEndian.AppendUint32(b, l.seg)
	b = binary.BigEndian.AppendUint64(b, uint64(l.off))
	b = binary.BigEndian.AppendUint64(b, uint64(l.stored))
	b = binary.BigEndian.AppendUint64(b, uint64(l.size))
	return append(b, l.flags)
}

func decodeLoc(b []byte) (l loc, ok bool) {
	if len(b) != locSize {
		return l, false
	}
	l.seg = binary.BigEndian.Uint32(b)
	l.off = int64(binary.BigEndian.Uint64(b[4:]))
	l.stored = int64(binary.BigEndian.Uint64(b[12:]))
	l.size = int64(binary.BigEndian.Uint64(b[20:]))
	l.flags = b[28]
	return l, true
}

func (l loc) length() int64 { return recordSize + l.stored }

var (
	keyPosition = []byte("p") // segment(4) offset(8): everything before is indexed
	keyTotals   = []byte("t") // bodies(8) live(8), with the position
)

func bodyKey(id ID) []byte { return append([]byte{'b'}, id[:]...) }

func (s *Store) openIndex() error {
	dir := filepath.Join(s.o.Dir, "index")
	opts := &pebble.Options{DisableWAL: true, MemTableSize: 8 << 20, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{s},
		EventListener: &pebble.EventListener{BackgroundError: s.background}}
	if s.o.NoRoom != nil {
		opts.FS = vfs.OnDiskFull(vfs.Default, s.o.NoRoom)
	}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, opts)
	if err != nil { // the index can be made anew from the segments
		s.log.Warn("body index can't be opened and is made anew", "err", err)
		if rerr := os.RemoveAll(dir); rerr != nil {
			return errors.Join(err, rerr)
		}
		if db, err = pebble.Open(dir, opts); err != nil {
			return err
		}
	}
	s.index = db
	return nil
}

// background is told that pebble could not write. It tries again at once, for ever, also when it is to be
// closed: with a disk that is full until there is room, with one that has failed in vain.
func (s *Store) background(err error) {
	if !IsNoSpace(s.classify(err)) {
		s.broken.Do(func() {
			s.log.Error("body index can't be written", "err", err)
			s.fault(fmt.Errorf("%w: %w", ErrFatal, err))
		})
	}
	time.Sleep(50 * time.Millisecond) // or it would do nothing else
}

type quiet struct{ s *Store }

func (q quiet) Infof(string, ...any)      {}
func (q quiet) Errorf(f string, a ...any) { q.s.log.Error("body index: " + fmt.Sprintf(f, a...)) }
func (q quiet) Fatalf(f string, a ...any) {
	q.s.log.Error("body index: " + fmt.Sprintf(f, a...))
	os.Exit(1)
}

func (s *Store) lookup(id ID) (loc, bool, error) {
	if s.closed.Load() {
		return loc{}, false, ErrClosed
	}
	v, closer, err := s.index.Get(bodyKey(id))
	if errors.Is(err, pebble.ErrNotFound) {
		return loc{}, false, nil
	}
	if err != nil {
		return loc{}, false, err
	}
	defer closer.Close()
	l, ok := decodeLoc(v)
	return l, ok, nil
}

// openSegments opens every segment and indexes what lies behind the last indexed position.
func (s *Store) openSegments() error {
	list, err := filepath.Glob(filepath.Join(s.o.Dir, "*.seg"))
	if err != nil {
		return err
	}
	slices.Sort(list)
	fromSeg, fromOff := s.loadPosition()
	for _, p := range list {
		var n uint32
		if _, err := fmt.Sscanf(filepath.Base(p), "%08d.seg", &n); err != nil {
			continue
		}
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := checkFile(f); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		s.files[n] = &file{f: f, n: n}
		s.head = s.files[n]
		if n < fromSeg {
			continue
		}
		off := int64(fileHeader)
		if n == fromSeg && fromOff > off {
			off = fromOff
		}
		if s.end, err = s.scan(s.head, off, p == list[len(list)-1]); err != nil {
			return err
		}
		if info, err := f.Stat(); err == nil {
			s.alloc = info.Size()
		}
	}
	if s.head == nil {
		return s.newSegment(1)
	}
	return nil
}

func checkFile(f *os.File) error {
	var b [fileHeader]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return fmt.Errorf("no segment header: %w", err)
	}
	if string(b[:5]) != fileMagic[:5] {
		return errors.New("is no segment file")
	}
	if b[7] > Format {
		return fmt.Errorf("has format %d: written by a newer version of mailplusd", b[7])
	}
	return nil
}

// scan indexes the records from off on and gives the end of the last whole one. In the last
// segment a torn record at the end is cut off; one that is damaged before others is left out.
func (s *Store) scan(f *file, off int64, last bool) (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return off, err
	}
	b := s.index.NewBatch()
	defer b.Close()
	head := make([]byte, recordSize)
	n := 0
	for off+recordSize <= info.Size() {
		if _, err := f.f.ReadAt(head, off); err != nil {
			return off, err
		}
		var r record
		if err := r.parse(head); errors.Is(err, errNoRecord) {
			break
		} else if err != nil {
			return off, err
		}
		if off+recordSize+r.stored > info.Size() {
			break
		}
		l := loc{f.n, off, r.stored, r.size, r.flags}
		if last && !s.sound(f, &r, off) {
			if s.recordAt(f, off+l.length()) { // others follow, so it was whole once: they must not be lost with it
				s.log.Error("damaged body", "body", r.id.String(), "segment", f.n, "offset", off, "why", "its checksum does not match")
				off += l.length()
				n++
				continue
			}
			s.log.Warn("a torn body at the end of a segment was cut off", "segment", f.n, "offset", off, "body", r.id.String())
			break
		}
		old, have, err := s.lookup(r.id)
		if err != nil {
			return off, err
		}
		if have { // moved, or written again because the one before is damaged
			atomic.AddInt64(&s.stats.Live, -old.length())
		} else {
			atomic.AddInt64(&s.stats.Bodies, 1)
		}
		atomic.AddInt64(&s.stats.Live, l.length())
		if err := b.Set(bodyKey(r.id), l.encode(), nil); err != nil {
			return off, err
		}
		off += l.length()
		n++
	}
	if n > 0 {
		s.log.Info("bodies indexed anew", "segment", f.n, "bodies", n)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return off, err
	}
	if last {
		return off, f.f.Truncate(off)
	}
	return off, nil
}

// recordAt tells whether a record begins at off.
func (s *Store) recordAt(f *file, off int64) bool {
	head := make([]byte, recordSize)
	var r record
	_, err := f.f.ReadAt(head, off)
	return err == nil && r.parse(head) == nil
}

// sound compares a record's octets with their checksum.
func (s *Store) sound(f *file, r *record, off int64) bool {
	h := crc32.New(castagnoli)
	if _, err := io.Copy(h, io.NewSectionReader(f.f, off+recordSize, r.stored)); err != nil {
		return false
	}
	return h.Sum32() == r.crc
}

func (s *Store) loadPosition() (seg uint32, off int64) {
	v, closer, err := s.index.Get(keyPosition)
	if err != nil {
		return 0, 0
	}
	if len(v) == 12 {
		seg, off = binary.BigEndian.Uint32(v), int64(binary.BigEndian.Uint64(v[4:]))
	}
	closer.Close()
	if v, closer, err := s.index.Get(keyTotals); err == nil {
		if len(v) == 16 {
			s.stats.Bodies, s.stats.Live = int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))
		}
		closer.Close()
	}
	return seg, off
}

// position is written with every batch: pebble loses the end of its work in a crash, but
// never a part of a batch.
func (s *Store) position(b *pebble.Batch, seg uint32, off int64) error {
	v := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, seg), uint64(off))
	if err := b.Set(keyPosition, v, nil); err != nil {
		return err
	}
	t := binary.BigEndian.AppendUint64(nil, uint64(atomic.LoadInt64(&s.stats.Bodies)))
	t = binary.BigEndian.AppendUint64(t, uint64(atomic.LoadInt64(&s.stats.Live)))
	return b.Set(keyTotals, t, nil)
}

func (s *Store) storePosition() error {
	b := s.index.NewBatch()
	defer b.Close()
	if s.head == nil {
		return nil
	}
	if err := s.position(b, s.head.n, s.end); err != nil {
		return err
	}
	return b.Commit(pebble.NoSync)
}
