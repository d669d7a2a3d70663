package wire

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bound how many connections a listener serves. Zero means no limit.
type Limits struct {
	// MaxConns is the total.
	MaxConns int
	// MaxPerIP is the number from one network of Prefix4 or Prefix6.
	MaxPerIP int
	// Rate is how many connections per second are accepted in the mean, with
	// bursts of Burst (at least 1).
	Rate  float64
	Burst int
	// PerMinute is how many connections one network may make within one minute;
	// over it, the network is refused for one minute.
	PerMinute int
	// Prefix4 and Prefix6 are the prefix lengths counted as one client; 0 is 32 and 64.
	Prefix4, Prefix6 int
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

// maxClients bounds the memory of the per-minute counters.
const maxClients = 1 << 16

// client counts the connections of one network.
type client struct {
	open    int
	minute  int64 // the minute that recent counts, in Unix minutes
	recent  int
	blocked time.Time
}

type limiter struct {
	mu      sync.Mutex
	lim     Limits
	bucket  *rate.Limiter
	total   int
	clients map[netip.Prefix]*client
}

func newLimiter(l Limits) *limiter {
	m := &limiter{clients: make(map[netip.Prefix]*client)}
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

// network is what counts as one client.
func (m *limiter) network(ip netip.Addr) netip.Prefix {
	bits := m.lim.Prefix6
	if ip.Is4() {
		bits = m.lim.Prefix4
		if bits <= 0 || bits > 32 {
			bits = 32
		}
	} else if bits <= 0 || bits > 128 {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// enter counts a connection in, or says why not.
func (m *limiter) enter(ip netip.Addr, now time.Time) (netip.Prefix, Refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lim.MaxConns > 0 && m.total >= m.lim.MaxConns {
		return netip.Prefix{}, RefusedTotal
	}
	net := m.network(ip)
	exempt := !ip.IsValid() || contains(m.lim.Exempt, ip)
	cl := m.clients[net]
	if cl == nil {
		if len(m.clients) >= maxClients {
			m.sweep(now)
		}
		cl = &client{}
		m.clients[net] = cl
	}
	if !exempt {
		if r := m.judge(cl, now); r != Accepted {
			return netip.Prefix{}, r
		}
	}
	cl.open++
	m.total++
	return net, Accepted
}

// add counts a connection in that must not be refused.
func (m *limiter) add(ip netip.Addr) netip.Prefix {
	m.mu.Lock()
	defer m.mu.Unlock()
	net := m.network(ip)
	cl := m.clients[net]
	if cl == nil {
		if len(m.clients) >= maxClients {
			m.sweep(time.Now())
		}
		cl = &client{}
		m.clients[net] = cl
	}
	cl.open++
	m.total++
	return net
}

func (m *limiter) judge(cl *client, now time.Time) Refusal {
	if m.lim.PerMinute > 0 {
		if now.Before(cl.blocked) {
			return RefusedPerMinute
		}
		if min := now.Unix() / 60; min != cl.minute {
			cl.minute, cl.recent = min, 0
		}
		if cl.recent++; cl.recent > m.lim.PerMinute {
			cl.blocked = now.Add(time.Minute)
			return RefusedPerMinute
		}
	}
	if m.lim.MaxPerIP > 0 && cl.open >= m.lim.MaxPerIP {
		return RefusedPerIP
	}
	if m.bucket != nil && !m.bucket.AllowN(now, 1) {
		return RefusedRate
	}
	return Accepted
}

// leave counts a connection out.
func (m *limiter) leave(net netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total--
	cl := m.clients[net]
	if cl == nil {
		return
	}
	cl.open--
	if cl.open <= 0 && m.lim.PerMinute == 0 {
		delete(m.clients, net)
	}
}

// sweep forgets clients that count for nothing any more; if all do, it forgets
// the per-minute counts of those that are not connected.
func (m *limiter) sweep(now time.Time) {
	for _, all := range []bool{false, true} {
		for net, cl := range m.clients {
			if cl.open <= 0 && (all || (now.After(cl.blocked) && cl.minute != now.Unix()/60)) {
				delete(m.clients, net)
			}
		}
		if len(m.clients) < maxClients {
			return
		}
	}
}

// blocks lists the networks that are refused for having made too many connections in a minute.
func (m *limiter) blocks(now time.Time) map[netip.Prefix]time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[netip.Prefix]time.Time{}
	for net, cl := range m.clients {
		if m.lim.PerMinute > 0 && now.Before(cl.blocked) {
			out[net] = cl.blocked
		}
	}
	return out
}

// unblock lets the network of an address in again, and tells whether it was blocked.
func (m *limiter) unblock(ip netip.Addr, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	cl := m.clients[m.network(ip)]
	if cl == nil || !now.Before(cl.blocked) {
		return false
	}
	cl.blocked, cl.recent = time.Time{}, 0
	return true
}
