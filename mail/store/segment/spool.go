package segment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// memory is how much of a spool is held before it goes to a file.
const memory = 1 << 20

// Spool takes in a body of unknown size. It is for one goroutine.
type Spool struct {
	s     *Store
	limit int64
	buf   []byte
	f     *os.File
	size  int64
	err   error
	over  bool

	received bool   // comes from the second node: isn't sent back
	stream   Stream // what the second node gets already
	begun    bool   // a stream was tried
}

// NewSpool begins a body of limit octets at most; 0: no limit.
func (s *Store) NewSpool(limit int64) *Spool {
	s.spools.Add(1)
	return &Spool{s: s, limit: limit}
}

// Receive begins a body that the second node sends.
func (s *Store) Receive() *Spool {
	s.spools.Add(1)
	return &Spool{s: s, received: true}
}

// Write implements io.Writer; ErrTooLarge above the limit, ErrNoSpace on a full disk.
func (sp *Spool) Write(p []byte) (int, error) {
	if sp.err != nil {
		return 0, sp.err
	}
	if sp.limit > 0 && sp.size+int64(len(p)) > sp.limit {
		sp.err = ErrTooLarge
		return 0, sp.err
	}
	if sp.s.o.Mirror != nil {
		sp.feed(p)
	}
	if sp.f == nil && len(sp.buf)+len(p) > memory {
		if sp.err = sp.spill(); sp.err != nil {
			return 0, sp.err
		}
	}
	if sp.f == nil {
		sp.buf = append(sp.buf, p...)
		sp.size += int64(len(p))
		return len(p), nil
	}
	if sp.s.Short() { // a file of a large message takes space, too
		sp.err = sp.s.refuse()
		return 0, sp.err
	}
	n, err := sp.f.Write(p)
	sp.size += int64(n)
	if err != nil {
		sp.err = sp.s.classify(err)
	}
	return n, sp.err
}

// feed sends a large spool's octets while they come in.
func (sp *Spool) feed(p []byte) {
	if !sp.begun && !sp.received && sp.size+int64(len(p)) > streamFrom {
		sp.begun = true
		if m := sp.s.mirror(); m != nil && sp.f == nil {
			if sp.stream = m.Begin(); sp.stream != nil {
				sp.stream.Write(sp.buf)
			}
		}
	}
	if sp.stream != nil {
		sp.stream.Write(p)
	}
}

// takeStream hands what has been sent to whoever ends it.
func (sp *Spool) takeStream() Stream {
	if sp == nil {
		return nil
	}
	st := sp.stream
	sp.stream = nil
	return st
}

// ensureSpool is for a body that is here already.
func (s *Store) ensureSpool(ctx context.Context, sp *Spool, id ID, size int64) error {
	if s.o.Mirror == nil || sp != nil && sp.received {
		return nil
	}
	return s.ensure(ctx, sp.takeStream(), id, size)
}

// Spill moves what is held in memory to a file.
func (sp *Spool) Spill() error {
	if sp.err == nil && sp.f == nil && !sp.over {
		sp.err = sp.spill()
	}
	return sp.err
}

// spill moves what is in memory to a file.
func (sp *Spool) spill() error {
	if sp.s.Short() {
		return sp.s.refuse()
	}
	f, err := os.CreateTemp(sp.s.o.Dir, "spool-*")
	if err != nil {
		return sp.s.classify(err)
	}
	sp.f = f
	if _, err := f.Write(sp.buf); err != nil {
		return sp.s.classify(err)
	}
	sp.buf = nil
	return nil
}

// Size is what has been written so far.
func (sp *Spool) Size() int64 { return sp.size }

// Reader reads what has been written so far, without a second copy of it.
func (sp *Spool) Reader() (io.ReaderAt, error) {
	if sp.over {
		return nil, fmt.Errorf("spool: %w", os.ErrClosed)
	}
	if sp.f != nil {
		return sp.f, nil
	}
	return bytes.NewReader(sp.buf), nil
}

// Commit stores prefix and what was written as one body, and returns when it is on disk.
func (sp *Spool) Commit(ctx context.Context, prefix []byte) (ID, int64, error) {
	return sp.commit(ctx, prefix, nil)
}

// CommitAs is Commit for octets whose name and size are known: ErrMismatch when they are not those.
func (sp *Spool) CommitAs(ctx context.Context, prefix []byte, id ID, size int64) error {
	if sp.err == nil && sp.size+int64(len(prefix)) != size {
		sp.Abort()
		return ErrMismatch
	}
	_, _, err := sp.commit(ctx, prefix, &id)
	return err
}

func (sp *Spool) commit(ctx context.Context, prefix []byte, want *ID) (ID, int64, error) {
	defer sp.Abort()
	if sp.err != nil {
		return ID{}, 0, sp.err
	}
	if sp.over {
		return ID{}, 0, fmt.Errorf("spool: %w", os.ErrClosed)
	}
	if sp.f == nil {
		if len(prefix) == 0 {
			return sp.s.put(ctx, sp, want, nil, sp.buf)
		}
		return sp.s.put(ctx, sp, want, prefix, sp.buf)
	}
	h, crc := sha256.New(), crc32.New(castagnoli)
	h.Write(prefix)
	crc.Write(prefix)
	if _, err := io.Copy(io.MultiWriter(h, crc), io.NewSectionReader(sp.f, 0, sp.size)); err != nil {
		return ID{}, 0, err
	}
	var id ID
	h.Sum(id[:0])
	size := int64(len(prefix)) + sp.size
	if want != nil && id != *want {
		return id, 0, ErrMismatch
	}
	if have, err := sp.s.keep(id, size); err != nil {
		return id, 0, err
	} else if have {
		return id, size, sp.s.ensureSpool(ctx, sp, id, size)
	}
	if sp.s.Short() {
		return id, 0, sp.s.refuse()
	}
	p := &put{rec: record{id: id, size: size, stored: size, crc: crc.Sum32()}, pieces: [][]byte{prefix}, from: sp.f}
	var c Copy
	if sp.s.o.Mirror != nil && !sp.received {
		c = sp.s.copyOf(p, sp.takeStream(), prefix, sp.f)
	}
	return id, size, copied(ctx, c, sp.s.submit(ctx, p))
}

// Abort forgets the spool; after Commit it does nothing.
func (sp *Spool) Abort() {
	if !sp.over {
		sp.over = true
		sp.s.spools.Add(-1)
	}
	if st := sp.takeStream(); st != nil {
		st.Abort()
	}
	if sp.f != nil {
		sp.f.Close()
		os.Remove(sp.f.Name())
		sp.f = nil
	}
	sp.buf = nil
}

// Bytes gives what has been written as one slice without reading a large spool into memory:
// the file is mapped. It is valid until release.
func (sp *Spool) Bytes() (b []byte, release func(), err error) {
	if sp.over {
		return nil, nil, fmt.Errorf("spool: %w", os.ErrClosed)
	}
	if sp.f == nil || sp.size == 0 {
		return sp.buf, func() {}, nil
	}
	b, err = unix.Mmap(int(sp.f.Fd()), 0, int(sp.size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, err
	}
	return b, func() { unix.Munmap(b) }, nil
}
