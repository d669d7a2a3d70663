package vip

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// listen opens a plain TCP socket as the services do.
func listen(t *testing.T, network string) *net.TCPListener {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l, err := c.Listen(context.Background(), network, ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// TestHoldOff: connections to an address that is about to go are not taken and not refused, those to
// others are, and what was open stays.
func TestHoldOff(t *testing.T) {
	needRoot(t)
	s := startSpawner(t)
	defer s.Close()
	here := func(raw syscall.RawConn, addrs ...netip.Addr) error { return HoldOff(raw, addrs...) }
	there := func(raw syscall.RawConn, addrs ...netip.Addr) error {
		return s.HoldOff(context.Background(), raw, addrs...)
	}
	for _, network := range []struct {
		listen, local, other string
		holdOff              func(syscall.RawConn, ...netip.Addr) error
	}{
		{"tcp", "127.0.0.2", "127.0.0.1", here}, // by a socket for both families
		{"tcp4", "127.0.0.2", "127.0.0.1", there},
		{"tcp", "::1", "127.0.0.1", there},
	} {
		l := listen(t, network.listen)
		raw, err := l.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		dial := func(host string, wait time.Duration) (net.Conn, error) {
			return net.DialTimeout("tcp", net.JoinHostPort(host, port), wait)
		}
		open, err := dial(network.local, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		mine, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer mine.Close()
		addrs := []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr(network.local), netip.MustParseAddr("192.0.2.1")}
		if err := network.holdOff(raw, addrs...); err != nil {
			t.Fatal(network.local, err)
		}
		if c, err := dial(network.local, 100*time.Millisecond); err == nil {
			c.Close()
			t.Errorf("%v: a connection was taken", network.local)
		} else if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
			t.Errorf("%v: %v instead of silence", network.local, err)
		}
		if c, err := dial(network.other, time.Second); err != nil {
			t.Errorf("%v: a connection to another address: %v", network.local, err)
		} else {
			c.Close()
		}
		if _, err := open.Write([]byte("x\r\n")); err != nil {
			t.Error(err)
		}
		if _, err := mine.Read(make([]byte, 1)); err != nil {
			t.Errorf("%v: what was open: %v", network.local, err)
		}
		waits := make(chan error, 1)
		go func() {
			c, err := dial(network.local, 10*time.Second) // its first packet is lost, its second is not
			if err == nil {
				c.Close()
			}
			waits <- err
		}()
		for range 2 { // taking all again is no error when nothing is held off
			if err := network.holdOff(raw); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-waits; err != nil {
			t.Errorf("%v: who tried meanwhile: %v", network.local, err)
		}
	}
}
