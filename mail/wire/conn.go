package wire

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Reasons why a connection ended, as CloseReason reports them.
const (
	ReasonClient   = "closed by client"
	ReasonServer   = "closed by server"
	ReasonIdle     = "idle timeout"
	ReasonCommand  = "command timeout"
	ReasonData     = "data timeout"
	ReasonWrite    = "write failed"
	ReasonTLS      = "TLS handshake failed"
	ReasonShutdown = "server shutdown"
	ReasonProtocol = "protocol error"
)

// flushOnClose is how long Close waits for the last answer to leave.
const flushOnClose = 2 * time.Second

// Conn is an accepted connection. Reading methods belong to one goroutine;
// Write, Flush, Close and the deadlines may be used from any.
type Conn struct {
	raw  net.Conn // the accepted socket
	io   net.Conn // raw, or TLS over raw; changed under wmu
	tls  *tls.Conn
	comp *deflated // above io's TLS or socket, once compression has begun
	cfg  *Config
	id   string
	log  *slog.Logger

	remote atomic.Pointer[net.TCPAddr] // PROXY or XCLIENT override
	local  atomic.Pointer[net.TCPAddr]
	start  time.Time

	// Input: buf[r:w] is read but not consumed.
	buf   []byte
	r, w  int
	big   *[]byte // pooled buffer behind buf, nil while small is in use
	full  bool    // the last read filled the buffer: more may wait
	eof   error   // sticky read error
	long  *overlong
	small [smallBuf]byte
	lit   Literal
	clock progress

	dmu      sync.Mutex
	userRead time.Time // from SetReadDeadline
	ownRead  time.Time // from the phase of the protocol
	wake     bool      // WaitReadable's context ended

	wmu     sync.Mutex
	out     *[]byte
	blocked bool // the reader waits: writes leave at once
	idle    bool // … between two commands
	reading bool // a read is under way: nothing lies unread
	bye     []byte
	werr    error

	cmu     sync.Mutex
	cancels []*context.CancelFunc // of Context
	gone    bool                  // closed: contexts end at once

	in, sent  atomic.Int64
	traceIn   atomic.Int32
	traceOut  atomic.Int32
	traceLit  int64 // octets of a literal of the output that the transcript still waits for; wmu is held
	closed    atomic.Bool
	reason    atomic.Pointer[string]
	done      chan struct{}
	needTLS   atomic.Bool // implicit TLS, handshake still to come
	onClose   func()
	recount   func(netip.Addr) Refusal // counts it as another client's; nil: nothing is counted
	closeOnce sync.Once
}

var idState = func() *atomic.Uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	s := new(atomic.Uint64)
	s.Store(binary.LittleEndian.Uint64(b[:]))
	return s
}()

// newID returns eight characters, unique within 2^40 connections of a process
// and started at random, so that two runs hardly ever share one.
func newID() string {
	const digits = "0123456789abcdefghjkmnpqrstvwxyz"
	// An odd multiplier is a bijection modulo 2^40; neighbours look unlike.
	n := idState.Add(1) * 0x9E3779B97F4A7C15
	n = (n ^ n>>19) & (1<<40 - 1)
	n = n * 0x2545F4914F6CDD1D & (1<<40 - 1)
	var b [8]byte
	for i := range b {
		b[i] = digits[n&31]
		n >>= 5
	}
	return string(b[:])
}

// NewConn puts the gate over an accepted connection. The configuration is
// shared and not copied. Listener calls it; so may tests and internal hand-over.
func NewConn(raw net.Conn, cfg *Config) *Conn {
	c := &Conn{raw: raw, io: raw, cfg: cfg, id: newID(), start: time.Now(), done: make(chan struct{})}
	c.log = cfg.log()
	c.needTLS.Store(cfg.ImplicitTLS)
	c.buf = c.small[:]
	return c
}

// ID returns the short unique name of the connection for log lines.
func (c *Conn) ID() string { return c.id }

// Started returns when the connection was accepted.
func (c *Conn) Started() time.Time { return c.start }

// Log returns the logger of the listener.
func (c *Conn) Log() *slog.Logger { return c.log }

// BytesIn returns how many bytes were read, after decryption.
func (c *Conn) BytesIn() int64 { return c.in.Load() }

// BytesOut returns how many bytes were written, before encryption.
func (c *Conn) BytesOut() int64 { return c.sent.Load() }

// LocalAddr returns the address the client connected to, as PROXY tells it.
func (c *Conn) LocalAddr() net.Addr {
	if a := c.local.Load(); a != nil {
		return a
	}
	return c.raw.LocalAddr()
}

// RemoteAddr returns the client's address, as PROXY or XCLIENT tell it.
func (c *Conn) RemoteAddr() net.Addr {
	if a := c.remote.Load(); a != nil {
		return a
	}
	return c.raw.RemoteAddr()
}

