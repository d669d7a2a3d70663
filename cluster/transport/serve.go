package transport

import (
	"bufio"
	"context"
	"fmt"
	"sync"
)

// Limits of the requests of one connection that are being handled. A peer that keeps to its
// own limits never meets them.
const (
	maxServed      = 2 * maxCalls
	maxServedBytes = 512 << 20
)

// Handler answers a request of a pinned node. ctx ends when the caller's does, with the
// connection, and with the transport; the handler must return then. req is the handler's
// to keep. The answer has up to MaxMessage octets and must not be changed after the return.
type Handler func(ctx context.Context, node string, req []byte) ([]byte, error)

type handlers struct {
	mu     sync.RWMutex
	byName map[string]Handler
}

func (h *handlers) init() { h.byName = map[string]Handler{} }

func (h *handlers) get(name string) Handler {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.byName[name]
}

// Handle sets who answers method, a name of 1 to 255 octets; nil: nobody any more. Handlers
// run side by side, each request in a goroutine.
func (t *Transport) Handle(method string, h Handler) {
	if method == "" || len(method) > 255 {
		panic("transport: a method's name has 1 to 255 octets")
	}
	t.handlers.mu.Lock()
	defer t.handlers.mu.Unlock()
	if h == nil {
		delete(t.handlers.byName, method)
		return
	}
	t.handlers.byName[method] = h
}

// server is the answering end of a connection.
type server struct {
	t   *Transport
	c   *Conn
	w   *frameWriter
	ctx context.Context
	wg  sync.WaitGroup

	mu    sync.Mutex
	room  sync.Cond
	stops map[uint64]context.CancelFunc // of the requests being handled
	bytes int                           // of their payloads
}

// serveCalls answers requests until the connection ends, and returns when all handlers have.
func (t *Transport) serveCalls(c *Conn) {
	ctx, stop := context.WithCancel(t.ctx)
	s := &server{t: t, c: c, w: newFrameWriter(c), ctx: ctx, stops: map[uint64]context.CancelFunc{}}
	s.room.L = &s.mu
	s.wg.Go(func() {
		s.w.run()
		c.kill()
		stop()
	})
	err := s.read()
	t.opts.Logger.Debug("calls ended", "node", c.Node(), "err", err)
	stop()
	s.w.end(fmt.Errorf("transport: connection ended: %w", err))
	c.kill()
	s.wg.Wait()
}

func (s *server) read() error {
	r := bufio.NewReaderSize(s.c, readBuf)
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		switch f.kind {
		case request:
			if err := s.begin(f); err != nil {
				return err
			}
		case cancel:
			s.mu.Lock()
			stop := s.stops[f.id]
			s.mu.Unlock()
			if stop != nil {
				stop()
			}
		default:
			return fmt.Errorf("%w: kind %d from the asking side", errFrame, f.kind)
		}
	}
}

// begin starts the handler of a request.
func (s *server) begin(f frame) error {
	limit, method, payload, err := parseRequest(f.content)
	if err != nil {
		return err
	}
	h := s.t.handlers.get(method)
	if h == nil {
		return s.w.add(func(b []byte) []byte { return appendFailure(b, f.id, fmt.Errorf("%w: %.80q", ErrNoMethod, method)) })
	}
	var ctx context.Context
	var stop context.CancelFunc
	if limit > 0 {
		ctx, stop = context.WithTimeout(s.ctx, limit)
	} else {
		ctx, stop = context.WithCancel(s.ctx)
	}
	s.mu.Lock()
	for s.ctx.Err() == nil && (len(s.stops) >= maxServed || s.bytes > 0 && s.bytes+len(payload) > maxServedBytes) {
		s.room.Wait()
	}
	if _, twice := s.stops[f.id]; twice {
		s.mu.Unlock()
		stop()
		return fmt.Errorf("%w: call number %d is in use", errFrame, f.id)
	}
	s.stops[f.id] = stop
	s.bytes += len(payload)
	s.mu.Unlock()
	s.wg.Go(func() { s.handle(ctx, stop, f.id, h, payload) })
	return nil
}

func (s *server) handle(ctx context.Context, stop context.CancelFunc, id uint64, h Handler, payload []byte) {
	size := len(payload)
	out, err := h(ctx, s.c.Node(), payload)
	if err == nil && len(out) > MaxMessage {
		err = fmt.Errorf("%w: answer of %d octets, the limit is %d", ErrTooLarge, len(out), MaxMessage)
	}
	stop()
	s.mu.Lock()
	delete(s.stops, id)
	s.bytes -= size
	s.room.Signal()
	s.mu.Unlock()
	// A failed add means that the connection has ended: nobody is there to tell.
	_ = s.w.add(func(b []byte) []byte {
		if err != nil {
			return appendFailure(b, id, err)
		}
		return append(appendHead(b, answer, id, len(out)), out...)
	})
}
