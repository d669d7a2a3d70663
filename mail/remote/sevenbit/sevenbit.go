// Package sevenbit converts messages with 8-bit text for servers without 8BITMIME (RFC 6152 §3):
// text parts become quoted-printable, others base64. It reads messages as a stream, twice: once to
// see which parts need it, once to convert. What is signed is never changed.
package sevenbit

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Facts are what Scan sees.
type Facts struct {
	Header8Bit bool // the header of the message, or of a message in it
	Body8Bit   bool
	Signed     bool // 8-bit text inside a part that is signed or encrypted
	Encoded    bool // 8-bit octets in a part that says that it is quoted-printable or base64
	Odd        bool // the structure can't be read, or passes a limit
	parts      []bool
}

// Errors of Convert.
var (
	ErrSigned  = errors.New("it is signed, so it can't be converted")
	ErrEncoded = errors.New("it is not encoded as its parts say, so it can't be converted")
	ErrOdd     = errors.New("its structure is too odd to be converted")
)

// Limits of what is read.
const (
	maxParts  = 2000
	maxDepth  = 100
	maxHeader = 512 << 10 // of one part
)

// Scan reads a message and tells what is in it.
func Scan(open func() (io.ReadCloser, error)) (*Facts, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f := &Facts{}
	w := newWalker(&scan{f: f})
	br := bufio.NewReaderSize(r, 32<<10)
	for {
		more, err := w.step(br)
		if err != nil {
			return nil, err
		}
		if !more {
			f.Odd = w.odd
			return f, nil
		}
	}
}

type scan struct{ f *Facts }

func (s *scan) header(p *part, raw []byte) {
	s.f.Header8Bit = s.f.Header8Bit || eight(raw)
	if p.leaf {
		s.f.parts = append(s.f.parts, false)
	}
}

func (s *scan) body(p *part, piece []byte) {
	if !eight(piece) {
		return
	}
	s.f.Body8Bit = true
	if len(s.f.parts) > 0 && p.leaf {
		s.f.parts[len(s.f.parts)-1] = true
	}
	s.f.Signed = s.f.Signed || p.signed
	s.f.Encoded = s.f.Encoded || p.encoded
}

func (s *scan) delimiter(line []byte) { s.f.Body8Bit = s.f.Body8Bit || eight(line) }
func (s *scan) end()                  {}

func eight(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// Convert opens a message as 7-bit text. f is what Scan has seen of it.
func Convert(open func() (io.ReadCloser, error), f *Facts) (io.ReadCloser, error) {
	switch {
	case f.Signed:
		return nil, ErrSigned
	case f.Encoded:
		return nil, ErrEncoded
	case f.Odd:
		return nil, ErrOdd
	}
	r, err := open()
	if err != nil {
		return nil, err
	}
	c := &converter{in: r, br: bufio.NewReaderSize(r, 32<<10), f: f, next: -1}
	c.w = newWalker(c)
	return c, nil
}

// converter is a message that is converted while it is read.
type converter struct {
	in   io.ReadCloser
	br   *bufio.Reader
	w    *walker
	f    *Facts
	next int // place of the part that is under way
	enc  encoder
	out  bytes.Buffer
	done bool
}

// Read implements io.Reader.
func (c *converter) Read(p []byte) (int, error) {
	for c.out.Len() == 0 {
		if c.done {
			return 0, io.EOF
		}
		more, err := c.w.step(c.br)
		if err != nil {
			return 0, err
		}
		c.done = !more
	}
	return c.out.Read(p)
}

// Close implements io.Closer.
func (c *converter) Close() error { return c.in.Close() }

func (c *converter) header(p *part, raw []byte) {
	c.flush()
	encoding := ""
	if p.leaf {
		if c.next++; c.next < len(c.f.parts) && c.f.parts[c.next] {
			if p.text {
				encoding, c.enc = "quoted-printable", &quoted{out: &c.out}
			} else {
				encoding, c.enc = "base64", &base64Lines{out: &c.out}
			}
		}
	} else if p.declared {
		encoding = "7bit"
	}
	if encoding == "" {
		c.out.Write(raw)
		return
	}
	c.rewrite(raw, encoding)
}

// rewrite writes a header with another Content-Transfer-Encoding. An encoding means nothing to a
// reader without MIME-Version, so a message that has none gets it.
func (c *converter) rewrite(raw []byte, encoding string) {
	fields := raw
	blank := []byte("\r\n")
	mime := c.next > 0 || c.w.nested()
	for len(fields) > 0 {
		end := fieldEnd(fields)
		field := fields[:end]
		fields = fields[end:]
		if isBlank(field) {
			blank = field
			break
		}
		name, _, _ := bytes.Cut(field, []byte(":"))
		name = bytes.TrimSpace(name)
		mime = mime || bytes.EqualFold(name, []byte("MIME-Version"))
		if !bytes.EqualFold(name, []byte("Content-Transfer-Encoding")) {
			c.out.Write(field)
		}
	}
	if !mime {
		c.out.WriteString("MIME-Version: 1.0\r\n")
	}
	c.out.WriteString("Content-Transfer-Encoding: " + encoding + "\r\n")
	c.out.Write(blank)
}

func (c *converter) body(p *part, piece []byte) {
	switch {
	case c.enc != nil:
		c.enc.write(piece)
	case p.leaf:
		c.out.Write(piece)
	default: // around the parts of a multipart: nobody is shown it
		for _, b := range piece {
			if b >= 0x80 {
				b = '?'
			}
			c.out.WriteByte(b)
		}
	}
}

func (c *converter) delimiter(line []byte) {
	c.flush()
	c.out.Write(line)
}

func (c *converter) end() {
	if b, ok := c.enc.(*base64Lines); ok && !c.w.nested() { // no boundary follows
		b.buf = append(b.buf, b.held...)
	}
	c.flush()
}

func (c *converter) flush() {
	if c.enc != nil {
		c.enc.close()
		c.enc = nil
	}
}
