package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStoryPrimaryLost: the original primary dies for good.
func TestStoryPrimaryLost(t *testing.T) {
	// covers: R10.81 R11.56 R11.58 R11.59 R11.60 R11.61 R11.62 R11.57
	l := newLAN(t)
	a, b := l.pair()
	l.deliver(l.vip(), "bob@example.test", "before")
	b.has("before", "log", "mail", "list", "--recipient", "bob") // asks a for its latest lines
	a.kill()
	b.is("solo-secondary")
	b.until("b holds the address", func() bool { return b.show().Holder == "b" })
	l.deliver(l.vip(), "bob@example.test", "alone")
	if got := b.inbox("bob"); got != 2 {
		t.Errorf("bob sees %d messages", got)
	}
	b.has("ALONE: b has taken over, a is down", "ha", "show")
	b.has("before", "log", "mail", "list", "--recipient", "bob", "--until", "0s") // what a has logged outlives it
	b.has(" a\n", "log", "mail", "list", "--recipient", "bob", "-o", "wide")
	b.has("settings can't be changed here until a", "ha", "show")
	b.has("mpctl ha show", "status") // the alert
	for _, args := range [][]string{
		{"config", "set", "delivery.max-size=12"}, {"group", "add", "g"}, {"user", "passwd", "bob", "--password-file", b.file("pw2", "another-long-1\n")},
		{"account", "deactivate", "bob"}, {"ha", "set", "--vip", l.prefix + "12"}, {"license", "issue", "--quantity", "5"}, {"domain", "add", "other.example"},
	} {
		b.fails(3, "settings can't be changed here: a,", args...)
	}
	b.fails(3, "does not answer", "ha", "remove", "a", "--confirm=a")
	b.fails(3, "it may take the floating address and serve old mail", "ha", "remove", "a", "--confirm=a")
	b.fails(3, "not in sync", "ha", "switchover", "a")
	// Mail and its queue go on.
	b.ok("mail", "send", "--from", "bob@example.test", "--to", "x@elsewhere.example")
	id := strings.TrimSpace(b.ok("queue", "list", "-o", "name"))
	b.ok("queue", "hold", id)
	b.ok("queue", "release", id)
	// The dead node is removed, and comes back later: it learns of it and touches nothing.
	if _, warn, code := b.mpctl("ha", "remove", "a", "--dead", "--confirm=a"); code != 0 || !strings.Contains(warn, "a was not told that it is removed") {
		t.Errorf("exit %d: %s", code, warn)
	}
	b.is("single")
	b.ok("config", "set", "delivery.max-size=13")
	a.run()
	a.until("a has left the pair", func() bool { return a.show().State == "single" })
	a.until("what a had is put aside, which is done when it starts anew", func() bool {
		kept, _ := filepath.Glob(filepath.Join(a.dir, "removed-*"))
		return len(kept) == 1
	})
	if c, err := dialSMTP(l.vip() + ":2525"); err == nil {
		c.c.Close()
		t.Error("the floating address serves again")
	}
	b.create(a) // and is taken in as the new secondary
	b.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	a.is("pair")
	a.has("13", "config", "get", "delivery.max-size")
}

// TestStorySecondaryLost: the original secondary dies; the primary stays what it is.
func TestStorySecondaryLost(t *testing.T) {
	// covers: R11.56 R11.63 R11.64 R11.65 R11.13 R11.14
	l := newLAN(t)
	a, b := l.pair()
	b.kill()
	a.is("solo-primary")
	a.until("a holds the address", func() bool { return a.show().Holder == "a" })
	l.deliver(l.vip(), "bob@example.test", "alone")
	a.has("ALONE: a serves, b is down", "ha", "show")
	a.ok("config", "set", "delivery.max-hops=42")
	b.run() // it comes back and gets what it missed
	a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	b.is("pair")
	b.has("42", "config", "get", "delivery.max-hops")
	b.kill()
	a.is("solo-primary")
	a.ok("ha", "remove", "b", "--dead", "--confirm=b")
	a.is("single")
	a.ok("config", "set", "delivery.max-hops=43")
}

