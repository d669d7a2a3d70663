package share_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/cluster/transport"
	"mailplusd/mail/share"
	"mailplusd/mail/wire"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listenerName is that of the nodes' listeners.
var listenerName = "echo"

// patience bounds every wait; a test that reaches it fails.
const patience = 30 * time.Second

// until polls a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// node is a listener of lines with its share of the link.
type node struct {
	*share.Sharer
	name   string
	link   *transport.Transport
	l      *wire.Listener
	policy atomic.Pointer[share.Policy]
	taker  atomic.Pointer[func(string) (func(net.Conn) error, bool)]
	served sync.WaitGroup
}

// serve answers each connection: "served by NODE, client ADDR, to ADDR", then echoes lines.
func (n *node) serve(c net.Conn) {
	defer c.Close()
	w := c.(*wire.Conn)
	w.WriteString("served by " + n.name + ", client " + w.RemoteAddr().String() + ", to " + w.LocalAddr().String() + ", peer " + w.PeerAddr().String() + "\n")
	for {
		line, err := w.ReadLine(1000)
		if err != nil {
			return
		}
		if string(line) == "close" {
			w.WriteString(map[string]string{"echo": "bye\n", "imap": "* BYE now\n"}[listenerName])
			if listenerName == "smtp" {
				w.WriteString("221 bye\n")
			}
			return
		}
		if string(line) == "flood" {
			buf := make([]byte, 1<<16)
			for {
				if _, err := w.Write(buf); err != nil {
					return
				}
			}
		}
		w.Write(append(line, '\n'))
	}
}

// two makes a pair; cfg changes the listener of both.
func two(t testing.TB, change ...func(*wire.Config)) (a, b *node) {
	t.Helper()
	a, b = one(t, "a", change), one(t, "b", change)
	for _, p := range [][2]*node{{a, b}, {b, a}} {
		err := p[0].link.SetPeers(transport.Peer{ID: p[1].name, Addrs: []string{p[1].link.Addr().String()}, Key: p[1].link.PublicKey()})
		if err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func one(t testing.TB, name string, change []func(*wire.Config)) *node {
	id, err := transport.LoadIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := &node{name: name}
	if n.link, err = transport.Open(transport.Options{ID: name, Identity: id, Listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	n.policy.Store(&share.Policy{})
	open := func(listener string) (func(net.Conn) error, bool) { return n.l.Inject, listener == listenerName }
	n.taker.Store(&open)
	n.Sharer = share.New(share.Options{
		Policy: func() share.Policy { return *n.policy.Load() },
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			return n.link.Dial(ctx, node, transport.Session)
		},
		Taker: func(l string) (func(net.Conn) error, bool) { return (*n.taker.Load())(l) },
	})
	cfg := wire.Config{Steer: n.For(listenerName)}
	for _, f := range change {
		f(&cfg)
	}
	if n.l, err = wire.Listen("tcp", "127.0.0.1:0", cfg); err != nil {
		t.Fatal(err)
	}
	n.served.Go(func() {
		for {
			c, err := n.l.Accept()
			if err != nil {
				return
			}
			n.served.Go(func() { n.serve(c) })
		}
	})
	sessions := n.link.Listen(transport.Session)
	n.served.Go(func() { n.Serve(sessions) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		n.l.Shutdown(ctx)
		sessions.Close()
		n.Sharer.Close()
		n.link.Close()
		n.served.Wait()
	})
	return n
}

// handsAll has a node give every session to the other one.
func (n *node) handsAll(to *node) {
	n.policy.Store(&share.Policy{Self: n.name, Peer: to.name, PeerWeight: 100})
}

// client is a connection to a node.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, n *node, from string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.Dial("tcp", n.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read: %v (%q)", err, s)
	}
	return strings.TrimSuffix(s, "\n")
}

func (c *client) echo(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s+"\n"); err != nil {
		c.t.Fatal(err)
	}
	if got := c.line(); got != s {
		c.t.Fatalf("echo of %.40q: %.40q", s, got)
	}
}

// greeting is what a session from addr, served by n and accepted at at, begins with.
func (c *client) greeting(by *node, at *node) {
	c.t.Helper()
	me, to := c.LocalAddr().String(), at.l.Addr().String()
	want := "served by " + by.name + ", client " + me + ", to " + to + ", peer " + me
	if got := c.line(); got != want {
		c.t.Fatalf("greeting:\n%s\nwant\n%s", got, want)
	}
}

// ended waits for the end of the connection.
func (c *client) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil && !strings.Contains(err.Error(), "reset") {
		c.t.Fatalf("not ended: %v (%.60q)", err, rest)
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")
