package clustertest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Network connects endpoints in memory.
type Network struct {
	mu    sync.Mutex
	ends  map[string]*Endpoint
	conns map[*link]struct{}
	cut   map[[2]string]bool // pairs in both orders

	handlers map[string]Handler // of calls
}

// NewNetwork makes a network in which everybody reaches everybody.
func NewNetwork() *Network {
	return &Network{ends: map[string]*Endpoint{}, conns: map[*link]struct{}{}, cut: map[[2]string]bool{}, handlers: map[string]Handler{}}
}

// Endpoint is one node's raft.StreamLayer.
type Endpoint struct {
	net    *Network
	id     string
	accept chan net.Conn
	done   chan struct{}
	once   sync.Once
}

var _ raft.StreamLayer = (*Endpoint)(nil)

// Endpoint makes the end for id, in place of an earlier one that was closed.
func (n *Network) Endpoint(id string) *Endpoint {
	e := &Endpoint{net: n, id: id, accept: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ends[id] = e
	return e
}

// link is a connection between two nodes, both ends of it.
type link struct {
	a, b   string
	pa, pb net.Conn
}

// Cut breaks all connections between a and b and refuses new ones.
func (n *Network) Cut(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{a, b}], n.cut[[2]string{b, a}] = true, true
	for l := range n.conns {
		if l.a == a && l.b == b || l.a == b && l.b == a {
			n.drop(l)
		}
	}
}

// Heal lets a and b connect again.
func (n *Network) Heal(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, [2]string{a, b})
	delete(n.cut, [2]string{b, a})
}

func (n *Network) drop(l *link) {
	l.pa.Close()
	l.pb.Close()
	delete(n.conns, l)
}

var errUnreachable = errors.New("clustertest: unreachable")

// Dial connects to the node whose ID is given as address.
func (e *Endpoint) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	n := e.net
	n.mu.Lock()
	peer := n.ends[string(address)]
	if peer == nil || n.cut[[2]string{e.id, string(address)}] {
		n.mu.Unlock()
		return nil, fmt.Errorf("%w: %s", errUnreachable, address)
	}
	l := &link{a: e.id, b: string(address)}
	l.pa, l.pb = net.Pipe()
	n.conns[l] = struct{}{}
	n.mu.Unlock()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case peer.accept <- l.pb:
		return l.pa, nil
	case <-peer.done:
	case <-e.done:
	case <-t.C:
	}
	n.mu.Lock()
	n.drop(l)
	n.mu.Unlock()
	return nil, fmt.Errorf("%w: %s", errUnreachable, address)
}

// Accept waits for a connection.
func (e *Endpoint) Accept() (net.Conn, error) {
	select {
	case c := <-e.accept:
		return c, nil
	case <-e.done:
		return nil, net.ErrClosed
	}
}

// Addr is the node's ID.
func (e *Endpoint) Addr() net.Addr { return endAddr(e.id) }

type endAddr string

func (a endAddr) Network() string { return "clustertest" }
func (a endAddr) String() string  { return string(a) }

// Close breaks the node's connections.
func (e *Endpoint) Close() error {
	e.once.Do(func() { close(e.done) })
	n := e.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ends[e.id] == e {
		delete(n.ends, e.id)
		for l := range n.conns {
			if l.a == e.id || l.b == e.id {
				n.drop(l)
			}
		}
	}
	return nil
}
