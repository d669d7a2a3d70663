package transport

import (
	"net"
	"sync"
)

// listener gives out the accepted connections of one protocol.
type listener struct {
	t     *Transport
	proto Proto
	queue chan *Conn // as long as the backlog, so a reserved place is there
	done  chan struct{}
	once  sync.Once
	err   error

	mu     sync.Mutex
	places int // left
	closed bool
}

// Listen gives the listener of a protocol. What it accepts is a *Conn. There is one at a
// time: a further call ends the one before. While there is none, connections are refused.
// Call and Pair are served by the transport itself; their listener only returns ErrInternal.
func (t *Transport) Listen(p Proto) net.Listener {
	l := &listener{t: t, proto: p, queue: make(chan *Conn, t.opts.Backlog), done: make(chan struct{}), places: t.opts.Backlog, err: net.ErrClosed}
	if _, ok := protocols[p]; !ok || p == Call || p == Pair {
		l.err = ErrInternal
		l.shut()
		return l
	}
	t.mu.Lock()
	old, closed := t.listeners[p], t.closed
	if !closed {
		t.listeners[p] = l
	}
	t.mu.Unlock()
	if old != nil {
		old.shut()
	}
	if closed {
		l.shut()
	}
	return l
}

// Accept waits for a connection; net.ErrClosed after Close.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, l.err
	default:
	}
	select {
	case c := <-l.queue:
		l.cancel()
		return c, nil
	case <-l.done:
		return nil, l.err
	}
}

// Addr is the transport's.
func (l *listener) Addr() net.Addr { return l.t.Addr() }

// Close refuses further connections of the protocol and cuts those that wait. Accepted ones
// go on.
func (l *listener) Close() error {
	l.t.mu.Lock()
	if l.t.listeners[l.proto] == l {
		delete(l.t.listeners, l.proto)
	}
	l.t.mu.Unlock()
	l.shut()
	return nil
}

func (l *listener) shut() {
	l.once.Do(func() {
		l.mu.Lock()
		l.closed = true
		close(l.done)
		l.mu.Unlock()
		for {
			select {
			case c := <-l.queue:
				c.kill()
			default:
				return
			}
		}
	})
}

// reserve takes a place in the queue of p's listener.
func (t *Transport) reserve(p Proto) (*listener, status) {
	t.mu.Lock()
	l := t.listeners[p]
	t.mu.Unlock()
	if l == nil {
		return nil, nobodyListens
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, nobodyListens
	case l.places == 0:
		return nil, queueFull
	}
	l.places--
	return l, welcome
}

// cancel gives a place back.
func (l *listener) cancel() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.places++
}

// push puts c on its reserved place.
func (l *listener) push(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.kill()
		return
	}
	l.queue <- c
}
