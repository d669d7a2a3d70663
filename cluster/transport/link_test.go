package transport_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/cluster/transport"
)

// covers: I.74
func TestLink(t *testing.T) {
	a, b := two(t)
	for _, p := range []transport.Proto{transport.Raft, transport.Body, transport.Session, transport.Lease} {
		echo(t, b, p)
		c, err := a.Dial(within(t), "b", p)
		if err != nil {
			t.Fatal(err)
		}
		if c.(*transport.Conn).Node() != "b" || c.(*transport.Conn).Proto() != p {
			t.Errorf("connection says %q %q", c.(*transport.Conn).Node(), c.(*transport.Conn).Proto())
		}
		ping(t, c)
		c.Close()
	}
	l := a.Listen(transport.Body)
	go func() {
		if c, err := b.Dial(within(t), "a", transport.Body); err == nil {
			defer c.Close()
			c.Read(make([]byte, 1))
		}
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if n := c.(interface{ Node() string }).Node(); n != "b" {
		t.Errorf("accepted from %q", n)
	}
	if st := a.Peers(); len(st) != 1 || st[0].ID != "b" || st[0].Heard.IsZero() || st[0].Conns == 0 || st[0].Addr != b.Addr().String() {
		t.Errorf("peers: %+v", st)
	}
	c.Close()
	until(t, "all connections forgotten", func() bool { return a.Peers()[0].Conns == 0 && b.Peers()[0].Conns == 0 })
}

// A stranger gets nowhere, whatever it lacks.
// covers: I.74
func TestRefused(t *testing.T) {
	a, b := two(t)
	echo(t, b, transport.Raft)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raft := []string{string(transport.Raft)}
	for name, conf := range map[string]*tls.Config{
		"unpinned key":   {NextProtos: raft, Certificates: []tls.Certificate{edCertificate(t)}},
		"other key type": {NextProtos: raft, Certificates: []tls.Certificate{certificate(t, ec, ec.Public())}},
		"no certificate": {NextProtos: raft},
		"TLS 1.2":        {NextProtos: raft, Certificates: []tls.Certificate{edCertificate(t)}, MaxVersion: tls.VersionTLS12},
		"unknown ALPN":   {NextProtos: []string{"h2"}, Certificates: []tls.Certificate{edCertificate(t)}},
		"no ALPN":        {Certificates: []tls.Certificate{edCertificate(t)}},
		"two ALPN":       {NextProtos: []string{string(transport.Pair), string(transport.Raft)}, Certificates: []tls.Certificate{edCertificate(t)}},
	} {
		t.Run(name, func(t *testing.T) {
			conf.InsecureSkipVerify = true
			raw, err := net.Dial("tcp", b.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			raw.SetDeadline(time.Now().Add(patience))
			c := tls.Client(raw, conf)
			n, err := c.Read(make([]byte, 1))
			if n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read %d octets, %v", n, err)
			} else {
				t.Log(err)
			}
		})
	}
	// The other way: the node that answers is not the one that was pinned.
	imposter := node(t, "b")
	pin(t, imposter, peerOf(a))
	echo(t, imposter, transport.Raft)
	wrong := peerOf(b)
	wrong.Addrs = []string{imposter.Addr().String()}
	pin(t, a, wrong)
	if _, err := a.Dial(within(t), "b", transport.Raft); !errors.Is(err, transport.ErrKey) || !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("imposter: %v", err)
	}
	// With the right address again, nothing of the above has done harm.
	pin(t, a, peerOf(b))
	c, err := a.Dial(within(t), "b", transport.Raft)
	if err != nil {
		t.Fatal(err)
	}
	ping(t, c)
	c.Close()
}

func TestGarbage(t *testing.T) {
	a, b := two(t)
	echo(t, b, transport.Lease)
	for _, s := range []string{"GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\xff\xff", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "\x00", string(make([]byte, 70000))} {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, s)
		c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.20q: connection left open", s)
		}
		c.Close()
	}
	c, err := a.Dial(within(t), "b", transport.Lease)
	if err != nil {
		t.Fatal(err)
	}
	ping(t, c)
	c.Close()
}

// Somebody who opens connections and says nothing has only so many; a peer gets in all the while.
func TestManyHandshakes(t *testing.T) {
	b := node(t, "b", func(o *transport.Options) {
		o.Listen, o.Handshakes, o.HandshakeTimeout = "0.0.0.0:0", 8, 10*patience
	})
	addr := fmt.Sprintf("127.0.0.1:%d", b.Addr().(*net.TCPAddr).Port)
	a := node(t, "a")
	pin(t, b, peerOf(a)) // at 127.0.0.1
	pb := peerOf(b)
	pb.Addrs = []string{addr}
	pin(t, a, pb)
	echo(t, b, transport.Lease)
	var refused atomic.Int32
	var conns []net.Conn
	var wg sync.WaitGroup
	for i := range 32 { // from 32 other addresses
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i+1))}}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			c.Read(make([]byte, 1))
			refused.Add(1)
		})
		conns = append(conns, c)
	}
	defer func() {
		for _, c := range conns {
			c.Close()
		}
		wg.Wait()
	}()
	until(t, "all but 8 refused", func() bool { return refused.Load() >= 24 })
	c, err := a.Dial(within(t), "b", transport.Lease)
	if err != nil {
		t.Fatalf("the peer is kept out: %v", err)
	}
	ping(t, c)
	c.Close()
	if n := refused.Load(); n != 24 {
		t.Errorf("%d of 32 refused", n)
	}
}

