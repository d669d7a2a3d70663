package pairtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// fault is something that happens to a pair in sync, and ends. Afterwards the pair is to come
// into sync by itself.
type fault struct {
	name    string
	serves  bool // somebody serves while it lasts
	witness bool // makes sense with a witness only
	plain   bool // makes sense without one only
	split   bool // both nodes may serve at one time, and are merged
	do      func(s *site, random *rand.Rand)
	end     func(s *site)
}

// faults that a pair must live through.
var faults = []fault{
	{name: "kill the holder", serves: true, do: func(s *site, _ *rand.Rand) { s.holder().kill() }, end: restart},
	{name: "kill the secondary", serves: true, do: func(s *site, _ *rand.Rand) { s.other(s.holder()).kill() }, end: restart},
	{name: "power off the holder", serves: true, do: func(s *site, _ *rand.Rand) { s.holder().powerOff() }, end: restart},
	{name: "power off the secondary", serves: true, do: func(s *site, _ *rand.Rand) { s.other(s.holder()).powerOff() }, end: restart},
	{name: "stop the holder cleanly", serves: true, do: func(s *site, _ *rand.Rand) { stopCleanly(s.holder()) }, end: restart},
	{name: "stop the secondary cleanly", serves: true, do: func(s *site, _ *rand.Rand) { stopCleanly(s.other(s.holder())) }, end: restart},
	{name: "freeze the holder", serves: true, do: func(s *site, _ *rand.Rand) { s.holder().signal(syscall.SIGSTOP) }, end: thaw},
	{name: "freeze the secondary", serves: true, do: func(s *site, _ *rand.Rand) { s.other(s.holder()).signal(syscall.SIGSTOP) }, end: thaw},
	{name: "freeze the holder for a moment", do: func(s *site, r *rand.Rand) {
		h := s.holder()
		h.signal(syscall.SIGSTOP)
		time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond) // what the fault is, not a wait for an event
	}, end: thaw},
	{name: "cut the link between the nodes", serves: true, do: func(s *site, _ *rand.Rand) {
		s.note("IP between a and b cut")
		s.sw.both("a", "b", way{cut: true, ipOnly: true})
	}, end: heal},
	{name: "cut the link between the nodes one way", do: func(s *site, r *rand.Rand) {
		from, to := "a", "b"
		if r.IntN(2) == 0 {
			from, to = to, from
		}
		s.note("IP from %s to %s cut", from, to)
		s.sw.set(from, to, way{cut: true, ipOnly: true})
	}, end: heal},
	{name: "cut the holder from everything", serves: true, do: func(s *site, _ *rand.Rand) { cutOff(s, s.holder()) }, end: heal},
	{name: "cut the secondary from everything", serves: true, do: func(s *site, _ *rand.Rand) { cutOff(s, s.other(s.holder())) }, end: heal},
	{name: "unplug the holder", serves: true, do: func(s *site, _ *rand.Rand) { unplug(s, s.holder()) }, end: heal},
	{name: "the holder hears nothing", do: func(s *site, _ *rand.Rand) {
		h := s.holder()
		s.note("nothing reaches %s", h.name)
		s.sw.set("", h.name, way{cut: true})
	}, end: heal},
	{name: "the holder is not heard", do: func(s *site, _ *rand.Rand) {
		h := s.holder()
		s.note("nothing comes from %s", h.name)
		s.sw.set(h.name, "", way{cut: true})
	}, end: heal},
	{name: "30 % loss between the nodes", do: func(s *site, _ *rand.Rand) {
		s.note("30 %% loss between a and b")
		s.sw.both("a", "b", way{percent: 30})
	}, end: heal},
	{name: "30 % loss everywhere", do: func(s *site, _ *rand.Rand) {
		s.note("30 %% loss")
		s.sw.set("", "", way{percent: 30})
	}, end: heal},
	{name: "200 ms delay between the nodes", do: func(s *site, _ *rand.Rand) {
		s.note("100 ms delay each way between a and b")
		s.sw.both("a", "b", way{delay: 100 * time.Millisecond})
	}, end: heal},
	{name: "power cut of both", do: func(s *site, _ *rand.Rand) { s.a.powerOff(); s.b.powerOff() }, end: restart},
	{name: "power cut of both, the holder first", do: func(s *site, _ *rand.Rand) {
		h := s.holder()
		h.powerOff()
		s.poll(30*time.Second, "takeover", func() bool { return s.watch.now() == s.other(h).name })
		s.other(h).powerOff()
	}, end: restart},
	{name: "switchover", serves: true, do: func(s *site, _ *rand.Rand) { s.switchover() }, end: heal},
	{name: "two administrators switch over at once", serves: true, do: func(s *site, _ *rand.Rand) {
		to := s.other(s.holder()).name
		var wg sync.WaitGroup
		for _, n := range []*node{s.a, s.b} {
			wg.Go(func() { s.mpctl(n, "ha", "switchover", to) })
		}
		wg.Wait()
		s.note("two administrators switched over to %s", to)
	}, end: heal},
	{name: "switch over there and back", serves: true, do: func(s *site, _ *rand.Rand) {
		for range 4 {
			s.switchover()
		}
	}, end: heal},
	{name: "the witness dies", witness: true, serves: true, do: func(s *site, _ *rand.Rand) { s.witness.kill() }, end: restart},
	{name: "the holder loses the witness and the other node", witness: true, do: func(s *site, _ *rand.Rand) {
		h := s.holder()
		s.note("%s is cut from the other node and the witness", h.name)
		for _, n := range s.nodes() {
			if n != h {
				s.sw.both(h.name, n.name, way{cut: true})
			}
		}
	}, end: heal},
	{name: "the LAN falls into two", plain: true, split: true, serves: true, do: func(s *site, _ *rand.Rand) {
		s.note("a and b see the gateway and not each other")
		s.sw.both("a", "b", way{cut: true})
		// Without a witness both may go on, which is what the merge is for: the fault is not there before.
		s.poll(30*time.Second, "both nodes serve", func() bool {
			s.watch.mu.Lock()
			defer s.watch.mu.Unlock()
			return len(s.watch.double) > 0
		})
	}, end: heal},
}

