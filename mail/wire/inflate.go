package wire

import "errors"

// errDeflate is input that is no deflate stream.
var errDeflate = errors.New("wire: the compressed input is damaged")

const (
	deflateWindow = 32 << 10 // RFC 1951 §2: how far back a stream may refer
	firstWindow   = 512      // what a connection starts with; it grows with what the client sends
)

// inflater decodes a deflate stream (RFC 1951) that comes in pieces of any size. Unlike compress/flate it
// can be interrupted anywhere (IDLE is woken by a deadline), and what an idle connection keeps
// is what its client has sent, 32 KiB at most, and about 1 KiB of tables while a block is open.
type inflater struct {
	in   []byte // compressed input not used yet
	bits uint64 // read from in, not used yet: the lowest first
	n    uint   // how many

	window []byte // a ring of the last output; its length is a power of two up to deflateWindow
	at     int    // where the next octet goes
	have   int    // octets in the ring

	block   blockState
	final   bool
	stored  int // octets left of a stored block
	copyLen int // octets left of a match …
	copyOff int // … and how far back it is
	lit     *huffman
	dist    *huffman
}

type blockState uint8

const (
	blockHeader  blockState = iota
	blockStored             // stored octets
	blockCodes              // Huffman codes
	blockNothing            // behind the final block
)

// reader is a place in the input. Reading from it can be undone by keeping the inflater's own.
type reader struct {
	in   []byte
	bits uint64
	n    uint
}

func (f *inflater) reader() reader  { return reader{f.in, f.bits, f.n} }
func (f *inflater) accept(r reader) { f.in, f.bits, f.n = r.in, r.bits, r.n }
func (r *reader) fill() {
	for r.n <= 56 && len(r.in) > 0 {
		r.bits |= uint64(r.in[0]) << r.n
		r.in, r.n = r.in[1:], r.n+8
	}
}

// take gives the next n bits, 16 at most; false when they aren't there yet.
func (r *reader) take(n uint) (uint32, bool) {
	if r.n < n {
		if r.fill(); r.n < n {
			return 0, false
		}
	}
	v := uint32(r.bits & (1<<n - 1))
	r.bits >>= n
	r.n -= n
	return v, true
}

