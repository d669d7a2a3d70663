package wire

import (
	"net"
	"net/netip"
	"sync"

	"mailplusd/mail/tally"
)

// Steerer decides which sessions are served by another machine, and brings them there.
type Steerer interface {
	// Choose tells whether the session of a client is to be served elsewhere. It must not wait.
	Choose(client netip.Addr) bool
	// Open reaches the other machine; it may wait a little. With an error the session is
	// served here: nothing has been read from the client or written to it.
	Open(h Handover) (Relay, error)
}

// Relay copies between client and the other machine until either has gone and closes both
// ends. Closing the client's end ends it.
type Relay func()

// Handover is a connection that the listener has accepted and counted.
type Handover struct {
	Conn   net.Conn
	Early  []byte         // came behind a PROXY header and belongs in front
	Client netip.AddrPort // address of the client, as PROXY tells it
	Local  netip.AddrPort // address it connected to
}

// away is a connection whose session is served elsewhere.
type away struct {
	raw   net.Conn
	local netip.Addr
	once  sync.Once
}

func (a *away) cut() { a.once.Do(func() { _ = a.raw.Close() }) }

// maxOpening bounds the sessions on their way to the other machine; more are served here.
// Each costs a handshake: with many at a time all would be late.
const maxOpening = 64

// steer gives a counted connection away if it is to be served elsewhere; false: it is
// still the listener's. The accept loop doesn't wait for the other machine.
func (l *Listener) steer(c *Conn, place tally.Place) bool {
	s := l.cfg.Steer
	if s == nil || !s.Choose(c.RemoteIP()) {
		return false
	}
	select {
	case l.opening <- struct{}{}:
	default:
		return false
	}
	// From here on, so that a client whose session is on its way when the address goes is not left
	// waiting for a greeting that can't reach it.
	a := &away{raw: c.raw, local: addrIP(c.LocalAddr())}
	l.mu.Lock()
	l.away[a] = struct{}{}
	l.mu.Unlock()
	l.wg.Add(1)
	go func() {
		relay, err := s.Open(Handover{
			Conn: c.raw, Early: append([]byte(nil), c.buf[c.r:c.w]...),
			Client: addrPort(c.RemoteAddr()), Local: addrPort(c.LocalAddr()),
		})
		<-l.opening
		if err != nil {
			l.cfg.log().Debug("session not handed over", "conn", c.id, "protocol", l.proto.Name(), "err", err)
			l.enter(c, place) // if it was cut meanwhile, it ends with its first octet
			l.mu.Lock()
			delete(l.away, a)
			l.settle()
			l.mu.Unlock()
			l.wg.Done()
			return
		}
		c.release()
		c = nil
		l.wg.Done()
		if l.ending.Load() { // Shutdown may have looked before it was there
			a.cut()
		}
		relay()
		l.back(a, place)
	}()
	return true
}

func (l *Listener) back(a *away, place tally.Place) {
	l.lim.leave(place)
	l.mu.Lock()
	delete(l.away, a)
	l.settle()
	l.mu.Unlock()
}

// settle tells Shutdown when the last connection has gone. l.mu is held.
func (l *Listener) settle() {
	if l.empty != nil && len(l.conns) == 0 && len(l.away) == 0 {
		close(l.empty)
		l.empty = nil
	}
}

// cutAway ends the sessions served elsewhere that cond picks. Nothing can be said to their
// clients: what is spoken there is not known here, and may be encrypted.
func (l *Listener) cutAway(cond func(*away) bool) {
	l.mu.Lock()
	var cut []*away
	for a := range l.away {
		if cond == nil || cond(a) {
			cut = append(cut, a)
		}
	}
	l.mu.Unlock()
	for _, a := range cut {
		a.cut()
	}
}

// Away returns the number of connections that came to this listener and are served elsewhere.
func (l *Listener) Away() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.away)
}

// Inject takes in a connection that another machine has accepted and counted. Its
// addresses are the client's: everything here takes it for the client itself. It counts
// against the limits and is never refused by them, and it is not handed on. A listener that
// is closed closes it and returns net.ErrClosed.
func (l *Listener) Inject(raw net.Conn) error {
	c := NewConn(raw, &l.cfg)
	place := l.lim.add(c.RemoteIP())
	if !l.enter(c, place) {
		return net.ErrClosed
	}
	return nil
}

// Accepting tells whether Inject is of any use: the listener is neither closed nor paused.
func (l *Listener) Accepting() bool {
	select {
	case <-l.done:
		return false
	default:
		return !l.paused.Load()
	}
}

// addrPort returns a socket address in its canonical form.
func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	return netip.AddrPort{}
}
