package main

import (
	"strings"
	"testing"
)

// TestStoryLastResort: the administrator's word where nobody else may give it. The command is the one that
// ha show names; on both nodes, one after the other, it makes two histories, which are merged: mail of
// either is there, once, and mpctl says what was decided.
func TestStoryLastResort(t *testing.T) {
	// covers: I.75
	l := newLAN(t)
	a, b := l.pair()
	a.ok("ha", "set", "--arbiter", "manual")
	l.deliver(l.vip(), "bob@example.test", "before")
	b.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	a.fails(3, "needs no recovery", "ha", "recover", "a", "--force", "--confirm=a")
	a.fails(2, "run the command on b itself", "ha", "recover", "b", "--force", "--confirm=b")
	b.fails(3, "a serves", "ha", "recover", "b", "--force", "--confirm=b")
	a.kill()
	byWord := func(n *twin, subject string) {
		t.Helper()
		command := "mpctl ha recover " + n.name + " --force --confirm=" + n.name
		n.until("it may not serve, and says what to do", func() bool { return strings.Contains(n.show().Advice, command) })
		args := strings.Fields(command)[1:]
		n.fails(3, "--confirm="+n.name, args[:4]...)
		n.fails(3, "this is the last resort", append(args[:3:3], args[4])...)
		if c, err := dialSMTP(l.vip() + ":2525"); err == nil {
			c.c.Close()
			t.Errorf("%s serves without a word", n.name)
		}
		n.ok(args...)
		n.until("it serves", func() bool { return n.show().Holder == n.name })
		l.deliver(l.vip(), "bob@example.test", subject)
	}
	byWord(b, "at b")
	b.kill()
	a.run()
	byWord(a, "at a")
	b.run()
	for _, n := range []*twin{a, b} {
		n.is("pair")
		n.ok("ha", "wait", "--for", "sync", "--timeout", "60")
		if got := n.inbox("bob"); got != 3 {
			t.Errorf("bob sees %d messages on %s, want 3", got, n.name)
		}
		n.has("1 messages added", "ha", "merge", "list")
		n.has(`"done"`, "ha", "merge", "show", "1", "-o", "json")
		n.fails(7, "no merge", "ha", "merge", "show", "2")
	}
}