// symbol reads one code. ok is false when it isn't there as a whole yet.
func (r *reader) symbol(h *huffman) (s int, ok bool, err error) {
	if r.n < 15 {
		r.fill()
	}
	code, first, index := 0, 0, 0
	bits := r.bits
	for l := uint(1); l <= 15; l++ {
		if l > r.n {
			return 0, false, nil
		}
		code |= int(bits & 1)
		bits >>= 1
		count := int(h.count[l])
		if code-count < first {
			r.bits >>= l
			r.n -= l
			return int(h.symbols[index+code-first]), true, nil
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, false, errDeflate
}

// read decodes into p until it is full or the input is used up.
func (f *inflater) read(p []byte) (n int, err error) {
	for n < len(p) {
		switch {
		case f.copyLen > 0:
			n += f.match(p[n:])
			continue
		case f.block == blockStored && f.stored > 0:
			k := f.storedPart(p[n:])
			if n += k; k == 0 {
				return n, nil
			}
			continue
		case f.block == blockStored:
			f.end()
			continue
		case f.block == blockNothing:
			return n, errDeflate // what comes behind the end of the stream
		}
		more := false
		if f.block == blockHeader {
			more, err = f.header()
		} else {
			var c int
			c, more, err = f.code(p[n:])
			n += c
		}
		if err != nil || !more {
			return n, err
		}
	}
	return n, nil
}

func (f *inflater) end() {
	f.block, f.lit, f.dist = blockHeader, nil, nil
	if f.final {
		f.block = blockNothing
	}
}

// header reads a block's header as a whole, or nothing of it.
func (f *inflater) header() (more bool, err error) {
	r := f.reader()
	v, ok := r.take(3)
	if !ok {
		return false, nil
	}
	final := v&1 != 0
	switch v >> 1 {
	case 0:
		r.take(r.n % 8)
		size, ok1 := r.take(16)
		not, ok2 := r.take(16)
		if !ok1 || !ok2 {
			return false, nil
		}
		if size != ^not&0xffff {
			return false, errDeflate
		}
		f.block, f.stored = blockStored, int(size)
	case 1:
		f.block, f.lit, f.dist = blockCodes, fixedLit, fixedDist
	case 2:
		lit, dist, ok, err := r.tables()
		if err != nil || !ok {
			return false, err
		}
		f.block, f.lit, f.dist = blockCodes, lit, dist
	default:
		return false, errDeflate
	}
	f.final = final
	f.accept(r)
	return true, nil
}

var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// tables reads the codes of a dynamic block (RFC 1951 §3.2.7).
func (r *reader) tables() (lit, dist *huffman, ok bool, err error) {
	counts, ok := r.take(14)
	if !ok {
		return nil, nil, false, nil
	}
	nlit, ndist, ncode := int(counts&31)+257, int(counts>>5&31)+1, int(counts>>10)+4
	if nlit > 286 || ndist > 30 {
		return nil, nil, false, errDeflate
	}
	var lengths [286 + 30]uint8
	for i := range ncode {
		v, ok := r.take(3)
		if !ok {
			return nil, nil, false, nil
		}
		lengths[lengthOrder[i]] = uint8(v)
	}
	code, good := makeHuffman(lengths[:19])
	if !good {
		return nil, nil, false, errDeflate
	}
	clear(lengths[:])
	for i := 0; i < nlit+ndist; {
		s, ok, err := r.symbol(code)
		if err != nil || !ok {
			return nil, nil, false, err
		}
		if s < 16 {
			lengths[i] = uint8(s)
			i++
			continue
		}
		bits, base, what := uint(2), 3, uint8(0)
		switch s {
		case 16:
			if i == 0 {
				return nil, nil, false, errDeflate
			}
			what = lengths[i-1]
		case 17:
			bits = 3
		default:
			bits, base = 7, 11
		}
		v, ok := r.take(bits)
		if !ok {
			return nil, nil, false, nil
		}
		times := base + int(v)
		if i+times > nlit+ndist {
			return nil, nil, false, errDeflate
		}
		for ; times > 0; times-- {
			lengths[i] = what
			i++
		}
	}
	lit, ok1 := makeHuffman(lengths[:nlit])
	dist, ok2 := makeHuffman(lengths[nlit : nlit+ndist])
	if !ok1 || !ok2 {
		return nil, nil, false, errDeflate
	}
	return lit, dist, true, nil
}

// Lengths and distances (RFC 1951 §3.2.5).
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase   = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distBits   = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// code reads a literal, a match or the end of the block as a whole, or nothing of it. p is not empty.
func (f *inflater) code(p []byte) (n int, more bool, err error) {
	r := f.reader()
	s, ok, err := r.symbol(f.lit)
	if err != nil || !ok {
		return 0, false, err
	}
	switch {
	case s < 256:
		f.accept(r)
		p[0] = byte(s)
		f.keep(p[:1])
		return 1, true, nil
	case s == 256:
		f.accept(r)
		f.end()
		return 0, true, nil
	case s > 285:
		return 0, false, errDeflate
	}
	extra, ok := r.take(uint(lengthBits[s-257]))
	if !ok {
		return 0, false, nil
	}
	length := int(lengthBase[s-257]) + int(extra)
	d, ok, err := r.symbol(f.dist)
	if err != nil || !ok {
		return 0, false, err
	}
	if d > 29 {
		return 0, false, errDeflate
	}
	if extra, ok = r.take(uint(distBits[d])); !ok {
		return 0, false, nil
	}
	off := int(distBase[d]) + int(extra)
	if off > f.have {
		return 0, false, errDeflate
	}
	f.accept(r)
	f.copyLen, f.copyOff = length, off
	return 0, true, nil
}

func (f *inflater) match(p []byte) (n int) {
	for n < len(p) && f.copyLen > 0 {
		p[n] = f.window[(f.at-f.copyOff)&(len(f.window)-1)]
		f.keep(p[n : n+1])
		n++
		f.copyLen--
	}
	return n
}

// storedPart copies octets of a stored block; whole octets that were read as bits come first.
func (f *inflater) storedPart(p []byte) (n int) {
	p = p[:min(len(p), f.stored)]
	for n < len(p) && f.n >= 8 {
		p[n] = byte(f.bits)
		f.bits >>= 8
		f.n -= 8
		n++
	}
	k := copy(p[n:], f.in)
	f.in = f.in[k:]
	n += k
	f.stored -= n
	f.keep(p[:n])
	return n
}

// keep puts output into the ring, which grows until it has the size of the window.
func (f *inflater) keep(p []byte) {
	if need := f.have + len(p); need > len(f.window) && len(f.window) < deflateWindow {
		size := max(firstWindow, len(f.window))
		for size < need && size < deflateWindow {
			size *= 2
		}
		w := make([]byte, size)
		k := copy(w, f.tail())
		f.window, f.at = w, k&(size-1)
	}
	if len(p) > len(f.window) {
		p = p[len(p)-len(f.window):]
	}
	for len(p) > 0 {
		k := copy(f.window[f.at:], p)
		p = p[k:]
		f.at = (f.at + k) & (len(f.window) - 1)
		f.have = min(f.have+k, len(f.window))
	}
}

// tail is what the ring has, the oldest first.
func (f *inflater) tail() []byte {
	if f.have < len(f.window) || f.at == 0 {
		return f.window[:f.have]
	}
	return append(append(make([]byte, 0, f.have), f.window[f.at:]...), f.window[:f.at]...)
}
