package body

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// A frame is kind(1) length(4) and a payload of length octets, numbers big-endian.
const (
	framePut    = 1 // seq(8) id(32) size(8) form(1) octets: a body, or the answer to get
	frameData   = 2 // stream(8) octets
	frameCommit = 3 // seq(8) stream(8) id(32) size(8) prefix: the stream's end
	frameAbort  = 4 // stream(8)
	frameEnsure = 5 // seq(8) id(32) size(8): is it durable there?
	frameHave   = 6 // seq(8) id(32)...
	frameGet    = 7 // seq(8) id(32)
	frameAcks   = 8 // (seq(8) code(1))...
	frameBitmap = 9 // seq(8) bits, the first name is the lowest bit of the first octet
	frameAlive  = 10
)

const (
	preface    = "MPBODY\x00\x01" // the last octet is the version
	frameHead  = 5
	putHead    = 8 + 32 + 8 + 1
	commitHead = 8 + 8 + 32 + 8
	ackSize    = 8 + 1

	// MaxWhole is how many stored octets a body may have to go in one frame.
	MaxWhole = 1<<20 + 64<<10
	// MaxPrefix is how many octets may be put in front of a stream at its end.
	MaxPrefix = 1 << 20
	// MaxNames is how many names one question may have.
	MaxNames = 4096
	maxChunk = 64 << 10
	maxAcks  = 4096
)

// errProtocol says that the other end does not speak this protocol; the connection ends.
var errProtocol = errors.New("body: protocol error")

// frameSize tells the allowed payloads of each kind: from, to, and what remains must be a multiple of step.
var frameSize = [...]struct{ min, max, step int }{
	framePut:    {putHead, putHead + MaxWhole, 1},
	frameData:   {8 + 1, 8 + maxChunk, 1},
	frameCommit: {commitHead, commitHead + MaxPrefix, 1},
	frameAbort:  {8, 8, 1},
	frameEnsure: {48, 48, 1},
	frameHave:   {8 + 32, 8 + 32*MaxNames, 32},
	frameGet:    {40, 40, 1},
	frameAcks:   {ackSize, ackSize * maxAcks, ackSize},
	frameBitmap: {8 + 1, 8 + MaxNames/8, 1},
	frameAlive:  {0, 0, 1},
}

// frames reads frames.
type frames struct {
	r       *bufio.Reader
	scratch []byte
}

func newFrames(r io.Reader) *frames { return &frames{r: bufio.NewReaderSize(r, 128<<10)} }

// next reads a frame's header.
func (f *frames) next() (kind byte, n int, err error) {
	h, err := f.r.Peek(frameHead)
	if err != nil {
		return 0, 0, err
	}
	kind, size := h[0], binary.BigEndian.Uint32(h[1:])
	if kind == 0 || int(kind) >= len(frameSize) {
		return 0, 0, fmt.Errorf("%w: kind %d", errProtocol, kind)
	}
	l := frameSize[kind]
	if size < uint32(l.min) || size > uint32(l.max) || (int(size)-l.min)%l.step != 0 {
		return 0, 0, fmt.Errorf("%w: %d octets of kind %d", errProtocol, size, kind)
	}
	f.r.Discard(frameHead)
	return kind, int(size), nil
}

// payload reads n octets; they are valid until the next call.
func (f *frames) payload(n int) ([]byte, error) {
	if cap(f.scratch) < n {
		f.scratch = make([]byte, n, max(n, 4096))
	}
	b := f.scratch[:n]
	_, err := io.ReadFull(f.r, b)
	return b, err
}

// keep reads n octets into a buffer from the pool.
func (f *frames) keep(n int) (*buffer, error) {
	b := getBuffer(n)
	if _, err := io.ReadFull(f.r, b.b); err != nil {
		b.free()
		return nil, err
	}
	return b, nil
}

// buffer is a payload that outlives the next frame.
type buffer struct {
	b    []byte
	pool *sync.Pool
}

var (
	smallBuffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 8<<10)} }}
	largeBuffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 64<<10)} }}
)

func getBuffer(n int) *buffer {
	for _, p := range []*sync.Pool{&smallBuffers, &largeBuffers} {
		b := p.Get().(*buffer)
		if n <= cap(b.b) {
			b.b, b.pool = b.b[:n], p
			return b
		}
		p.Put(b)
	}
	return &buffer{b: make([]byte, n)}
}

func (b *buffer) free() {
	if b.pool != nil {
		b.pool.Put(b)
	}
}

// header appends a frame's header.
func header(b []byte, kind byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), uint32(n))
}

func appendPut(b []byte, seq uint64, r *Record) []byte {
	b = header(b, framePut, putHead+int(r.stored()))
	b = binary.BigEndian.AppendUint64(b, seq)
	b = append(b, r.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Size))
	b = append(b, r.Form)
	for _, p := range r.Data {
		b = append(b, p...)
	}
	return b
}

func appendCommit(b []byte, seq, stream uint64, id ID, size int64, prefix []byte) []byte {
	b = header(b, frameCommit, commitHead+len(prefix))
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint64(b, stream)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	return append(b, prefix...)
}

// appendChunk appends n octets of r at off as a piece of a stream.
func appendChunk(b []byte, stream uint64, r io.ReaderAt, off int64, n int) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(header(b, frameData, 8+n), stream)
	b = slices.Grow(b, n)
	k, err := r.ReadAt(b[len(b):len(b)+n], off)
	if k == n {
		err = nil
	} else if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return b[:len(b)+k], err
}

func appendAbort(b []byte, stream uint64) []byte {
	return binary.BigEndian.AppendUint64(header(b, frameAbort, 8), stream)
}

// appendAcks appends frames for (seq code) pairs.
func appendAcks(b, acks []byte) []byte {
	for len(acks) > 0 {
		n := min(len(acks), ackSize*maxAcks)
		b = append(header(b, frameAcks, n), acks[:n]...)
		acks = acks[n:]
	}
	return b
}
