package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// acceptAll takes connections until the listener is closed. It never waits for any of them.
func (t *Transport) acceptAll() {
	var pause time.Duration
	for {
		c, err := t.ln.AcceptTCP()
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most likely: it passes.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			t.opts.Logger.Warn("accept failed", "err", err, "retry_in", pause)
			select {
			case <-time.After(pause):
				continue
			case <-t.ctx.Done():
				return
			}
		}
		pause = 0
		leave, ok := t.gate.enter(addrPort(c).Addr())
		if !ok {
			c.Close()
			continue
		}
		if !t.start(func() { t.accept(c, leave) }) {
			leave()
			c.Close()
			return
		}
	}
}

func addrPort(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// accept brings one connection through the handshake and to whoever serves its protocol.
func (t *Transport) accept(tcp *net.TCPConn, leave func()) {
	l := &link{TCPConn: tcp}
	if !t.hold(l) {
		leave()
		l.Close()
		return
	}
	defer t.release(l)
	tune(tcp, t.opts.HandshakeTimeout)
	ctx, cancel := context.WithTimeout(t.ctx, t.opts.HandshakeTimeout)
	defer cancel()
	tc := tls.Server(l, t.tls)
	err := tc.HandshakeContext(ctx)
	leave()
	if err == nil {
		err = t.dispatch(tc, l)
	} else {
		l.Close()
	}
	if err != nil {
		t.opts.Logger.Debug("connection refused", "remote", l.RemoteAddr().String(), "err", err)
	}
}

// dispatch owns tc. It returns when the connection has been handed over or served.
func (t *Transport) dispatch(tc *tls.Conn, l *link) error {
	cs := tc.ConnectionState()
	p := Proto(cs.NegotiatedProtocol)
	key, err := remoteKey(cs)
	if err != nil {
		l.Close()
		return err
	}
	tune(l.TCPConn, protocols[p].stalled)
	if p == Pair {
		defer l.Close()
		return t.servePairing(tc, l, key)
	}
	peer := t.peerByKey(key)
	if peer == nil { // unpinned since the handshake
		l.Close()
		return ErrKey
	}
	c := &Conn{Conn: tc, link: l, t: t, peer: peer, proto: p}
	if st, err := t.admit(c); err != nil {
		t.refuse(tc, l, st)
		return err
	}
	if p == Call {
		if err := sendStatus(tc, welcome); err != nil {
			c.kill()
			return err
		}
		t.serveCalls(c)
		return nil
	}
	ln, st := t.reserve(p)
	if st != welcome {
		c.once.Do(c.forget)
		t.refuse(tc, l, st)
		return fmt.Errorf("transport: %s: %s", p, st)
	}
	if err := sendStatus(tc, welcome); err != nil {
		c.kill()
		ln.cancel()
		return err
	}
	ln.push(c)
	return nil
}

// sendStatus sends the first octet. Its deadline matters only if the peer has vanished.
func sendStatus(tc *tls.Conn, st status) error {
	tc.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := tc.Write([]byte{byte(st)}); err != nil {
		return err
	}
	return tc.SetDeadline(time.Time{})
}

func (t *Transport) refuse(tc *tls.Conn, l *link, st status) {
	defer l.Close()
	if st != 0 && sendStatus(tc, st) == nil {
		tc.Close()
	}
}
