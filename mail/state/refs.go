package state

import (
	"encoding/binary"
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// refMerger adds to the number of holders of a body without reading it first. A value is
// count(8) since(8); an operand is what to add (8).
var refMerger = &pebble.Merger{
	Name: "mailplusd.refs.1",
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		m := new(refSum)
		m.add(value)
		return m, nil
	},
}

type refSum struct {
	n     uint64
	since int64
}

func (m *refSum) add(v []byte) {
	n, since := decodeRefs(v)
	m.n += n
	if since != 0 {
		m.since = since
	}
}

func (m *refSum) MergeNewer(v []byte) error { m.add(v); return nil }
func (m *refSum) MergeOlder(v []byte) error {
	since := m.since
	m.add(v)
	if since != 0 {
		m.since = since
	}
	return nil
}

func (m *refSum) Finish(bool) ([]byte, io.Closer, error) { return encodeRefs(m.n, m.since), nil, nil }

func encodeRefs(n uint64, since int64) []byte { return be64(be64(nil, n), uint64(since)) }

// decodeRefs reads a value or an operand.
func decodeRefs(v []byte) (n uint64, since int64) {
	if len(v) >= 8 {
		n = binary.BigEndian.Uint64(v)
	}
	if len(v) >= 16 {
		since = int64(binary.BigEndian.Uint64(v[8:]))
	}
	return n, since
}
