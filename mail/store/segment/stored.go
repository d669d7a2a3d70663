package segment

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

// ErrMismatch says that octets are not those that their name says.
var ErrMismatch = errors.New("octets do not match the body's name")

// Stored is a body in the form in which records keep it. It goes to another node and comes
// from there without being compressed again.
type Stored struct {
	ID   ID
	Size int64 // octets of the body
	Form uint8 // flags of the record: compressed or not
	Data [][]byte
}

// What comes from outside is decompressed within limits of memory.
var (
	guarded, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(4), zstd.WithDecoderMaxMemory(2*wholeSize))
	unpacked   = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}
)

// verify compares stored octets with their name.
func (b *Stored) verify() error {
	if len(b.Data) != 1 || b.Size < 0 || b.Size > wholeSize {
		return fmt.Errorf("%w: impossible size", ErrMismatch)
	}
	data := b.Data[0]
	switch b.Form {
	case 0:
	case flagZstd:
		buf := unpacked.Get().(*[]byte)
		defer func() {
			if cap(*buf) <= 1<<20 {
				unpacked.Put(buf)
			}
		}()
		out, err := guarded.DecodeAll(data, (*buf)[:0])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMismatch, err)
		}
		*buf, data = out, out
	default:
		return fmt.Errorf("%w: form %d is not known", ErrMismatch, b.Form)
	}
	if int64(len(data)) != b.Size || ID(sha256.Sum256(data)) != b.ID {
		return ErrMismatch
	}
	return nil
}

// PutStored stores a body that another node has compressed, or not, after comparing its
// octets with its name (ErrMismatch). done is called once, when the body is durable or
// refused, maybe before PutStored returns; b.Data is one piece and not used after it. The body isn't mirrored.
func (s *Store) PutStored(b Stored, done func(error)) {
	if err := b.verify(); err != nil {
		done(err)
		return
	}
	if have, err := s.keep(b.ID, b.Size); have || err != nil {
		done(err)
		return
	}
	if s.Short() {
		done(s.refuse())
		return
	}
	p := &put{rec: record{id: b.ID, size: b.Size, stored: int64(len(b.Data[0])), flags: b.Form}, pieces: b.Data, then: done}
	p.rec.crc = crc32.Checksum(b.Data[0], castagnoli)
	if err := s.enqueue(nil, p); err != nil {
		done(err)
	}
}

// LoadStored reads a body as it is stored. ErrTooLarge when that, or the body, is too large to
// be handled in one piece; *CorruptError when it is damaged.
func (s *Store) LoadStored(id ID) (Stored, error) {
	for range 3 { // compaction may move it between lookup and acquire
		l, ok, err := s.lookup(id)
		if err != nil {
			return Stored{}, err
		}
		if !ok {
			return Stored{}, ErrNotFound
		}
		if l.stored > wholeStored || l.size > wholeSize {
			return Stored{}, ErrTooLarge
		}
		if f := s.acquire(l.seg); f != nil {
			r, data, err := s.readRecord(f, id, l, make([]byte, l.length()))
			f.release()
			if err != nil {
				return Stored{}, err
			}
			return Stored{ID: id, Size: r.size, Form: r.flags, Data: [][]byte{data}}, nil
		}
	}
	return Stored{}, ErrNotFound
}

// keepFor is how long a body that was asked to be stored again can't be deleted: the entry that
// names it is on its way.
const keepFor = 15 * time.Minute

// keeps remembers bodies that must not be deleted yet, and those that are damaged.
type keeps struct {
	mu       sync.Mutex
	until    map[ID]time.Time
	damaged  map[ID]bool
	nDamaged atomic.Int32 // len(damaged)
}

// keep tells whether a body is here in good order and keeps it from being deleted soon.
func (s *Store) keep(id ID, size int64) (bool, error) {
	if l, have, err := s.lookup(id); err != nil || !have || l.size != size {
		return false, err
	}
	k := &s.keeps
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, have, err := s.lookup(id); err != nil || !have || k.damaged[id] { // Delete may have been between
		return false, err
	}
	now := time.Now()
	if len(k.until) > 1<<12 {
		for id, t := range k.until {
			if now.After(t) {
				delete(k.until, id)
			}
		}
	}
	k.until[id] = now.Add(keepFor)
	return true, nil
}

// Keep is Has for a body that is about to be named by an entry: it can't be deleted for 15 minutes.
func (s *Store) Keep(id ID, size int64) bool {
	have, err := s.keep(id, size)
	return have && err == nil
}

// kept tells whether a body must not be deleted now; keeps.mu is held.
func (k *keeps) kept(id ID) bool {
	t, ok := k.until[id]
	return ok && time.Now().Before(t)
}

// markDamaged makes a body count as missing until it is written again.
func (k *keeps) markDamaged(id ID) {
	k.mu.Lock()
	k.damaged[id] = true
	k.nDamaged.Store(int32(len(k.damaged)))
	k.mu.Unlock()
}

// isDamaged is cheap while nothing is damaged.
func (k *keeps) isDamaged(id ID) bool {
	if k.nDamaged.Load() == 0 {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.damaged[id]
}

// mended is called when a damaged body has been written again.
func (k *keeps) mended(id ID) {
	k.mu.Lock()
	delete(k.damaged, id)
	k.until[id] = time.Now().Add(keepFor) // whoever wrote it may be about to name it
	k.nDamaged.Store(int32(len(k.damaged)))
	k.mu.Unlock()
}
