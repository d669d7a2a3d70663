package share

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"mailplusd/mail/wire"
)

// Options of a Sharer.
type Options struct {
	// Policy is asked at most every 200 ms: how sessions are spread now.
	Policy func() Policy
	// Dial opens a stream to a node.
	Dial func(ctx context.Context, node string) (net.Conn, error)
	// Taker gives what takes a session into a listener of this node. ok is false when there is
	// no such listener; a nil function says that it takes nothing at the moment.
	Taker  func(listener string) (take func(net.Conn) error, ok bool)
	Logger *slog.Logger // nil: no log
}

const (
	policyAge   = 200 * time.Millisecond
	openTimeout = 300 * time.Millisecond // to reach the peer and have its answer
	takeTimeout = 5 * time.Second        // for the header of a session to come
	// After maxMisses dials in a row that failed, sessions stay here for lameTime, so that
	// not every client waits for a peer that is out of reach.
	maxMisses = 3
	lameTime  = time.Second
)

// Sharer hands sessions to the peer and takes sessions in. Close it.
type Sharer struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	policy   atomic.Pointer[aged]
	misses   atomic.Int32
	lame     atomic.Int64 // until when the peer isn't tried, sinceStart
	asking   sync.Mutex
	mu       sync.Mutex
	closed   bool
	streams  map[*stream]struct{}
	counters map[string]*counter
}

// aged is a policy and when it was asked for.
type aged struct {
	policy Policy
	at     time.Duration
}

var started = time.Now()

func sinceStart() time.Duration { return time.Since(started) }

// counter counts the sessions of a listener.
type counter struct{ out, in, refused, failed, outNow, inNow atomic.Int64 }

// Count tells how many sessions of a listener were shared.
type Count struct {
	Listener      string
	Out, In       int64 // handed to the peer, taken in from it
	Refused       int64 // that the peer handed here and this node did not take
	Failed        int64 // that should have been handed out and were served here
	OutNow, InNow int64 // open now
}

// New makes a Sharer.
func New(o Options) *Sharer {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sharer{o: o, streams: map[*stream]struct{}{}, counters: map[string]*counter{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends all shared sessions and waits for what the Sharer started.
func (s *Sharer) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.Cut()
	s.wg.Wait()
}

// Cut ends all shared sessions, of both directions, at once: the peer is dead. Clients
// connect again. It returns how many there were.
func (s *Sharer) Cut() int {
	s.mu.Lock()
	cut := make([]*stream, 0, len(s.streams))
	for st := range s.streams {
		cut = append(cut, st)
	}
	s.mu.Unlock()
	for _, st := range cut {
		st.Close()
	}
	return len(cut)
}

// Counts tells how many sessions were shared, by listener.
func (s *Sharer) Counts() []Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Count, 0, len(s.counters))
	for name, c := range s.counters {
		out = append(out, Count{
			Listener: name, Out: c.out.Load(), In: c.in.Load(), Refused: c.refused.Load(), Failed: c.failed.Load(),
			OutNow: c.outNow.Load(), InNow: c.inNow.Load(),
		})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Listener < out[j].Listener })
	return out
}

func (s *Sharer) counter(listener string) *counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counters[listener]
	if c == nil {
		c = &counter{}
		s.counters[listener] = c
	}
	return c
}

// now gives the policy in force, asking for it when it is old.
func (s *Sharer) now() Policy {
	p := s.policy.Load()
	if p != nil && sinceStart()-p.at < policyAge {
		return p.policy
	}
	if p != nil && !s.asking.TryLock() {
		return p.policy // somebody asks already
	} else if p == nil {
		s.asking.Lock()
	}
	defer s.asking.Unlock()
	p = &aged{s.o.Policy(), sinceStart()}
	s.policy.Store(p)
	return p.policy
}

// For gives what hands over the sessions of a listener.
func (s *Sharer) For(listener string) wire.Steerer { return steerer{s, listener, s.counter(listener)} }

type steerer struct {
	s        *Sharer
	listener string
	count    *counter
}

// Choose implements wire.Steerer.
func (t steerer) Choose(client netip.Addr) bool {
	return int64(sinceStart()) >= t.s.lame.Load() && t.s.now().Choose(client)
}