// switchover moves the address, if the nodes agree.
func (s *site) switchover() {
	h := s.holder()
	out, err := s.mpctl(h, "ha", "switchover", s.other(h).name)
	s.note("switchover from %s: %v %s", h.name, err, firstLine(out, err))
}

func firstLine(out string, err error) string {
	if err == nil {
		return ""
	}
	for i, c := range out {
		if c == '\n' {
			return out[:i]
		}
	}
	return out
}

func stopCleanly(n *node) {
	n.signal(syscall.SIGTERM)
	select {
	case <-n.ended:
	case <-time.After(40 * time.Second):
		n.s.t.Fatalf("%s does not stop", n.name)
	}
}

func cutOff(s *site, n *node) {
	s.note("%s cut from everything", n.name)
	s.sw.both(n.name, "", way{cut: true})
}

func unplug(s *site, n *node) {
	s.note("%s unplugged", n.name)
	s.sw.both(n.name, "", way{cut: true})
	if err := n.port.carrier(false); err != nil {
		s.t.Fatal(err)
	}
}

// heal ends what the network does.
func heal(s *site) {
	s.note("network heals")
	s.sw.heal()
}

// restart starts what has ended.
func restart(s *site) {
	heal(s)
	for _, n := range s.nodes() {
		if !n.runs() {
			n.start()
		}
	}
}

func thaw(s *site) {
	for _, n := range s.nodes() {
		if n.runs() {
			n.cmd.Process.Signal(syscall.SIGCONT)
		}
	}
	s.note("frozen processes go on")
}

func faultNamed(name string) fault {
	for _, f := range slices.Concat(faults, clockFaults) {
		if f.name == name {
			return f
		}
	}
	panic(fmt.Sprintf("no fault %q", name))
}

// suffer lets a fault happen under load and end.
func (c *clients) suffer(f fault, random *rand.Rand, lasts time.Duration) {
	s := c.s
	s.t.Helper()
	s.note("== %s, %s", f.name, lasts)
	c.gaps.reset()
	c.rec.longest()
	f.do(s, random)
	if f.serves {
		c.flow(10, 60*time.Second)
	} else {
		time.Sleep(lasts) // what the fault is, not a wait for an event
	}
	f.end(s)
	c.flow(10, 60*time.Second)
	s.sync()
	s.t.Logf("%s: longest time without a greeting %s, without an acknowledgement %s", f.name,
		c.gaps.reset().Round(time.Millisecond), c.rec.longest().Round(time.Millisecond))
}
