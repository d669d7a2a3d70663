package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// ErrNoTLS says that no certificate is configured.
var ErrNoTLS = errors.New("wire: TLS is not configured")

// prefixed is a socket with bytes already read in front of it.
type prefixed struct {
	net.Conn
	pre []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.pre) > 0 {
		n := copy(b, p.pre)
		p.pre = p.pre[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// CanTLS reports whether StartTLS is possible now.
func (c *Conn) CanTLS() bool {
	return c.cfg.TLS != nil && c.tls == nil && c.comp == nil && !c.needTLS.Load()
}

// TLSState returns the TLS state; ok is false on a plain connection.
func (c *Conn) TLSState() (st tls.ConnectionState, ok bool) {
	if c.tls == nil {
		return st, false
	}
	return c.tls.ConnectionState(), true
}

// IsTLS reports whether the connection is encrypted.
func (c *Conn) IsTLS() bool { return c.tls != nil }

// prepare runs the handshake of implicit TLS before the first byte.
func (c *Conn) prepare() error {
	if !c.needTLS.Load() {
		return nil
	}
	c.needTLS.Store(false)
	// What is buffered followed a PROXY header and belongs to the handshake.
	pre := append([]byte(nil), c.buf[c.r:c.w]...)
	c.r, c.w = 0, 0
	c.release()
	return c.handshake(context.Background(), pre)
}

// Handshake runs the pending handshake of implicit TLS, which otherwise happens
// at the first read or write.
func (c *Conn) Handshake() error { return c.prepare() }

// StartTLS sends what is buffered (the answer to STARTTLS), drops plaintext
// that the client sent too early, so that nothing can be injected before the
// handshake (RFC 3207 §4.2), and runs the handshake.
func (c *Conn) StartTLS(ctx context.Context) error {
	if !c.CanTLS() {
		return ErrNoTLS
	}
	if err := c.Flush(); err != nil {
		return err
	}
	c.r, c.w, c.full = 0, 0, false
	c.release()
	return c.handshake(ctx, nil)
}

func (c *Conn) handshake(ctx context.Context, pre []byte) error {
	if c.cfg.TLS == nil {
		c.Abort(ReasonTLS)
		return ErrNoTLS
	}
	var under net.Conn = c.raw
	if len(pre) > 0 {
		under = &prefixed{Conn: c.raw, pre: pre}
	}
	t := tls.Server(under, &tls.Config{GetConfigForClient: c.cfg.TLS, MinVersion: tls.VersionTLS12})
	_ = c.raw.SetDeadline(time.Now().Add(c.cfg.Timeouts.orDefault().Handshake))
	c.wmu.Lock()
	c.reading = true
	c.wmu.Unlock()
	if err := t.HandshakeContext(ctx); err != nil {
		c.Abort(ReasonTLS + ": " + cause(err))
		return err
	}
	c.dmu.Lock()
	_ = c.raw.SetDeadline(time.Time{})
	c.dmu.Unlock()
	c.wmu.Lock()
	c.io, c.tls, c.reading = t, t, false
	c.wmu.Unlock()
	return nil
}
