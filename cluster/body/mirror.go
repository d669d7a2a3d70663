package body

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNotCopied says that the body did not become durable on the peer in time. The peer
// may have it nevertheless.
var ErrNotCopied = errors.New("body: not on the second node in time")

// Limits of a Mirror.
const (
	defaultLimit   = 30 * time.Second
	smallBody      = 64 << 10 // larger ones have a connection of their own
	maxOpenStreams = maxStreams / 2
	maxDamaged     = 3 // how often a body is sent again that came damaged
	minPause       = 50 * time.Millisecond
	maxPause       = time.Second
	faultEvery     = time.Second
)

// MirrorOptions of NewMirror.
type MirrorOptions struct {
	Dial Dial
	// Load reads a body of this node, for copies that Ensure asks for.
	Load func(ID) (Record, error)
	// OnFault is told when the peer's disk is full (ErrNoSpace) or failed (ErrFault), once a
	// second at most. It must not wait.
	OnFault func(node string, err error)
	Limit   time.Duration // how long Wait waits; 0: 30 s
	Stall   time.Duration // a connection that owes answers and is silent for this long is made anew; 0: 5 s
	Logger  *slog.Logger
}

// Mirror copies bodies to the peer while a second copy is promised.
type Mirror struct {
	o    MirrorOptions
	peer atomic.Pointer[peer]
	mu   sync.Mutex // SetPeer

	copied, octets, waiting, resent, released, lastAck, lastFault atomic.Int64
}

// peer is one node for as long as it is the peer.
type peer struct {
	node    string
	small   lane
	bulk    lane
	gone    chan struct{}
	streams atomic.Int64
	ids     atomic.Uint64
}

func (p *peer) closeStream() { p.streams.Add(-1) }

