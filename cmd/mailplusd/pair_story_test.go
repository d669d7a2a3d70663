package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"mailplusd/admin/api"
)

// TestStoryPair: one node becomes two, is used on both, hands over, and becomes one again.
func TestStoryPair(t *testing.T) {
	// covers: R11.01 R11.02 R11.03 R11.04 R11.06 R11.10 R11.28 R11.30 R11.31 R11.32 R11.34 R11.38 R11.39 R11.40 R11.41 R11.42 R11.43 R11.57 R10.81 I.74
	l := newLAN(t)
	a, b := l.node("a", 2), l.node("b", 3)
	a.run()
	b.run()
	a.setUp()
	a.has("in no pair", "ha", "show")
	for i := range 20 {
		l.deliver(a.ip, "bob@example.test", fmt.Sprint("before ", i))
	}
	inv := b.invite()
	args := []string{"ha", "create", "--peer", b.ip, "--vip", l.vip(), "--invite-file", inv}
	a.fails(3, "wants a confirmation", args...)
	a.has("address "+l.vip(), append(args, "--dry-run")...) // reviewed, and nothing is done
	if s := a.show().State; s != "single" {
		t.Fatalf("after a dry run: %s", s)
	}
	a.ok(append(args, "--yes")...)
	// Mail comes in while it is copied, and the primary alone serves.
	for i := range 20 {
		l.deliver(a.ip, "bob@example.test", fmt.Sprint("during ", i))
		if v := a.show(); v.State == "solo-primary" {
			if strings.Contains(a.ok("ha", "show"), "is being synchronised") {
				a.has("syncing mail", "server", "list")
			}
			if c, err := dialSMTP(b.ip + ":2525"); err == nil {
				c.c.Close()
				if now := a.show(); now.State == "solo-primary" && b.show().State == "joining" {
					t.Error("the secondary serves before it has everything")
				}
			}
		}
	}
	a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	b.is("pair")
	l.deliver(l.vip(), "alice@example.test", "at the floating address")
	if got := holder(a, b); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the floating address is on %v", got)
	}
	for _, n := range []*twin{a, b} {
		v := n.show()
		if v.Holder != "a" || v.Copies != 2 || len(v.Nodes) != 2 || v.Nodes[0].Role != "primary" || v.Nodes[1].Original != "secondary" || v.Since == "" || !v.ArbiterOK {
			t.Errorf("ha show at %s: %+v", n.name, v)
		}
		n.has("pair: both nodes are up", "ha", "show")
		n.has("epoch", "ha", "show", "-o", "wide")
		if got := n.inbox("bob"); got != 40 {
			t.Errorf("bob sees %d messages at %s", got, n.name)
		}
		n.has(`"bodies": 41`, "storage", "verify", "-o", "json")
		n.has("at the floating address", "log", "mail", "list", "--recipient", "alice")
	}
	// Settings, users and passwords from either node.
	a.ok("config", "set", "delivery.max-size=33")
	b.has("33", "config", "get", "delivery.max-size")
	b.ok("config", "set", "delivery.max-hops=44")
	a.has("44", "config", "get", "delivery.max-hops")
	b.ok("group", "add", "staff", "--user", "bob")
	a.has("bob", "group", "show", "staff")
	settings := func(n *twin) string {
		_, text, _ := strings.Cut(n.ok("config", "export"), "\n") // the first line tells the time
		return text
	}
	if at, bt := settings(a), settings(b); at != bt || !strings.Contains(at, "delivery.max-hops = 44") {
		t.Errorf("the nodes' settings differ:\n%s\n%s", at, bt)
	}
	// Both serve: IMAP of the second shows what came to the first.
	b.serves(t)
	if got := statesOf(b, "b"); slices.Contains(got, "syncing mail") || slices.Contains(got, "abnormal") {
		t.Errorf("functions of b: %v", got)
	}
}

// serves wants a greeting at the node's own address.
func (n *twin) serves(t *testing.T) {
	t.Helper()
	c, err := dialSMTP(n.ip + ":2525")
	if err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
	c.c.Close()
}

func statesOf(at *twin, node string) (out []string) {
	var r api.ServerRow
	if err := json.Unmarshal([]byte(at.ok("server", "show", node, "-o", "json")), &r); err != nil {
		at.t.Fatal(err)
	}
	for _, s := range r.Functions {
		out = append(out, s)
	}
	return out
}

func TestStoryServerList(t *testing.T) {
	// covers: R10.40 R10.41 R10.42 R10.43
	l := newLAN(t)
	a, b := l.pair()
	for _, n := range []*twin{a, b} {
		n.until("both nodes with figures", func() bool {
			var list []api.ServerRow
			if err := json.Unmarshal([]byte(n.ok("server", "list", "-o", "json")), &list); err != nil {
				t.Fatal(err)
			}
			for _, r := range list {
				if r.CPU == "" || r.Memory == "" || r.NetIn == "" || r.NetOut == "" || r.Functions["smtp"] != "running" || r.Functions["pop3"] != "stopped" {
					return false
				}
			}
			return len(list) == 2 && list[0].Node == "a"
		})
		n.has("SMTP", "server", "list", "-o", "wide")
		n.has("imap", "server", "show", "b")
	}
	a.fails(7, "no node", "server", "show", "c")
	b.kill()
	a.until("b is silent", func() bool { return strings.Contains(a.ok("server", "list"), "silent") })
}