// PeerAddr returns the address of the socket's other end, never overridden.
func (c *Conn) PeerAddr() net.Addr { return c.raw.RemoteAddr() }

// RemoteIP returns the client's address without port, zone and IPv4 mapping;
// the zero Addr if the network has none (Unix sockets).
func (c *Conn) RemoteIP() netip.Addr { return addrIP(c.RemoteAddr()) }

// SetRemoteAddr overrides the client's address.
func (c *Conn) SetRemoteAddr(a netip.AddrPort) { c.remote.Store(net.TCPAddrFromAddrPort(a)) }

// SetLocalAddr overrides the address the client connected to.
func (c *Conn) SetLocalAddr(a netip.AddrPort) { c.local.Store(net.TCPAddrFromAddrPort(a)) }

// Done is closed when the connection is.
func (c *Conn) Done() <-chan struct{} { return c.done }

// CloseReason says why the connection ended; empty while it is open.
func (c *Conn) CloseReason() string {
	if p := c.reason.Load(); p != nil {
		return *p
	}
	return ""
}

// setReason keeps the first reason: what follows is its consequence.
func (c *Conn) setReason(why string) { c.reason.CompareAndSwap(nil, &why) }

// Close sends what is buffered, waiting at most two seconds, and closes.
func (c *Conn) Close() error { return c.CloseWith(ReasonServer) }

// CloseWith is Close with a reason for CloseReason.
func (c *Conn) CloseWith(why string) error {
	c.setReason(why)
	err := net.ErrClosed
	c.closeOnce.Do(func() {
		// The deadline sets free a writer that is stuck with wmu held.
		c.closed.Store(true)
		_ = c.raw.SetWriteDeadline(time.Now().Add(flushOnClose))
		c.wmu.Lock()
		_ = c.flushLocked(flushOnClose)
		if c.tls != nil && c.werr == nil {
			_ = c.tls.CloseWrite()
		}
		reading := c.reading
		c.wmu.Unlock()
		if !reading {
			c.drain()
		}
		err = c.finish()
	})
	return err
}

// Abort closes at once and drops what is buffered.
func (c *Conn) Abort(why string) {
	c.setReason(why)
	c.closeOnce.Do(func() {
		c.closed.Store(true)
		_ = c.finish()
	})
}

func (c *Conn) finish() error {
	err := c.raw.Close()
	close(c.done)
	c.cancelContexts()
	if c.onClose != nil {
		c.onClose()
	}
	return err
}

// drain reads away what the client sent and nobody read, without waiting:
// closing a socket with unread input makes the kernel send a reset, which may
// overtake the last answer.
func (c *Conn) drain() {
	if cw, ok := c.raw.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
	}
	scrap := bigPool.Get().(*[]byte)
	defer bigPool.Put(scrap)
	for range 64 {
		if n, ok := readNow(c.raw, (*scrap)[:4096], false); !ok || n <= 0 {
			return
		}
	}
}

// Goodbye sends text and closes as soon as the client is between two commands:
// now, if the reader waits for a command, otherwise when it next would.
func (c *Conn) Goodbye(text []byte) {
	c.wmu.Lock()
	if !c.idle {
		c.bye = text
		if c.bye == nil {
			c.bye = []byte{}
		}
		c.wmu.Unlock()
		return
	}
	c.appendLocked(text)
	c.wmu.Unlock()
	_ = c.CloseWith(ReasonShutdown)
}

// SetDeadline sets both deadlines on top of the gate's own.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline limits reading on top of the gate's own deadlines: the
// earlier one counts. The zero time removes it.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.dmu.Lock()
	defer c.dmu.Unlock()
	c.userRead = t
	return c.raw.SetReadDeadline(earlier(t, c.ownRead))
}

// SetWriteDeadline is accepted for net.Conn's sake; writes are limited by
// Timeouts.Write.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// Context returns a context that ends with the connection. It needs no goroutine: thousands of
// connections wait, and a stack for each of them would be most of what they take.
func (c *Conn) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	own := &cancel
	c.cmu.Lock()
	c.cancels = append(c.cancels, own)
	gone := c.gone
	c.cmu.Unlock()
	if gone {
		cancel()
	}
	return ctx, func() {
		c.cmu.Lock()
		if i := slices.Index(c.cancels, own); i >= 0 {
			c.cancels = slices.Delete(c.cancels, i, i+1)
		}
		c.cmu.Unlock()
		cancel()
	}
}

// cancelContexts ends the contexts of a connection that is closed.
func (c *Conn) cancelContexts() {
	c.cmu.Lock()
	all := c.cancels
	c.cancels, c.gone = nil, true
	c.cmu.Unlock()
	for _, cancel := range all {
		(*cancel)()
	}
}

// addrIP returns the IP of a socket address in its canonical form.
func addrIP(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	if a != nil {
		if ap, err := netip.ParseAddrPort(a.String()); err == nil {
			return ap.Addr().Unmap().WithZone("")
		}
	}
	return netip.Addr{}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
