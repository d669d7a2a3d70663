package segment

import (
	"bytes"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Body is a body that is open for reading.
type Body struct {
	io.SectionReader
	file *file
	size int64
	data []byte // the whole body, of one that is in memory
	off  int64  // where it begins in file, of one that isn't
}

// Size is the number of octets.
func (b *Body) Size() int64 { return b.size }

// Bytes gives the whole body as one slice, without reading a large one into memory: its segment is
// mapped. It is valid until release, which must come before Close. Reading it can fault
// (debug.SetPanicOnFault) when the disk fails.
func (b *Body) Bytes() (data []byte, release func(), err error) {
	if b.file == nil || b.size == 0 {
		return b.data, func() {}, nil
	}
	skip := b.off % int64(os.Getpagesize())
	m, err := unix.Mmap(int(b.file.f.Fd()), b.off-skip, int(b.size+skip), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, err
	}
	return m[skip:], func() { unix.Munmap(m) }, nil
}

// WriteTo writes the rest of the body.
func (b *Body) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{&b.SectionReader})
}

// Close lets go of the segment.
func (b *Body) Close() error {
	if b.file != nil {
		b.file.release()
		b.file = nil
	}
	return nil
}

// maxInMemory is the largest record that is read whole; larger ones are read in place after
// their checksum was compared.
const maxInMemory = 1 << 20

// Has tells whether a body is there.
func (s *Store) Has(id ID) bool {
	_, ok, err := s.lookup(id)
	return ok && err == nil
}

// Size gives a body's octets; ErrNotFound.
func (s *Store) Size(id ID) (int64, error) {
	l, ok, err := s.lookup(id)
	if err == nil && !ok && s.mend(id, ErrNotFound) {
		l, ok, err = s.lookup(id)
	}
	if err == nil && !ok {
		err = ErrNotFound
	}
	return l.size, err
}

// acquire holds a segment's file open.
func (s *Store) acquire(n uint32) *file {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[n]
	if f != nil {
		f.refs.Add(1)
	}
	return f
}

// Open opens a body after comparing it with its checksum. When it is missing or damaged, a
// good copy is brought from the second node, if there is one; else ErrNotFound or *CorruptError.
func (s *Store) Open(id ID) (*Body, error) {
	b, err := s.OpenLocal(id)
	if err != nil && s.mend(id, err) {
		return s.OpenLocal(id)
	}
	return b, err
}

// OpenLocal is Open without the second node.
func (s *Store) OpenLocal(id ID) (*Body, error) {
	for range 3 { // compaction may move it between lookup and acquire
		l, ok, err := s.lookup(id)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, ErrNotFound
		}
		if f := s.acquire(l.seg); f != nil {
			return s.open(f, id, l)
		}
	}
	return nil, ErrNotFound
}

func (s *Store) open(f *file, id ID, l loc) (*Body, error) {
	corrupt := func(why string) error {
		f.release()
		return s.corrupt(id, l, why)
	}
	if l.stored > maxInMemory {
		return s.openLarge(f, id, l, make([]byte, recordSize), corrupt)
	}
	defer f.release()
	if l.flags&flagZstd != 0 {
		return s.openPacked(f, id, l)
	}
	_, data, err := s.readRecord(f, id, l, make([]byte, recordSize+l.stored))
	if err != nil {
		return nil, err
	}
	return inMemory(data), nil
}

// openPacked reads a compressed record; what it is unpacked from is needed for a moment only.
func (s *Store) openPacked(f *file, id ID, l loc) (*Body, error) {
	buf := unpacked.Get().(*[]byte)
	defer unpacked.Put(buf)
	*buf = slices.Grow((*buf)[:0], int(l.length()))
	r, data, err := s.readRecord(f, id, l, (*buf)[:l.length()])
	if err != nil {
		return nil, err
	}
	if data, err = decoder.DecodeAll(data, make([]byte, 0, r.size)); err != nil || int64(len(data)) != r.size {
		return nil, s.corrupt(id, l, "it can't be decompressed")
	}
	return inMemory(data), nil
}

func inMemory(data []byte) *Body {
	return &Body{SectionReader: *io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), size: int64(len(data)), data: data}
}

func (s *Store) corrupt(id ID, l loc, why string) error {
	s.log.Error("damaged body", "body", id.String(), "segment", l.seg, "offset", l.off, "why", why)
	return &CorruptError{ID: id, Segment: l.seg, Offset: l.off, Why: why}
}

// readRecord reads a record of maxInMemory octets at most into buf, which has its length, and compares
// it with its checksums.
func (s *Store) readRecord(f *file, id ID, l loc, buf []byte) (r record, data []byte, err error) {
	if _, err := f.f.ReadAt(buf, l.off); err != nil {
		return r, nil, s.corrupt(id, l, err.Error())
	}
	if err := r.parse(buf); err != nil || r.id != id {
		return r, nil, s.corrupt(id, l, "its header is not what was written")
	}
	data = buf[recordSize:]
	if int64(len(data)) != r.stored || crc32.Checksum(data, castagnoli) != r.crc {
		return r, nil, s.corrupt(id, l, "its checksum does not match")
	}
	return r, data, nil
}

func (s *Store) openLarge(f *file, id ID, l loc, head []byte, corrupt func(string) error) (*Body, error) {
	if _, err := f.f.ReadAt(head, l.off); err != nil {
		return nil, corrupt(err.Error())
	}
	var r record
	if err := r.parse(head); err != nil || r.id != id {
		return nil, corrupt("its header is not what was written")
	}
	if !s.sound(f, &r, l.off) {
		return nil, corrupt("its checksum does not match")
	}
	if r.flags&flagZstd == 0 {
		return &Body{SectionReader: *io.NewSectionReader(f.f, l.off+recordSize, l.stored), file: f, size: l.size, off: l.off + recordSize}, nil
	}
	raw := make([]byte, l.stored)
	if _, err := f.f.ReadAt(raw, l.off+recordSize); err != nil {
		return nil, corrupt(err.Error())
	}
	data, err := decoder.DecodeAll(raw, make([]byte, 0, r.size))
	if err != nil || int64(len(data)) != r.size {
		return nil, corrupt("it can't be decompressed")
	}
	f.release()
	return inMemory(data), nil
}
