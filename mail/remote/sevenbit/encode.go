package sevenbit

import (
	"bytes"
	"encoding/base64"
)

// encoder writes a part's body in 7 bits.
type encoder interface {
	write(piece []byte) // a line, or a part of one
	close()
}

// quoted is quoted-printable (RFC 2045 §6.7). Line ends stay line ends.
type quoted struct {
	out *bytes.Buffer
	col int
}

const hexDigits = "0123456789ABCDEF"

func (q *quoted) write(piece []byte) {
	text := piece
	newline := len(text) > 0 && text[len(text)-1] == '\n'
	if newline {
		text = text[:len(text)-1]
		if n := len(text); n > 0 && text[n-1] == '\r' {
			text = text[:n-1]
		}
	}
	for i, b := range text {
		last := i == len(text)-1
		if b > ' ' && b < 0x7f && b != '=' || (b == ' ' || b == '\t') && !last {
			q.room(1)
			q.out.WriteByte(b)
			q.col++
			continue
		}
		q.room(3)
		q.out.Write([]byte{'=', hexDigits[b>>4], hexDigits[b&15]})
		q.col += 3
	}
	if newline {
		q.out.WriteString("\r\n")
		q.col = 0
	}
}

// room breaks the line when n more characters and a "=" don't fit into 76.
func (q *quoted) room(n int) {
	if q.col+n > 75 {
		q.out.WriteString("=\r\n")
		q.col = 0
	}
}

func (q *quoted) close() {}

// base64Lines is base64 (RFC 2045 §6.8). The last line end belongs to the boundary that follows.
type base64Lines struct {
	out  *bytes.Buffer
	buf  []byte
	held []byte // the line end that may be the last
}

const rawLine = 57 // octets that make 76 characters

func (e *base64Lines) write(piece []byte) {
	e.buf = append(e.buf, e.held...)
	e.held = e.held[:0]
	text := bytes.TrimSuffix(piece, []byte("\n"))
	if len(text) < len(piece) {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	e.held = append(e.held, piece[len(text):]...)
	e.buf = append(e.buf, text...)
	n := len(e.buf) / rawLine * rawLine
	e.lines(e.buf[:n])
	e.buf = append(e.buf[:0], e.buf[n:]...)
}

func (e *base64Lines) lines(b []byte) {
	for len(b) > 0 {
		n := min(len(b), rawLine)
		e.out.Write(base64.StdEncoding.AppendEncode(nil, b[:n]))
		e.out.WriteString("\r\n")
		b = b[n:]
	}
}

func (e *base64Lines) close() { e.lines(e.buf) }
