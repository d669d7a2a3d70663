package vip

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mailplusd/cluster/lease"
)

var families = map[string]string{"IPv4": "10.99.0.50", "IPv6": "fd99::50"}

// A planned move: a client that connects every 2 ms meets the first node, then the second, and
// never the first again. Without announcements it would wait for 37 s; 30 are allowed.
// covers: I.73, R11.28
func TestPlannedMove(t *testing.T) {
	for name, vip := range families {
		t.Run(name, func(t *testing.T) {
			m := lan(t, 3)
			a, b := m[0].node("a", vip), m[1].node("b", vip)
			a.must(order{Do: "acquire"})
			var c *process
			m[2].do(func() { c = start(t, "client", 0, vip) })
			answeredBy(c, 0, "a")
			a.must(order{Do: "release"})
			b.must(order{Do: "acquire-released"})
			gap, from := answeredBy(c, 0, "b")
			b.must(order{Do: "release"})
			a.must(order{Do: "acquire-released"})
			back, _ := answeredBy(c, from, "a")
			c.mu.Lock()
			defer c.mu.Unlock()
			turns := ""
			for _, l := range c.lines[1:] {
				if _, who, _ := strings.Cut(l, " "); !strings.HasSuffix(turns, who) {
					turns += who
				}
			}
			if turns != "aba" {
				t.Errorf("the client met %q", turns)
			}
			t.Logf("no answer for %v, then %v", gap, back)
		})
	}
}

// answeredBy waits for an answer of that node after line "from" and gives the time since the last of another.
func answeredBy(c *process, from int, name string) (gap time.Duration, next int) {
	c.t.Helper()
	var last time.Duration
	if from > 0 {
		from-- // the last answer of the other
	}
	for {
		line, n := c.wait(from, "")
		from = n
		at, who, ok := strings.Cut(line, " ")
		if !ok {
			continue
		}
		d, err := time.ParseDuration(at + "ns")
		if err != nil {
			c.t.Fatal(err)
		}
		if who == name {
			return d - last, n
		}
		last = d
	}
}

// The main process is killed: the guard deletes the address at once, though its lifetime is a
// minute, and says farewell afterwards. The other node finds the address free.
// covers: I.73
func TestKilled(t *testing.T) {
	for name, vip := range families {
		t.Run(name, func(t *testing.T) {
			m := lan(t, 2)
			a, b := m[0].node("a", vip), m[1].node("b", vip)
			bye := filepath.Join(t.TempDir(), "bye")
			a.must(order{Do: "farewell " + bye})
			a.must(order{Do: "acquire", Lease: time.Minute})
			if got := b.tell(order{Do: "acquire"}); !strings.Contains(got, "in use by "+m[0].mac.String()) {
				t.Fatalf("the other node: %s", got)
			}
			begin := lease.Now()
			a.cmd.Process.Kill()
			poll(t, "the guard deletes the address", func() bool { return !m[0].has(vip) })
			t.Logf("gone after %v", lease.Now()-begin)
			poll(t, "the guard says farewell", func() bool { _, err := os.Stat(bye); return err == nil })
			b.must(order{Do: "acquire"})
			if !m[1].has(vip) {
				t.Error("the other node has not got it")
			}
		})
	}
}

// Stopping in order says no farewell, and leaves nothing either.
func TestStopped(t *testing.T) {
	m := lan(t, 1)
	a := m[0].node("a", "10.99.0.50")
	bye := filepath.Join(t.TempDir(), "bye")
	a.must(order{Do: "farewell " + bye})
	a.must(order{Do: "acquire", Lease: time.Minute})
	a.in.Close()
	poll(t, "the node ends", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.ended })
	if m[0].has("10.99.0.50") {
		t.Error("the address is still there")
	}
	if _, err := os.Stat(bye); err == nil {
		t.Error("a farewell after an orderly end")
	}
}

