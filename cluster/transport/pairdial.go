package transport

import (
	"context"
	"crypto/ed25519"
	"crypto/subtle"
	"errors"
	"fmt"
)

// Credential is the right to pair with a node: a token that its administrator has made there
// (Invite). It also tells the node's key.
type Credential struct{ Token string }

// Pair pairs with the node at addr, host:port. Options.Pairing.Hello is needed, Check is
// asked. On success the other side has stored and pinned this node; the caller stores the
// result and pins it, too. Errors: ErrUnreachable, ErrKey (the node at addr is not the one
// meant; it has learnt nothing), ErrToken, ErrPairRefused with the reason, ErrPairUncertain.
func (t *Transport) Pair(ctx context.Context, addr string, cred Credential) (PairResult, error) {
	conf := t.pairing.get()
	if conf.Hello == nil {
		return PairResult{}, errors.New("transport: this node has no hello")
	}
	k, err := parseToken(cred.Token)
	if err != nil {
		return PairResult{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, pairTime)
	defer cancel()
	stop := context.AfterFunc(t.ctx, cancel)
	defer stop()
	c, done, err := t.pairConnect(ctx, addr, t.expected(k))
	if err != nil {
		return PairResult{}, err
	}
	defer done()
	return t.pairWith(ctx, c, conf, k)
}

// expected gives the test for the other node's key.
func (t *Transport) expected(k token) func(ed25519.PublicKey) error {
	return func(key ed25519.PublicKey) error {
		switch {
		case sameKey(key, t.PublicKey()):
			return ErrSelf
		case subtle.ConstantTimeCompare(keyHash(key)[:tokenHash], k.hash) != 1:
			return ErrKey
		}
		return nil
	}
}

// pairConnect gives a channel to a node that check accepts. done ends it.
func (t *Transport) pairConnect(ctx context.Context, addr string, check func(ed25519.PublicKey) error) (c *pairConn, done func(), err error) {
	tc, l, err := t.connect(ctx, addr, Pair, check)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, addr, err)
	}
	if c, err = newPairConn(tc, l); err != nil {
		l.Close()
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	return c, func() { stop(); l.Close() }, nil
}

// pairWith is the dialling side of the exchange.
func (t *Transport) pairWith(ctx context.Context, c *pairConn, conf Pairing, k token) (PairResult, error) {
	var none PairResult
	first, answer := t.credentials(c, k)
	if err := c.send(first); err != nil {
		return none, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	m, err := c.receive()
	if err != nil {
		return none, refusedOr(err)
	}
	if subtle.ConstantTimeCompare(m.Proof, answer) != 1 {
		return none, fmt.Errorf("%w: it doesn't know the token", ErrKey)
	}
	s, err := c.compareClocks(t.opts.clock)
	if err != nil {
		return none, refusedOr(err)
	}
	own, err := t.ownHello(conf)
	if err != nil {
		return none, c.refuse(err)
	}
	if err := c.send(pairMsg{Hello: own}); err != nil {
		return none, refusedOr(err)
	}
	if m, err = c.receive(); err != nil {
		return none, refusedOr(err)
	}
	h, err := parseHello(m.Hello)
	if err != nil {
		return none, c.refuse(err)
	}
	r := c.result(h, s)
	if conf.Check != nil {
		if err := conf.Check(ctx, r); err != nil {
			return none, c.refuse(err)
		}
	}
	// From here on the other side may pin this node.
	if err := c.send(pairMsg{OK: true}); err != nil {
		return none, fmt.Errorf("%w: %w", ErrPairUncertain, err)
	}
	m, err = c.receive()
	var remote *RemoteError
	switch {
	case errors.As(err, &remote):
		return none, refusedOr(err)
	case err != nil || !m.OK:
		return none, fmt.Errorf("%w: %w", ErrPairUncertain, errors.Join(err, context.Cause(ctx)))
	}
	// Whether the token is void now or only bound to this node makes no difference here.
	_ = c.send(pairMsg{OK: true})
	_ = c.tls.CloseWrite()
	return r, nil
}

// credentials makes the first message, and the proof that has to come back for it.
func (t *Transport) credentials(c *pairConn, k token) (first pairMsg, answer []byte) {
	mine := t.PublicKey()
	return pairMsg{Proof: proof(k.secret, c.channel, "dial", mine, c.remote)}, proof(k.secret, c.channel, "accept", mine, c.remote)
}

// refusedOr tells a refusal from a broken connection before anything was agreed.
func refusedOr(err error) error {
	var remote *RemoteError
	if errors.As(err, &remote) {
		return fmt.Errorf("%w: %w", ErrPairRefused, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
