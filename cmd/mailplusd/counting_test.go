package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// mpctl runs a command at a node that is in this process.
func (l *living) mpctl(args ...string) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, bins.mpctl, append([]string{"--socket", l.cfg.Socket, "--yes"}, args...)...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: mpctl %s: %v\n%s", l.cfg.Name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// restart lets a node start anew, and gives the new one.
func (l *living) restart() (n *node) {
	l.t.Helper()
	old := l.node()
	old.again <- struct{}{}
	l.wait("it has started anew", func(now *node) bool { n = now; return now != old })
	return n
}

// greeting connects from an address of the client and gives the first word of the server.
func greeting(t testing.TB, from, to string) (string, net.Conn) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	line, _ := bufio.NewReader(c).ReadString('\n')
	return line, c
}

// TestClientLimitsOfPair: what a client does at one node counts at the other one, a block at one is a
// block at both and outlives a restart, and is lifted at both.
func TestClientLimitsOfPair(t *testing.T) {
	// covers: I.41 R7.66 R7.68 R7.70
	offset := freeOffset(t)
	a, b := livePair(t, offset)
	na, nb := a.node(), b.node()
	port := fmt.Sprint(2525 + offset)
	ofA, ofB, vip := net.JoinHostPort("127.0.81.1", port), net.JoinHostPort("127.0.81.2", port), net.JoinHostPort(floatingAddress.Addr().String(), port)
	set := func(f func(*model.Delivery)) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := na.state.ChangeSettings(ctx, func(s *model.Settings) error { f(&s.Delivery); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := nb.proposer.Fresh(ctx); err != nil {
			t.Fatal(err)
		}
	}
	weights := func(ofA, ofB int) {
		t.Helper()
		err := na.state.Update(context.Background(), func(tx *state.Tx) error {
			p, err := na.state.Pair()
			if err != nil {
				return err
			}
			changed := *p
			changed.Sharing.Weights = map[string]int{"a": ofA, "b": ofB}
			return state.Pairs.Put(tx, &changed)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	out := func() int64 {
		for _, c := range na.sharing.Counts() {
			if c.Listener == "smtp" {
				return c.Out
			}
		}
		return 0
	}
	// session is one at the floating address that a node serves: it is there when the weights count.
	session := func(client string, atB bool) *lineClient {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
			was := out()
			c := dialFrom(t, client, vip)
			if c.cmd("EHLO client.example"); (out() > was) == atB {
				return c
			}
			c.c.Close()
		}
		t.Fatalf("no session where it should be, in 30 s; at b: %v", atB)
		return nil
	}
	listed := func(l *living, client string) bool {
		return strings.Contains(l.mpctl("delivery", "block", "list"), client+" ")
	}

	t.Run("messages", func(t *testing.T) {
		const limit = 4
		set(func(d *model.Delivery) { d.LimitMessages, d.ClientMessages = true, limit })
		mail := func(c *lineClient, want string) bool {
			t.Helper()
			c.cmd("RSET")
			r, err := c.cmd("MAIL FROM:<x@y.example>")
			if err != nil {
				t.Fatal(err)
			}
			return strings.HasPrefix(r, want)
		}
		blocked := ""
		for i := 1; blocked == ""; i++ { // again when a minute has begun meanwhile
			client := fmt.Sprintf("127.0.83.%d", i)
			ip, minute := netip.MustParseAddr(client), time.Now().Unix()/60
			weights(0, 100)
			there := session(client, true)
			ok := true
			for range limit {
				ok = mail(there, "250") && ok
			}
			weights(100, 0)
			here := session(client, false) // the same client, served by the other node
			a.wait("it knows what the client did there", func(n *node) bool {
				return n.mail.MessageRate().Done(ip, time.Now()) == limit || time.Now().Unix()/60 != minute
			})
			refused := mail(here, "450 4.7.1")
			if time.Now().Unix()/60 != minute {
				continue
			}
			if !ok || !refused {
				t.Fatalf("the first %d are taken: %v, one more at the other node is refused: %v", limit, ok, refused)
			}
			b.wait("the block", func(n *node) bool { return len(n.mail.Blocks()) > 0 })
			if !mail(there, "450 4.7.1") {
				t.Error("the other node takes mail of a client that is blocked")
			}
			blocked = client
		}
		for _, l := range []*living{a, b} {
			if !listed(l, blocked) {
				t.Errorf("%s does not list %s", l.cfg.Name, blocked)
			}
		}
		nb = b.restart()
		b.wait("it has learned the block after its restart", func(n *node) bool { return len(n.mail.Blocks()) > 0 })
		b.mpctl("delivery", "block", "delete", blocked)
		if listed(a, blocked) || listed(b, blocked) {
			t.Error("the block is still there")
		}
		a.wait("they share again", func(n *node) bool { return n.sharing.policy().Peer == "b" })
		set(func(d *model.Delivery) { d.LimitMessages = false })
	})

	t.Run("connections within a minute", func(t *testing.T) {
		set(func(d *model.Delivery) { d.LimitRate, d.ClientRate = true, 3 })
		client := "127.0.83.200"
		for i := 0; ; i++ {
			if g, _ := greeting(t, client, ofB); strings.HasPrefix(g, "421") {
				break
			}
			if i > 8 {
				t.Fatal("no connection is too many")
			}
		}
		a.wait("the block", func(n *node) bool { return len(n.mail.Blocks()) > 0 })
		for _, to := range []string{ofA, vip} {
			if g, _ := greeting(t, client, to); !strings.HasPrefix(g, "421") {
				t.Errorf("%s greets with %q", to, g)
			}
		}
		if !listed(a, client) {
			t.Error("not listed at the other node")
		}
		a.mpctl("delivery", "block", "delete", client)
		for _, to := range []string{ofA, ofB} {
			if g, _ := greeting(t, client, to); !strings.HasPrefix(g, "220") {
				t.Errorf("%s greets with %q after the block was lifted", to, g)
			}
		}
		set(func(d *model.Delivery) { d.LimitRate = false })
	})

	t.Run("connections at a time", func(t *testing.T) {
		set(func(d *model.Delivery) { d.LimitConns, d.ClientConns = true, 2 })
		client := "127.0.83.201"
		until := func(to, want string) {
			t.Helper()
			for end := time.Now().Add(30 * time.Second); ; <-time.After(20 * time.Millisecond) {
				g, c := greeting(t, client, to)
				c.Close()
				if strings.HasPrefix(g, want) {
					return
				}
				if time.Now().After(end) {
					t.Fatalf("%s greets with %q, want %s", to, g, want)
				}
			}
		}
		_, first := greeting(t, client, ofA)
		if g, _ := greeting(t, client, vip); !strings.HasPrefix(g, "220") {
			t.Fatalf("the second one is greeted with %q", g)
		}
		until(ofB, "421")
		until(vip, "421")
		first.Close()
		until(ofB, "220")
		set(func(d *model.Delivery) { d.LimitConns = false })
	})

	t.Run("a lock-out outlives a restart", func(t *testing.T) {
		c := dialFrom(t, "127.0.83.202", net.JoinHostPort("127.0.81.2", fmt.Sprint(2143+offset)))
		for range na.state.Current().Login.MaxFailures {
			fmt.Fprintf(c.c, "x LOGIN bob wrong\r\n")
			c.line()
		}
		a.wait("it knows the lock", func(n *node) bool { return len(n.mail.Login.Locks()) == 1 })
		b.restart()
		b.wait("it knows the lock after its restart", func(n *node) bool { return len(n.mail.Login.Locks()) == 1 })
		if out := b.mpctl("login", "lock", "list"); !strings.Contains(out, "bob 127.0.83.202/32") {
			t.Errorf("%s", out)
		}
	})
}
