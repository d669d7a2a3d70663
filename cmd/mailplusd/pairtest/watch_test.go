package pairtest

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// holderWatch asks both nodes' kernels who has the floating address, past all faults of the
// network: a node that is cut off and still has it counts as a holder, too.
type holderWatch struct {
	site   *site
	mu     sync.Mutex
	rounds [64]round
	n      int
	holder string // the last that answered
	moves  []move
	double []string
}

type round struct {
	answers []string
	void    bool // too long between the two questions to say "at one time"
}

type move struct {
	at     time.Duration // since the start
	holder string
}

// tagged is the sender that marks the requests of a round: replies name it as their target.
func tagged(round int) [4]byte { return [4]byte{10, 99, 0, byte(128 + round%64)} }

// seen is called by the switch for every frame.
func (w *holderWatch) seen(p *port, frame []byte) {
	addr, _, reply, ok := arpSender(frame)
	if !ok || !reply || addr != vip.As4() || p.name != "a" && p.name != "b" {
		return
	}
	target := frame[arpTarget+3]
	if frame[arpTarget+2] != 0 || target < 128 || target >= 192 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &w.rounds[target-128]
	if !slices.Contains(r.answers, p.name) {
		r.answers = append(r.answers, p.name)
	}
	if w.holder != p.name && (len(r.answers) == 1 || len(w.moves) == 0) {
		w.holder = p.name
		w.moves = append(w.moves, move{w.site.age(), p.name})
	}
	if len(r.answers) > 1 && !r.void {
		w.double = append(w.double, fmt.Sprintf("%s: both %s hold %s", w.site.age().Round(time.Millisecond), r.answers, vip))
	}
}

// ask does a round.
func (w *holderWatch) ask() {
	w.mu.Lock()
	w.n++
	n := w.n
	w.rounds[n%64] = round{void: true}
	w.mu.Unlock()
	frame := arpRequest(w.site.client.mac, tagged(n), vip.As4())
	began := time.Now()
	for _, m := range []*machine{w.site.a.machine, w.site.b.machine} {
		m.port.file.Write(frame)
	}
	took := time.Since(began)
	w.mu.Lock()
	defer w.mu.Unlock()
	// In a planned move the address is at the other node within a millisecond or two.
	r := &w.rounds[n%64]
	if r.void = took > 500*time.Microsecond; !r.void && len(r.answers) > 1 {
		w.double = append(w.double, fmt.Sprintf("%s: both %s hold %s", w.site.age().Round(time.Millisecond), r.answers, vip))
	}
}

func (w *holderWatch) run(stop <-chan struct{}) {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			w.ask()
		}
	}
}

// now says who holds the address, by a round of its own.
func (w *holderWatch) now() string {
	w.ask()
	time.Sleep(2 * time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.rounds[w.n%64].answers; len(a) == 1 {
		return a[0]
	}
	return ""
}

var vip = netip.MustParseAddr("10.99.0.10")
