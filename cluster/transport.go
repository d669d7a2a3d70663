package cluster

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// newTransport connects the node with its peers, or only with itself.
func newTransport(c *Config) raft.Transport {
	self := raft.ServerAddress(c.ID)
	if c.Stream == nil {
		_, t := raft.NewInmemTransportWithTimeout(self, c.Timeouts.RPC)
		t.Connect(self, t) // for Campaign
		return t
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                  newLayer(c.ID, c.Stream),
		MaxPool:                 3,
		Timeout:                 c.Timeouts.RPC,
		Logger:                  newRaftLogger(c.Logger),
		MsgpackUseNewTimeFormat: true,
	})
}

// idAddr is a node ID as a net.Addr: members are addressed by ID in the configuration.
type idAddr string

func (a idAddr) Network() string { return "node" }
func (a idAddr) String() string  { return string(a) }

// layer is the caller's StreamLayer with a short way to this node itself, so that
// Campaign works without the network.
type layer struct {
	raft.StreamLayer
	id       idAddr
	accepted chan net.Conn
	failed   chan error
	done     chan struct{}
	once     sync.Once

	mu    sync.Mutex
	conns map[*tracked]struct{} // incoming; nil when closed
}

// tracked is an incoming connection, closed with the layer: the library leaves it open.
type tracked struct {
	net.Conn
	l *layer
}

func (t *tracked) Close() error {
	t.l.mu.Lock()
	delete(t.l.conns, t)
	t.l.mu.Unlock()
	return t.Conn.Close()
}

func (l *layer) track(c net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		c.Close()
		return nil, net.ErrClosed
	}
	t := &tracked{c, l}
	l.conns[t] = struct{}{}
	return t, nil
}

func newLayer(id string, s raft.StreamLayer) *layer {
	l := &layer{StreamLayer: s, id: idAddr(id), accepted: make(chan net.Conn), failed: make(chan error), done: make(chan struct{}), conns: map[*tracked]struct{}{}}
	go l.listen()
	return l
}

func (l *layer) listen() {
	for {
		c, err := l.StreamLayer.Accept()
		if err != nil {
			select {
			case l.failed <- err: // the library waits longer after each failure
				continue
			case <-l.done:
				return
			}
		}
		select {
		case l.accepted <- c:
		case <-l.done:
			c.Close()
			return
		}
	}
}

func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return l.track(c)
	case err := <-l.failed:
		return nil, err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if string(address) != string(l.id) {
		return l.StreamLayer.Dial(address, timeout)
	}
	here, there := net.Pipe()
	select {
	case l.accepted <- there:
		return here, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *layer) Addr() net.Addr { return l.id }

func (l *layer) Close() error {
	l.once.Do(func() { close(l.done) })
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	for c := range conns {
		c.Conn.Close()
	}
	return l.StreamLayer.Close()
}
