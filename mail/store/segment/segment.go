// Package segment is the node-local store of message bodies: appended to segment files with
// group commit, named by the SHA-256 of their octets, checked on every read.
//
// A segment file is a header and records. A record is a header of 64 octets (magic,
// version, flags, sizes, name, checksums) and the stored octets, compressed or not. Zeros
// end the records of a segment that is still written. The location index (index.go) is a
// pebble database without a log of its own: behind the last indexed position the
// segments are scanned at Open, and a torn record at the very end is cut off.
//
// What is acknowledged has passed fdatasync. After a failed fsync nobody knows what is on
// disk, so the store refuses every later write.
package segment

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/klauspost/compress/zstd"
)

// ID is the SHA-256 of a body's octets.
type ID [32]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String wrote.
func ParseID(s string) (id ID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is no body ID: 64 hexadecimal digits are needed", s)
	}
	copy(id[:], b)
	return id, nil
}

// Errors of the store.
var (
	ErrNotFound = errors.New("body not found")
	ErrNoSpace  = errors.New("no space left for message bodies")
	ErrTooLarge = errors.New("body is larger than allowed")
	ErrFatal    = errors.New("message bodies can't be written any more, the disk failed")
	ErrClosed   = errors.New("body store is closed")
)

// IsTooLarge tells whether a spool was refused for its size.
func IsTooLarge(err error) bool { return errors.Is(err, ErrTooLarge) }

// IsNoSpace tells whether the disk is full.
func IsNoSpace(err error) bool { return errors.Is(err, ErrNoSpace) }

// CorruptError says that a body on disk is not what was stored.
type CorruptError struct {
	ID      ID
	Segment uint32
	Offset  int64
	Why     string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("body %s in segment %d at %d is damaged: %s", e.ID, e.Segment, e.Offset, e.Why)
}

// Format is the version of segment files; a higher one is refused.
const Format = 1

const (
	fileMagic   = "MPSEG\x00\x00\x01"
	fileHeader  = 16
	recordMagic = 0x4d50424f // MPBO
	recordSize  = 72
	flagZstd    = 1
	maxRecord   = 1 << 31
	preallocate = 32 << 20
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	encoder, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(4), zstd.WithLowerEncoderMem(true))
	decoder, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(4), zstd.WithDecoderMaxMemory(maxRecord))
)

// record is a record's header.
type record struct {
	flags  uint8
	size   int64 // octets of the body
	stored int64 // octets on disk behind the header
	id     ID
	crc    uint32 // of the stored octets
}

// put writes the header's 72 octets.
func (r *record) put(b []byte) {
	clear(b[:recordSize])
	binary.LittleEndian.PutUint32(b, recordMagic)
	b[4], b[5] = Format, r.flags
	binary.LittleEndian.PutUint64(b[8:], uint64(r.size))
	binary.LittleEndian.PutUint64(b[16:], uint64(r.stored))
	copy(b[24:56], r.id[:])
	binary.LittleEndian.PutUint32(b[56:], r.crc)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
}

var errNoRecord = errors.New("no record")

// parse reads a header; errNoRecord when there is none.
func (r *record) parse(b []byte) error {
	if len(b) < recordSize || binary.LittleEndian.Uint32(b) != recordMagic {
		return errNoRecord
	}
	if crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) {
		return fmt.Errorf("%w: header checksum", errNoRecord)
	}
	if b[4] > Format {
		return fmt.Errorf("record version %d: written by a newer version of mailplusd", b[4])
	}
	r.flags = b[5]
	r.size = int64(binary.LittleEndian.Uint64(b[8:]))
	r.stored = int64(binary.LittleEndian.Uint64(b[16:]))
	copy(r.id[:], b[24:56])
	r.crc = binary.LittleEndian.Uint32(b[56:])
	if r.stored < 0 || r.stored > maxRecord || r.size < 0 || r.size > maxRecord {
		return fmt.Errorf("%w: impossible size", errNoRecord)
	}
	return nil
}

