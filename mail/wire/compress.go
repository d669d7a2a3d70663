package wire

import (
	"net"

	"github.com/klauspost/compress/flate"
)

// deflated is a connection that is compressed both ways (RFC 4978). Each Write is a run of blocks of its
// own that ends at an octet, so that nothing is kept between two of them: an idle connection costs what
// its client has sent, 32 KiB at most (see inflater). Reading belongs to one goroutine, writing to another.
type deflated struct {
	net.Conn // what is below: the socket, or TLS
	f        inflater
	pre      []byte // compressed input that was read before compression began
	err      error
	busy     bool // the last read filled its buffer
	small    [smallBuf]byte
}

// Read decodes what has come, or waits for more. A deadline that passes meanwhile loses nothing.
func (d *deflated) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.f.read(p)
		if err != nil {
			d.err = err
		}
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		if len(d.f.in) == 0 {
			d.f.in = nil
		}
		if err := d.more(); err != nil {
			return 0, err
		}
	}
}

// more waits for compressed input. What the inflater has left of the last is a part of a header at most.
func (d *deflated) more() error {
	if len(d.pre) > 0 {
		d.f.in, d.pre = append(append([]byte(nil), d.f.in...), d.pre...), nil
		return nil
	}
	in := d.small[:]
	if d.busy { // more than a small piece is likely to be at hand
		big := bigPool.Get().(*[]byte)
		defer bigPool.Put(big)
		in = *big
	}
	n, err := d.Conn.Read(in)
	if n == 0 {
		return err
	}
	d.busy = n == len(in)
	d.f.in = append(d.f.in[:len(d.f.in):len(d.f.in)], in[:n]...)
	return nil
}

// Write compresses p and sends it. p is as long as the gate's writes are, 32 KiB at most.
func (d *deflated) Write(p []byte) (int, error) {
	b := outPool.Get().(*[]byte)
	w := sliceWriter{(*b)[:0]}
	err := flate.StatelessDeflate(&w, p, false, nil)
	if err == nil {
		_, err = d.Conn.Write(w.b)
	}
	if cap(w.b) <= 2*writeLimit {
		*b = w.b[:0]
		outPool.Put(b)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// Compressed tells whether StartCompression was called.
func (c *Conn) Compressed() bool { return c.comp != nil }

// StartCompression sends what is buffered (the answer to COMPRESS) and compresses from there on, both
// ways. What has been read already is taken as compressed. Once only, after TLS.
func (c *Conn) StartCompression() error {
	if err := c.Flush(); err != nil {
		return err
	}
	d := &deflated{Conn: c.io, pre: append([]byte(nil), c.buf[c.r:c.w]...)}
	c.r, c.w, c.full = 0, 0, false
	c.release()
	c.wmu.Lock()
	c.io, c.comp = d, d
	c.wmu.Unlock()
	return nil
}
