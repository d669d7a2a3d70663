package check

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Counter counts what each client does within a minute, and blocks for a minute who does too much
// (R7.68). An IPv6 network of 64 bits is one client. The zero value is ready.
type Counter struct {
	mu sync.Mutex
	m  map[netip.Prefix]*count
}

type count struct {
	minute int64 // Unix minutes
	n      int
	until  time.Time // blocked
}

// Block is a client that is refused for a while.
type Block struct {
	Network netip.Prefix
	Until   time.Time
}

func clientOf(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// Take counts one more, and tells whether it is within the limit.
func (c *Counter) Take(ip netip.Addr, limit int, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := clientOf(ip)
	x := c.m[key]
	if x == nil {
		if len(c.m) >= maxCache {
			c.sweep(now)
		}
		if c.m == nil {
			c.m = map[netip.Prefix]*count{}
		}
		x = &count{}
		c.m[key] = x
	}
	if now.Before(x.until) {
		return false
	}
	if minute := now.Unix() / 60; minute != x.minute {
		x.minute, x.n = minute, 0
	}
	if x.n++; x.n > limit {
		x.until = now.Add(time.Minute)
		return false
	}
	return true
}

// sweep forgets who is not blocked; when everybody is, everybody.
func (c *Counter) sweep(now time.Time) {
	for k, x := range c.m {
		if !now.Before(x.until) {
			delete(c.m, k)
		}
	}
	if len(c.m) >= maxCache {
		clear(c.m)
	}
}

// Blocked tells whether a client is blocked, and counts nothing.
func (c *Counter) Blocked(ip netip.Addr, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.m[clientOf(ip)]
	return x != nil && now.Before(x.until)
}

// Blocks lists who is blocked, by network.
func (c *Counter) Blocks(now time.Time) (out []Block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, x := range c.m {
		if now.Before(x.until) {
			out = append(out, Block{k, x.until})
		}
	}
	slices.SortFunc(out, func(a, b Block) int { return a.Network.Addr().Compare(b.Network.Addr()) })
	return out
}

// Unblock lets a client in again, and tells whether it was blocked.
func (c *Counter) Unblock(ip netip.Addr, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.m[clientOf(ip)]
	if x == nil || !now.Before(x.until) {
		return false
	}
	delete(c.m, clientOf(ip))
	return true
}
