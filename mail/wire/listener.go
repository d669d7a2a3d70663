package wire

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mailplusd/mail/tally"
)

// Protocol is what differs between SMTP, IMAP and POP3 at this level.
type Protocol interface {
	// Name is the protocol in log lines: smtp, imap, pop3.
	Name() string
	// Refuse is the text for a client that is not served.
	Refuse(Refusal) []byte
	// Bye is the text for a client when the server stops.
	Bye() []byte
	// Wrap makes what Accept returns.
	Wrap(*Conn) net.Conn
}

// maxPending bounds the connections whose PROXY header is being read.
const maxPending = 256

// Listener accepts connections, puts the gate over them and keeps count.
type Listener struct {
	cfg   Config
	proto Protocol
	lim   *limiter
	ready chan net.Conn
	pend  chan struct{}
	done  chan struct{}

	paused atomic.Bool
	ending atomic.Bool // Shutdown is under way

	opening chan struct{} // sessions on their way to another machine

	mu    sync.Mutex
	ln    net.Listener
	conns map[*Conn]struct{}
	away  map[*away]struct{}
	empty chan struct{} // closed when the last connection left after Close
	wg    sync.WaitGroup
}

// Listen opens a listener on a network address.
func Listen(network, addr string, cfg Config) (*Listener, error) {
	ln, err := listen(network, addr)
	if err != nil {
		return nil, err
	}
	return NewListener(ln, cfg), nil
}

// listen opens a plain TCP socket: at one for Multipath TCP, which is Go's default, the kernel takes
// no filter, as new connections are held off with.
func listen(network, addr string) (net.Listener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	return c.Listen(context.Background(), network, addr)
}

// NewListener puts the gate over an open listener, of socket activation for
// instance, and starts accepting.
func NewListener(ln net.Listener, cfg Config) *Listener {
	l := &Listener{cfg: cfg, proto: cfg.Protocol, lim: newLimiter(cfg.Limits, cfg.Clients), ln: ln,
		ready: make(chan net.Conn), pend: make(chan struct{}, maxPending),
		done: make(chan struct{}), conns: make(map[*Conn]struct{}),
		opening: make(chan struct{}, maxOpening), away: make(map[*away]struct{})}
	if l.proto == nil {
		l.proto = Plain{}
	}
	l.cfg.Timeouts = cfg.Timeouts.orDefault()
	l.wg.Add(1)
	go l.loop(ln)
	return l
}

// Accept returns the next connection: *SMTPConn for SMTP, *Conn otherwise.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Addr returns the address in use.
func (l *Listener) Addr() net.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ln.Addr()
}

// SetLimits changes the limits for connections to come.
func (l *Listener) SetLimits(lim Limits) { l.lim.set(lim) }

// Pause refuses new connections with a word that tells clients to try again, or takes them again.
func (l *Listener) Pause(on bool) { l.paused.Store(on) }

// Drop ends the connections that came to one of this machine's addresses, telling the
// clients: the address is going to another machine, where they can connect again.
func (l *Listener) Drop(local netip.Addr) {
	for _, c := range l.Conns() {
		if addrIP(c.raw.LocalAddr()) == local {
			c.Goodbye(l.proto.Bye())
		}
	}
	l.cutAway(func(a *away) bool { return a.local == local })
}

// Leave ends the connections to a local address before it goes to another machine, each between
// two of its commands, and returns when those that there are now have gone or ctx ends.
// After the address has gone no client would hear of it: it would wait for its answer.
func (l *Listener) Leave(ctx context.Context, local netip.Addr) {
	var ours []*Conn
	for _, c := range l.Conns() {
		if addrIP(c.raw.LocalAddr()) == local {
			ours = append(ours, c)
			go c.Goodbye(l.proto.Bye())
		}
	}
	for _, c := range ours {
		select {
		case <-c.done:
		case <-ctx.Done():
			return
		}
	}
}

// Socket gives what the listener listens on, nil if it is no socket.
func (l *Listener) Socket() syscall.RawConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sc, ok := l.ln.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// Cut ends the connections to a local address at once.
func (l *Listener) Cut(local netip.Addr) {
	for _, c := range l.Conns() {
		if addrIP(c.raw.LocalAddr()) == local {
			c.Abort(ReasonShutdown)
		}
	}
	l.cutAway(func(a *away) bool { return a.local == local })
}

// Len returns the number of open connections that are served here.
func (l *Listener) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// Conns returns the open connections.
func (l *Listener) Conns() []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*Conn, 0, len(l.conns))
	for c := range l.conns {
		all = append(all, c)
	}
	return all
}

