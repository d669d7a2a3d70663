package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	maxCalls = 1024      // under way with one peer; further callers wait
	bigCall  = 256 << 10 // octets; requests longer than that
	maxBig   = 4         // are under way at most so often
	readBuf  = 64 << 10
)

// Call asks method of a node and returns the answer. The request and the answer have up to
// MaxMessage octets; req may be used again after the return. Errors: ErrUnreachable and
// ErrNoMethod say that nothing happened; ErrConnLost and an end of ctx leave open whether
// it did; *RemoteError is what the handler returned. Call it from as many goroutines as
// there is work: they share one connection and its writes.
func (t *Transport) Call(ctx context.Context, node, method string, req []byte) ([]byte, error) {
	if len(req) > MaxMessage {
		return nil, fmt.Errorf("%w: request of %d octets, the limit is %d", ErrTooLarge, len(req), MaxMessage)
	}
	if method == "" || len(method) > 255 {
		return nil, fmt.Errorf("transport: method name %.40q: 1 to 255 octets are needed", method)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	peer := t.peers[node]
	t.mu.Unlock()
	if peer == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownPeer, node)
	}
	return peer.caller.call(ctx, method, req)
}

// caller makes the calls to one peer.
type caller struct {
	t     *Transport
	peer  *peer
	slots chan struct{}
	big   chan struct{}

	mu      sync.Mutex
	conn    *callConn
	dialing *dialing
}

// dialing is a dial that several callers wait for.
type dialing struct {
	done chan struct{}
	conn *callConn
	err  error
}

func newCaller(t *Transport, p *peer) *caller {
	return &caller{t: t, peer: p, slots: make(chan struct{}, maxCalls), big: make(chan struct{}, maxBig)}
}

func (c *caller) call(ctx context.Context, method string, req []byte) ([]byte, error) {
	if len(req) > bigCall {
		if err := take(ctx, c.t.ctx, c.big); err != nil {
			return nil, err
		}
		defer func() { <-c.big }()
	}
	if err := take(ctx, c.t.ctx, c.slots); err != nil {
		return nil, err
	}
	defer func() { <-c.slots }()
	conn, err := c.get(ctx)
	if err != nil {
		return nil, err
	}
	return conn.call(ctx, method, req)
}

// take waits for a slot.
func take(ctx, owner context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-owner.Done():
		return fmt.Errorf("%w: %w", ErrUnreachable, ErrClosed)
	}
}

// get gives the kept connection or dials a new one, once for all who ask.
func (c *caller) get(ctx context.Context) (*callConn, error) {
	c.mu.Lock()
	if c.conn != nil && c.conn.alive() {
		defer c.mu.Unlock()
		return c.conn, nil
	}
	d := c.dialing
	if d == nil {
		d = &dialing{done: make(chan struct{})}
		if !c.t.start(func() { c.dial(d) }) {
			c.mu.Unlock()
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, ErrClosed)
		}
		c.dialing = d
	}
	c.mu.Unlock()
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *caller) dial(d *dialing) {
	c.t.mu.Lock()
	addrs := c.peer.order(sinceStart())
	c.t.mu.Unlock()
	conn, err := c.t.dialPeer(c.t.ctx, c.peer, c.peer.id, addrs, Call)
	if err == nil {
		d.conn = newCallConn(conn)
		if !c.t.start(d.conn.write) || !c.t.start(d.conn.read) {
			err = fmt.Errorf("%w: %w", ErrUnreachable, ErrClosed)
			d.conn.fail(ErrClosed)
			d.conn = nil
		}
	}
	d.err = err
	c.mu.Lock()
	c.conn, c.dialing = d.conn, nil
	c.mu.Unlock()
	close(d.done)
}

// callConn is the asking end of a connection.
type callConn struct {
	conn *Conn
	w    *frameWriter

	mu    sync.Mutex
	err   error // why it ended
	next  uint64
	calls map[uint64]*pending
}

// pending is a call that waits for its answer.
type pending struct {
	done    chan struct{} // cap 1
	content []byte
	err     error
}

var pendings = sync.Pool{New: func() any { return &pending{done: make(chan struct{}, 1)} }}

func newCallConn(c *Conn) *callConn {
	return &callConn{conn: c, w: newFrameWriter(c), calls: map[uint64]*pending{}}
}

func (c *callConn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil
}

func (c *callConn) call(ctx context.Context, method string, req []byte) ([]byte, error) {
	var limit time.Duration
	if d, ok := ctx.Deadline(); ok {
		limit = max(time.Until(d), 1)
	}
	p := pendings.Get().(*pending)
	c.mu.Lock()
	if c.err != nil { // it broke after get; nothing was sent
		err := c.err
		c.mu.Unlock()
		pendings.Put(p)
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	c.next++
	id := c.next
	c.calls[id] = p
	c.mu.Unlock()
	if err := c.w.add(func(b []byte) []byte { return appendRequest(b, id, limit, method, req) }); err != nil {
		c.fail(err) // answers p
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		if c.take(id) != nil {
			pendings.Put(p)
			_ = c.w.add(func(b []byte) []byte { return appendHead(b, cancel, id, 0) })
			return nil, ctx.Err()
		}
		<-p.done // the answer came first
	}
	content, err := p.content, p.err
	p.content, p.err = nil, nil
	pendings.Put(p)
	return content, err
}

// take removes a call; nil if it is already answered.
func (c *callConn) take(id uint64) *pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.calls[id]
	delete(c.calls, id)
	return p
}

// write sends frames until the connection ends.
func (c *callConn) write() {
	c.w.run()
	c.fail(c.w.failed())
}

// read hands out answers until the connection ends.
func (c *callConn) read() {
	r := bufio.NewReaderSize(c.conn, readBuf)
	for {
		f, err := readFrame(r)
		if err == nil && f.kind != answer && f.kind != failure {
			err = fmt.Errorf("%w: kind %d from the answering side", errFrame, f.kind)
		}
		if err != nil {
			c.fail(err)
			return
		}
		p := c.take(f.id)
		if p == nil {
			continue // nobody waits any more
		}
		if f.kind == answer {
			p.content = f.content
		} else if code, text, err := parseFailure(f.content); err != nil {
			p.err = err
		} else {
			p.err = remoteError(c.conn.Node(), code, text)
		}
		p.done <- struct{}{}
	}
}

// fail ends the connection and the calls on it.
func (c *callConn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	if c.conn.t.ctx.Err() != nil {
		err = ErrClosed
	}
	c.err = err
	calls := c.calls
	c.calls = map[uint64]*pending{}
	c.mu.Unlock()
	c.w.end(errors.New("transport: the connection has ended"))
	c.conn.kill()
	for _, p := range calls {
		p.err = fmt.Errorf("%w with %s: %w", ErrConnLost, c.conn.Node(), err)
		p.done <- struct{}{}
	}
}
