package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Responder answers discovery questions.
type Responder struct {
	d       Discovery
	self    func() Announcement
	limit   *rate.Limiter
	sockets []*socket
	done    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

// rejoin is how often new interfaces are looked for.
const rejoin = 30 * time.Second

// Respond lets this node be found. self is asked for each answer. Answers go only to
// questions from the same link, 10 a second. Close the responder.
func (d Discovery) Respond(self func() Announcement) (*Responder, error) {
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Responder{d: d, self: self, limit: rate.NewLimiter(10, 20), done: make(chan struct{})}
	var errs []error
	for _, open := range []func(int) (*socket, error){openSocket4, openSocket6} {
		s, err := open(d.port())
		if err != nil {
			errs = append(errs, err) // a host without IPv6, or without IPv4
			continue
		}
		r.sockets = append(r.sockets, s)
	}
	if len(r.sockets) == 0 {
		return nil, fmt.Errorf("transport: discovery: %w", errors.Join(errs...))
	}
	joined := map[string]bool{}
	if r.join(joined); len(joined) == 0 {
		d.Logger.Warn("discovery: no interface takes multicast yet", "interfaces", d.Interfaces)
	}
	for _, s := range r.sockets {
		r.wg.Go(func() { r.serve(s) })
	}
	r.wg.Go(func() {
		tick := time.NewTicker(rejoin)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.join(joined)
			case <-r.done:
				return
			}
		}
	})
	return r, nil
}

// join enters the groups on interfaces that are new. The kernel forgets an interface that
// goes away; one that comes back has another index.
func (r *Responder) join(joined map[string]bool) {
	ifs, err := r.d.interfaces()
	if err != nil {
		return // none is there now
	}
	for _, i := range ifs {
		for n, s := range r.sockets {
			key := fmt.Sprintf("%d %d", n, i.Index)
			if joined[key] {
				continue
			}
			if err := s.join(i); err != nil {
				r.d.Logger.Debug("discovery: join", "interface", i.Name, "err", err)
				continue
			}
			joined[key] = true
		}
	}
}

func (r *Responder) serve(s *socket) {
	buf := make([]byte, maxDatagram+1)
	for {
		in, err := s.read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-r.done:
				return
			case <-time.After(time.Second):
				continue
			}
		}
		q, err := parseDatagram(buf[:in.n])
		if err != nil || q.Node != nil || in.hops != onLink || !r.limit.Allow() {
			continue
		}
		self := r.self()
		b, err := json.Marshal(datagram{Magic: discoveryMagic, Nonce: q.Nonce, Node: &self})
		if err != nil || len(b) > maxDatagram {
			continue
		}
		if err := s.answer(b, in); err != nil {
			r.d.Logger.Debug("discovery: answer", "to", in.from.String(), "err", err)
		}
	}
}

// Close ends the answers.
func (r *Responder) Close() error {
	r.once.Do(func() {
		close(r.done)
		for _, s := range r.sockets {
			s.conn.Close()
		}
	})
	r.wg.Wait()
	return nil
}
