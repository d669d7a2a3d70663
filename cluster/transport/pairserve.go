package transport

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"
)

// servePairing is the accepting side, for a connection whose key nobody has pinned.
func (t *Transport) servePairing(tc *tls.Conn, l *link, key ed25519.PublicKey) error {
	conf := t.pairing.get()
	if !conf.complete() || !t.pairing.invite.open() {
		t.refuse(tc, l, pairingClosed)
		return errors.New("transport: pairing is not open")
	}
	select {
	case t.pairing.places <- struct{}{}:
		defer func() { <-t.pairing.places }()
	default:
		t.refuse(tc, l, tooMany)
		return errors.New("transport: too many pairings")
	}
	ctx, cancel := context.WithTimeout(t.ctx, pairTime)
	defer cancel()
	if err := sendStatus(tc, welcome); err != nil {
		return err
	}
	if err := tc.SetDeadline(time.Now().Add(pairTime)); err != nil {
		return err
	}
	c, err := newPairConn(tc, l)
	if err != nil {
		return err
	}
	if err := t.pairAccept(ctx, c, conf); err != nil {
		t.opts.Logger.Info("pairing failed", "remote", c.addr.String(), "err", err)
		return err
	}
	return nil
}

func (t *Transport) pairAccept(ctx context.Context, c *pairConn, conf Pairing) error {
	m, err := c.receive()
	if err != nil {
		return err
	}
	var ok pairMsg
	var finish func(paired, acknowledged bool)
	if ok.Proof, finish, err = t.checkToken(ctx, c, m); err != nil {
		return c.refuse(err)
	}
	paired, acknowledged := false, false
	defer func() { finish(paired, acknowledged) }()
	ok.OK = true
	if err := c.send(ok); err != nil {
		return err
	}
	s, err := c.answerClocks(t.opts.clock)
	if err != nil {
		return err
	}
	hello, err := c.receive()
	if err != nil {
		return err
	}
	h, err := parseHello(hello.Hello)
	if err != nil {
		return c.refuse(err)
	}
	r := c.result(h, s)
	if conf.Check != nil {
		if err := conf.Check(ctx, r); err != nil {
			return c.refuse(err)
		}
	}
	own, err := t.ownHello(conf)
	if err != nil {
		return c.refuse(err)
	}
	if err := c.send(pairMsg{Hello: own}); err != nil {
		return err
	}
	if m, err := c.receive(); err != nil || !m.OK {
		return fmt.Errorf("transport: the other side doesn't go on: %w", cmp.Or(err, io.ErrUnexpectedEOF))
	}
	if err := conf.Paired(ctx, r); err != nil {
		return c.refuse(err)
	}
	paired = true
	if err := c.send(pairMsg{OK: true}); err != nil {
		return err
	}
	m, err = c.receive()
	acknowledged = err == nil && m.OK
	return nil
}

// busyTime is how long an attempt waits for the one before: whoever was refused, or gave up, and comes
// again at once may be quicker than this node, which has still to note the end of it.
const busyTime = 2 * time.Second

// checkToken proves to the other side, in turn, that this node made the token.
func (t *Transport) checkToken(ctx context.Context, c *pairConn, m pairMsg) (answer []byte, finish func(paired, acknowledged bool), err error) {
	mine := t.PublicKey()
	right := func(secret []byte) bool {
		return subtle.ConstantTimeCompare(m.Proof, proof(secret, c.channel, "dial", c.remote, mine)) == 1
	}
	ctx, cancel := context.WithTimeout(ctx, busyTime)
	defer cancel()
	for {
		secret, finish, err := t.pairing.invite.claim(c.remote, right)
		if err == nil {
			return proof(secret, c.channel, "accept", c.remote, mine), finish, nil
		}
		if !errors.Is(err, errBusy) {
			return nil, nil, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
