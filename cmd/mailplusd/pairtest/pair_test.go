package pairtest

import (
	"math/rand/v2"
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

func TestPairNodesDie(t *testing.T) {
	for _, witness := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "witness"}[witness], func(t *testing.T) {
			story(t, siteOptions{witness: witness}, false, "kill the holder", "kill the secondary", "power off the holder", "stop the holder cleanly",
				"stop the secondary cleanly", "power off the secondary", "power cut of both", "power cut of both, the holder first")
		})
	}
}

func TestPairFreezes(t *testing.T) {
	for _, witness := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "witness"}[witness], func(t *testing.T) {
			story(t, siteOptions{witness: witness}, false, "freeze the holder", "freeze the secondary", "freeze the holder for a moment")
		})
	}
}

func TestPairNetwork(t *testing.T) {
	for _, witness := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "witness"}[witness], func(t *testing.T) {
			story(t, siteOptions{witness: witness}, false, "cut the link between the nodes", "cut the holder from everything", "cut the secondary from everything",
				"unplug the holder", "cut the link between the nodes one way", "the holder hears nothing", "the holder is not heard",
				"30 % loss between the nodes", "30 % loss everywhere", "200 ms delay between the nodes")
		})
	}
}

func TestPairSwitchover(t *testing.T) {
	story(t, siteOptions{}, false, "switchover", "switch over there and back", "two administrators switch over at once")
}

func TestPairWitness(t *testing.T) {
	story(t, siteOptions{witness: true}, false, "the witness dies", "the holder loses the witness and the other node")
}

func TestPairSplitLAN(t *testing.T) {
	story(t, siteOptions{}, true, "the LAN falls into two")
}
