package transport

import (
	"net/netip"
	"sync"
)

// gate bounds handshakes under way. Strangers share one set of places, of which an address
// may have an eighth; addresses of peers share another.
type gate struct {
	mu       sync.Mutex
	places   int
	strange  int
	familiar int
	each     map[netip.Addr]int
	known    map[netip.Addr]bool
}

func newGate(places int) *gate {
	return &gate{places: places, each: map[netip.Addr]int{}}
}

func (g *gate) setKnown(hosts map[netip.Addr]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = hosts
}

// enter takes a place for a connection from ip; ok is false if there is none. leave gives it
// back and must then be called once.
func (g *gate) enter(ip netip.Addr) (leave func(), ok bool) {
	ip = ip.Unmap().WithZone("")
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known[ip] {
		if g.familiar >= g.places {
			return nil, false
		}
		g.familiar++
		return func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.familiar--
		}, true
	}
	if g.strange >= g.places || g.each[ip] >= max(g.places/8, 1) {
		return nil, false
	}
	g.strange++
	g.each[ip]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.strange--
		if g.each[ip]--; g.each[ip] == 0 {
			delete(g.each, ip)
		}
	}, true
}
