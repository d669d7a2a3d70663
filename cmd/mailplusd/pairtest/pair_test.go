package pairtest

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// story is a pair that lives through faults, one after the other, under load.
func story(t *testing.T, o siteOptions, split bool, names ...string) {
	t.Helper()
	s := newSite(t, o)
	s.form()
	c := s.clients(3, 1)
	c.flow(20, 60*time.Second)
	random := rand.New(rand.NewPCG(o.seed, 7))
	for _, name := range names {
		c.suffer(faultNamed(name), random, 4*time.Second)
	}
	c.verify(split)
}

// stories are the faults by what they prove; ci are those that each test run has time for.
var stories = []struct {
	name    string
	witness []bool
	split   bool
	ci      []string
	faults  []string // further ones, with CHAOS_ALL
}{
	// covers: R11.02 R11.56 R11.57
	{"NodesDie", []bool{false, true}, false, []string{"kill the holder", "power off the secondary", "stop the holder cleanly"},
		[]string{"kill the secondary", "power off the holder", "stop the secondary cleanly", "power cut of both", "power cut of both, the holder first"}},
	{"Freezes", []bool{false, true}, false, []string{"freeze the holder"}, []string{"freeze the secondary", "freeze the holder for a moment"}},
	{"Network", []bool{false, true}, false, []string{"cut the holder from everything", "30 % loss everywhere"},
		[]string{"cut the link between the nodes", "cut the secondary from everything", "unplug the holder", "cut the link between the nodes one way",
			"the holder hears nothing", "the holder is not heard", "30 % loss between the nodes", "200 ms delay between the nodes"}},
	{"Switchover", []bool{false}, false, []string{"switchover", "two administrators switch over at once"}, []string{"switch over there and back"}},
	{"WitnessLost", []bool{true}, false, nil, []string{"the witness dies", "the holder loses the witness and the other node"}},
	{"SplitLAN", []bool{false}, true, []string{"the LAN falls into two"}, nil},
}

func TestPair(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	all := setting(t, "CHAOS_ALL", 0) > 0
	for _, st := range stories {
		for _, witness := range st.witness {
			names := st.ci
			if all {
				names = append(slices.Clone(st.ci), st.faults...)
			} else if witness && len(st.witness) > 1 {
				names = st.ci[:1]
			}
			if len(names) == 0 {
				continue
			}
			t.Run(st.name+map[bool]string{false: "", true: "WithWitness"}[witness], func(t *testing.T) {
				t.Parallel()
				story(t, siteOptions{witness: witness}, st.split, names...)
			})
		}
	}
}
