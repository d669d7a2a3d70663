package transport_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/transport"

	"golang.org/x/sys/unix"
)

func announce(name string) func() transport.Announcement {
	return func() transport.Announcement {
		return transport.Announcement{Node: name, Port: 7000, Addrs: []string{"198.51.100.2:7000"}, Version: "1.2", Initialised: name == "n1", Cluster: "c", Fingerprint: "ABCD"}
	}
}

// freePort gives a UDP port that nobody uses.
func freePort(t testing.TB) int {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// find asks until it has n answers.
func find(t testing.TB, d transport.Discovery, n int) (got []transport.Found) {
	t.Helper()
	for end := time.Now().Add(patience); len(got) < n && time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(within(t), 300*time.Millisecond)
		var err error
		got, err = d.Find(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func TestDiscoverLoopback(t *testing.T) {
	d := transport.Discovery{Interfaces: []string{"lo"}, Port: freePort(t)}
	r, err := d.Respond(announce("n1"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := find(t, d, 1)
	if len(got) == 0 {
		t.Fatal("nothing found")
	}
	f := got[0]
	if f.Node != "n1" || f.Addr.Port() != 7000 || !f.Addr.Addr().IsValid() || len(f.Addrs) != 1 || !f.Initialised || f.Version != "1.2" || f.Cluster != "c" || f.Fingerprint != "ABCD" || f.Interface != "lo" {
		t.Errorf("%+v", f)
	}
	if _, err := (transport.Discovery{Interfaces: []string{"nosuch0"}}).Find(within(t)); err == nil {
		t.Error("an interface that isn't there is accepted")
	}
}

// Many questions get few answers, and a question from beyond the link none.
func TestDiscoverLimits(t *testing.T) {
	d := transport.Discovery{Interfaces: []string{"lo"}, Port: freePort(t)}
	r, err := d.Respond(announce("n1"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	question := `{"mp":"mailplusd/1","nonce":"0011223344556677"}`
	ask := func(ttl, n int) (answers int) {
		c, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", d.Port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl) })
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			fmt.Fprint(c, question)
			fmt.Fprint(c, `{"mp":"mailplusd/1","nonce":"xx"}`) // never answered
		}
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		for buf := make([]byte, 2000); ; answers++ {
			if _, err := c.Read(buf); err != nil {
				return answers
			}
		}
	}
	if n := ask(64, 5); n != 0 {
		t.Errorf("%d answers to a routed question", n)
	}
	start := time.Now()
	n := ask(255, 300)
	if most := 21 + int(time.Since(start)/(100*time.Millisecond)); n > most || n == 0 {
		t.Errorf("%d answers to 300 questions, at most %d are due", n, most)
	}
}

// lan joins two network namespaces, with addresses that end in 1 and 2, by a cable.
func lan(t testing.TB) (ns [2]string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	for i := range ns {
		ns[i] = fmt.Sprintf("mplink%d-%d", i, os.Getpid())
		ip(t, "netns", "add", ns[i])
		t.Cleanup(func() { exec.Command("ip", "netns", "delete", ns[i]).Run() })
	}
	ip(t, "-n", ns[0], "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", ns[1])
	for i := range ns {
		ip(t, "-n", ns[i], "addr", "add", fmt.Sprintf("198.51.100.%d/24", i+1), "dev", "lan0")
		ip(t, "-n", ns[i], "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "lan0", "nodad")
		ip(t, "-n", ns[i], "link", "set", "lan0", "up")
	}
	return ns
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// A peer whose cable is pulled says nothing any more. Its connections end long before TCP
// would give up by itself, an idle one as well as one that has something to send.
func TestVanishedPeer(t *testing.T) {
	ns := lan(t)
	var n [2]*transport.Transport
	for i := range n {
		inside(t, ns[i], func() {
			n[i] = node(t, string(rune('a'+i)), func(o *transport.Options) { o.Listen = fmt.Sprintf("198.51.100.%d:7000", i+1) })
		})
	}
	if t.Failed() {
		return
	}
	a, b := n[0], n[1]
	pin(t, a, peerOf(b))
	pin(t, b, peerOf(a))
	echo(t, b, transport.Lease)
	var conns [2]net.Conn
	inside(t, ns[0], func() {
		for i := range conns {
			var err error
			if conns[i], err = a.Dial(within(t), "b", transport.Lease); err != nil {
				t.Error(err)
				return
			}
		}
	})
	if t.Failed() {
		return
	}
	for _, c := range conns {
		defer c.Close()
		ping(t, c)
	}
	ip(t, "-n", ns[1], "link", "set", "lan0", "down")
	start := time.Now()
	if _, err := conns[1].Write([]byte("are you there?")); err != nil {
		t.Fatal(err)
	}
	for i, what := range []string{"idle", "sending"} {
		conns[i].SetReadDeadline(time.Now().Add(patience))
		_, err := conns[i].Read(make([]byte, 1))
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
		t.Logf("%s: %v after %v", what, err, time.Since(start))
	}
}

// TestDiscoverLAN looks from one namespace for the nodes of another, by IPv4 and IPv6.
// covers: R11.33
func TestDiscoverLAN(t *testing.T) {
	ns := lan(t)
	var responders []*transport.Responder
	inside(t, ns[1], func() {
		for _, name := range []string{"n1", "n2"} { // two programs on one host share the port
			r, err := transport.Discovery{}.Respond(announce(name))
			if err != nil {
				t.Error(err)
				return
			}
			responders = append(responders, r)
		}
	})
	defer func() {
		for _, r := range responders {
			r.Close()
		}
	}()
	if t.Failed() {
		return
	}
	var got []transport.Found
	for end := time.Now().Add(patience); len(got) < 4 && time.Now().Before(end); {
		inside(t, ns[0], func() {
			var err error
			if got, err = transport.Discover(within(t), nil); err != nil {
				t.Error(err)
			}
		})
	}
	want := map[netip.Addr]bool{}
	seen := map[string]bool{}
	for _, f := range got {
		a := f.Addr.Addr()
		want[a.WithZone("")] = true
		seen[fmt.Sprintf("%s v4=%v", f.Node, a.Is4())] = true
		if f.Interface != "lan0" || f.Addr.Port() != 7000 || f.Initialised != (f.Node == "n1") {
			t.Errorf("%+v", f)
		}
	}
	b, _ := json.Marshal(got)
	t.Logf("%s", b)
	if len(seen) != 4 || !want[netip.MustParseAddr("198.51.100.2")] {
		t.Errorf("found %v at %v", seen, want)
	}
}

// inside runs f with a thread that is in a network namespace. Sockets stay in the namespace
// they were made in; the thread is given up with the goroutine.
func inside(t testing.TB, ns string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		h, err := os.Open("/var/run/netns/" + ns)
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		if err := unix.Setns(int(h.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}
