package mailfile

import (
	"bufio"
	"io"
)

// crlf gives what it reads with CRLF at the end of every line that ends in LF.
type crlf struct {
	br   *bufio.Reader
	prev byte // last octet that was given out
	held bool // an LF waits behind a CR that was put in
}

func newCRLF(r io.Reader) *crlf { return &crlf{br: bufio.NewReaderSize(r, 64<<10)} }

// Read implements io.Reader.
func (c *crlf) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	for n < len(p) {
		if c.held {
			p[n], c.prev, c.held = '\n', '\n', false
			n++
			continue
		}
		if n > 0 && c.br.Buffered() == 0 {
			return n, nil
		}
		b, err := c.br.ReadByte()
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		if b == '\n' && c.prev != '\r' {
			b, c.held = '\r', true
		}
		p[n], c.prev = b, b
		n++
	}
	return n, nil
}
