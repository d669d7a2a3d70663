package share_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/mail/share"
	"mailplusd/mail/wire"
)

// TestClientAddress: the node that serves sees the client, not the node that accepted.
func TestClientAddress(t *testing.T) {
	// covers: R11.07 I.78
	a, b := two(t)
	a.handsAll(b)
	b.handsAll(a) // must not matter: a session is handed over once
	c := dial(t, a, "127.0.7.1")
	c.greeting(b, a)
	c.echo("hello")
	c.echo(strings.Repeat("x", 900))
	if a.l.Len() != 0 || a.l.Away() != 1 || b.l.Len() != 1 {
		t.Errorf("served at a %d, away %d, at b %d", a.l.Len(), a.l.Away(), b.l.Len())
	}
	n := a.Counts()[0]
	if n.Out != 1 || n.OutNow != 1 || b.Counts()[0].In != 1 || b.Counts()[0].InNow != 1 {
		t.Errorf("a %+v, b %+v", n, b.Counts())
	}
	io.WriteString(c, "close\n")
	if got := c.line(); got != "bye" {
		t.Errorf("last answer %q", got)
	}
	c.ended()
	until(t, "all is forgotten", func() bool {
		return a.l.Away() == 0 && b.l.Len() == 0 && a.Counts()[0].OutNow == 0 && b.Counts()[0].InNow == 0
	})
}

// TestClientGoes: the session on the other node ends with its client, orderly or not.
func TestClientGoes(t *testing.T) {
	a, b := two(t)
	a.handsAll(b)
	for _, reset := range []bool{false, true} {
		c := dial(t, a, "127.0.0.1")
		c.greeting(b, a)
		if reset {
			c.Conn.(*net.TCPConn).SetLinger(0)
		}
		c.Close()
		until(t, "the session has ended", func() bool { return a.l.Away() == 0 && b.l.Len() == 0 })
	}
}

// TestHalfClose: a client that has said all it wants still gets its answers.
func TestHalfClose(t *testing.T) {
	a, b := two(t)
	a.handsAll(b)
	c := dial(t, a, "127.0.0.1")
	c.greeting(b, a)
	var sent strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&sent, "line %d %s\n", i, strings.Repeat("y", i%700))
	}
	go func() {
		io.WriteString(c, sent.String())
		c.Conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c.r)
	if err != nil || string(got) != sent.String() {
		t.Fatalf("%d of %d octets, %v", len(got), sent.Len(), err)
	}
}

// TestStaysHere: what can't be handed over is served where it came in.
func TestStaysHere(t *testing.T) {
	a, b := two(t)
	for _, c := range []struct {
		name   string
		policy share.Policy
		do     func()
	}{
		{"no peer", share.Policy{Self: "a", PeerWeight: 100}, nil},
		{"weight 0", share.Policy{Self: "a", Peer: "b", SelfWeight: 100}, nil},
		{"both 0", share.Policy{Self: "a", Peer: "b"}, nil},
		{"unknown peer", share.Policy{Self: "a", Peer: "c", PeerWeight: 100}, nil},
		{"not now", share.Policy{Self: "a", Peer: "b", PeerWeight: 100}, func() {
			f := func(string) (func(net.Conn) error, bool) { return nil, true }
			b.taker.Store(&f)
		}},
		{"no such listener", share.Policy{Self: "a", Peer: "b", PeerWeight: 100}, func() {
			f := func(string) (func(net.Conn) error, bool) { return nil, false }
			b.taker.Store(&f)
		}},
		{"peer gone", share.Policy{Self: "a", Peer: "b", PeerWeight: 100}, func() { b.link.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.do != nil {
				c.do()
			}
			a.policy.Store(&c.policy)
			// The policy is kept for a moment; either answer of the old one serves here, too.
			for range 3 {
				cl := dial(t, a, "127.0.0.1")
				cl.greeting(a, a)
				cl.echo("hello")
				cl.Close()
			}
		})
	}
	if b.l.Len() != 0 {
		t.Error("a session at b")
	}
}

// TestSilentPeer: a peer that accepts and says nothing delays a client, and does not lose it.
func TestSilentPeer(t *testing.T) {
	a, b := two(t)
	hold := make(chan struct{})
	defer close(hold)
	f := func(string) (func(net.Conn) error, bool) { <-hold; return nil, false }
	b.taker.Store(&f)
	a.handsAll(b)
	c := dial(t, a, "127.0.0.1")
	c.greeting(a, a)
	if n := a.Counts()[0]; n.Failed != 1 || n.Out != 0 {
		t.Errorf("%+v", n)
	}
}

