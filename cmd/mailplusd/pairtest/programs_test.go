package pairtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// swaks sends messages with swaks, one after the other: who gets no answer does not repeat it.
func (c *clients) swaks(name string) {
	for n := 1; !c.done(); n++ {
		id := fmt.Sprintf("%s-%06d", name, n)
		c.rec.sending(id, "INBOX")
		ctx, cancel := context.WithTimeout(context.Background(), 2*answerTime)
		cmd := exec.CommandContext(ctx, "swaks", "--server", vip.String(), "--helo", "client.test", "--from", "sender@client.test",
			"--to", "alice@example.test", "--timeout", "20", "--data", "-", "--silent", "3")
		cmd.Stdin = strings.NewReader(strings.TrimSuffix(message(id), "\r\n")) // it ends the last line itself
		var err error
		c.s.client.do(func() { err = cmd.Start() })
		if err == nil {
			err = cmd.Wait()
		}
		cancel()
		if err == nil {
			c.rec.acked(id)
		} else {
			c.rest(50 * time.Millisecond)
		}
	}
}

// by counts the acknowledged messages of one client.
func (r *record) by(name string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, s := range r.sent {
		if s.acked && strings.HasPrefix(id, name+"-") {
			n++
		}
	}
	return n
}

// TestPrograms takes a pair through failovers under clients that others have written: Postfix and swaks
// bring mail, mbsync keeps a copy, and a client waits in IDLE. PROGRAMS_ROUNDS says how often.
func TestPrograms(t *testing.T) {
	// covers: R11.02 R11.57 I.72
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	needMachines(t)
	needPrograms(t, "postfix", "postqueue", "swaks", "mbsync", "openssl")
	t.Parallel()
	s := newSite(t, siteOptions{witness: true, lease: "default"})
	s.form()
	c := s.clients(0, 0)
	p := startPostfix(s)
	s.client.run(&c.wg, func() { c.sender(postfixAddr, "p", 60*time.Millisecond) })
	c.wg.Go(func() { c.swaks("w") })
	m := c.mirror()
	if err := m.sync(); err != nil {
		t.Fatal(m.last)
	}
	c.wg.Go(m.loop)
	var waits sync.WaitGroup
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop); waits.Wait() })
	t.Cleanup(end)
	idle := c.idler(&waits, stop)

	random := rand.New(rand.NewPCG(1, 2))
	for range max(1, setting(t, "PROGRAMS_ROUNDS", 1)) {
		for _, f := range []string{"kill the holder", "switchover"} {
			_, woken, connected, _ := idle.counts()
			s.poll(60*time.Second, "the client in IDLE is told of mail", func() bool { _, now, _, _ := idle.counts(); return now > woken })
			c.suffer(faultNamed(f), random, 0)
			s.poll(60*time.Second, "the client in IDLE is back", func() bool { _, _, now, _ := idle.counts(); return now > connected })
		}
	}
	_, woken, _, _ := idle.counts()
	s.poll(60*time.Second, "the client in IDLE is told of mail", func() bool { _, now, _, _ := idle.counts(); return now > woken })
	c.flow(5, 60*time.Second)
	c.end()
	p.drain(60 * time.Second)
	m.settle()
	tried, unanswered := p.account(c.rec)
	boxes := c.hold(false)
	m.settle() // what came into the inbox at last
	m.compare(boxes)
	s.poll(60*time.Second, "the client in IDLE has heard of every message", func() bool { return len(idle.lacks(c.rec)) == 0 })
	told, woken, connected, meanwhile := idle.counts()
	end()
	if meanwhile == 0 {
		t.Error("no message came while the client in IDLE was away: nothing was proved")
	}
	t.Logf("Postfix: %d messages, %d attempts deferred, %d of them without an answer to the whole message", c.rec.by("p"), tried, unanswered)
	t.Logf("swaks: %d acknowledged", c.rec.by("w"))
	t.Logf("IDLE: told of %d messages, woken %d times, connected %d times, %d messages came in between", told, woken, connected, meanwhile)
}
