package segment

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sys/unix"
)

// put is one body on its way to disk.
type put struct {
	rec    record
	pieces [][]byte
	from   *os.File // instead of pieces: a large spool
	moved  bool     // it is here already: its old place becomes free
	done   chan error
	then   func(error) // instead of done; must not wait
}

func (p *put) length() int64 { return recordSize + p.rec.stored }

const (
	minCompress = 2 << 10
	maxBatch    = 16 << 20 // octets written at once
)

// Put stores a body given in pieces and returns when it is on disk, with everybody else's
// that came meanwhile. A body that is there already is not written again.
func (s *Store) Put(ctx context.Context, pieces ...[]byte) (ID, int64, error) {
	return s.put(ctx, nil, nil, pieces...)
}

// put is Put for a body of which a part may have been sent to the second node. want, if not
// nil, is the name that the octets must have.
func (s *Store) put(ctx context.Context, sp *Spool, want *ID, pieces ...[]byte) (ID, int64, error) {
	h := sha256.New()
	var size int64
	for _, p := range pieces {
		h.Write(p)
		size += int64(len(p))
	}
	var id ID
	h.Sum(id[:0])
	if want != nil && id != *want {
		return id, 0, ErrMismatch
	}
	if have, err := s.keep(id, size); err != nil {
		return id, 0, err
	} else if have {
		atomic.AddInt64(&s.stats.Dedups, 1)
		return id, size, s.ensureSpool(ctx, sp, id, size)
	}
	if s.Short() {
		return id, 0, s.refuse()
	}
	p := &put{rec: record{id: id, size: size, stored: size}, pieces: pieces}
	if s.o.Compress && size >= minCompress {
		p.compress()
	}
	crc := uint32(0)
	for _, b := range p.pieces {
		crc = crc32.Update(crc, castagnoli, b)
	}
	p.rec.crc = crc
	var c Copy
	if s.o.Mirror != nil && (sp == nil || !sp.received) {
		var octets io.ReaderAt
		for _, b := range slices.Backward(pieces[min(1, len(pieces)):]) {
			octets = joined{b, octets}
		}
		c = s.copyOf(p, sp.takeStream(), first(pieces), octets)
	}
	return id, size, copied(ctx, c, s.submit(ctx, p))
}

func first(pieces [][]byte) []byte {
	if len(pieces) == 0 {
		return nil
	}
	return pieces[0]
}

// compress replaces the pieces when that saves an eighth or more.
func (p *put) compress() {
	all := p.pieces[len(p.pieces)-1]
	if int64(len(all)) < p.rec.size {
		all = make([]byte, 0, p.rec.size)
		for _, b := range p.pieces {
			all = append(all, b...)
		}
	}
	z := encoder.EncodeAll(all, make([]byte, 0, len(all)/2))
	if int64(len(z)) <= p.rec.size-p.rec.size/8 {
		p.pieces, p.rec.stored, p.rec.flags = [][]byte{z}, int64(len(z)), flagZstd
	}
}

func (s *Store) submit(ctx context.Context, p *put) error {
	p.done = make(chan error, 1)
	if err := s.enqueue(ctx.Done(), p); err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	return <-p.done // the writer drains before it ends
}

// enqueue hands a put to the writer, which will answer it.
func (s *Store) enqueue(cancelled <-chan struct{}, p *put) error {
	s.sending.RLock()
	defer s.sending.RUnlock()
	if s.closed.Load() {
		return ErrClosed
	}
	select {
	case s.puts <- p:
		return nil
	case <-cancelled:
		return context.Canceled
	}
}

// write is the only writer: it takes all that waits, writes it, syncs once and answers.
func (s *Store) write() {
	defer s.wg.Done()
	last := 1 // size of the batch before
	for {
		var batch []*put
		select {
		case p := <-s.puts:
			batch = append(batch, p)
		case <-s.done:
			for {
				select {
				case p := <-s.puts:
					s.finish([]*put{p})
				default:
					return
				}
			}
		}
		batch = s.gather(batch, company(last, int(s.spools.Load())), patience(s.syncTime))
		last = len(batch)
		s.finish(batch)
	}
}

func (s *Store) finish(batch []*put) {
	err := s.commit(batch)
	for _, p := range batch {
		if p.then != nil {
			p.then(err)
		} else {
			p.done <- err
		}
	}
}