// The guard's signals: a service manager sends SIGTERM to the whole group, and the address stays
// until the main process says so. A guard killed leaves it to the lifetime.
func TestGuardSignals(t *testing.T) {
	m := lan(t, 1)
	a := m[0].node("a", "10.99.0.50")
	guard := guardPID(a)
	a.must(order{Do: "acquire", Lease: 2500 * time.Millisecond})
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		syscall.Kill(guard, sig)
	}
	a.must(order{Do: "acquire"}) // does nothing: it is held
	if !m[0].has("10.99.0.50") {
		t.Fatal("a signal to the guard ended it")
	}
	syscall.Kill(guard, syscall.SIGKILL)
	line, _ := a.wait(0, "lost")
	if !strings.Contains(line, ErrGuard.Error()) {
		t.Errorf("%s", line)
	}
	poll(t, "the kernel removes the address", func() bool { return !m[0].has("10.99.0.50") })
}

func guardPID(p *process) (pid int) {
	line, _ := p.wait(0, "ready ")
	for _, c := range line[len("ready "):] {
		pid = pid*10 + int(c-'0')
	}
	return pid
}

// The main process hangs: nobody renews, the kernel removes the address, the other node takes it.
// When the first goes on it finds that it has lost, never has the address again and
// announces nothing.
// covers: I.73
func TestHangs(t *testing.T) {
	for name, vip := range families {
		t.Run(name, func(t *testing.T) {
			m := lan(t, 3)
			a, b := m[0].node("a", vip), m[1].node("b", vip)
			updates, stop := make(chan netlink.AddrUpdate, 100), make(chan struct{})
			var err error
			m[0].do(func() { err = netlink.AddrSubscribe(updates, stop) })
			if err != nil {
				t.Fatal(err)
			}
			defer close(stop)
			a.must(order{Do: "acquire"})
			begin := lease.Now()
			a.cmd.Process.Signal(syscall.SIGSTOP)
			poll(t, "the kernel removes the address", func() bool { return !m[0].has(vip) })
			t.Logf("gone after %v with a term of 3 s", lease.Now()-begin)
			b.must(order{Do: "acquire"})
			heard := sniff(t, m[2])
			a.cmd.Process.Signal(syscall.SIGCONT)
			a.wait(0, "lost "+ErrGone.Error())
			if got := a.tell(order{Do: "acquire"}); !strings.Contains(got, "in use by "+m[1].mac.String()) {
				t.Errorf("the first node: %s", got)
			}
			for _, c := range heard(500 * time.Millisecond) {
				if c.addr.String() == vip && c.mac.String() == m[0].mac.String() {
					t.Error("the first node announced an address that it has lost")
				}
			}
			gone := false
			for len(updates) > 0 {
				if u := <-updates; u.LinkAddress.IP.String() == vip {
					if u.NewAddr && gone {
						t.Error("the address came back")
					}
					gone = !u.NewAddr
				}
			}
			if !gone {
				t.Error("the kernel reported nothing")
			}
		})
	}
}

