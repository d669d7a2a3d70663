package wire

import "io"

// Literal reads exactly the next n bytes of a connection.
type Literal struct {
	c    *Conn
	left int64
}

// Literal returns a reader of the next n bytes. It belongs to the connection:
// finish or Discard it before the next command or Literal.
func (c *Conn) Literal(n int64) *Literal {
	c.clock.restart(phaseData)
	c.lit = Literal{c: c, left: n}
	return &c.lit
}

// Read implements io.Reader; a connection that ends early is
// io.ErrUnexpectedEOF.
func (l *Literal) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.c.readData(p)
	l.left -= int64(n)
	l.c.traceRead(p[:n])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Remaining returns how many bytes are still to come.
func (l *Literal) Remaining() int64 { return l.left }

// Discard reads the rest away, so that the next command is in step.
func (l *Literal) Discard() error {
	for l.left > 0 {
		if l.c.r == l.c.w {
			if err := l.c.fill(bigBuf); err != nil {
				return err
			}
		}
		n := min(int64(l.c.w-l.c.r), l.left)
		l.c.r += int(n)
		l.left -= n
	}
	return nil
}
