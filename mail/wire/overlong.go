package wire

import "bytes"

// keptEnds is how much of an overlong line is remembered at each end.
const keptEnds = 64

// overlong is the beginning and the end of a line that was too long to be read.
type overlong struct{ head, tail []byte }

// keepEnds remembers the ends of a line; the next piece of the same line moves the tail on.
func (c *Conn) keepEnds(piece []byte) {
	if c.long == nil {
		c.long = &overlong{head: append([]byte(nil), piece[:min(len(piece), keptEnds)]...)}
	}
	c.long.tail = append(c.long.tail, piece[max(0, len(piece)-keptEnds):]...)
	c.long.tail = c.long.tail[max(0, len(c.long.tail)-keptEnds):]
}

// Overlong returns up to 64 bytes from the beginning and from the end, without CRLF or LF, of the
// line for which ReadLine returned ErrLineTooLong: a protocol needs them to answer it and to stay
// in step. It may be called once.
func (c *Conn) Overlong() (head, tail []byte) {
	if c.long == nil {
		return nil, nil
	}
	head, tail = c.long.head, c.long.tail
	c.long = nil
	return bytes.TrimRight(head, "\r\n"), bytes.TrimSuffix(bytes.TrimSuffix(tail, []byte("\n")), []byte("\r"))
}