var (
	errClosed  = errors.New("share: closed")
	errAlone   = errors.New("share: there is no peer to share with")
	errRefused = errors.New("share: the peer did not take the session")
)

// Open implements wire.Steerer.
func (t steerer) Open(h wire.Handover) (wire.Relay, error) {
	st, err := t.open(h)
	if err != nil {
		t.count.failed.Add(1)
		t.s.o.Logger.Info("a session stays here", "listener", t.listener, "client", h.Client.Addr().String(), "err", err)
		return nil, err
	}
	t.count.out.Add(1)
	t.count.outNow.Add(1)
	return func() {
		defer t.count.outNow.Add(-1)
		relay(h.Conn, h.Early, st, farewells[t.listener])
	}, nil
}

func (t steerer) open(h wire.Handover) (*stream, error) {
	peer := t.s.now().Peer
	if peer == "" {
		return nil, errAlone
	}
	b, err := Header{Listener: t.listener, Client: h.Client, Local: h.Local}.Append(make([]byte, 0, 80))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.s.ctx, openTimeout)
	defer cancel()
	conn, err := t.s.o.Dial(ctx, peer)
	if err != nil {
		if t.s.misses.Add(1) >= maxMisses {
			t.s.lame.Store(int64(sinceStart() + lameTime))
		}
		return nil, err
	}
	t.s.misses.Store(0)
	st, err := t.s.track(conn)
	if err != nil {
		return nil, err
	}
	end, _ := ctx.Deadline()
	_ = st.SetDeadline(end)
	var answer [1]byte
	if _, err = st.Write(b); err == nil {
		_, err = io.ReadFull(st, answer[:])
	}
	if err == nil && answer[0] != answerTaken {
		err = fmt.Errorf("%w: answer %d", errRefused, answer[0])
	}
	if err == nil {
		err = st.SetDeadline(time.Time{})
	}
	if err != nil {
		st.Close()
		return nil, err
	}
	return st, nil
}

// track remembers a stream until it is closed.
func (s *Sharer) track(c net.Conn) (*stream, error) {
	st := &stream{Conn: c}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		kill(c)
		return nil, errClosed
	}
	s.streams[st] = struct{}{}
	st.gone = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, st)
	}
	return st, nil
}

// Serve takes in the sessions that come to l until it is closed. Whoever can connect to l
// is believed about the clients' addresses: it must accept the peer only.
func (s *Sharer) Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		st, err := s.track(c)
		if err != nil {
			return err
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			st.Close()
			return errClosed
		}
		s.wg.Add(1)
		s.mu.Unlock()
		go func() {
			defer s.wg.Done()
			s.take(st)
		}()
	}
}

// take reads a header and puts the session into its listener.
func (s *Sharer) take(st *stream) {
	_ = st.SetDeadline(time.Now().Add(takeTimeout))
	h, err := ReadHeader(st)
	if err != nil {
		s.refuse(st, answerMalformed, h, err)
		return
	}
	put, ok := s.o.Taker(h.Listener)
	if !ok {
		s.refuse(st, answerUnknown, h, nil)
		return
	}
	count := s.counter(h.Listener)
	if put == nil {
		count.refused.Add(1)
		s.refuse(st, answerNotNow, h, nil)
		return
	}
	st.client, st.local = net.TCPAddrFromAddrPort(h.Client), net.TCPAddrFromAddrPort(h.Local)
	if _, err := st.Write([]byte{answerTaken}); err != nil || st.SetDeadline(time.Time{}) != nil {
		st.Close()
		return
	}
	count.in.Add(1)
	count.inNow.Add(1)
	if !st.onClose(func() { count.inNow.Add(-1) }) {
		return
	}
	if err := put(st); err != nil {
		s.o.Logger.Debug("a session was lost", "listener", h.Listener, "client", h.Client.Addr().String(), "err", err)
		st.Close()
	}
}

func (s *Sharer) refuse(st *stream, answer byte, h Header, err error) {
	s.o.Logger.Debug("session of the other node refused", "listener", h.Listener, "answer", answer, "err", err)
	_, _ = st.Write([]byte{answer})
	_ = st.CloseWrite()
	st.Close()
}