// TestPeerDies: clients of a dead node lose their connection at once, and the next one is
// served here.
func TestPeerDies(t *testing.T) {
	a, b := two(t)
	a.handsAll(b)
	var all []*client
	for range 20 {
		c := dial(t, a, "127.0.0.1")
		c.greeting(b, a)
		all = append(all, c)
	}
	t.Run("said by the controller", func(t *testing.T) {
		if n := a.Cut(); n != 20 {
			t.Errorf("%d sessions", n)
		}
		for _, c := range all {
			c.ended()
		}
		until(t, "nothing is left", func() bool { return a.l.Away() == 0 && b.l.Len() == 0 })
	})
	t.Run("seen on the link", func(t *testing.T) {
		c := dial(t, a, "127.0.0.1")
		c.greeting(b, a)
		b.link.Close()
		c.ended()
		until(t, "nothing is left", func() bool { return a.l.Away() == 0 && b.l.Len() == 0 })
		c = dial(t, a, "127.0.0.1")
		c.greeting(a, a)
	})
}

// TestFarewell: where the protocol allows it, a client hears that the node that served it has died; a
// session that has ended by itself is not added to, nor one in TLS.
func TestFarewell(t *testing.T) {
	defer func() { listenerName = "echo" }()
	for _, tc := range []struct {
		listener string
		tls      bool
		want     string
	}{{"smtp", false, "421 4.3.2 "}, {"imap", false, "* BYE "}, {"pop3", false, ""}, {"smtp", true, ""}} {
		listenerName = tc.listener
		a, b := two(t)
		a.handsAll(b)
		c, orderly := dial(t, a, "127.0.0.1"), dial(t, a, "127.0.0.1")
		c.greeting(b, a)
		orderly.greeting(b, a)
		if tc.tls {
			c.echo("\x16\x03\x01") // as a handshake begins
		}
		io.WriteString(orderly, "close\n")
		if rest, err := io.ReadAll(orderly.r); err != nil || strings.Count(string(rest), "\n") > 1 {
			t.Errorf("%s: an orderly end: %q %v", tc.listener, rest, err)
		}
		b.link.Close()
		rest, err := io.ReadAll(c.r)
		if err != nil || tc.want == "" && len(rest) > 0 || !strings.HasPrefix(string(rest), tc.want) {
			t.Errorf("%s, TLS %v: %q %v, want %q", tc.listener, tc.tls, rest, err, tc.want)
		}
	}
}

// TestHolderDies: on the node that serves, a session ends with the node that accepted.
func TestHolderDies(t *testing.T) {
	a, b := two(t)
	a.handsAll(b)
	c := dial(t, a, "127.0.0.1")
	c.greeting(b, a)
	a.link.Close()
	until(t, "the session has ended", func() bool { return b.l.Len() == 0 })
	c.ended()
}

// TestAddressGoes: with the floating address go the sessions that came to it.
func TestAddressGoes(t *testing.T) {
	a, b := two(t)
	a.handsAll(b)
	c := dial(t, a, "127.0.0.1")
	c.greeting(b, a)
	a.l.Drop(netip.MustParseAddr("127.0.0.9"))
	c.echo("still here")
	a.l.Drop(loopback)
	c.ended()
	until(t, "the session has ended", func() bool { return b.l.Len() == 0 && a.l.Away() == 0 })
}

// TestLimits: the node that accepts counts all sessions, the other one refuses none of them.
func TestLimits(t *testing.T) {
	for _, lim := range []wire.Limits{{MaxPerIP: 3}, {MaxConns: 3}} {
		a, b := two(t, func(c *wire.Config) { c.Limits = lim })
		b.l.SetLimits(wire.Limits{MaxPerIP: 1, MaxConns: 1, PerMinute: 1})
		a.handsAll(b)
		var open []*client
		for range 3 {
			c := dial(t, a, "127.0.0.1")
			c.greeting(b, a)
			open = append(open, c)
		}
		c := dial(t, a, "127.0.0.1")
		if s, err := c.r.ReadString('\n'); err == nil {
			t.Errorf("a fourth connection got %q", s)
		}
		open[0].Close()
		until(t, "its place is free", func() bool { return a.l.Away() == 2 })
		c = dial(t, a, "127.0.0.1")
		c.greeting(b, a)
	}
}