// TestStoryPairRefused: what must not become a pair.
func TestStoryPairRefused(t *testing.T) {
	// covers: R11.17 R11.18 R11.19 R11.31 R11.36
	l := newLAN(t)
	a, b, c := l.node("a", 2), l.node("b", 3), l.node("c", 4)
	for _, n := range []*twin{a, b, c} {
		n.run()
	}
	create := func(n, peer *twin, invite string) []string {
		return []string{"ha", "create", "--peer", peer.ip, "--vip", l.vip(), "--invite-file", invite, "--yes"}
	}
	old := b.file("old", read(t, b.invite()))
	b.fails(3, "not set up", create(b, c, old)...)
	a.setUp()
	c.setUp()
	c.fails(3, "must be empty", "ha", "invite")
	a.fails(4, "token", create(a, b, a.file("nonsense", "ABCDEF-GHJKMN"))...)
	inv := b.invite() // the older one is void
	a.fails(3, "wrong, expired or used", create(a, b, old)...)
	a.fails(4, "key", create(a, c, inv)...) // it answers with another key than the token's
	a.fails(2, "own address", "ha", "create", "--peer", b.ip, "--vip", b.ip, "--invite-file", inv, "--yes")
	if s := a.show().State; s != "single" {
		t.Fatalf("after refusals: %s", s)
	}
	a.ok(create(a, b, b.invite())...)
	a.fails(3, "part of a pair already", create(a, b, inv)...)
	b.until("b has joined", func() bool { return b.show().State != "single" })
	b.fails(3, "part of a pair already", "ha", "invite")
}

// TestStoryCreateInterrupted kills either daemon at each step of ha create: in the end there is a
// pair, or two single nodes that can become one.
func TestStoryCreateInterrupted(t *testing.T) {
	// covers: R11.39
	for _, tc := range []struct {
		name  string
		kill  string
		facts string // kill when the facts of this node say so
	}{
		{"primary, before the other has joined", "a", `"making": true`},
		{"secondary, when it has joined", "b", `"state": "joining"`},
		{"secondary, before anything", "b", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLAN(t)
			a, b := l.node("a", 2), l.node("b", 3)
			a.run()
			b.run()
			a.setUp()
			l.deliver(a.ip, "bob@example.test", "kept")
			victim := map[string]*twin{"a": a, "b": b}[tc.kill]
			args := []string{"ha", "create", "--peer", b.ip, "--vip", l.vip(), "--invite-file", b.invite(), "--yes"}
			done := make(chan struct{})
			if tc.kill == "a" {
				// Killed between its own facts and the word of the other node that it has joined.
				go func() { defer close(done); a.mpctl(args...) }()
				victim.whenFacts(tc.facts)
			} else if tc.facts == "" {
				close(done)
			} else {
				go func() { defer close(done); a.mpctl(args...) }()
				victim.whenFacts(tc.facts)
			}
			victim.kill()
			if tc.facts == "" {
				a.mpctl(args...)
			}
			<-done
			victim.run()
			settled := func() bool {
				x, y := a.show().State, b.show().State
				return x == "pair" && y == "pair" || x == "single" && y == "single"
			}
			a.until("a pair, or two single nodes", settled)
			if a.show().State == "single" {
				a.create(b)
			}
			a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
			b.is("pair")
			if got := a.inbox("bob"); got != 1 {
				t.Errorf("bob sees %d messages", got)
			}
		})
	}
}

// whenFacts waits, without a pause, until the node's facts contain words.
func (n *twin) whenFacts(words string) {
	n.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; {
		raw, err := os.ReadFile(filepath.Join(n.dir, "ha-state.json"))
		if err == nil && strings.Contains(string(raw), words) {
			return
		}
		if time.Now().After(end) {
			n.t.Fatalf("%s: the facts never said %s", n.name, words)
		}
	}
}

// TestStoryHungPeer: the other process hangs instead of dying.
func TestStoryHungPeer(t *testing.T) {
	// covers: R11.63
	l := newLAN(t)
	a, b := l.pair()
	b.cmd.Process.Signal(syscall.SIGSTOP)
	a.is("solo-primary")
	a.has("no answer", "ha", "show")
	l.deliver(l.vip(), "bob@example.test", "while the other hangs")
	b.cmd.Process.Signal(syscall.SIGCONT)
	a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
}