// sniff listens on a machine; the function it gives ends that after more, and tells what was claimed.
func sniff(t *testing.T, m *machine) func(more time.Duration) []claim {
	t.Helper()
	var conns [2]*packet.Conn
	var err error
	m.do(func() {
		var ifi *net.Interface
		if ifi, err = net.InterfaceByName("eth0"); err != nil {
			return
		}
		if conns[0], err = packet.Listen(ifi, packet.Raw, etherARP, nil); err == nil {
			conns[1], err = packet.Listen(ifi, packet.Raw, etherIPv6, nil)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan []claim, 2)
	for i, parse := range []func([]byte) (claim, bool){parseARP, parseND} {
		go func() {
			defer conns[i].Close()
			var all []claim
			buf := make([]byte, 2048)
			for {
				n, _, err := conns[i].ReadFrom(buf)
				if err != nil {
					out <- all
					return
				}
				if c, ok := parse(buf[:n]); ok {
					all = append(all, c)
				}
			}
		}()
	}
	return func(more time.Duration) []claim {
		for _, c := range conns {
			c.SetReadDeadline(time.Now().Add(more))
		}
		return append(<-out, <-out...)
	}
}

// Announcements are repeated while the address is held, and none comes after the release:
// it would draw the clients away from the next holder.
func TestAnnouncementsStop(t *testing.T) {
	for name, vip := range families {
		t.Run(name, func(t *testing.T) {
			m := lan(t, 2)
			a := m[0].node("a", vip)
			mine := func(claims []claim) (n int) {
				for _, c := range claims {
					if c.addr.String() == vip && c.mac.String() == m[0].mac.String() {
						n++
					}
				}
				return n
			}
			during := sniff(t, m[1])
			a.must(order{Do: "acquire"})
			if n := mine(during(1500 * time.Millisecond)); n < 3 {
				t.Errorf("%d announcements", n)
			}
			a.must(order{Do: "release"})
			after := sniff(t, m[1])
			a.must(order{Do: "release"}) // a second one is no error
			if n := mine(after(2 * time.Second)); n != 0 {
				t.Errorf("%d announcements after the release", n)
			}
		})
	}
}

// An address that another machine has is not taken, and one that another machine takes
// while we hold it is reported.
// covers: I.73
func TestInUse(t *testing.T) {
	for name, vip := range families {
		t.Run(name, func(t *testing.T) {
			m := lan(t, 2)
			bits := netip.MustParseAddr(vip).BitLen()
			nodad := map[int]string{32: "", 128: "nodad"}[bits]
			a := m[0].node("a", vip)
			m[1].ip("addr add %s/%d dev eth0 %s", vip, bits, nodad)
			if got := a.tell(order{Do: "acquire"}); !strings.Contains(got, "in use by "+m[1].mac.String()) {
				t.Fatal(got)
			}
			if m[0].has(vip) {
				t.Fatal("taken though it is in use")
			}
			m[1].ip("addr del %s/%d dev eth0", vip, bits)
			a.must(order{Do: "acquire"})
			m[1].do(func() {
				l, err := OpenLink("eth0")
				if err != nil {
					t.Error(err)
					return
				}
				defer l.Close()
				if netip.MustParseAddr(vip).Is6() {
					m1 := netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(vip), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}
					link, _ := netlink.LinkByName("eth0")
					netlink.AddrAdd(link, &m1)
				}
				if err := l.Announce(t.Context(), netip.MustParseAddr(vip)); err != nil {
					t.Error(err)
				}
			})
			line, _ := a.wait(0, "conflict")
			if line != "conflict "+m[1].mac.String() {
				t.Errorf("%s, want the MAC %v", line, m[1].mac)
			}
		})
	}
}

// Who answers: a neighbour with its MAC, and nobody for an address that nobody has.
func TestProbe(t *testing.T) {
	m := lan(t, 2)
	for addr, want := range map[string]net.HardwareAddr{
		"10.99.0.2": m[1].mac, "10.99.0.77": nil, "fd99::2": m[1].mac, "fd99::77": nil, "10.99.0.1": nil, // an own address is no neighbour
	} {
		m[0].do(func() {
			mac, err := Probe(t.Context(), "eth0", netip.MustParseAddr(addr))
			if err != nil || mac.String() != want.String() {
				t.Errorf("%s: %v %v, want %v", addr, mac, err, want)
			}
		})
	}
}

// A main process without root hands its two capabilities on to the guard.
func TestGuardWithoutRoot(t *testing.T) {
	m := lan(t, 2)
	a := m[0].node("nobody", "10.99.0.50")
	a.must(order{Do: "acquire"})
	if !m[0].has("10.99.0.50") {
		t.Error("the address is not there")
	}
	a.must(order{Do: "release"})
	if m[0].has("10.99.0.50") {
		t.Error("the address is still there")
	}
}
