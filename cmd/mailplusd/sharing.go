package main

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/share"

	"github.com/prometheus/client_golang/prometheus"
)

// sharing is what the mail services of the two nodes have with each other: sessions that one
// accepts and the other serves, and the failed logins that count on both.
type sharing struct {
	*share.Sharer
	n      *node
	l      net.Listener
	events chan login.Event
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

const (
	loginMethod    = "login.events"
	maildropMethod = "pop3.inuse"    // an account's number: does a session there have its maildrop?
	leaveMethod    = "session.leave" // an address: end the sessions to it that were handed over
	loginQueue     = 4096            // events that wait for the other node; more are lost
	peerTime       = time.Second     // for its answer
)

func newSharing(n *node) *sharing {
	s := &sharing{n: n, events: make(chan login.Event, loginQueue)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.Sharer = share.New(share.Options{
		Policy: s.policy, Logger: n.log,
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			return n.link.Dial(ctx, node, transport.Session)
		},
		Taker: func(name string) (func(net.Conn) error, bool) { return n.mail.Listeners.Taker(name) },
	})
	return s
}

// policy says how sessions are spread at the moment.
func (s *sharing) policy() share.Policy {
	c := s.n.pair.Load()
	if c == nil {
		return share.Policy{}
	}
	peer, ok := c.Share()
	if !ok {
		return share.Policy{}
	}
	p, err := s.n.state.Pair()
	if err != nil || p.Sharing.Mode != model.SharingBalanced {
		return share.Policy{}
	}
	self := s.n.book.Facts().Self.ID
	return share.Policy{Self: self, Peer: peer, SelfWeight: p.Sharing.Weight(self), PeerWeight: p.Sharing.Weight(peer)}
}

// start takes in the other node's sessions and events, and sends events, until Close.
func (s *sharing) start() {
	s.n.link.Handle(loginMethod, s.n.fromPeer(s.learn))
	s.n.link.Handle(maildropMethod, s.n.fromPeer(s.inUse))
	s.n.link.Handle(leaveMethod, s.n.fromPeer(s.leave))
	s.l = peerOnly{s.n.link.Listen(transport.Session), s.n.book}
	s.wg.Go(func() {
		if err := s.Serve(s.l); err != nil && !errors.Is(err, net.ErrClosed) && s.ctx.Err() == nil {
			s.n.log.Error("sessions of the other node", "err", err)
		}
	})
	s.wg.Go(s.send)
}

// Close ends what start began, and all shared sessions.
func (s *sharing) Close() {
	s.cancel()
	if s.l != nil {
		s.l.Close()
	}
	s.Sharer.Close()
	s.wg.Wait()
}

// tell queues an event for the other node.
func (s *sharing) tell(e login.Event) {
	if s.n.book.Facts().State == pair.Single {
		return
	}
	select {
	case s.events <- e:
	default:
	}
}

// send sends what is queued. What can't be sent is lost: the other node is away, and its
// clients with it.
func (s *sharing) send() {
	for {
		var batch []login.Event
		select {
		case e := <-s.events:
			batch = append(batch, e)
		case <-s.ctx.Done():
			return
		}
		for len(batch) < login.MaxEvents && len(s.events) > 0 {
			batch = append(batch, <-s.events)
		}
		raw, err := login.AppendEvents(nil, batch)
		if err == nil {
			ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
			_, err = s.n.link.Call(ctx, s.n.book.Facts().Peer.ID, loginMethod, raw)
			cancel()
		}
		if err != nil {
			s.n.log.Debug("failed logins were not told to the other node", "events", len(batch), "err", err)
		}
	}
}

// maildrop asks whether a POP3 session of the other node has an account's maildrop. A node that
// does not answer serves nobody.
func (s *sharing) maildrop(ctx context.Context, account model.AccountID) bool {
	f := s.n.book.Facts()
	if f.State != pair.Paired {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	answer, err := s.n.link.Call(ctx, f.Peer.ID, maildropMethod, binary.BigEndian.AppendUint64(nil, uint64(account)))
	return err == nil && len(answer) == 1 && answer[0] == 1
}

func (s *sharing) inUse(_ context.Context, _ string, req []byte) ([]byte, error) {
	if len(req) != 8 {
		return nil, errors.New("number of an account")
	}
	if s.n.mail.MaildropInUse(model.AccountID(binary.BigEndian.Uint64(req))) {
		return []byte{1}, nil
	}
	return []byte{0}, nil
}

// Leave has the other node end the sessions that came to an address here and are served there,
// between two commands: only it can tell their clients.
func (s *sharing) Leave(ctx context.Context, a netip.Addr) {
	f := s.n.book.Facts()
	if f.State == pair.Single || f.Peer.ID == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	if _, err := s.n.link.Call(ctx, f.Peer.ID, leaveMethod, a.AsSlice()); err != nil {
		s.n.log.Debug("the other node did not end its sessions", "address", a, "err", err)
	}
}

func (s *sharing) leave(ctx context.Context, _ string, req []byte) ([]byte, error) {
	a, ok := netip.AddrFromSlice(req)
	if !ok {
		return nil, errors.New("address")
	}
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	s.n.mail.Listeners.Leave(ctx, a)
	return nil, nil
}

// goodbye ends the sessions that this node serves for the other one, between two commands.
func (n *node) goodbye(ctx context.Context) {
	var all sync.WaitGroup
	for _, v := range n.vips() {
		all.Go(func() { n.mail.Listeners.Leave(ctx, v.Prefix.Addr()) })
	}
	all.Wait()
}

// learn takes over the other node's events.
func (s *sharing) learn(_ context.Context, _ string, req []byte) ([]byte, error) {
	events, err := login.ParseEvents(req)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		s.n.mail.Login.Learn(e)
	}
	return nil, nil
}

// shared shows the shared sessions as metrics.
type shared struct{ s *sharing }

var (
	sharedDesc = prometheus.NewDesc("mailplusd_shared_sessions_total",
		"sessions handed to the other node (out), taken in from it (in), refused to it, and served here because it could not take them (failed)", []string{"listener", "way"}, nil)
	sharedNowDesc = prometheus.NewDesc("mailplusd_shared_sessions", "open sessions handed to the other node or taken in from it", []string{"listener", "way"}, nil)
)

// Describe implements prometheus.Collector.
func (c shared) Describe(ch chan<- *prometheus.Desc) { ch <- sharedDesc; ch <- sharedNowDesc }

// Collect implements prometheus.Collector.
func (c shared) Collect(ch chan<- prometheus.Metric) {
	for _, n := range c.s.Counts() {
		for way, v := range map[string]int64{"out": n.Out, "in": n.In, "refused": n.Refused, "failed": n.Failed} {
			ch <- prometheus.MustNewConstMetric(sharedDesc, prometheus.CounterValue, float64(v), n.Listener, way)
		}
		for way, v := range map[string]int64{"out": n.OutNow, "in": n.InNow} {
			ch <- prometheus.MustNewConstMetric(sharedNowDesc, prometheus.GaugeValue, float64(v), n.Listener, way)
		}
	}
}
