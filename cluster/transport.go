package cluster

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// newTransport connects one run of raft with the peers, or only with itself.
func newTransport(c *Config, p *ports) (raft.Transport, *layer) {
	self := raft.ServerAddress(c.ID)
	if p == nil {
		_, t := raft.NewInmemTransportWithTimeout(self, c.Timeouts.RPC)
		t.Connect(self, t) // for Campaign
		return t, nil
	}
	l := p.layer()
	t := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                  l,
		MaxPool:                 3,
		Timeout:                 c.Timeouts.RPC,
		Logger:                  newRaftLogger(c.Logger),
		MsgpackUseNewTimeFormat: true,
	})
	return newNetwork(t, c.Timeouts.RPC), l
}

// idAddr is a node ID as a net.Addr: members are addressed by ID in the configuration.
type idAddr string

func (a idAddr) Network() string { return "node" }
func (a idAddr) String() string  { return string(a) }

// ports is the caller's StreamLayer. It outlives the runs of raft, each of which gets a
// layer of its own: the library closes its layer when it stops.
type ports struct {
	stream   raft.StreamLayer
	id       idAddr
	accepted chan net.Conn
	failed   chan error
	done     chan struct{}
	once     sync.Once
}

func newPorts(id string, s raft.StreamLayer) *ports {
	p := &ports{stream: s, id: idAddr(id), accepted: make(chan net.Conn), failed: make(chan error), done: make(chan struct{})}
	go p.listen()
	return p
}

// listen hands connections to whichever layer accepts; between two of them they wait.
func (p *ports) listen() {
	for {
		c, err := p.stream.Accept()
		if err != nil {
			select {
			case p.failed <- err: // the library waits longer after each failure
				continue
			case <-p.done:
				return
			}
		}
		select {
		case p.accepted <- c:
		case <-p.done:
			c.Close()
			return
		}
	}
}

func (p *ports) close() {
	p.once.Do(func() {
		close(p.done)
		p.stream.Close()
	})
}

func (p *ports) layer() *layer {
	return &layer{ports: p, self: make(chan net.Conn), aborted: make(chan struct{}), closed: make(chan struct{}), conns: map[*tracked]struct{}{}}
}

// layer is the StreamLayer of one run of raft, with a short way to this node itself, so
// that Campaign works without the network.
type layer struct {
	ports   *ports
	self    chan net.Conn
	aborted chan struct{}
	closed  chan struct{}
	once    sync.Once
	twice   sync.Once

	mu    sync.Mutex
	conns map[*tracked]struct{} // both directions; nil when closed
}

var _ raft.StreamLayer = (*layer)(nil)

// tracked is a connection that is closed with the layer: the library leaves incoming ones
// open, and waits for answers on outgoing ones.
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

func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.ports.accepted:
		return l.track(c)
	case c := <-l.self:
		return l.track(c)
	case err := <-l.ports.failed:
		return nil, err
	case <-l.aborted:
		<-l.closed // the library would report an error before it knows that it stops
		return nil, net.ErrClosed
	}
}

// Dial gives up when the layer is closed: the caller's StreamLayer may wait for a dead
// host. A connection that comes later is closed.
func (l *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if string(address) == string(l.ports.id) {
		return l.dialSelf()
	}
	type result struct {
		c   net.Conn
		err error
	}
	res := make(chan result, 1)
	go func() {
		c, err := l.ports.stream.Dial(address, timeout)
		if err == nil {
			c, err = l.track(c)
		}
		res <- result{c, err}
	}()
	select {
	case r := <-res:
		return r.c, r.err
	case <-l.aborted:
		return nil, net.ErrClosed
	}
}

func (l *layer) dialSelf() (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.self <- there:
		return l.track(here)
	case <-l.aborted:
		return nil, net.ErrClosed
	}
}

func (l *layer) Addr() net.Addr { return l.ports.id }

// abort ends this run's connections and dials, so that the library waits for none.
func (l *layer) abort() {
	l.once.Do(func() { close(l.aborted) })
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	for c := range conns {
		c.Conn.Close()
	}
}

// Close is called by the library when it has stopped. The caller's StreamLayer stays open.
func (l *layer) Close() error {
	l.abort()
	l.twice.Do(func() { close(l.closed) })
	return nil
}