// Rebind moves to another address; open connections stay. The old address is
// kept until the new one is open. Where both can't be open together (same port,
// wildcard against one address), the old one is closed first and opened again if
// the new one fails.
func (l *Listener) Rebind(addr string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
		return net.ErrClosed
	default:
	}
	old := l.ln
	network, oldAddr := old.Addr().Network(), old.Addr().String()
	if addr == oldAddr {
		return nil
	}
	ln, err := listen(network, addr)
	if err != nil {
		_, p1, _ := net.SplitHostPort(addr)
		_, p2, _ := net.SplitHostPort(oldAddr)
		if p1 != p2 {
			return err
		}
		_ = old.Close()
		if ln, err = listen(network, addr); err != nil {
			back, err2 := listen(network, oldAddr)
			if err2 != nil {
				return errors.Join(err, err2)
			}
			l.ln = back
			l.wg.Add(1)
			go l.loop(back)
			return err
		}
	}
	l.ln = ln
	l.wg.Add(1)
	go l.loop(ln)
	_ = old.Close()
	return nil
}

// Close stops accepting. Open connections stay.
func (l *Listener) Close() error {
	l.mu.Lock()
	select {
	case <-l.done:
		l.mu.Unlock()
		return net.ErrClosed
	default:
	}
	close(l.done)
	err := l.ln.Close()
	l.mu.Unlock()
	l.wg.Wait()
	return err
}

// Shutdown stops accepting, says goodbye to each client between two of its
// commands and waits until all have gone. When the context ends first, the rest
// are cut off and its error returned.
func (l *Listener) Shutdown(ctx context.Context) error {
	l.ending.Store(true)
	_ = l.Close()
	l.mu.Lock()
	if l.empty == nil {
		l.empty = make(chan struct{})
	}
	empty := l.empty
	l.settle()
	l.mu.Unlock()
	l.cutAway(nil)
	bye := l.proto.Bye()
	for _, c := range l.Conns() {
		go c.Goodbye(bye)
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		for _, c := range l.Conns() {
			c.Abort(ReasonShutdown)
		}
		return ctx.Err()
	}
}

func (l *Listener) loop(ln net.Listener) {
	defer l.wg.Done()
	delay := time.Duration(0)
	for {
		raw, err := ln.Accept()
		if err == nil {
			delay = 0
			l.admit(raw)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		// Out of file descriptors and the like: wait, then try again.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		l.cfg.log().Warn("accept failed", "protocol", l.proto.Name(), "error", cause(err), "retry", delay)
		select {
		case <-time.After(delay):
		case <-l.done:
			return
		}
	}
}

// admit passes a connection on, after its PROXY header if one may come.
func (l *Listener) admit(raw net.Conn) {
	c := NewConn(raw, &l.cfg)
	if !c.proxyComes() { // a flood of proxies that say nothing holds up nobody else
		l.count(c)
		return
	}
	select {
	case l.pend <- struct{}{}:
	default:
		c.Abort("too many pending connections")
		return
	}
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		defer func() { <-l.pend }()
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case <-l.done:
				c.Abort(ReasonShutdown)
			case <-stop:
			}
		}()
		_ = c.SetReadDeadline(time.Now().Add(l.cfg.Timeouts.Proxy))
		if err := c.readProxy(); err != nil {
			l.cfg.log().Info("connection refused", "conn", c.id, "protocol", l.proto.Name(),
				"peer", raw.RemoteAddr().String(), "reason", cause(err))
			c.Abort(ReasonProtocol)
			return
		}
		_ = c.SetReadDeadline(time.Time{})
		l.count(c)
	}()
}

// count applies the limits and hands the connection to Accept.
func (l *Listener) count(c *Conn) {
	ip := c.RemoteIP()
	place, why := tally.Place{}, RefusedPaused
	if !l.paused.Load() {
		place, why = l.lim.enter(ip, time.Now())
	}
	if why != Accepted {
		l.cfg.log().LogAttrs(context.Background(), slog.LevelInfo, "connection refused", slog.String("conn", c.id),
			slog.String("protocol", l.proto.Name()), slog.String("remote", ip.String()), slog.String("reason", why.String()))
		l.refuse(c, why)
		return
	}
	if !l.steer(c, place) {
		l.enter(c, place)
	}
}

// enter hands a counted connection to Accept; false: the listener is closed.
func (l *Listener) enter(c *Conn, place tally.Place) bool {
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	st := &seat{place: place}
	c.onClose = func() { l.gone(c, st) }
	c.recount = func(ip netip.Addr) Refusal { return l.lim.move(st, ip, time.Now()) }
	w := l.proto.Wrap(c)
	select {
	case l.ready <- w:
		return true
	case <-l.done:
		c.Abort(ReasonShutdown)
		return false
	}
}

// refuse tells a client that it is not served. The few bytes fit into an empty
// socket buffer, so this never waits. Before a TLS handshake there is no way to
// tell.
func (l *Listener) refuse(c *Conn, why Refusal) {
	if !c.needTLS.Load() {
		_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.raw.Write(l.proto.Refuse(why))
		c.drain()
	}
	c.Abort(why.String())
}

func (l *Listener) gone(c *Conn, st *seat) {
	l.lim.stand(st)
	l.mu.Lock()
	delete(l.conns, c)
	l.settle()
	l.mu.Unlock()
	if l.cfg.OnClose != nil {
		l.cfg.OnClose(c)
	}
}
