package transport

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
)

// Transport is this node's end of the link.
type Transport struct {
	opts   Options
	ln     *net.TCPListener
	tls    *tls.Config // accepting
	gate   *gate
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	peers     map[string]*peer
	byKey     map[string]*peer
	listeners map[Proto]*listener
	fresh     map[net.Conn]struct{} // connections before or without a peer

	handlers handlers
	pairing  pairings
}

// Open listens. No peer is pinned until SetPeers. Close it.
func Open(o Options) (*Transport, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	t := &Transport{
		opts: o, ln: ln.(*net.TCPListener), gate: newGate(o.Handshakes),
		peers: map[string]*peer{}, byKey: map[string]*peer{},
		listeners: map[Proto]*listener{}, fresh: map[net.Conn]struct{}{},
	}
	t.handlers.init()
	t.pairing.init(o.Pairing)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.tls = t.serverTLS()
	t.start(t.acceptAll)
	return t, nil
}

// ID is this node's name.
func (t *Transport) ID() string { return t.opts.ID }

// PublicKey is this node's key, which its peers pin.
func (t *Transport) PublicKey() ed25519.PublicKey { return t.opts.Identity.PublicKey() }

// Addr is where the transport listens.
func (t *Transport) Addr() net.Addr { return t.ln.Addr() }

// start runs f in a goroutine that Close waits for; false after Close.
func (t *Transport) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(f)
	return true
}

// Close cuts all connections, ends all listeners and calls, and waits for the handlers,
// whose context has ended. A handler must not call it.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		t.wg.Wait()
		return nil
	}
	t.closed = true
	var cut []*Conn
	for _, p := range t.peers {
		for c := range p.conns {
			cut = append(cut, c)
		}
	}
	fresh, ls := t.fresh, t.listeners
	t.fresh, t.listeners = nil, map[Proto]*listener{}
	t.mu.Unlock()
	t.cancel()
	err := t.ln.Close()
	for c := range fresh {
		c.Close()
	}
	for _, l := range ls {
		l.shut()
	}
	for _, c := range cut {
		c.kill()
	}
	t.wg.Wait()
	return err
}

// hold remembers a connection that has no peer yet, so that Close can cut it.
func (t *Transport) hold(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.fresh[c] = struct{}{}
	return true
}

func (t *Transport) release(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.fresh, c)
}
