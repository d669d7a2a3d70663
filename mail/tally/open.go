package tally

import (
	"net/netip"
	"sync"
	"time"
)

// Open counts what each client has open at a time (R7.66). The zero value is ready.
type Open struct {
	mu    sync.Mutex
	here  map[netip.Prefix]int // accepted by this node, wherever it is served
	taken map[netip.Prefix]int // accepted by the other node and served here
	there map[netip.Prefix]int // accepted by the other node, as it said last
	until time.Time            // what it said counts no longer
	moved bool                 // here is another one than the other node was told
}

// Place is one thing that is open. The zero value is none.
type Place struct {
	key   netip.Prefix
	taken bool
}

// Enter counts one more, unless the client has as many as limit; 0: there is none.
func (o *Open) Enter(ip netip.Addr, limit int, now time.Time) (Place, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := Client(ip)
	if limit > 0 {
		n := o.taken[key]
		if now.Before(o.until) {
			n = max(n, o.there[key]) // what is taken in was counted there
		}
		if o.here[key]+n >= limit {
			return Place{}, false
		}
	}
	if o.here == nil {
		o.here = map[netip.Prefix]int{}
	}
	o.here[key]++
	o.moved = true
	return Place{key: key}, true
}

// Take counts one that the other node has accepted.
func (o *Open) Take(ip netip.Addr) Place {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.taken == nil {
		o.taken = map[netip.Prefix]int{}
	}
	key := Client(ip)
	o.taken[key]++
	return Place{key, true}
}

// Leave counts it out.
func (o *Open) Leave(p Place) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.here
	if p.taken {
		m = o.taken
	} else {
		o.moved = true
	}
	if m[p.key]--; m[p.key] <= 0 {
		delete(m, p.key)
	}
}

// news gives what is open here if the other node was told something else, or is to hear everything.
func (o *Open) news(all bool) (out []Count, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !all && !o.moved {
		return nil, false
	}
	o.moved = false
	out = make([]Count, 0, min(len(o.here), maxEntries))
	for k, n := range o.here {
		if k.IsValid() && len(out) < maxEntries {
			out = append(out, Count{k, n})
		}
	}
	return out, true
}

// learn takes over what is open at the other node.
func (o *Open) learn(counts []Count) {
	there := make(map[netip.Prefix]int, len(counts))
	for _, c := range counts {
		there[c.Network] = c.N
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.there = there
}

// heard says until when what the other node said counts.
func (o *Open) heard(until time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.until = until
}
