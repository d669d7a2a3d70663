package body

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Time limits of the server, and how often it says that it is still at work.
const (
	serverIdle   = 60 * time.Second // without any frame; a Mirror says something every 15 s
	serverWrite  = 30 * time.Second // until what was written is taken
	aliveEvery   = time.Second
	maxConns     = 32
	maxGets      = 256 // questions that wait on a connection
	replyAtOnce  = 256 << 10
	prefaceLimit = 10 * time.Second
)

// Server gives and takes bodies for other nodes.
type Server struct {
	store Store
	log   *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	conns  int

	Received  atomic.Int64 // bodies stored for the peer
	Delivered atomic.Int64 // bodies given to it
}

// NewServer makes a server; log may be nil.
func NewServer(store Store, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{store: store, log: log}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve serves a listener until it or the server is closed; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		l.Close()
		return nil
	}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	stop := context.AfterFunc(s.ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		s.mu.Lock()
		full := s.conns >= maxConns || s.ctx.Err() != nil
		if !full {
			s.conns++
			s.wg.Add(1)
		}
		s.mu.Unlock()
		if full {
			s.log.Warn("too many connections for bodies", "from", c.RemoteAddr())
			c.Close()
			continue
		}
		go s.serve(c)
	}
}

// Close ends every connection and waits for their end. The store must still be open.
func (s *Server) Close() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.wg.Wait()
}

// session is one connection of the server.
type session struct {
	s    *Server
	c    net.Conn
	in   *inbox
	gets chan get
	busy atomic.Int64 // answers that are owed
	ctx  context.Context

	mu   sync.Mutex
	acks []byte
	out  []byte // other frames
	wake chan struct{}

	wmu sync.Mutex // one writer at a time
}

type get struct {
	seq uint64
	id  ID
}

func (s *Server) serve(c net.Conn) {
	defer func() {
		s.mu.Lock()
		s.conns--
		s.mu.Unlock()
		s.wg.Done()
	}()
	ctx, cancel := context.WithCancel(s.ctx)
	ss := &session{s: s, c: c, gets: make(chan get, maxGets), ctx: ctx, wake: make(chan struct{}, 1)}
	ss.in = newInbox(ctx, s.store, ss.stored)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); defer cancel(); ss.write() }()
	go func() { defer wg.Done(); defer cancel(); ss.give() }()
	err := ss.read()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.log.Info("connection for bodies ended", "from", c.RemoteAddr(), "err", err)
	}
	cancel()
	stop()
	c.Close()
	ss.in.close()
	wg.Wait()
}

// idleReader ends a connection on which nothing comes.
type idleReader struct{ c net.Conn }

func (r idleReader) Read(b []byte) (int, error) {
	r.c.SetReadDeadline(time.Now().Add(serverIdle))
	return r.c.Read(b)
}

func (ss *session) read() error {
	ss.c.SetReadDeadline(time.Now().Add(prefaceLimit))
	hello := make([]byte, len(preface))
	if _, err := io.ReadFull(ss.c, hello); err != nil {
		return err
	}
	if string(hello) != preface {
		return errProtocol
	}
	f := newFrames(idleReader{ss.c})
	for {
		kind, n, err := f.next()
		if err != nil {
			return err
		}
		if err := ss.frame(f, kind, n); err != nil {
			return err
		}
	}
}

// frame handles one frame. While it does, the other end may count on answers.
func (ss *session) frame(f *frames, kind byte, n int) error {
	ss.busy.Add(1)
	defer ss.busy.Add(-1)
	if kind == framePut {
		b, err := f.keep(n)
		if err != nil {
			return err
		}
		ss.busy.Add(1)
		return ss.in.put(b)
	}
	p, err := f.payload(n)
	if err != nil {
		return err
	}
	switch kind {
	case frameData:
		return ss.in.data(p)
	case frameCommit:
		ss.busy.Add(1)
		return ss.in.commit(p)
	case frameAbort:
		ss.in.abort(p)
	case frameEnsure:
		err := ErrNotFound
		if ss.s.store.Has(ID(p[8:40]), int64(binary.BigEndian.Uint64(p[40:]))) {
			err = nil
		}
		ss.ack(binary.BigEndian.Uint64(p), err)
	case frameHave:
		ss.have(p)
	case frameGet:
		ss.busy.Add(1)
		select {
		case ss.gets <- get{binary.BigEndian.Uint64(p), ID(p[8:40])}:
		case <-ss.ctx.Done():
			return ErrClosed
		}
	case frameAlive:
	default:
		return errProtocol
	}
	return nil
}

