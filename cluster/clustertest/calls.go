package clustertest

import (
	"context"
	"errors"
)

// Errors of a Caller: nothing happened, or something may have.
var (
	ErrUnreachable = errors.New("clustertest: call not sent")
	ErrConnLost    = errors.New("clustertest: connection lost during a call")
)

// Handler answers calls to a node.
type Handler func(ctx context.Context, from string, req []byte) ([]byte, error)

// Handle sets who answers calls to node id, from now on.
func (n *Network) Handle(id string, h Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handlers[id] = h
}

// Caller calls other nodes' handlers over the network.
type Caller struct {
	net  *Network
	from string
}

// Caller gives that of node from.
func (n *Network) Caller(from string) *Caller { return &Caller{n, from} }

// Call asks node. A link that is cut, or a node that ends, while the handler works makes
// ErrConnLost of its answer.
func (c *Caller) Call(ctx context.Context, node, _ string, req []byte) ([]byte, error) {
	end, h := c.net.route(c.from, node)
	if end == nil || h == nil {
		return nil, ErrUnreachable
	}
	b, err := h(ctx, c.from, append([]byte(nil), req...))
	if again, _ := c.net.route(c.from, node); again != end {
		return nil, ErrConnLost
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return b, err
}

func (n *Network) route(from, to string) (*Endpoint, Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]string{from, to}] || n.ends[from] == nil {
		return nil, nil
	}
	return n.ends[to], n.handlers[to]
}
