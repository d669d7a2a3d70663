package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"mailplusd/mail/model"

	"github.com/fxamacker/cbor/v2"
)

var encMode, decMode = func() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.EncOptions{Sort: cbor.SortNone}.EncMode()
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{MaxArrayElements: 1 << 21, MaxNestedLevels: 16}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}()

// Marshal encodes v as the state stores it.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// Unmarshal decodes what Marshal made.
func Unmarshal(data []byte, v any) error { return decMode.Unmarshal(data, v) }

// EncodeEntry makes the bytes that are proposed.
func EncodeEntry(e *Entry) ([]byte, error) {
	body, err := encMode.Marshal(e)
	if err != nil {
		return nil, err
	}
	return append([]byte{EntryVersion}, body...), nil
}

// ErrNewer is returned for data of a version that this program doesn't know.
var ErrNewer = errors.New("written by a newer version of mailplusd")

// DecodeEntry reads what EncodeEntry made.
func DecodeEntry(data []byte) (*Entry, error) {
	if len(data) == 0 {
		return nil, errors.New("empty entry")
	}
	if data[0] > EntryVersion {
		return nil, fmt.Errorf("entry version %d: %w", data[0], ErrNewer)
	}
	e := new(Entry)
	if err := decMode.Unmarshal(data[1:], e); err != nil {
		return nil, fmt.Errorf("entry: %w", err)
	}
	return e, nil
}

// NewOp encodes an operation.
func NewOp(op Operation) (Op, error) {
	body, err := encMode.Marshal(op)
	if err != nil {
		return Op{}, err
	}
	return Op{Kind: op.kind(), Body: body}, nil
}

// result of an entry as it travels back to the proposer.
type result struct {
	Code string            `cbor:"1,keyasint,omitempty"` // error code; empty: applied
	Text string            `cbor:"2,keyasint,omitempty"`
	Ops  []cbor.RawMessage `cbor:"3,keyasint,omitempty"`
}

const messageVersion = 1

// encodeMessage packs a message's state: version, modseq, flags, dates, size, body, GUID, keywords.
func encodeMessage(b []byte, m *model.MessageState) []byte {
	b = append(b, messageVersion)
	b = be64(b, m.ModSeq)
	b = binary.BigEndian.AppendUint16(b, uint16(m.Flags))
	b = append(b, m.Body[:]...)
	b = append(b, m.GUID[:]...)
	b = binary.AppendVarint(b, m.Date)
	b = binary.AppendVarint(b, m.SaveDate)
	b = binary.AppendUvarint(b, uint64(m.Size))
	b = binary.AppendUvarint(b, uint64(len(m.Keywords)))
	for _, k := range m.Keywords {
		b = binary.AppendUvarint(b, uint64(k))
	}
	return b
}

var errShort = errors.New("message state is cut short")

const messageFixed = 1 + 8 + 2 + 32 + 16

// decodeMessage unpacks into m, reusing its Keywords.
func decodeMessage(b []byte, m *model.MessageState) error {
	if len(b) < messageFixed {
		return errShort
	}
	if b[0] > messageVersion {
		return ErrNewer
	}
	m.ModSeq = binary.BigEndian.Uint64(b[1:])
	m.Flags = model.Flags(binary.BigEndian.Uint16(b[9:]))
	copy(m.Body[:], b[11:])
	copy(m.GUID[:], b[43:])
	b = b[messageFixed:]
	var n int
	if m.Date, n = binary.Varint(b); n <= 0 {
		return errShort
	}
	b = b[n:]
	if m.SaveDate, n = binary.Varint(b); n <= 0 {
		return errShort
	}
	b = b[n:]
	size, n := binary.Uvarint(b)
	if n <= 0 {
		return errShort
	}
	m.Size = int64(size)
	b = b[n:]
	count, n := binary.Uvarint(b)
	if n <= 0 || count > model.MaxKeywords {
		return errShort
	}
	b = b[n:]
	m.Keywords = m.Keywords[:0]
	for range count {
		k, n := binary.Uvarint(b)
		if n <= 0 {
			return errShort
		}
		m.Keywords = append(m.Keywords, uint16(k))
		b = b[n:]
	}
	return nil
}
