package remote

import (
	"bytes"
	"io"
	"sync"
)

var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// normalizer writes lines that end in CRLF and nothing else: a lone CR or LF in a message would
// let it be read as two by a careless server. With stuff, lines that begin with a dot get
// another (RFC 5321 §4.5.2).
type normalizer struct {
	w     io.Writer
	stuff bool
	inner bool // in the middle of a line
	cr    bool // the last octet was a CR, not written yet
	err   error
}

var crlf = []byte("\r\n")

func (n *normalizer) put(p []byte) {
	if n.err == nil {
		_, n.err = n.w.Write(p)
	}
}

func (n *normalizer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && n.err == nil {
		if n.cr {
			n.cr = false
			n.newline()
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		if n.stuff && !n.inner && p[0] == '.' {
			n.put(p[:1])
		}
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			n.put(p)
			n.inner = true
			break
		}
		if i > 0 {
			n.inner = true
		}
		if p[i] == '\r' && i+1 < len(p) && p[i+1] == '\n' { // the usual case, in one go
			n.put(p[:i+2])
			n.inner = false
			p = p[i+2:]
			continue
		}
		n.put(p[:i])
		if p[i] == '\r' {
			n.cr = true
		} else {
			n.newline()
		}
		p = p[i+1:]
	}
	return total, n.err
}

func (n *normalizer) newline() {
	n.put(crlf)
	n.inner = false
}

// end finishes the last line.
func (n *normalizer) end() error {
	if n.cr || n.inner {
		n.cr = false
		n.newline()
	}
	return n.err
}
