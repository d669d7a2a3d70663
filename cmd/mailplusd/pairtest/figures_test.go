package pairtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestFigures measures at a client how long an event is felt. FIGURES says how often
// each is done; it prints the rows of docs/performance.md and holds no time against anything.
func TestFigures(t *testing.T) {
	n := setting(t, "FIGURES", 0)
	if n == 0 {
		t.Skip("make bench-failover measures how long an event is felt")
	}
	var rows []string
	for _, r := range []struct {
		event  string
		o      siteOptions
		before func(s *site)
		after  func(s *site)
	}{
		{"planned switchover: without a greeting", siteOptions{lease: "default"}, func(s *site) { s.switchover() }, heal},
		{"kill -9 of the holder, witness", siteOptions{lease: "default", witness: true}, func(s *site) { s.holder().kill() }, restart},
		{"kill -9 of the holder, no witness", siteOptions{lease: "default"}, func(s *site) { s.holder().kill() }, restart},
		{"SIGSTOP of the holder, default lease", siteOptions{lease: "default"}, func(s *site) { s.holder().signal(syscall.SIGSTOP) }, thaw},
		{"SIGSTOP of the holder, short lease", siteOptions{lease: "short"}, func(s *site) { s.holder().signal(syscall.SIGSTOP) }, thaw},
		{"cable of the holder cut, default lease", siteOptions{lease: "default"}, func(s *site) { cutOff(s, s.holder()) }, heal},
		{"cable of the holder cut, short lease", siteOptions{lease: "short"}, func(s *site) { cutOff(s, s.holder()) }, heal},
	} {
		if ok := t.Run(r.event, func(t *testing.T) { rows = append(rows, outages(t, r.event, r.o, n, r.before, r.after)) }); !ok {
			return
		}
	}
	t.Run("death of the secondary", func(t *testing.T) { rows = append(rows, stalls(t, n)) })
	t.Logf("\n| event | n | median ms | shortest | worst |\n|---|---|---|---|---|\n%s", strings.Join(rows, "\n"))
}

func row(event string, all []time.Duration) string {
	slices.Sort(all)
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
	return fmt.Sprintf("| %s | %d | %s | %s | %s |", event, len(all), ms(all[len(all)/2]), ms(all[0]), ms(all[len(all)-1]))
}

// outages gives the longest time between two greetings for each event.
func outages(t *testing.T, event string, o siteOptions, n int, before, after func(*site)) string {
	s := newSite(t, o)
	s.form()
	p := &prober{every: 3 * time.Millisecond}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	s.client.run(&wg, func() { p.run(s, stop) })
	defer func() { close(stop); wg.Wait() }()
	s.poll(30*time.Second, "greetings", func() bool { return p.count() > 20 }) // a gap has a beginning
	var all []time.Duration
	for range n {
		from := s.holder()
		p.reset()
		before(s)
		s.poll(30*time.Second, "the other node holds the address", func() bool { return s.watch.now() == s.other(from).name })
		ok := p.count()
		s.poll(30*time.Second, "greetings", func() bool { return p.count() > ok+20 })
		all = append(all, p.reset())
		after(s)
		s.sync()
	}
	return row(event, all)
}

// stalls gives how long a sender waited for an answer while the secondary died.
func stalls(t *testing.T, n int) string {
	s := newSite(t, siteOptions{lease: "default"})
	s.form()
	c := &clients{s: s, rec: newRecord(), stop: make(chan struct{})}
	s.client.run(&c.wg, func() { c.sender(floating, "s0", 5*time.Millisecond) })
	defer c.end()
	c.flow(20, 30*time.Second)
	var all []time.Duration
	for range n {
		c.rec.longest()
		s.other(s.holder()).powerOff()
		c.flow(20, 30*time.Second)
		all = append(all, c.rec.longest())
		restart(s)
		s.sync()
	}
	return row("death of the secondary: a sender without an answer", all)
}