func TestStorySwitchover(t *testing.T) {
	// covers: R11.44 R11.45 R11.47 R11.06 R11.28 R11.57
	l := newLAN(t)
	a, b := l.pair()
	b.has("b", "ha", "switchover", "b") // from the node that is to be it
	a.until("b holds the address", func() bool { return a.show().Holder == "b" })
	if got := holder(a, b); !slices.Equal(got, []string{"b"}) {
		t.Errorf("the floating address is on %v", got)
	}
	l.deliver(l.vip(), "bob@example.test", "after the switch")
	if v := a.show(); v.Nodes[0].Role != "secondary" || v.Nodes[0].Original != "primary" {
		t.Errorf("roles: %+v", v.Nodes)
	}
	a.ok("config", "set", "delivery.max-hops=41") // still from either node
	b.has("41", "config", "get", "delivery.max-hops")
	b.ok("ha", "switchover", "b") // nothing to do
	b.fails(3, "no node", "ha", "switchover", "c")

	// Two administrators at once, for two different nodes: one after the other or refused, and one holder.
	var wg sync.WaitGroup
	for _, n := range []*twin{a, b, a, b} {
		wg.Go(func() { n.mpctl("ha", "switchover", map[string]string{"a": "b", "b": "a"}[n.name]) })
	}
	wg.Wait()
	a.until("one node holds the address, and both say so", func() bool {
		h := holder(a, b)
		return len(h) == 1 && a.show().Holder == h[0] && b.show().Holder == h[0]
	})
	l.deliver(l.vip(), "bob@example.test", "after two administrators")

	// Another floating address, and its mask.
	a.ok("ha", "set", "--vip", l.prefix+"11/24")
	a.until("the new address is held", func() bool { return slices.Contains(a.show().Addresses, l.prefix+"11/24") && len(holder(a, b)) == 1 })
	b.until("the new address serves", func() bool {
		c, err := dialSMTP(l.prefix + "11:2525")
		if err == nil {
			c.c.Close()
		}
		return err == nil
	})
	if c, err := dialSMTP(l.vip() + ":2525"); err == nil {
		c.c.Close()
		t.Error("the old address still serves")
	}
	b.ok("ha", "set", "--netmask", "255.255.0.0")
	a.has(l.prefix+"11/16", "ha", "show")
	a.fails(2, "neither a mask", "ha", "set", "--netmask", "255.0.255.0")
	a.fails(2, "own address", "ha", "set", "--vip", b.ip)
	a.fails(3, "no witness", "ha", "set", "--arbiter", "witness")
}

func TestStoryRemove(t *testing.T) {
	// covers: R11.48 R11.49 R11.50 R11.51 R11.52 R11.53 R11.54 R11.55
	l := newLAN(t)
	a, b := l.pair()
	l.deliver(l.vip(), "bob@example.test", "one")
	b.serves(t)
	a.fails(3, "can't be undone", "ha", "remove", "b")
	a.fails(3, "is this node", "ha", "remove", "a", "--confirm=a")
	a.fails(7, "no node", "ha", "remove", "c", "--confirm=c")
	b.fails(3, "primary", "ha", "remove", "a", "--confirm=a")
	stop := make(chan struct{})
	sent := make(chan int)
	go func() { // mail goes on during the last synchronisation
		n := 0
		defer func() { sent <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := dialSMTP(a.ip + ":2525")
			if err != nil {
				t.Errorf("during the removal: %v", err)
				return
			}
			if r, err := c.send("x@y.example", "bob@example.test", "Subject: more\r\n\r\nx"); err != nil || !strings.HasPrefix(r, "250") {
				t.Errorf("during the removal: %q %v", r, err)
			}
			c.c.Close()
			n++
		}
	}()
	_, warn, code := a.mpctl("ha", "remove", "b", "--confirm=b")
	close(stop)
	more := <-sent
	if code != 0 || !strings.Contains(warn, "DMZ") || !strings.Contains(warn, "DNS") {
		t.Fatalf("exit %d: %s", code, warn)
	}
	a.is("single")
	b.until("b is single and empty", func() bool {
		_, _, code := b.mpctl("user", "list")
		return b.show().State == "single" && code == 3
	})
	if c, err := dialSMTP(l.vip() + ":2525"); err == nil {
		c.c.Close()
		t.Error("the floating address still serves")
	}
	if got := a.inbox("bob"); got != more+1 {
		t.Errorf("%d messages of %d", got, more+1)
	}
	a.ok("config", "set", "delivery.max-hops=42")
	a.fails(3, "last node", "ha", "remove", "b", "--confirm=b")
	a.fails(3, "in no pair", "ha", "set", "--vip", l.vip())
	// The removed node can be taken in again.
	a.create(b)
	a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	b.is("pair")
}
