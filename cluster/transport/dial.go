package transport

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// Dial connects to a pinned node. Its addresses are tried in order, each with its share of
// the time that is left; the one that worked last is tried first for a minute. The error
// wraps ErrUnreachable, or is the context's. The connection is a *Conn.
func (t *Transport) Dial(ctx context.Context, node string, p Proto) (net.Conn, error) {
	t.mu.Lock()
	peer := t.peers[node]
	var addrs []string
	if peer != nil {
		addrs = peer.order(sinceStart())
	}
	t.mu.Unlock()
	c, err := t.dialPeer(ctx, peer, node, addrs, p)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// DialAddr is Dial for one given address of the node, for one who watches each path.
func (t *Transport) DialAddr(ctx context.Context, node, addr string, p Proto) (net.Conn, error) {
	t.mu.Lock()
	peer := t.peers[node]
	t.mu.Unlock()
	c, err := t.dialPeer(ctx, peer, node, []string{addr}, p)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (t *Transport) dialPeer(ctx context.Context, peer *peer, node string, addrs []string, p Proto) (*Conn, error) {
	if peer == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownPeer, node)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%w: %s has no address", ErrUnreachable, node)
	}
	ctx, cancel := t.dialContext(ctx)
	defer cancel()
	var errs []error
	for i, addr := range addrs {
		one, stop := share(ctx, len(addrs)-i)
		c, err := t.dialOne(one, peer, addr, p)
		stop()
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
		if ctx.Err() != nil {
			break
		}
	}
	if t.ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, ErrClosed)
	}
	return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, node, errors.Join(errs...))
}

// dialContext ends with the transport, and after the default time at the latest if the
// caller gave none.
func (t *Transport) dialContext(ctx context.Context) (context.Context, context.CancelFunc) {
	var cancel context.CancelFunc
	if _, ok := ctx.Deadline(); ok {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithTimeout(ctx, t.opts.DialTimeout)
	}
	stop := context.AfterFunc(t.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// maxShare bounds the wait for an address when there are others.
const maxShare = 2 * time.Second

func share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	d, ok := ctx.Deadline()
	if left <= 1 || !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, min(time.Until(d)/time.Duration(left), maxShare))
}

func (t *Transport) dialOne(ctx context.Context, peer *peer, addr string, p Proto) (*Conn, error) {
	tc, l, err := t.connect(ctx, addr, p, func(key ed25519.PublicKey) error {
		if !sameKey(key, peer.key) {
			return ErrKey
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: tc, link: l, t: t, peer: peer, proto: p}
	if _, err := t.admit(c); err != nil {
		l.Close()
		return nil, err
	}
	t.mu.Lock()
	peer.worked, peer.workedAt = addr, sinceStart()
	t.mu.Unlock()
	return c, nil
}

// connect makes a connection whose other end has said welcome and whose key check accepts.
func (t *Transport) connect(ctx context.Context, addr string, p Proto, check func(ed25519.PublicKey) error) (*tls.Conn, *link, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	l := &link{TCPConn: nc.(*net.TCPConn)}
	tune(l.TCPConn, protocols[p].stalled)
	tc := tls.Client(l, t.clientTLS(p, check))
	if err := tc.HandshakeContext(ctx); err != nil {
		l.Close()
		return nil, nil, err
	}
	cut := context.AfterFunc(ctx, func() { l.Close() })
	var first [1]byte
	_, err = tc.Read(first[:])
	switch {
	case !cut():
		err = context.Cause(ctx)
	case err != nil:
		err = fmt.Errorf("refused: %w", err)
	case status(first[0]) != welcome:
		err = &refusal{status(first[0])}
	}
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	return tc, l, nil
}

// refusal is a first octet that is not a welcome.
type refusal struct{ status status }

func (r *refusal) Error() string { return r.status.String() }

// Stream is the raft.StreamLayer of this node: Dial gets a node's ID as address. Closing it
// leaves the transport open; a new one may be taken then.
func (t *Transport) Stream() raft.StreamLayer { return stream{t.Listen(Raft), t} }

type stream struct {
	net.Listener
	t *Transport
}

func (s stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.t.Dial(ctx, string(address), Raft)
}