// commit writes a batch into the head, syncs and indexes it.
func (s *Store) commit(batch []*put) error {
	if s.fatal != nil {
		return s.fatal
	}
	if s.end > s.o.SegmentBytes {
		if err := s.newSegment(s.head.n + 1); err != nil {
			return s.classify(err)
		}
	}
	off := s.end
	locs := make([]loc, len(batch))
	buf := make([]byte, 0, min(batchLength(batch), maxBatch+1<<20))
	at := off
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		_, err := s.head.f.WriteAt(buf, at)
		at += int64(len(buf))
		buf = buf[:0]
		return err
	}
	err := s.allocate(off+batchLength(batch), slices.ContainsFunc(batch, func(p *put) bool { return p.moved }))
	for i, p := range batch {
		if err != nil {
			break
		}
		locs[i] = loc{s.head.n, off, p.rec.stored, p.rec.size, p.rec.flags}
		var head [recordSize]byte
		p.rec.put(head[:])
		buf = append(buf, head[:]...)
		for _, b := range p.pieces {
			buf = append(buf, b...)
		}
		if p.from != nil {
			if err = flush(); err == nil {
				n := p.rec.stored - int64(len(p.pieces[0]))
				err = s.copyFrom(p.from, at, n)
				at += n
			}
		}
		off += p.length()
	}
	if err == nil {
		err = flush()
	}
	if err != nil {
		s.head.f.Truncate(s.end) // half-written records must not lie before later ones
		s.alloc = s.end
		return s.classify(err)
	}
	began := time.Now()
	if err := unix.Fdatasync(int(s.head.f.Fd())); err != nil {
		s.fatal = fmt.Errorf("%w: %w", ErrFatal, err)
		s.fault(s.fatal)
		return s.fatal
	}
	s.syncTime += (time.Since(began) - s.syncTime) / 8
	s.mu.Lock()
	s.end = off
	s.mu.Unlock()
	atomic.AddInt64(&s.stats.Fsyncs, 1)
	atomic.AddInt64(&s.stats.Appends, int64(len(batch)))
	if n := int64(len(batch)); n > atomic.LoadInt64(&s.stats.MaxBatch) {
		atomic.StoreInt64(&s.stats.MaxBatch, n)
	}
	return s.indexBatch(batch, locs)
}

func batchLength(batch []*put) (n int64) {
	for _, p := range batch {
		n += p.length()
	}
	return n
}

func (s *Store) indexBatch(batch []*put, locs []loc) error {
	b := s.index.NewBatch()
	defer b.Close()
	var mended []ID
	here := make(map[ID]loc, len(batch)) // of this batch
	for i, p := range batch {
		// It may be here already: stored by somebody else at the same moment, or damaged. What has moved
		// was taken off the count by who moves it.
		l, ok := here[p.rec.id]
		if !ok && !p.moved {
			l, ok, _ = s.lookup(p.rec.id) // it is only a count
		}
		if ok {
			atomic.AddInt64(&s.stats.Bodies, -1)
			atomic.AddInt64(&s.stats.Live, -l.length())
		}
		here[p.rec.id] = locs[i]
		if s.keeps.isDamaged(p.rec.id) {
			mended = append(mended, p.rec.id)
		}
		if err := b.Set(bodyKey(p.rec.id), locs[i].encode(), nil); err != nil {
			return err
		}
		atomic.AddInt64(&s.stats.Bodies, 1)
		atomic.AddInt64(&s.stats.Live, locs[i].length())
	}
	if err := s.position(b, s.head.n, s.end); err != nil {
		return err
	}
	err := b.Commit(pebble.NoSync)
	if err == nil {
		for _, id := range mended {
			s.keeps.mended(id)
		}
	}
	return err
}

// copyFrom moves a large spool's octets into the head without bringing them into memory at once.
func (s *Store) copyFrom(from *os.File, at, n int64) error {
	buf := make([]byte, 1<<20)
	for done := int64(0); done < n; {
		k, err := from.ReadAt(buf[:min(int64(len(buf)), n-done)], done)
		if k == 0 && err != nil {
			return err
		}
		if _, err := s.head.f.WriteAt(buf[:k], at+done); err != nil {
			return err
		}
		done += int64(k)
	}
	return nil
}

// classify tells a full disk, from which the store recovers, from everything else.
func (s *Store) classify(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		s.fault(err)
	}
	return err
}

func (s *Store) fault(err error) {
	if s.o.OnFault != nil {
		s.o.OnFault(err)
	}
}

// Short tells whether new bodies are refused, because little space is left.
func (s *Store) Short() bool { return s.o.Short != nil && s.o.Short() }

// refuse is the error for a new body while there is little space.
func (s *Store) refuse() error { return s.classify(unix.ENOSPC) }

// allocate reserves space ahead, so that fdatasync needn't write the file's length each time: no more than
// needed when there is little left, and nothing of what is to stay free. What is moved may take that, too.
func (s *Store) allocate(upTo int64, moved bool) error {
	if upTo <= s.alloc {
		return nil
	}
	want := max(upTo, s.alloc+preallocate)
	var st unix.Statfs_t
	if unix.Fstatfs(int(s.head.f.Fd()), &st) == nil {
		free := int64(st.Bavail)*st.Bsize - s.o.Keep
		if want-s.alloc > free {
			want = upTo
		}
		if want-s.alloc > free && !moved {
			return unix.ENOSPC
		}
	}
	err := unix.Fallocate(int(s.head.f.Fd()), 0, s.alloc, want-s.alloc)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = nil
	}
	if err == nil {
		s.alloc = want
	}
	return err
}

// newSegment begins segment n; the one before is cut to its length.
func (s *Store) newSegment(n uint32) error {
	f, err := os.OpenFile(s.path(n), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	head := make([]byte, fileHeader)
	copy(head, fileMagic)
	if _, err = f.WriteAt(head, 0); err == nil {
		if err = f.Sync(); err == nil {
			err = syncDir(s.o.Dir)
		}
	}
	if err != nil {
		f.Close()
		os.Remove(s.path(n))
		return err
	}
	if s.head != nil {
		s.head.f.Truncate(s.end)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head = &file{f: f, n: n}
	s.files[n] = s.head
	s.end, s.alloc = fileHeader, fileHeader
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
