package pairtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestChaos lets pairs suffer random faults in a random order: CHAOS_SEEDS says how many, CHAOS_SEED
// with which number they begin, CHAOS_FAULTS how many faults each.
func TestChaos(t *testing.T) {
	seeds, first, n := setting(t, "CHAOS_SEEDS", 2), setting(t, "CHAOS_SEED", 1), setting(t, "CHAOS_FAULTS", 2)
	if os.Getenv("CHAOS_SEEDS") == "" && os.Getenv("CHAOS_SEED") != "" {
		seeds = 1
	}
	if testing.Short() {
		t.Skip("takes minutes")
	}
	for seed := uint64(first); seed < uint64(first+seeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("again: CHAOS_SEED=%d CHAOS_FAULTS=%d go test -count=1 -run TestChaos ./cmd/mailplusd/pairtest", seed, n)
				}
			})
			chaos(t, seed, n)
		})
	}
}

func setting(t *testing.T, name string, def int) int {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q", name, v)
	}
	return n
}

func chaos(t *testing.T, seed uint64, n int) {
	random := rand.New(rand.NewPCG(seed, 0))
	o := siteOptions{seed: seed, witness: random.IntN(2) == 0}
	if random.IntN(3) == 0 {
		o.sharing = "balanced"
	}
	s := newSite(t, o)
	s.form()
	c := s.clients(3, 2)
	c.flow(20, 60*time.Second)
	split := false
	for range n {
		f := faults[random.IntN(len(faults))]
		for f.witness && !o.witness || f.plain && o.witness {
			f = faults[random.IntN(len(faults))]
		}
		split = split || f.split
		c.suffer(f, random, time.Duration(500+random.IntN(6000))*time.Millisecond)
	}
	c.verify(split)
}