// Options of Open.
type Options struct {
	Dir          string
	SegmentBytes int64 // a new segment is begun above this; 0: 256 MB
	Compress     bool  // zstd for bodies of 2 KiB and more, when it saves something
	Logger       *slog.Logger
	// Mirror, when set, brings every body to a second node, too.
	Mirror Mirror
	// Fetch, when set, brings a body that is missing or damaged here from the second node: it
	// calls PutStored or Receive, and returns nil when the body is durable.
	Fetch func(ctx context.Context, id ID) error
	// OnFault, when set, is told of each write that found no room (IsNoSpace), and once that the store can't
	// be written to any more. It must not wait.
	OnFault func(error)

	// Keep is how many octets of the file system bodies leave free: for the log that names them.
	Keep int64
	// Short, when set and true, refuses new bodies with ErrNoSpace; what is there can be moved.
	Short func() bool
	// NoRoom, when set, is called before a write of the index that found no room is tried again: it may make some.
	NoRoom func()
}

// Store is the body store of one node.
type Store struct {
	o      Options
	log    *slog.Logger
	index  *pebble.DB
	puts   chan *put
	done   chan struct{}
	closed atomic.Bool
	spools atomic.Int64 // spools that are open: bodies to come

	syncTime time.Duration // of an fdatasync, in the mean of the last ones; the writer's own
	wg       sync.WaitGroup

	mu    sync.Mutex
	files map[uint32]*file
	head  *file
	end   int64 // where the next record of the head goes
	alloc int64 // up to where the head is allocated
	fatal error
	// broken is done when the index has failed.
	broken sync.Once

	stats Stats

	keeps   keeps
	flights flights
	ctx     context.Context // ends with the store
	cancel  context.CancelFunc
	sending sync.RWMutex // Close waits until nobody is about to send to puts
}

// file is a segment that is open for reading.
type file struct {
	f    *os.File
	n    uint32
	refs atomic.Int32
	gone atomic.Bool // removed: closed with the last reader
}

func (f *file) release() {
	if f.refs.Add(-1) == 0 && f.gone.Load() {
		f.f.Close()
	}
}

// Stats count what the store did since it was opened, and what it holds.
type Stats struct {
	Segments int
	Bytes    int64 // of all segment files, as far as written
	Live     int64 // octets of records that the index names
	Dead     int64 // Bytes without Live
	Bodies   int64
	Appends  int64
	Fsyncs   int64
	MaxBatch int64
	Dedups   int64
}

func (s *Store) path(n uint32) string { return filepath.Join(s.o.Dir, fmt.Sprintf("%08d.seg", n)) }

// Open opens or makes a store.
func Open(o Options) (*Store, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 256 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &Store{o: o, log: o.Logger, files: map[uint32]*file{}, puts: make(chan *put, 1024), done: make(chan struct{})}
	s.keeps = keeps{until: map[ID]time.Time{}, damaged: map[ID]bool{}}
	s.flights = flights{byID: map[ID]*flight{}, room: make(chan struct{}, maxFetches)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.openIndex(); err != nil {
		return nil, fmt.Errorf("body index: %w", err)
	}
	if err := s.openSegments(); err != nil {
		s.index.Close()
		return nil, fmt.Errorf("body segments: %w", err)
	}
	s.removeSpools()
	s.wg.Add(1)
	go s.write()
	return s, nil
}

// removeSpools removes what a crash has left of bodies that were never acknowledged.
func (s *Store) removeSpools() {
	list, _ := filepath.Glob(filepath.Join(s.o.Dir, "spool-*"))
	for _, p := range list {
		os.Remove(p)
	}
}

// Close finishes what was begun, makes the index durable and closes everything.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.cancel()
	s.sending.Lock()
	close(s.done)
	s.sending.Unlock()
	s.wg.Wait()
	err := errors.Join(s.storePosition(), s.index.Flush(), s.index.Close())
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		if f.refs.Load() == 0 {
			f.f.Close()
		}
		f.gone.Store(true)
	}
	return err
}

// Stats gives counts and sizes.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Segments: len(s.files), Bodies: atomic.LoadInt64(&s.stats.Bodies), Live: atomic.LoadInt64(&s.stats.Live),
		Appends: atomic.LoadInt64(&s.stats.Appends), Fsyncs: atomic.LoadInt64(&s.stats.Fsyncs),
		MaxBatch: atomic.LoadInt64(&s.stats.MaxBatch), Dedups: atomic.LoadInt64(&s.stats.Dedups),
	}
	for _, f := range s.files {
		if f == s.head {
			st.Bytes += s.end
		} else if info, err := f.f.Stat(); err == nil {
			st.Bytes += info.Size()
		}
	}
	st.Dead = st.Bytes - st.Live - int64(st.Segments)*fileHeader
	return st
}