// One who begins a handshake and goes on too slowly loses the connection.
func TestSlowHandshake(t *testing.T) {
	b := node(t, "b", func(o *transport.Options) { o.HandshakeTimeout = 100 * time.Millisecond })
	c, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "\x16\x03\x01\x02\x00")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for err == nil { // an octet now and then, as long as somebody takes it
		<-tick.C
		_, err = c.Write([]byte{1})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

func TestUnpinAtRunTime(t *testing.T) {
	a, b := two(t)
	echo(t, b, transport.Body)
	c, err := a.Dial(within(t), "b", transport.Body)
	if err != nil {
		t.Fatal(err)
	}
	ping(t, c)
	pin(t, b, peerOf(a)) // the same again: nothing happens
	ping(t, c)
	pin(t, b)
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("connection outlives the key: %v", err)
	}
	if _, err := a.Dial(within(t), "b", transport.Body); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("unpinned, still connected: %v", err)
	}
	other := peerOf(a)
	other.Key = node(t, "x").PublicKey()
	pin(t, b, other) // same name, another key
	if _, err := a.Dial(within(t), "b", transport.Body); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("other key pinned, still connected: %v", err)
	}
	pin(t, b, peerOf(a))
	if c, err = a.Dial(within(t), "b", transport.Body); err != nil {
		t.Fatal(err)
	}
	ping(t, c)
	if n := a.Disconnect("b"); n == 0 {
		t.Error("nothing cut")
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("write after Disconnect")
	}
	pin(t, a)
	if _, err := a.Dial(within(t), "b", transport.Body); !errors.Is(err, transport.ErrUnknownPeer) {
		t.Errorf("unknown peer: %v", err)
	}
}

// The first address leads nowhere, the second works and is remembered.
func TestTwoAddresses(t *testing.T) {
	a, b := two(t)
	echo(t, b, transport.Raft)
	dead, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	p := peerOf(b)
	p.Addrs = []string{"127.0.0.1:1", dead.Addr().String(), b.Addr().String()}
	pin(t, a, p)
	for range 2 {
		c, err := a.Dial(within(t), "b", transport.Raft)
		if err != nil {
			t.Fatal(err)
		}
		ping(t, c)
		c.Close()
		if got := a.Peers()[0].Addr; got != b.Addr().String() {
			t.Errorf("remembered %q", got)
		}
	}
	// The second dial went to the remembered address: the dead one saw only one connection.
	dead.(*net.TCPListener).SetDeadline(time.Now().Add(100 * time.Millisecond))
	n := 0
	for ; ; n++ {
		c, err := dead.Accept()
		if err != nil {
			break
		}
		c.Close()
	}
	if n != 1 {
		t.Errorf("%d connections to the dead address", n)
	}
	if _, err := a.DialAddr(within(t), "b", "127.0.0.1:1", transport.Raft); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("DialAddr: %v", err)
	}
}

// A protocol that nobody serves, or serves too slowly, refuses and holds up no other.
func TestBackPressure(t *testing.T) {
	a, b := two(t)
	echo(t, b, transport.Lease)
	if _, err := a.Dial(within(t), "b", transport.Body); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("nobody listens: %v", err)
	}
	l := b.Listen(transport.Session)
	defer l.Close()
	refused := 0
	for range transport.DefaultBacklog + 3 {
		c, err := a.Dial(within(t), "b", transport.Session)
		if err != nil {
			refused++
			continue
		}
		defer c.Close()
	}
	if refused != 3 {
		t.Errorf("%d refused", refused)
	}
	c, err := a.Dial(within(t), "b", transport.Lease)
	if err != nil {
		t.Fatal(err)
	}
	ping(t, c)
	c.Close()
	if c, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if c, err = a.Dial(within(t), "b", transport.Session); err != nil {
		t.Errorf("there is a place again: %v", err)
	} else {
		c.Close()
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if _, err := a.Dial(within(t), "b", transport.Session); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("closed listener: %v", err)
	}
	first := b.Listen(transport.Session)
	second := b.Listen(transport.Session)
	defer second.Close()
	if _, err := first.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("replaced listener: %v", err)
	}
	if _, err := b.Listen(transport.Call).Accept(); !errors.Is(err, transport.ErrInternal) {
		t.Errorf("listener for calls: %v", err)
	}
}

func TestTooManyConnections(t *testing.T) {
	a, b := two(t)
	echo(t, b, transport.Lease)
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		var c net.Conn
		if c, err = a.Dial(within(t), "b", transport.Lease); err == nil {
			defer c.Close()
		}
	}
	if n != 17 || !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("connection %d: %v", n, err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	a, b := two(t)
	echo(t, b, transport.Body)
	l := a.Listen(transport.Raft)
	c, err := a.Dial(within(t), "b", transport.Body)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.Dial("tcp", a.Addr().String()) // a handshake under way
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	a.Close()
	a.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("write works")
	}
	if _, err := a.Dial(within(t), "b", transport.Body); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("dial: %v", err)
	}
	if _, err := a.Listen(transport.Raft).Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen: %v", err)
	}
	if err := a.SetPeers(); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("SetPeers: %v", err)
	}
}
