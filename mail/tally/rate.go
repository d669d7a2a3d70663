package tally

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	blockTime  = time.Minute // R7.68, R7.70
	maxClients = 1 << 16     // that are counted at a time
)

// Rate counts what each client does within a minute, and blocks for a minute who does too much
// (R7.68, R7.70). An IPv6 network of 64 bits is one client. The zero value is ready.
type Rate struct {
	mu     sync.Mutex
	m      map[netip.Prefix]*count
	shared bool           // another node is to hear of it
	wake   func()         // a block has begun; it must not wait
	untold []*count       // whose count the other node doesn't know
	blocks []netip.Prefix // that have begun since the other node was told
}

type count struct {
	key    netip.Prefix
	minute int64 // Unix minutes
	n      int
	untold int       // of n
	until  time.Time // blocked
}

// Block is a client that is refused for a while.
type Block struct {
	Network netip.Prefix
	Until   time.Time
}

// Client is what counts as one client: an IPv4 address, or a /64 of IPv6.
func Client(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// Take counts one more, and tells whether it is within the limit.
func (r *Rate) Take(ip netip.Addr, limit int, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.count(Client(ip), now)
	if now.Before(x.until) {
		return false
	}
	x.add(1, now)
	if r.shared {
		if x.untold++; x.untold == 1 && len(r.untold) < maxClients {
			r.untold = append(r.untold, x)
		}
	}
	if x.n <= limit {
		return true
	}
	x.until = now.Add(blockTime)
	if r.shared {
		r.blocks = append(r.blocks, x.key)
		r.wake()
	}
	return false
}

// count gives the client's count, making it and room for it.
func (r *Rate) count(key netip.Prefix, now time.Time) *count {
	x := r.m[key]
	if x != nil {
		return x
	}
	if len(r.m) >= maxClients {
		r.sweep(now)
	}
	if r.m == nil {
		r.m = map[netip.Prefix]*count{}
	}
	x = &count{key: key}
	r.m[key] = x
	return x
}

func (x *count) add(n int, now time.Time) {
	if minute := now.Unix() / 60; minute != x.minute {
		x.minute, x.n, x.untold = minute, 0, 0
	}
	x.n += n
}

// sweep forgets who does not count any more; when everybody does, who is not blocked; when everybody
// is, everybody.
func (r *Rate) sweep(now time.Time) {
	for _, all := range []bool{false, true} {
		for k, x := range r.m {
			if !now.Before(x.until) && (all || x.minute != now.Unix()/60) {
				delete(r.m, k)
			}
		}
		if len(r.m) < maxClients {
			return
		}
	}
	clear(r.m)
}

// Blocked tells whether a client is blocked, and counts nothing.
func (r *Rate) Blocked(ip netip.Addr, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.m[Client(ip)]
	return x != nil && now.Before(x.until)
}

// Done is how much a client has done within this minute, as far as this node knows.
func (r *Rate) Done(ip netip.Addr, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.m[Client(ip)]; x != nil && x.minute == now.Unix()/60 {
		return x.n
	}
	return 0
}

// Blocks lists who is blocked, by network.
func (r *Rate) Blocks(now time.Time) (out []Block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, x := range r.m {
		if now.Before(x.until) {
			out = append(out, Block{k, x.until})
		}
	}
	slices.SortFunc(out, func(a, b Block) int { return a.Network.Addr().Compare(b.Network.Addr()) })
	return out
}

// Unblock lets a client in again with a count of nothing, and tells whether it was blocked.
func (r *Rate) Unblock(ip netip.Addr, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := Client(ip)
	x := r.m[key]
	if x == nil {
		return false
	}
	was := now.Before(x.until)
	x.until, x.n, x.untold = time.Time{}, 0, 0
	r.blocks = slices.DeleteFunc(r.blocks, func(k netip.Prefix) bool { return k == key })
	return was
}

// share says whether another node is to hear of it.
func (r *Rate) share(on bool, wake func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shared, r.wake = on, wake; !on {
		r.forget()
	}
}

func (r *Rate) forget() {
	for _, x := range r.untold {
		x.untold = 0
	}
	r.untold, r.blocks = nil, nil
}

// news gives what the other node has not been told, with all blocks if it is to hear everything.
func (r *Rate) news(all bool, now time.Time) (counts []Count, blocks []Block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.untold {
		if x.untold > 0 && x.minute == now.Unix()/60 {
			counts = append(counts, Count{x.key, x.untold})
			x.untold = 0 // it is there twice when a minute has begun
		}
	}
	keys := r.blocks
	if all {
		keys = nil
		for k := range r.m {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		if x := r.m[k]; x != nil && now.Before(x.until) {
			blocks = append(blocks, Block{k, x.until})
		}
	}
	r.forget()
	return counts, blocks
}

// learn adds what a client did at the other node. Who did too much is blocked with the next thing that it does.
func (r *Rate) learn(c Count, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(c.Network, now).add(c.N, now)
}

// learnBlock takes over a block of the other node.
func (r *Rate) learnBlock(b Block, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.count(b.Network, now); b.Until.After(x.until) {
		x.until = b.Until
	}
}
