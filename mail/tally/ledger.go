package tally

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Ledger is all that a node counts. The zero value is ready.
type Ledger struct {
	mu     sync.Mutex
	rates  map[string]*Rate
	opens  map[string]*Open
	shared bool
	run    uint64
	wake   chan struct{}
}

// silence is how long what the other node said of open connections counts: some reports may be late.
const silence = 5 * time.Second

func (l *Ledger) init() {
	if l.run == 0 {
		l.run = rand.Uint64() | 1
		l.rates, l.opens = map[string]*Rate{}, map[string]*Open{}
		l.wake = make(chan struct{}, 1)
	}
}

// Rate gives the count of a name, the same one each time.
func (l *Ledger) Rate(name string) *Rate {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init()
	r := l.rates[name]
	if r == nil {
		r = &Rate{}
		r.share(l.shared, l.awake)
		l.rates[name] = r
	}
	return r
}

// Open gives the open ones of a name, the same each time.
func (l *Ledger) Open(name string) *Open {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init()
	o := l.opens[name]
	if o == nil {
		o = &Open{}
		l.opens[name] = o
	}
	return o
}

func (l *Ledger) awake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Wake tells when there is something that the other node should hear at once.
func (l *Ledger) Wake() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init()
	return l.wake
}

// Run is another number after each start of the process: the node has forgotten what it was told.
func (l *Ledger) Run() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init()
	return l.run
}

// Share says whether there is another node to report to. Without one nothing is kept for it.
func (l *Ledger) Share(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init()
	if l.shared == on {
		return
	}
	l.shared = on
	for _, r := range l.rates {
		r.share(on, l.awake)
	}
}

// all gives the counts by name.
func (l *Ledger) all() (map[string]*Rate, map[string]*Open) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init()
	return maps.Clone(l.rates), maps.Clone(l.opens)
}

// Report gives what the other node has not been told; with all, everything that it should know: it has
// started anew, or a report was lost.
func (l *Ledger) Report(all bool, now time.Time) Report {
	rates, opens := l.all()
	out := Report{All: all}
	room := maxEntries
	for _, name := range slices.Sorted(maps.Keys(rates)) {
		counts, blocks := rates[name].news(all, now)
		for _, b := range blocks[:min(len(blocks), room)] { // first: they matter most
			out.Blocks = append(out.Blocks, Blocked{name, b.Network, min(b.Until.Sub(now), blockTime).Milliseconds()})
			room--
		}
		counts = counts[:min(len(counts), room)]
		if room -= len(counts); len(counts) > 0 {
			out.Counts = append(out.Counts, Named{name, counts})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(opens)) {
		if counts, ok := opens[name].news(all); ok {
			counts = counts[:min(len(counts), room)]
			room -= len(counts)
			out.Open = append(out.Open, Named{name, counts})
		}
	}
	return out
}

// room tells whether there may be a count of a name; the other node can't make any number of them.
func (l *Ledger) room(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init()
	return (l.rates[name] != nil || len(l.rates) < maxNames) && (l.opens[name] != nil || len(l.opens) < maxNames)
}

// Learn takes over what the other node reports.
func (l *Ledger) Learn(r Report, now time.Time) {
	for _, s := range r.Counts {
		if !l.room(s.Name) {
			continue
		}
		for _, c := range s.Counts {
			l.Rate(s.Name).learn(c, now)
		}
	}
	for _, b := range r.Blocks {
		left := min(time.Duration(b.Left)*time.Millisecond, blockTime)
		if l.room(b.Name) {
			l.Rate(b.Name).learnBlock(Block{b.Network, now.Add(left)}, now)
		}
	}
	named := map[string]bool{}
	for _, s := range r.Open {
		if named[s.Name] = true; l.room(s.Name) {
			l.Open(s.Name).learn(s.Counts)
		}
	}
	_, opens := l.all()
	for name, o := range opens {
		if r.All && !named[name] {
			o.learn(nil)
		}
		o.heard(now.Add(silence))
	}
}

// Blocks lists who is blocked, by the name of the count.
func (l *Ledger) Blocks(now time.Time) map[string][]Block {
	rates, _ := l.all()
	out := map[string][]Block{}
	for name, r := range rates {
		if b := r.Blocks(now); len(b) > 0 {
			out[name] = b
		}
	}
	return out
}

// Unblock lets a client in again, and tells whether it was blocked.
func (l *Ledger) Unblock(ip netip.Addr, now time.Time) bool {
	rates, _ := l.all()
	found := false
	for _, r := range rates {
		found = r.Unblock(ip, now) || found
	}
	return found
}
