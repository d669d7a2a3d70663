package body

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// ErrNoPeer says that there is nobody to ask.
var ErrNoPeer = errors.New("body: no other node to ask")

// PullOptions of NewPuller.
type PullOptions struct {
	Dial   Dial
	Store  Store
	Stall  time.Duration // as MirrorOptions.Stall
	Logger *slog.Logger
}

// Puller asks the peer for bodies and stores them here.
type Puller struct {
	o    PullOptions
	mu   sync.Mutex
	lane *lane // of Fetch and Have; nil: no peer
	gone chan struct{}

	Fetched atomic.Int64 // bodies stored here that came from the peer
}

// NewPuller makes a Puller without a peer.
func NewPuller(o PullOptions) *Puller {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Puller{o: o}
}

// SetPeer names the node to ask; "": none, and whoever waits for it gets ErrNoPeer.
func (p *Puller) SetPeer(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lane != nil && p.lane.node == node || p.lane == nil && node == "" {
		return
	}
	if p.lane != nil {
		close(p.gone)
		p.lane.stop()
		p.lane = nil
	}
	if node != "" {
		p.lane, p.gone = p.newLane(node, nil), make(chan struct{})
		p.lane.start()
	}
}

// Close ends the connections.
func (p *Puller) Close() { p.SetPeer("") }

func (p *Puller) newLane(node string, limit *rate.Limiter) *lane {
	return &lane{
		node: node, dial: p.o.Dial, stall: p.o.Stall, log: p.o.Logger, lazy: true,
		open: func(l *lane) receiver { return p.newPulled(l, limit) },
	}
}

// current gives the lane of the peer.
func (p *Puller) current() (*lane, chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lane == nil {
		return nil, nil, ErrNoPeer
	}
	return p.lane, p.gone, nil
}

// ask sends a request and waits for its answer.
func (p *Puller) ask(ctx context.Context, r *request) error {
	l, gone, err := p.current()
	if err != nil {
		return err
	}
	r.send(l)
	select {
	case err := <-r.done:
		return err
	case <-gone:
		r.cancel()
		return ErrNoPeer
	case <-ctx.Done():
		r.cancel()
		return ctx.Err()
	}
}

// Fetch brings a body from the peer into the store; when it returns nil, the body is
// verified and durable here. ErrNotFound and ErrCorrupt speak of the peer's copy, ErrNoSpace
// and ErrFault of this node's disk; ErrNoPeer.
func (p *Puller) Fetch(ctx context.Context, id ID) error {
	var err error
	for range maxDamaged { // damaged on the way?
		if err = p.ask(ctx, getRequest(id)); !errors.Is(err, ErrCorrupt) {
			break
		}
	}
	return err
}

// Have asks which of the bodies the peer has; at most MaxNames of them.
func (p *Puller) Have(ctx context.Context, ids []ID) ([]bool, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if len(ids) > MaxNames {
		return nil, ErrTooLarge
	}
	out := make([]bool, len(ids))
	r := haveRequest(append([]ID(nil), ids...))
	r.bits = func(bits []byte) bool {
		if len(bits) != (len(ids)+7)/8 {
			return false
		}
		for i := range out {
			out[i] = bits[i/8]&(1<<(i%8)) != 0
		}
		return true
	}
	if err := p.ask(ctx, r); err != nil {
		return nil, err
	}
	return out, nil
}

// Missing counts the bodies that this node lacks. It reads an index, no bodies.
func (p *Puller) Missing(ctx context.Context, names iter.Seq[ID]) (n int64, err error) {
	i := 0
	for id := range names {
		if i++; i%1024 == 0 && ctx.Err() != nil {
			return n, ctx.Err()
		}
		if !p.o.Store.Has(id, -1) {
			n++
		}
	}
	return n, ctx.Err()
}

// PeerMissing calls fn for every body that the peer lacks.
func (p *Puller) PeerMissing(ctx context.Context, names iter.Seq[ID], fn func(ID)) error {
	batch := make([]ID, 0, MaxNames)
	flush := func() error {
		have, err := p.Have(ctx, batch)
		for i, yes := range have {
			if !yes {
				fn(batch[i])
			}
		}
		batch = batch[:0]
		return err
	}
	for id := range names {
		if batch = append(batch, id); len(batch) == MaxNames {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// pulled takes what the peer sends on one connection of a Puller.
type pulled struct {
	p     *Puller
	l     *lane
	in    *inbox
	limit *rate.Limiter
}

func (p *Puller) newPulled(l *lane, limit *rate.Limiter) *pulled {
	r := &pulled{p: p, l: l, limit: limit}
	r.in = newInbox(l.ctx, p.o.Store, func(seq uint64, err error) {
		if err == nil {
			p.Fetched.Add(1)
		}
		if !errors.Is(err, context.Canceled) { // the connection ended: asked for again on the next one
			l.answer(seq, err)
		}
	})
	return r
}

func (r *pulled) close() { r.in.close() }

// slow waits until n more octets are allowed.
func (r *pulled) slow(n int) error {
	if r.limit == nil {
		return nil
	}
	return r.limit.WaitN(r.in.ctx, min(n, r.limit.Burst()))
}

func (r *pulled) frame(f *frames, kind byte, n int) error {
	if err := r.slow(n); err != nil {
		return err
	}
	if kind == framePut {
		b, err := f.keep(n)
		if err != nil {
			return err
		}
		if !r.asked(binary.BigEndian.Uint64(b.b), ID(b.b[8:40])) {
			b.free()
			return nil // given up meanwhile
		}
		return r.in.put(b)
	}
	p, err := f.payload(n)
	if err != nil {
		return err
	}
	switch kind {
	case frameData:
		return r.in.data(p)
	case frameAbort:
		r.in.abort(p)
	case frameCommit:
		if !r.asked(binary.BigEndian.Uint64(p), ID(p[16:48])) {
			r.in.abort(p[8:16])
			return nil
		}
		return r.in.commit(p)
	case frameBitmap:
		r.bitmap(p)
	default:
		return errProtocol
	}
	return nil
}

// asked tells whether a body is the one that was asked for under the number: a peer can't
// make this node store anything else.
func (r *pulled) asked(seq uint64, id ID) bool {
	r.l.mu.Lock()
	j, _ := r.l.pending[seq].(*request)
	r.l.mu.Unlock()
	return j != nil && j.id == id
}

func (r *pulled) bitmap(p []byte) {
	seq := binary.BigEndian.Uint64(p)
	if j, _ := r.l.take(seq).(*request); j != nil {
		err := error(nil)
		if j.bits == nil || !j.bits(p[8:]) {
			err = errProtocol
		}
		j.finish(err)
	}
}
