package pair

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ErrGate says that the log of this node and that of its peer are kept apart for now.
var ErrGate = errors.New("pair: the log is not open to the other node")

// Gate keeps the logs of two nodes apart until it is known that they belong together:
// raft truncates what does not fit, and what does not fit may have been acknowledged.
type Gate struct {
	raft.StreamLayer
	mu    sync.Mutex
	open  bool
	conns map[*gated]struct{}
}

// NewGate puts a closed gate in front of s.
func NewGate(s raft.StreamLayer) *Gate {
	return &Gate{StreamLayer: s, conns: map[*gated]struct{}{}}
}

type gated struct {
	net.Conn
	g *Gate
}

func (c *gated) Close() error {
	c.g.mu.Lock()
	delete(c.g.conns, c)
	c.g.mu.Unlock()
	return c.Conn.Close()
}

// Set opens or closes the gate. Closing cuts the connections.
func (g *Gate) Set(open bool) {
	g.mu.Lock()
	g.open = open
	var cut []*gated
	if !open {
		for c := range g.conns {
			cut = append(cut, c)
		}
		clear(g.conns)
	}
	g.mu.Unlock()
	for _, c := range cut {
		c.Conn.Close()
	}
}

func (g *Gate) pass(c net.Conn) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		c.Close()
		return nil, ErrGate
	}
	w := &gated{c, g}
	g.conns[w] = struct{}{}
	return w, nil
}

// Accept implements net.Listener.
func (g *Gate) Accept() (net.Conn, error) {
	for {
		c, err := g.StreamLayer.Accept()
		if err != nil {
			return nil, err
		}
		if w, err := g.pass(c); err == nil {
			return w, nil
		}
	}
}

// Dial implements raft.StreamLayer.
func (g *Gate) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if !open {
		return nil, ErrGate
	}
	c, err := g.StreamLayer.Dial(address, timeout)
	if err != nil {
		return nil, err
	}
	return g.pass(c)
}
