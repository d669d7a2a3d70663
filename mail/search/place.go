package search

import (
	"encoding/binary"
	"errors"
	mathbits "math/bits"
	"slices"

	"mailplusd/mail/model"
)

// place says which document of the index a message is: messages with the same body are one.
type place struct {
	uid  model.UID
	doc  uint32
	body uint64 // first octets of its name: tells whether the message is still the one that was indexed
}

// Places are kept in rows for this many UIDs each.
const (
	chunkBits  = 10
	placeBytes = 16
)

func chunkOf(uid model.UID) int64 { return int64(uid >> chunkBits) }

func bodyMark(id model.BodyID) uint64 { return binary.BigEndian.Uint64(id[:]) }

var errPlaces = errors.New("search: a row of places is damaged")

func decodePlaces(dst []place, raw []byte) ([]place, error) {
	if len(raw)%placeBytes != 0 {
		return dst, errPlaces
	}
	for ; len(raw) > 0; raw = raw[placeBytes:] {
		p := place{uid: model.UID(binary.BigEndian.Uint32(raw)), doc: binary.BigEndian.Uint32(raw[4:]), body: binary.BigEndian.Uint64(raw[8:])}
		if n := len(dst); n > 0 && dst[n-1].uid >= p.uid || p.doc == 0 {
			return dst, errPlaces
		}
		dst = append(dst, p)
	}
	return dst, nil
}

func encodePlaces(list []place) []byte {
	out := make([]byte, 0, len(list)*placeBytes)
	for _, p := range list {
		out = binary.BigEndian.AppendUint32(out, uint32(p.uid))
		out = binary.BigEndian.AppendUint32(out, p.doc)
		out = binary.BigEndian.AppendUint64(out, p.body)
	}
	return out
}

func placeOf(list []place, uid model.UID) (int, bool) {
	return slices.BinarySearchFunc(list, uid, func(p place, u model.UID) int { return int(int64(p.uid) - int64(u)) })
}

// bits is a set of documents.
type bits []uint64

func newBits(max uint32) bits { return make(bits, max/64+1) }

func (b bits) has(n uint32) bool { return int(n/64) < len(b) && b[n/64]&(1<<(n%64)) != 0 }

func (b bits) set(n uint32) {
	if int(n/64) < len(b) {
		b[n/64] |= 1 << (n % 64)
	}
}

func (b bits) unset(n uint32) {
	if int(n/64) < len(b) {
		b[n/64] &^= 1 << (n % 64)
	}
}

func (b bits) or(o bits) {
	for i := range b {
		b[i] |= o[i]
	}
}

func (b bits) and(o bits) {
	for i := range b {
		b[i] &= o[i]
	}
}

func (b bits) empty() bool { return !slices.ContainsFunc(b, func(w uint64) bool { return w != 0 }) }

func (b bits) count() (n int) {
	for _, w := range b {
		n += mathbits.OnesCount64(w)
	}
	return n
}

// everyBit is the set of all documents up to max.
func everyBit(max uint32) bits {
	b := newBits(max)
	for i := range b {
		b[i] = ^uint64(0)
	}
	return b
}
