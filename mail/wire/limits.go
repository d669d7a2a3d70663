package wire

import (
	"net/netip"
	"sync"
	"time"

	"mailplusd/mail/tally"

	"golang.org/x/time/rate"
)

// Limits bound how many connections a listener serves. Zero means no limit.
type Limits struct {
	// MaxConns is the total.
	MaxConns int
	// MaxPerIP is the number from one client: an IPv4 address or a /64 of IPv6.
	MaxPerIP int
	// Rate is how many connections per second are accepted in the mean, with
	// bursts of Burst (at least 1).
	Rate  float64
	Burst int
	// PerMinute is how many connections one client may make within one minute;
	// over it, the client is refused for one minute.
	PerMinute int
	// Exempt networks are not held to MaxPerIP, PerMinute and Rate.
	Exempt []netip.Prefix
}

// Refusal is why a connection was not served.
type Refusal uint8

// Reasons of refusal.
const (
	Accepted Refusal = iota
	RefusedTotal
	RefusedPerIP
	RefusedRate
	RefusedPerMinute
	RefusedPaused
)

func (r Refusal) String() string {
	return [...]string{"accepted", "too many connections", "too many connections from one address",
		"connection rate exceeded", "too many connections within a minute", "not served by this node now"}[r]
}

// Clients is what is counted of each client. Listeners of one service share it.
type Clients struct {
	Rate *tally.Rate
	Open *tally.Open
}

type limiter struct {
	mu      sync.Mutex
	lim     Limits
	bucket  *rate.Limiter
	total   int
	clients Clients
}

func newLimiter(l Limits, c Clients) *limiter {
	if c.Rate == nil {
		c.Rate = &tally.Rate{}
	}
	if c.Open == nil {
		c.Open = &tally.Open{}
	}
	m := &limiter{clients: c}
	m.set(l)
	return m
}

func (m *limiter) set(l Limits) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lim = l
	m.bucket = nil
	if l.Rate > 0 {
		m.bucket = rate.NewLimiter(rate.Limit(l.Rate), max(1, l.Burst))
	}
}

// enter counts a connection in, or says why not.
func (m *limiter) enter(ip netip.Addr, now time.Time) (tally.Place, Refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.enterLocked(ip, now)
}

// enterLocked is enter. m.mu is held.
func (m *limiter) enterLocked(ip netip.Addr, now time.Time) (tally.Place, Refusal) {
	if m.lim.MaxConns > 0 && m.total >= m.lim.MaxConns {
		return tally.Place{}, RefusedTotal
	}
	exempt := !ip.IsValid() || contains(m.lim.Exempt, ip)
	most := 0
	if !exempt {
		most = m.lim.MaxPerIP
		if m.lim.PerMinute > 0 && !m.clients.Rate.Take(ip, m.lim.PerMinute, now) {
			return tally.Place{}, RefusedPerMinute
		}
	}
	place, ok := m.clients.Open.Enter(ip, most, now)
	if !ok {
		return tally.Place{}, RefusedPerIP
	}
	if !exempt && m.bucket != nil && !m.bucket.AllowN(now, 1) {
		m.clients.Open.Leave(place)
		return tally.Place{}, RefusedRate
	}
	m.total++
	return place, Accepted
}

// seat is where a connection is counted.
type seat struct {
	place tally.Place
	left  bool
}

// move counts a connection as another client's, or says why not; then it is counted as before.
func (m *limiter) move(st *seat, ip netip.Addr, now time.Time) Refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	if st.left {
		return Accepted
	}
	m.total--
	place, why := m.enterLocked(ip, now)
	if why != Accepted {
		m.total++
		return why
	}
	m.clients.Open.Leave(st.place)
	st.place = place
	return Accepted
}

// stand counts a connection out.
func (m *limiter) stand(st *seat) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st.left = true
	m.total--
	m.clients.Open.Leave(st.place)
}

// add counts a connection in that must not be refused: another machine has accepted it.
func (m *limiter) add(ip netip.Addr) tally.Place {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total++
	return m.clients.Open.Take(ip)
}

// leave counts a connection out.
func (m *limiter) leave(place tally.Place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total--
	m.clients.Open.Leave(place)
}
