// Package remote delivers to other mail servers: it finds them by MX or takes the route that it
// is given, speaks SMTP as a client and tells what became of each recipient. Connections are
// used for several messages. The SMTP is our own: go-smtp's client has neither pipelining nor
// CHUNKING, and no limits on replies.
package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/remote/mtasts"

	"github.com/miekg/dns"
)

// Job is one message for the recipients of one destination.
type Job struct {
	From, EnvID, Ret string
	Domain           string // where it goes
	Route            *Route // nil: by MX of Domain
	Rcpts            []model.QueueRcpt
	UTF8, EightBit   bool
	Size             int64
	Open             func() (io.ReadCloser, error)
}

// Result is what became of one recipient.
type Result struct {
	N       uint32
	Outcome model.Outcome
	Code    int
	Reason  string // the other server's words, or ours
	Remote  string // host and address
	TLS     string // how it was protected, and TLS version and cipher; none: in clear; empty: there was no connection
	Note    string // what the log should say besides, such as TLS that failed
	// Down: no server of the destination could be talked to, so other messages for it would
	// fare no better.
	Down bool
	// Doubt: the text was sent whole, and no answer came. The message may have arrived, and
	// arrives again when it is tried again. Nothing can be done about it (RFC 1047).
	Doubt bool
	// DSN: the other server has taken over the notifications that were asked for (RFC 3461 §5.2.2).
	DSN bool
}

// Client delivers. Close it at the end.
type Client struct {
	Resolvers func() []string // host:port or address; empty: the host's
	Hello     func() string   // our name
	Port      func() int
	UseTLS    func() bool
	// Ours tells whether an address is this server's: mail must not go round in circles.
	Ours func(netip.AddrPort) bool
	// Self tells whether a mail server that DNS names is this one, as others see it; nil: none is.
	Self func(host string, addr netip.Addr) bool
	// Policy gives what the administrator demands of a destination; nil, or a nil result: nothing.
	Policy func(domain string) *TLSPolicy
	// Roots gives who is trusted to sign certificates; nil, or a nil pool: whom the system trusts.
	Roots func() *x509.CertPool
	// Validates tells whether a DNS server checks DNSSEC and is believed that it does; nil: none is.
	Validates func(server string) bool
	// UseDANE tells whether TLSA records count where no policy is set (RFC 7672); nil: they don't.
	UseDANE func() bool
	// STS gives a domain's MTA-STS policy, and why there is none or an old one; nil: none counts.
	STS func(ctx context.Context, domain string) (*mtasts.Policy, error)
	// Tried hears how the protection of each connection to the servers of a domain went; nil: nobody does.
	Tried   func(TLSAttempt)
	Connect time.Duration // 0: 30 s
	// Dial and Exchange, where set, are used instead of the network.
	Dial     func(context.Context, netip.AddrPort) (net.Conn, error)
	Exchange func(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error)

	pool  pool
	once  sync.Once
	cache tls.ClientSessionCache
}

// Time that a job may take in all: a base, and for its size at the slowest rate that is borne.
const (
	baseTime = 30 * time.Minute
	minRate  = 2 << 10 // octets a second
	// maxSessions is how many servers may answer "later" before the job waits.
	maxSessions = 2
)

// Deliver tries the destination's hosts in order until every recipient has an answer. There is
// one result for each.
func (c *Client) Deliver(ctx context.Context, j Job) []Result {
	ctx, cancel := context.WithTimeout(ctx, baseTime+time.Duration(j.Size/minRate)*time.Second)
	defer cancel()
	d := &delivery{c: c, j: &j, results: make([]Result, len(j.Rcpts))}
	for i, r := range j.Rcpts {
		d.results[i] = Result{N: r.N, Outcome: model.OutcomeDeferred, Reason: "the time for an attempt ran out"}
		d.left = append(d.left, i)
	}
	d.prot = c.protect(ctx, &j)
	if !d.reuse(ctx) {
		d.hosts(ctx)
	}
	return d.results
}

// delivery is a job under way.
type delivery struct {
	c        *Client
	j        *Job
	prot     *protection
	results  []Result
	left     []int // places of recipients that another host may take
	answered int   // servers that have said something about recipients
}

