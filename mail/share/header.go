package share

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// Header begins a handed-over session.
//
//	octet 0     version, 1
//	octet 1     length of what follows, 14 to 255
//	octet 2     length of the listener's name
//	…           the name
//	then        4 or 6, for IPv4 or IPv6
//	then        address of the client, address that it connected to (4 or 16 octets each)
//	then        their ports, 2 octets each, big-endian
//
// What a later version adds comes behind and is passed over. The node that serves answers
// with one octet.
type Header struct {
	Listener string // name of the listener: smtp, imaps …
	Client   netip.AddrPort
	Local    netip.AddrPort // address the client connected to
}

const (
	version = 1
	maxName = 32
)

// The answers.
const (
	answerTaken     byte = 1
	answerUnknown   byte = 2 // there is no such listener
	answerNotNow    byte = 3 // the listener doesn't take sessions now
	answerMalformed byte = 4 // bad header or unknown version
)

var errHeader = errors.New("share: malformed header")

// valid tells whether a name is 1 to 32 lower-case letters, digits and hyphens.
func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Append writes the header behind b. Addresses of different families are both written as
// IPv6; zones are dropped.
func (h Header) Append(b []byte) ([]byte, error) {
	if !validName(h.Listener) || !h.Client.IsValid() || !h.Local.IsValid() {
		return b, fmt.Errorf("%w: %q, %v to %v", errHeader, h.Listener, h.Client, h.Local)
	}
	client, local := h.Client.Addr().Unmap().WithZone(""), h.Local.Addr().Unmap().WithZone("")
	at := len(b)
	b = append(b, version, 0, byte(len(h.Listener)))
	b = append(b, h.Listener...)
	if client.Is4() && local.Is4() {
		b = append(append(append(b, 4), client.AsSlice()...), local.AsSlice()...)
	} else {
		c, l := client.As16(), local.As16()
		b = append(append(append(b, 6), c[:]...), l[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, h.Client.Port())
	b = binary.BigEndian.AppendUint16(b, h.Local.Port())
	b[at+1] = byte(len(b) - at - 2)
	return b, nil
}

// ReadHeader reads a header and not an octet more.
func ReadHeader(r io.Reader) (Header, error) {
	var buf [2 + 255]byte
	if _, err := io.ReadFull(r, buf[:2]); err != nil {
		return Header{}, err
	}
	if buf[0] != version {
		return Header{}, fmt.Errorf("%w: version %d", errHeader, buf[0])
	}
	b := buf[2 : 2+int(buf[1])]
	if _, err := io.ReadFull(r, b); err != nil {
		return Header{}, fmt.Errorf("%w: %w", errHeader, err)
	}
	return parseHeader(b)
}

func parseHeader(b []byte) (h Header, err error) {
	take := func(n int) (out []byte) {
		if len(b) < n {
			err = errHeader
			return make([]byte, n)
		}
		out, b = b[:n], b[n:]
		return out
	}
	h.Listener = string(take(int(take(1)[0])))
	size := 0
	switch take(1)[0] {
	case 4:
		size = 4
	case 6:
		size = 16
	}
	client, _ := netip.AddrFromSlice(take(size))
	local, _ := netip.AddrFromSlice(take(size))
	h.Client = netip.AddrPortFrom(client.Unmap(), binary.BigEndian.Uint16(take(2)))
	h.Local = netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(take(2)))
	if err != nil || size == 0 || !validName(h.Listener) {
		return Header{}, errHeader
	}
	return h, nil
}