// NewMirror makes a Mirror without a peer.
func NewMirror(o MirrorOptions) *Mirror {
	if o.Limit == 0 {
		o.Limit = defaultLimit
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Mirror{o: o}
}

// SetPeer names the node that must have each body, or with "" says that no second copy is
// promised: then everybody who waits is let go at once, without error. Before "" is set,
// the decision to run alone must be durable. Bodies that were stored before a node is named
// are not copied by this: that is what back-fill is for, which must begin after SetPeer.
func (m *Mirror) SetPeer(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.peer.Load()
	if old != nil && old.node == node || old == nil && node == "" {
		return
	}
	var p *peer
	if node != "" {
		p = &peer{node: node, gone: make(chan struct{})}
		for _, l := range []*lane{&p.small, &p.bulk} {
			l.node, l.dial, l.stall, l.log = node, m.o.Dial, m.o.Stall, m.o.Logger
			l.start()
		}
	}
	m.peer.Store(p)
	if old != nil {
		close(old.gone)
		old.small.cancel()
		old.bulk.cancel()
		old.small.stop()
		old.bulk.stop()
	}
}

// Close lets everybody go and ends the connections.
func (m *Mirror) Close() { m.SetPeer("") }

// Active tells whether a second copy is promised. It is cheap.
func (m *Mirror) Active() bool { return m.peer.Load() != nil }

// Peer is the node that must have each body; "" when no second copy is promised.
func (m *Mirror) Peer() string {
	if p := m.peer.Load(); p != nil {
		return p.node
	}
	return ""
}

// Copy is a body on its way to the peer. Wait or Cancel must be called, once.
type Copy struct {
	m        *Mirror
	p        *peer
	rec      Record
	prefix   []byte // of Octets
	load     bool   // rec has to be read first, if the peer lacks the body
	deadline time.Time

	req     *request
	stream  *streamJob
	counted bool // as one of the peer's streams
	damaged int
	why     error // the last refusal
	pause   time.Duration
}

// Copy returns nil when the peer has the body on its disk, or when no second copy is
// promised (any more); else ErrNotCopied. It waits until ctx ends, or Limit.
func (m *Mirror) Copy(ctx context.Context, rec Record) error { return m.Send(rec).Wait(ctx) }

// Send begins to copy a body. Its octets must stay as they are until Wait or Cancel has returned.
func (m *Mirror) Send(rec Record) *Copy {
	c := m.begin()
	c.rec = rec
	c.send()
	return c
}

// Ensure makes sure that the peer has a body that this node has already.
func (m *Mirror) Ensure(id ID, size int64) *Copy {
	c := m.begin()
	c.rec, c.load = Record{ID: id, Size: size}, true
	c.send()
	return c
}

// Begin starts a body that still comes in; nil when no second copy is promised or too
// many are under way.
func (m *Mirror) Begin() *Stream {
	p := m.peer.Load()
	if p == nil {
		return nil
	}
	if p.streams.Add(1) > maxOpenStreams {
		p.streams.Add(-1)
		return nil
	}
	id := p.ids.Add(1)
	return &Stream{p: p, id: id, j: streamJob{id: id, l: &p.bulk, done: make(chan error, 1)}}
}

// Commit ends a stream (nil: none was begun): the body is prefix and what was written, under its name; size is
// that of both. src must give what was written until Wait or Cancel has returned.
func (m *Mirror) Commit(st *Stream, prefix []byte, id ID, size int64, src io.ReaderAt) *Copy {
	c := m.begin()
	c.rec, c.prefix = Record{ID: id, Size: size, Octets: src}, prefix
	if st == nil || c.p != st.p {
		if st != nil {
			st.Abort()
		}
		c.send()
		return c
	}
	c.stream, c.counted = &st.j, true
	c.stream.commit(prefix, id, size, src)
	return c
}

func (m *Mirror) begin() *Copy {
	m.waiting.Add(1)
	return &Copy{m: m, p: m.peer.Load(), deadline: time.Now().Add(m.o.Limit)}
}

// send sends the record to the peer of the moment, whole or as a stream.
func (c *Copy) send() {
	if c.p == nil {
		return
	}
	if c.load {
		c.req = ensureRequest(c.rec.ID, c.rec.Size)
		c.req.send(&c.p.small)
		return
	}
	if c.rec.Octets != nil {
		id := c.p.ids.Add(1)
		c.stream = &streamJob{id: id, l: &c.p.bulk, done: make(chan error, 1)}
		c.stream.commit(c.prefix, c.rec.ID, c.rec.Size, c.rec.Octets)
		return
	}
	rec := &c.rec
	c.req = newRequest(func(buf []byte, seq uint64) []byte { return appendPut(buf, seq, rec) })
	l := &c.p.small
	if c.rec.stored() > smallBody {
		l = &c.p.bulk
	}
	c.req.send(l)
}

// drop gives up what was sent.
func (c *Copy) drop() {
	if c.req != nil {
		c.req.cancel()
	}
	if c.stream != nil {
		c.stream.cancel()
	}
	if c.counted {
		c.p.closeStream()
	}
	c.req, c.stream, c.counted = nil, nil, false
}

// Cancel gives the copy up.
func (c *Copy) Cancel() {
	c.drop()
	c.end()
}

func (c *Copy) end() {
	c.m.waiting.Add(-1)
	if c.rec.Close != nil {
		c.rec.Close()
	}
}

// Wait returns as Copy does.
func (c *Copy) Wait(ctx context.Context) error {
	defer c.end()
	if c.p == nil {
		return nil
	}
	select {
	case err := <-c.answer(): // the peer was faster than this node's disk: no timer is needed
		if err == nil {
			c.copied()
			return nil
		}
		c.answer() <- err
	default:
	}
	limit := time.NewTimer(time.Until(c.deadline))
	defer limit.Stop()
	var pause <-chan time.Time
	for {
		select {
		case err := <-c.answer():
			if err == nil {
				c.copied()
				return nil
			}
			if pause, err = c.refused(err); err != nil {
				c.drop()
				return err
			}
		case <-pause:
			pause = nil
			c.m.resent.Add(1)
			c.send()
		case <-c.p.gone:
			c.drop()
			if c.p = c.m.peer.Load(); c.p == nil {
				c.m.released.Add(1)
				return nil
			}
			pause = time.After(0)
		case <-ctx.Done():
			c.drop()
			return fmt.Errorf("%w: %w", ErrNotCopied, ctx.Err())
		case <-limit.C:
			c.drop()
			return c.late()
		}
	}
}

func (c *Copy) late() error {
	if c.why != nil {
		return fmt.Errorf("%w: %s says: %w", ErrNotCopied, c.p.node, c.why)
	}
	return fmt.Errorf("%w: no answer from %s for %v", ErrNotCopied, c.p.node, c.m.o.Limit)
}

// answer is where the peer's answer comes.
func (c *Copy) answer() chan error {
	switch {
	case c.req != nil:
		return c.req.done
	case c.stream != nil:
		return c.stream.done
	}
	return nil
}

func (c *Copy) copied() {
	if c.counted {
		c.p.closeStream()
	}
	c.m.copied.Add(1)
	c.m.octets.Add(c.rec.Size)
	c.m.lastAck.Store(time.Now().UnixNano())
}

// refused decides what comes after the peer's no: sent again after a pause, or an error.
func (c *Copy) refused(err error) (<-chan time.Time, error) {
	c.drop()
	switch {
	case errors.Is(err, ErrNotFound) && c.load:
		if err := c.read(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotCopied, err)
		}
		return time.After(0), nil
	case errors.Is(err, ErrCorrupt):
		if c.damaged++; c.damaged > maxDamaged {
			return nil, fmt.Errorf("%w: %w", ErrNotCopied, err)
		}
		c.m.o.Logger.Warn("a body came damaged to the peer and is sent again", "node", c.p.node, "body", c.rec.ID.String())
		return time.After(0), nil
	case errors.Is(err, ErrNoSpace), errors.Is(err, ErrFault):
		c.m.fault(c.p.node, err)
	case errors.Is(err, ErrBusy), errors.Is(err, ErrClosed):
	default: // it can't be read here
		return nil, fmt.Errorf("%w: %w", ErrNotCopied, err)
	}
	c.why = err
	c.pause = min(max(2*c.pause, minPause), maxPause)
	return time.After(c.pause), nil
}