// reuse tries connections that are open already, and tells whether that is all.
func (d *delivery) reuse(ctx context.Context) bool {
	key := d.poolKey()
	for {
		s := d.c.pool.get(key)
		if s == nil {
			return false
		}
		switch err := d.over(ctx, s); {
		case errors.Is(err, errStale):
			continue
		case err != nil:
			return false // lost in the middle: another connection may do
		}
		return true // who was told "later" by it is told so by a new connection, too
	}
}

// hosts tries servers until nobody is left, or all have been asked.
func (d *delivery) hosts(ctx context.Context) {
	asked := false
	for t, err := range d.c.targets(ctx, d.j) {
		if err != nil {
			if !asked && d.answered == 0 {
				d.all(err, nil, true)
			}
			return
		}
		if len(d.left) == 0 || d.answered >= maxSessions || ctx.Err() != nil {
			return
		}
		asked = true
		s, err := d.c.connect(ctx, t, d.prot, d.j.Route)
		if err != nil {
			if d.answered == 0 {
				d.all(err, &session{where: t.host + " [" + t.addr.String() + "]"}, true)
			}
			continue
		}
		s.key = d.poolKey()
		d.over(ctx, s)
	}
}

// all gives every recipient that is left the same result.
func (d *delivery) all(err error, s *session, down bool) {
	for _, i := range d.left {
		d.results[i] = outcome(d.j.Rcpts[i].N, err, s)
		d.results[i].Down = down && d.results[i].Outcome != model.OutcomeFailed // for good: another message fails, too, and needs no rest
	}
}

// over sends to those who are left, in as many transactions as the server wants, and keeps or
// ends the connection.
func (d *delivery) over(ctx context.Context, s *session) error {
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err := d.transactions(s)
	if !stop() || err != nil {
		s.end()
		return err
	}
	if s.broken || !d.useful() {
		s.quit()
		return nil
	}
	d.c.pool.put(s)
	return nil
}

// useful tells whether a server has taken or refused anything for good. One that says "later" to
// everybody is not worth a connection that is kept.
func (d *delivery) useful() bool {
	for i := range d.results {
		if d.results[i].Outcome != model.OutcomeDeferred {
			return true
		}
	}
	return false
}

func (d *delivery) transactions(s *session) error {
	var wait []int // told "later" by this server
	todo := d.left
	for len(todo) > 0 {
		n := min(len(todo), s.maxRcpts())
		t := &transaction{s: s, j: d.j, list: todo[:n:n], results: d.results}
		err := t.run()
		todo = append(t.again, todo[n:]...)
		wait = append(wait, t.wait...)
		if err == nil {
			continue
		}
		stale := errors.Is(err, errStale)
		for _, i := range t.open {
			d.results[i] = outcome(d.j.Rcpts[i].N, err, s)
			d.results[i].Doubt, d.results[i].Down = t.doubt, !stale
		}
		if t.doubt {
			t.open = nil // another host would surely make it two
		}
		for _, i := range todo {
			d.results[i] = outcome(d.j.Rcpts[i].N, err, s)
		}
		d.left = append(append(wait, t.open...), todo...)
		return err
	}
	d.left = wait
	d.answered++
	return nil
}

// outcome reads an error: 5xx fails, everything else is tried again.
func outcome(n uint32, err error, s *session) Result {
	r := Result{N: n, Outcome: model.OutcomeDeferred}
	if s != nil {
		r.Remote, r.TLS, r.Note = s.where, s.told(), s.note
	}
	var no *refusal
	var p *permanent
	switch {
	case err == nil:
		r.Outcome, r.Code, r.Reason = model.OutcomeDelivered, 250, "accepted"
		return r
	case errors.As(err, &no):
		r.Code = no.code
		if no.code >= 500 && !errors.As(err, new(*later)) {
			r.Outcome = model.OutcomeFailed
		}
	case errors.As(err, &p):
		r.Outcome, r.Code, r.Reason = model.OutcomeFailed, p.code, p.status+" "
	}
	r.Reason += oneLine(err.Error())
	return r
}
