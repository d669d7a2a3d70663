package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kind is what a frame says.
type Kind uint8

// The frames.
const (
	Request  Kind = 1 // primary: promise me a term
	Ack      Kind = 2 // secondary: promised
	Released Kind = 3 // primary: all up to Seq is given up and the address is deleted
)

func (k Kind) String() string {
	switch k {
	case Request:
		return "request"
	case Ack:
		return "ack"
	case Released:
		return "released"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// FrameSize is the size of each frame in octets.
const FrameSize = 32

const frameVersion = 1

// ErrFrame: the octets are no frame of this version.
var ErrFrame = errors.New("lease: not a frame of this version")

// Frame is one message of the lease protocol. The connection it comes by must prove who
// sent it.
type Frame struct {
	Kind    Kind
	Epoch   uint64
	Session uint64 // of the primary: one life of its process
	Seq     uint64 // of the request
}

// AppendBinary appends the frame: "ML", version, kind, four zero octets, then epoch, session and
// seq as 8 octets each, most significant first.
func (f Frame) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, 'M', 'L', frameVersion, byte(f.Kind), 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, f.Epoch)
	b = binary.BigEndian.AppendUint64(b, f.Session)
	return binary.BigEndian.AppendUint64(b, f.Seq), nil
}

// ParseFrame reads one frame of exactly FrameSize octets.
func ParseFrame(b []byte) (Frame, error) {
	if len(b) != FrameSize || b[0] != 'M' || b[1] != 'L' || b[2] != frameVersion || binary.BigEndian.Uint32(b[4:]) != 0 {
		return Frame{}, ErrFrame
	}
	f := Frame{Kind: Kind(b[3]), Epoch: binary.BigEndian.Uint64(b[8:]), Session: binary.BigEndian.Uint64(b[16:]), Seq: binary.BigEndian.Uint64(b[24:])}
	if f.Kind < Request || f.Kind > Released {
		return Frame{}, ErrFrame
	}
	return f, nil
}