// stored is called when a body is durable or refused.
func (ss *session) stored(seq uint64, err error) {
	if err == nil {
		ss.s.Received.Add(1)
	}
	ss.ack(seq, err)
	ss.busy.Add(-1)
}

func (ss *session) ack(seq uint64, err error) {
	ss.mu.Lock()
	ss.acks = append(binary.BigEndian.AppendUint64(ss.acks, seq), byte(codeOf(err)))
	ss.mu.Unlock()
	ss.signal()
}

func (ss *session) signal() {
	select {
	case ss.wake <- struct{}{}:
	default:
	}
}

func (ss *session) have(p []byte) {
	ids := p[8:]
	n := len(ids) / 32
	bits := make([]byte, (n+7)/8)
	for i := range n {
		if ss.s.store.Has(ID(ids[i*32:i*32+32]), -1) {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	ss.mu.Lock()
	ss.out = append(append(header(ss.out, frameBitmap, 8+len(bits)), p[:8]...), bits...)
	ss.mu.Unlock()
	ss.signal()
}

// send writes to the connection.
func (ss *session) send(b []byte) error {
	ss.wmu.Lock()
	defer ss.wmu.Unlock()
	ss.c.SetWriteDeadline(time.Now().Add(serverWrite))
	_, err := ss.c.Write(b)
	return err
}

// write sends acknowledgements, all that have gathered at once.
func (ss *session) write() {
	t := time.NewTicker(aliveEvery)
	defer t.Stop()
	var buf, acks []byte
	for {
		buf = buf[:0]
		select {
		case <-ss.ctx.Done():
			return
		case <-t.C:
			if ss.busy.Load() > 0 {
				buf = header(buf, frameAlive, 0)
			}
		case <-ss.wake:
			ss.mu.Lock()
			ss.acks, acks = acks[:0], ss.acks
			buf = append(buf, ss.out...)
			ss.out = ss.out[:0]
			ss.mu.Unlock()
			buf = appendAcks(buf, acks)
		}
		if len(buf) > 0 && ss.send(buf) != nil {
			return
		}
	}
}

// give answers gets, in their order.
func (ss *session) give() {
	var buf []byte
	for {
		select {
		case <-ss.ctx.Done():
			return
		case g := <-ss.gets:
			var err error
			if buf, err = ss.load(buf, g); err == nil && (len(ss.gets) == 0 || len(buf) > replyAtOnce) {
				err = ss.send(buf)
				buf = buf[:0]
			}
			ss.busy.Add(-1)
			if err != nil {
				return
			}
			if cap(buf) > 4*replyAtOnce && len(buf) == 0 {
				buf = nil
			}
		}
	}
}

// load appends a body's frames to buf; large ones are sent in between.
func (ss *session) load(buf []byte, g get) ([]byte, error) {
	rec, err := ss.s.store.Load(g.id)
	if err != nil {
		ack := append(binary.BigEndian.AppendUint64(nil, g.seq), byte(codeOf(err)))
		return appendAcks(buf, ack), nil
	}
	ss.s.Delivered.Add(1)
	if rec.Octets == nil {
		return appendPut(buf, g.seq, &rec), nil
	}
	if rec.Close != nil {
		defer rec.Close()
	}
	for off := int64(0); off < rec.Size; {
		n := min(maxChunk, rec.Size-off)
		before := len(buf)
		if buf, err = appendChunk(buf, g.seq, rec.Octets, off, int(n)); err != nil {
			ss.s.log.Error("body can't be read for the peer", "body", g.id.String(), "err", err)
			ack := append(binary.BigEndian.AppendUint64(nil, g.seq), byte(codeCorrupt))
			return appendAcks(appendAbort(buf[:before], g.seq), ack), nil
		}
		off += n
		if len(buf) >= replyAtOnce {
			if err := ss.send(buf); err != nil {
				return buf, err
			}
			buf = buf[:0]
		}
	}
	return appendCommit(buf, g.seq, g.seq, g.id, rec.Size, nil), nil
}