// TestShutdown: a listener that ends, ends what it gave away.
func TestShutdown(t *testing.T) {
	a, b := two(t)
	a.handsAll(b)
	c := dial(t, a, "127.0.0.1")
	c.greeting(b, a)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.l.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	c.ended()
	until(t, "the session has ended", func() bool { return b.l.Len() == 0 })
	if err := b.l.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestProxyHeader: what comes behind a PROXY header is not lost, and the header's address counts.
func TestProxyHeader(t *testing.T) {
	a, b := two(t, func(c *wire.Config) {
		c.Proxy, c.ProxyFrom = wire.ProxyOptional, func() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
	})
	a.handsAll(b)
	c := dial(t, a, "127.0.0.1")
	io.WriteString(c, "PROXY TCP4 192.0.2.9 192.0.2.1 999 143\r\nearly\n")
	if got, want := c.line(), "served by b, client 192.0.2.9:999, to 192.0.2.1:143, peer 192.0.2.9:999"; got != want {
		t.Errorf("greeting %q", got)
	}
	if got := c.line(); got != "early" {
		t.Errorf("%q", got)
	}
}

// TestSlowClient: a client that reads nothing stops the session that floods it, instead of
// filling memory, and its session can still be ended.
func TestSlowClient(t *testing.T) {
	a, b := two(t)
	a.handsAll(b)
	c := dial(t, a, "127.0.0.1")
	c.greeting(b, a)
	io.WriteString(c, "flood\n")
	var sent int64
	until(t, "the flood stands still", func() bool {
		n := b.l.Conns()[0].BytesOut()
		still := n == sent && n > 0
		sent = n
		if !still {
			<-time.After(200 * time.Millisecond) // what moves, moves within it
		}
		return still
	})
	if sent > 64<<20 {
		t.Errorf("%d MB are under way", sent>>20)
	}
	c.Close()
	until(t, "the session has ended", func() bool { return a.l.Away() == 0 && b.l.Len() == 0 })
}

// TestTLS ends on the node that serves.
func TestTLS(t *testing.T) {
	a, b := two(t, func(c *wire.Config) {
		c.ImplicitTLS = true
		c.TLS = func(*tls.ClientHelloInfo) (*tls.Config, error) { return serverTLS(t), nil }
	})
	a.handsAll(b)
	c := dial(t, a, "127.0.0.1")
	tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	buf := make([]byte, 200)
	n, err := tc.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "served by b, client "+c.LocalAddr().String()) {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	big := strings.Repeat("z", 900) + "\n"
	go func() {
		for range 2000 {
			io.WriteString(tc, big)
		}
	}()
	got := make([]byte, len(big)*2000)
	if _, err := io.ReadFull(tc, got); err != nil || string(got) != strings.Repeat(big, 2000) {
		t.Fatalf("echo over TLS: %v", err)
	}
}

// TestManyIdle: 2,000 sessions at the other node, all of them usable and all given back.
func TestManyIdle(t *testing.T) {
	// covers: R11.07
	a, b := two(t)
	a.handsAll(b)
	n := 2000
	if raceEnabled { // the handshakes take ten times as long
		n = 300
	}
	clients := make([]net.Conn, n)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n && !t.Failed(); i += 8 {
				clients[i] = dialUntil(t, a, "served by b")
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if a.l.Away() != n || b.l.Len() != n {
		t.Fatalf("%d are away, %d at b", a.l.Away(), b.l.Len())
	}
	t.Logf("%+v", a.Counts()[0])
	for _, c := range clients {
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "ping\n")
	}
	buf := make([]byte, 5)
	for _, c := range clients {
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ping\n" {
			t.Fatalf("%q, %v", buf, err)
		}
		c.Close()
	}
	until(t, "all have ended", func() bool { return a.l.Away() == 0 && a.l.Len() == 0 && b.l.Len() == 0 })
}

// dialUntil connects until the greeting is as wanted: on a busy machine a peer may be too
// slow now and then, and the session then stays here.
func dialUntil(t testing.TB, n *node, want string) net.Conn {
	buf := make([]byte, 200)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		c, err := net.Dial("tcp", n.l.Addr().String())
		if err != nil {
			t.Error(err)
			return nil
		}
		c.SetDeadline(time.Now().Add(patience))
		k, err := c.Read(buf)
		if err == nil && strings.HasPrefix(string(buf[:k]), want) {
			return c
		}
		c.Close()
	}
	t.Errorf("no session %q", want)
	return nil
}

// TestClosed: after Close nothing is handed over or taken in.
func TestClosed(t *testing.T) {
	a, b := two(t)
	a.handsAll(b)
	c := dial(t, a, "127.0.0.1")
	c.greeting(b, a)
	a.Sharer.Close()
	c.ended()
	c = dial(t, a, "127.0.0.1")
	c.greeting(a, a)
	b.Sharer.Close()
	if err := b.Serve(failing{}); err == nil {
		t.Error("Serve goes on")
	}
}

type failing struct{ net.Listener }

func (failing) Accept() (net.Conn, error) { return nil, errors.New("no more") }
