package pair_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"mailplusd/cluster/pair"
)

// TestMain lets the random worlds run side by side: they wait most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		f.Value.Set("5")
	}
	os.Exit(m.Run())
}

// Random schedules of crashes, stops, cuts, freezes, switchovers and forced recoveries: when all is
// whole again the nodes come together, and both have what was acknowledged, each once. Never do two
// hold the address, unless the LAN is in two halves or an administrator has forced it.
// PAIR_SEEDS=n runs n of them, PAIR_SEED=s the one of a seed.
func TestRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of faults")
	}
	count, first := 10, rand.Uint64N(1<<32)
	if v, err := strconv.Atoi(os.Getenv("PAIR_SEEDS")); err == nil {
		count = v
	}
	if v, err := strconv.ParseUint(os.Getenv("PAIR_SEED"), 10, 64); err == nil {
		count, first = 1, v
	}
	for i := range count {
		seed := first + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("again: PAIR_SEED=%d go test ./cluster/pair -run TestRandom", seed)
				}
			})
			chaos(t, seed)
		})
	}
}

// fates is what can happen to a world.
type fates struct {
	w      *world
	r      *rand.Rand
	forced bool // an administrator has, or the LAN was in halves: two may hold the address
	cut    bool // the nodes were parted
	froze  bool // one stood still
	wg     sync.WaitGroup
}

func chaos(t *testing.T, seed uint64) {
	f := &fates{r: rand.New(rand.NewPCG(seed, 1))}
	f.w = newWorld(t, []string{"witness", "gateway", "either"}[f.r.IntN(3)])
	t.Logf("arbiter: %s", f.w.arbiter)
	f.w.pairUp()
	f.w.serves(f.w.nodes[0])
	wr := f.w.load(3)
	for range 4 + f.r.IntN(8) {
		f.next()
		f.pump(time.Duration(20+f.r.IntN(1800)) * time.Millisecond)
	}
	t.Log("all is whole again")
	f.heal()
	f.within(60*time.Second, "both in sync", func() bool {
		a, b := f.w.nodes[0].book.Facts(), f.w.nodes[1].book.Facts()
		return a.State == pair.Paired && b.State == pair.Paired && a.Turn == b.Turn && !a.Report && !b.Report
	})
	f.within(20*time.Second, "one serves", func() bool {
		for _, n := range f.w.nodes {
			n.mu.Lock()
			s := n.serving
			n.mu.Unlock()
			if s.Address && n.cluster.IsLeader() {
				return true
			}
		}
		return false
	})
	f.wg.Wait()
	wr.finish(f.w.nodes[0], f.w.nodes[1])
}

// within waits for cond and looks for two holders.
func (f *fates) within(limit time.Duration, what string, cond func() bool) {
	f.w.t.Helper()
	f.w.within(limit, what, func() bool {
		f.allow()
		return cond()
	})
}

// allow forgets two holders if there may be two.
func (f *fates) allow() {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	// By what it sees of the network alone, a node takes a frozen holder for a dead one. If the
	// nodes don't hear each other either, that one goes on where it stood.
	if f.forced || f.cut && f.froze && f.w.arbiter != "witness" {
		f.w.both = ""
	}
}

func (f *fates) pump(d time.Duration) {
	f.w.t.Helper()
	end := time.Now().Add(d)
	f.within(d+20*time.Second, "time passes", func() bool { return time.Now().After(end) })
}

func (f *fates) heal() {
	f.w.mu.Lock()
	f.w.split = false
	f.w.gateway["a"], f.w.gateway["b"] = true, true
	f.w.mu.Unlock()
	for _, p := range [][2]string{{"a", "b"}, {"a", "witness"}, {"b", "witness"}} {
		f.w.Heal(p[0], p[1])
	}
	for _, n := range f.w.nodes {
		if !n.running() {
			n.start()
		}
	}
}

// next lets one thing happen.
func (f *fates) next() {
	w := f.w
	n := w.nodes[f.r.IntN(2)]
	pairs := [][2]string{{"a", "b"}, {"b", "a"}, {"a", "witness"}, {"b", "witness"}}
	p := pairs[f.r.IntN(len(pairs))]
	what, param := f.r.IntN(20), f.r.IntN(2500)
	switch {
	case what < 4 && n.running():
		w.t.Logf("FATE kill %s, guard %v", n.id, param%2 == 0)
		n.kill(param%2 == 0)
	case what < 6 && n.running():
		w.t.Logf("FATE stop %s", n.id)
		n.stop()
	case what < 10 && !n.running():
		w.t.Logf("FATE start %s", n.id)
		n.start()
	case what < 11:
		w.t.Logf("FATE cut %s %s", p[0], p[1])
		w.Cut(p[0], p[1])
		f.cut = f.cut || p[1] != "witness"
	case what < 12:
		w.t.Logf("FATE cut %s to %s", p[0], p[1])
		w.CutOneWay(p[0], p[1])
		f.cut = f.cut || p[1] != "witness"
	case what < 14:
		w.t.Logf("FATE heal %s %s", p[0], p[1])
		w.Heal(p[0], p[1])
	case what < 15:
		w.mu.Lock()
		w.gateway[n.id] = !w.gateway[n.id]
		w.t.Logf("FATE %s reaches the gateway: %v", n.id, w.gateway[n.id])
		w.mu.Unlock()
	case what < 16:
		w.Cut("a", "b")
		w.mu.Lock()
		w.split = !w.split
		f.forced = f.forced || w.arbiter != "witness"
		w.t.Logf("FATE LAN in two halves: %v", w.split)
		w.mu.Unlock()
	case what < 18 && n.running():
		d := time.Duration(param) * time.Millisecond
		w.t.Logf("FATE freeze %s for %s", n.id, d)
		f.froze = true
		f.wg.Go(func() {
			n.frozen.Lock()
			defer n.frozen.Unlock()
			time.Sleep(d) // the freeze itself
		})
	case what < 19 && n.running():
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		w.t.Logf("FATE switch over to %s: %v", n.id, n.ctl.Switchover(ctx, n.id))
	case n.running():
		f.forced = true
		w.t.Logf("FATE recover %s: %v", n.id, n.ctl.Recover(context.Background(), true))
	}
}

// load is write with names of which none is tried twice.
func (w *world) load(n int) *writer {
	ctx, cancel := context.WithCancel(context.Background())
	wr := &writer{w: w, stop: cancel}
	for i := range n {
		wr.wg.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				name := fmt.Sprintf("r%d-%d", i, k)
				pctx, done := context.WithTimeout(ctx, 300*time.Millisecond)
				if w.nodes[k%2].propose(pctx, name) {
					wr.mu.Lock()
					wr.acked = append(wr.acked, name)
					wr.mu.Unlock()
				}
				done()
				time.Sleep(3 * time.Millisecond) // the load, not a wait
			}
		})
	}
	return wr
}
