package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// MaxMessage is the longest request and the longest answer of a call, in octets.
const MaxMessage = 8 << 20

// A frame is: length of the rest (4 octets), kind (1), call number (8), content. All numbers
// are big-endian.
const (
	headLen  = 4 + 1 + 8
	maxFrame = 1 + 8 + 4 + 1 + 255 + MaxMessage
)

type kind byte

const (
	request kind = iota + 1 // content: time left in ms, 0 for no limit (4), length of the method's name (1), name, payload
	answer                  // content: payload
	failure                 // content: length of the code (1), code, text
	cancel                  // no content: nobody waits for the answer any more
)

type frame struct {
	kind    kind
	id      uint64
	content []byte
}

var errFrame = errors.New("transport: malformed frame")

// readFrame reads the next frame; its content belongs to the caller.
func readFrame(r *bufio.Reader) (frame, error) {
	var head [headLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	f := frame{kind: kind(head[4]), id: binary.BigEndian.Uint64(head[5:])}
	if n < 1+8 || n > maxFrame || f.kind < request || f.kind > cancel {
		return frame{}, fmt.Errorf("%w: kind %d, %d octets", errFrame, f.kind, n)
	}
	var err error
	f.content, err = readN(r, int(n)-(1+8))
	return f, err
}

// readN reads n octets. It takes memory as the octets come, not as they are announced.
func readN(r io.Reader, n int) ([]byte, error) {
	const step = 256 << 10
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(n, 4*cap(b))), b...)
		}
		k, err := io.ReadFull(r, b[len(b):cap(b)])
		b = b[:len(b)+k]
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return b, nil
}

// appendHead begins a frame whose content has n octets.
func appendHead(b []byte, k kind, id uint64, n int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(1+8+n))
	b = append(b, byte(k))
	return binary.BigEndian.AppendUint64(b, id)
}

func appendRequest(b []byte, id uint64, limit time.Duration, method string, payload []byte) []byte {
	b = appendHead(b, request, id, 4+1+len(method)+len(payload))
	b = binary.BigEndian.AppendUint32(b, millis(limit))
	b = append(b, byte(len(method)))
	b = append(b, method...)
	return append(b, payload...)
}

// millis rounds up, and is 0 only for no limit.
func millis(d time.Duration) uint32 {
	const most = 1<<32 - 1
	if d <= 0 {
		return 0
	}
	return uint32(min((d+time.Millisecond-1)/time.Millisecond, most))
}

func parseRequest(content []byte) (limit time.Duration, method string, payload []byte, err error) {
	if len(content) < 5 || len(content) < 5+int(content[4]) || content[4] == 0 {
		return 0, "", nil, fmt.Errorf("%w: request", errFrame)
	}
	end := 5 + int(content[4])
	if len(content)-end > MaxMessage {
		return 0, "", nil, ErrTooLarge
	}
	limit = time.Duration(binary.BigEndian.Uint32(content)) * time.Millisecond
	return limit, string(content[5:end]), content[end:], nil
}

func appendFailure(b []byte, id uint64, err error) []byte {
	code, text := errorCode(err)
	b = appendHead(b, failure, id, 1+len(code)+len(text))
	b = append(b, byte(len(code)))
	b = append(b, code...)
	return append(b, text...)
}

func parseFailure(content []byte) (code, text string, err error) {
	if len(content) < 1 || len(content) < 1+int(content[0]) {
		return "", "", fmt.Errorf("%w: failure", errFrame)
	}
	end := 1 + int(content[0])
	if int(content[0]) > maxErrorCode || len(content)-end > maxErrorText {
		return "", "", fmt.Errorf("%w: failure too long", errFrame)
	}
	return string(content[1:end]), string(content[end:]), nil
}