// read gets the octets of a body that this node has already.
func (c *Copy) read() error {
	if c.m.o.Load == nil {
		return ErrNotFound
	}
	rec, err := c.m.o.Load(c.rec.ID)
	if err == nil {
		c.rec, c.load = rec, false
	}
	return err
}

// fault reports the state of the peer's disk.
func (m *Mirror) fault(node string, err error) {
	at := time.Now().UnixNano()
	last := m.lastFault.Load()
	if at-last < int64(faultEvery) || !m.lastFault.CompareAndSwap(last, at) {
		return
	}
	m.o.Logger.Error("the peer can't store bodies", "node", node, "err", err)
	if m.o.OnFault != nil {
		m.o.OnFault(node, err)
	}
}

// MirrorStats count since the Mirror was made.
type MirrorStats struct {
	Peer     string
	Copied   int64 // bodies that the peer has acknowledged
	Octets   int64 // of these
	Waiting  int64 // bodies on their way at the moment
	Resent   int64 // sent again after a refusal
	Released int64 // let go without a copy because none was promised any more
	LastAck  time.Time
}

// Stats gives the counts.
func (m *Mirror) Stats() MirrorStats {
	st := MirrorStats{
		Peer: m.Peer(), Copied: m.copied.Load(), Octets: m.octets.Load(), Waiting: m.waiting.Load(),
		Resent: m.resent.Load(), Released: m.released.Load(),
	}
	if at := m.lastAck.Load(); at != 0 {
		st.LastAck = time.Unix(0, at)
	}
	return st
}
