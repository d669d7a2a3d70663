package vip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/lease"
)

// ipHere runs ip in the namespace of the calling thread.
func ipHere(t *testing.T, format string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(format)...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %s (%v)", format, out, err)
	}
}

// veth makes v0 and its other end v1 in the namespace of the calling thread.
func veth(t *testing.T) {
	t.Helper()
	ipHere(t, "link set lo up")
	ipHere(t, "link add v0 type veth peer name v1")
	ipHere(t, "link set v1 up")
	ipHere(t, "link set v0 up")
}

// kinds are interfaces that can have a floating address, and how each is made.
var kinds = map[string]string{
	"v0": "", "br0": "link add br0 type bridge", "v0.5": "link add link v0 name v0.5 type vlan id 5",
	"bond0": "link add bond0 type bond", "mv0": "link add link v0 name mv0 type macvlan",
}

// A renewal never puts the address back, whatever the driver believes, on any kind of interface that this
// kernel has.
// covers: I.73
func TestNetlinkRenewNeverCreates(t *testing.T) {
	for _, addr := range families {
		for ifname, command := range kinds {
			t.Run(addr+" "+ifname, func(t *testing.T) {
				skip := ""
				own(t, func() {
					veth(t)
					if command != "" {
						if exec.Command("ip", strings.Fields(command)...).Run() != nil {
							skip = "this kernel has no such interface: " + command
							return
						}
						ipHere(t, "link set "+ifname+" up")
					}
					a := netip.MustParseAddr(addr)
					n, err := OpenNetlink(ifname)
					if err != nil {
						t.Error(err)
						return
					}
					defer n.Close()
					ctx := context.Background()
					if err := n.Renew(ctx, a, lease.Now()+time.Minute); !errors.Is(err, ErrGone) {
						t.Errorf("renewal before it was added: %v", err)
					}
					if err := n.Add(ctx, a, lease.Now()+5*time.Second); err != nil {
						t.Error(err)
						return
					}
					if left := lifetime(t, n, a); left < 3 || left > 4 {
						t.Errorf("lifetime of %d s for a lease of 5 s", left)
					}
					if err := n.Renew(ctx, a, lease.Now()+20*time.Second); err != nil {
						t.Error(err)
					}
					if left := lifetime(t, n, a); left < 17 || left > 19 {
						t.Errorf("lifetime of %d s for a lease of 20 s", left)
					}
					if o, ok, err := Owner(a); err != nil || !ok || o != (LocalAddr{ifname, netip.PrefixFrom(a, a.BitLen()), true}) {
						t.Errorf("%+v %v %v", o, ok, err)
					}
					ipHere(t, "addr flush dev "+ifname)
					if err := n.Renew(ctx, a, lease.Now()+time.Minute); !errors.Is(err, ErrGone) {
						t.Errorf("renewal of an address that is gone: %v", err)
					}
					if here, err := n.Has(ctx, a); err != nil || here {
						t.Errorf("the renewal has put it back: %v", err)
					}
				})
				if skip != "" {
					t.Skip(skip)
				}
			})
		}
	}
}

// lifetime is how many seconds the kernel still gives the address.
func lifetime(t *testing.T, n *Netlink, a netip.Addr) int {
	t.Helper()
	all, err := n.list(a)
	if err != nil || len(all) != 1 {
		t.Errorf("%d addresses: %v", len(all), err)
		return -1
	}
	if all[0].PreferedLft != 0 {
		t.Errorf("preferred lifetime %d", all[0].PreferedLft)
	}
	return all[0].ValidLft
}

// The process is stopped between its look at the clock and the call to the kernel: the address gets fewer
// seconds, or is deleted when the lease has ended.
// covers: I.73
func TestNetlinkLateCall(t *testing.T) {
	own(t, func() {
		veth(t)
		n, err := OpenNetlink("v0")
		if err != nil {
			t.Error(err)
			return
		}
		defer n.Close()
		var stops []time.Duration // before the nth look at the clock
		var at time.Duration
		n.now = func() time.Duration {
			if len(stops) > 0 {
				at += stops[0]
				stops = stops[1:]
			}
			return at
		}
		a, ctx := netip.MustParseAddr("10.99.0.50"), context.Background()
		here := func() bool { ok, _ := n.Has(ctx, a); return ok }

		stops = []time.Duration{0, 6 * time.Second}
		if err := n.Add(ctx, a, 5*time.Second); !errors.Is(err, ErrExpired) || here() {
			t.Errorf("added after the end of the lease: %v", err)
		}
		at, stops = 0, []time.Duration{0, 4500 * time.Millisecond}
		if err := n.Add(ctx, a, 5*time.Second); !errors.Is(err, ErrExpired) || here() {
			t.Errorf("added for its last half second: %v", err)
		}
		at, stops = 0, []time.Duration{0, 10 * time.Second}
		if err := n.Add(ctx, a, 30*time.Second); err != nil || !here() {
			t.Errorf("added with 20 s left: %v", err)
		} else if left := lifetime(t, n, a); left > 20 {
			t.Errorf("lifetime of %d s with 20 left", left)
		}
		stops = []time.Duration{0, 50 * time.Second}
		if err := n.Renew(ctx, a, 40*time.Second); !errors.Is(err, ErrExpired) || here() {
			t.Errorf("renewed after the end of the lease: %v", err)
		}
		at, stops = 0, nil
		if err := n.Add(ctx, a, 900*time.Millisecond); !errors.Is(err, ErrExpired) || here() {
			t.Errorf("added for less than a second: %v", err)
		}
	})
}

// A new process deletes what an old one has left, wherever that is, and touches nothing else.
func TestNetlinkClean(t *testing.T) {
	own(t, func() {
		veth(t)
		ctx := context.Background()
		old, err := OpenNetlink("v1")
		if err != nil {
			t.Error(err)
			return
		}
		addrs := []netip.Addr{netip.MustParseAddr("10.99.0.50"), netip.MustParseAddr("fd99::50")}
		for _, a := range addrs {
			if err := old.Add(ctx, a, lease.Now()+time.Minute); err != nil {
				t.Error(err)
			}
		}
		n, err := OpenNetlink("v0")
		if err != nil {
			t.Error(err)
			return
		}
		defer n.Close()
		if err := n.Clean(ctx, addrs...); err != nil {
			t.Error(err)
		}
		for _, a := range addrs {
			if o, ok, _ := Owner(a); ok {
				t.Errorf("left: %+v", o)
			}
		}
		ipHere(t, "addr add 10.99.0.50/24 dev v0")
		if err := n.Clean(ctx, addrs[0]); !errors.Is(err, ErrForeign) {
			t.Errorf("cleaned an address that is configured: %v", err)
		}
		if err := n.Delete(ctx, addrs[0]); err != nil {
			t.Errorf("deletion of an address we don't hold: %v", err)
		}
		if _, ok, _ := Owner(addrs[0]); !ok {
			t.Error("a configured address was deleted")
		}
		ipHere(t, "addr add 10.99.0.51/32 dev v0")
		if err := n.Add(ctx, netip.MustParseAddr("10.99.0.51"), lease.Now()+time.Minute); !errors.Is(err, ErrForeign) {
			t.Errorf("added what is configured already: %v", err)
		}
		if _, err := OpenNetlink("v9"); err == nil {
			t.Error("opened an interface that doesn't exist")
		}
	})
}

// covers: R11.22, R11.23, R11.24
func TestNetworkChecks(t *testing.T) {
	own(t, func() {
		veth(t)
		root := t.TempDir()
		if err := checkNodeIs(root, "10.99.0.1", ErrNotHere); err != "" {
			t.Error(err)
		}
		ipHere(t, "addr add 10.99.0.1/24 dev v0")
		ipHere(t, "addr add 10.99.0.2/32 dev v0")
		ipHere(t, "addr add 10.99.0.3/24 dev v0 valid_lft 600 preferred_lft 600")
		ipHere(t, "route add default via 10.99.0.254 dev v0 metric 100")
		ipHere(t, "route add default via 10.99.0.253 dev v0 metric 50")
		for addr, want := range map[string]error{"10.99.0.1": nil, "10.99.0.2": ErrHostPrefix, "10.99.0.3": ErrDHCP, "127.0.0.1": nil} {
			if err := checkNodeIs(root, addr, want); err != "" {
				t.Error(err)
			}
		}
		ipHere(t, "tuntap add ppp0 mode tun")
		ipHere(t, "addr add 10.77.0.1/24 dev ppp0")
		if err := checkNodeIs(root, "10.77.0.1", ErrPPP); err != "" {
			t.Error(err)
		}
		if _, err := OpenLink("ppp0"); err == nil {
			t.Error("a link on a point-to-point interface")
		}
		put(t, root, "proc/4711/comm", "dhclient\n")
		put(t, root, "proc/4711/cmdline", "/sbin/dhclient\x00-4\x00v0\x00")
		if err := checkNodeIs(root, "10.99.0.1", ErrDHCP); err != "" {
			t.Error(err)
		}
		gw, ok, err := DefaultGateway("v0", false)
		if err != nil || !ok || gw != netip.MustParseAddr("10.99.0.253") {
			t.Errorf("gateway %v %v %v", gw, ok, err)
		}
		if _, ok, err := DefaultGateway("v1", false); ok || err != nil {
			t.Errorf("gateway of v1: %v %v", ok, err)
		}
		if _, ok, err := DefaultGateway("", true); ok || err != nil {
			t.Errorf("IPv6 gateway: %v %v", ok, err)
		}
		carrier := func(want bool) {
			if up, err := Carrier("v0"); err != nil || up != want {
				t.Errorf("carrier %v %v, want %v", up, err, want)
			}
		}
		carrier(true)
		ipHere(t, "link set v1 down")
		carrier(false)
	})
}

func checkNodeIs(root, addr string, want error) string {
	if _, err := checkNode(root, netip.MustParseAddr(addr)); !errors.Is(err, want) {
		return addr + ": " + errors.Join(err, errors.New("is not what was expected")).Error()
	}
	return ""
}

func put(t *testing.T, root, path, content string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
		t.Error(err)
	}
}

func TestDHCPSigns(t *testing.T) {
	ifi := &net.Interface{Index: 3, Name: "eth0"}
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", nil, ""},
		{"networkd", map[string]string{"run/systemd/netif/leases/3": "x"}, "lease of systemd-networkd"},
		{"networkd on another", map[string]string{"run/systemd/netif/leases/4": "x"}, ""},
		{"pid file", map[string]string{"run/dhcpcd/eth0.pid": "77\n", "proc/77/comm": "dhcpcd\n", "proc/77/cmdline": "x\x00"}, "/run/dhcpcd/eth0.pid"},
		{"stale pid file", map[string]string{"run/dhcpcd/eth0.pid": "77\n"}, ""},
		{"client", map[string]string{"proc/9/comm": "udhcpc\n", "proc/9/cmdline": "udhcpc\x00-i\x00eth0\x00"}, "process udhcpc"},
		{"client of another", map[string]string{"proc/9/comm": "udhcpc\n", "proc/9/cmdline": "udhcpc\x00-i\x00eth1\x00"}, ""},
	} {
		root := t.TempDir()
		for path, content := range tc.files {
			put(t, root, path, content)
		}
		if got := dhcpSign(root, ifi); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// covers: R11.15
func TestOtherManagers(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"none", map[string]string{"proc/1/comm": "init\n", "proc/1/cmdline": "init\x00"}, nil},
		{"processes", map[string]string{
			"proc/5/comm": "keepalived\n", "proc/5/cmdline": "keepalived\x00-D\x00", "proc/6/comm": "corosync\n", "proc/6/cmdline": "corosync\x00",
			"proc/7/comm": "keepalived\n", "proc/7/cmdline": "keepalived\x00",
		}, []string{"corosync", "keepalived"}},
		{"pid file of a process by another name", map[string]string{"run/pacemakerd.pid": "12", "proc/12/comm": "x\n"}, []string{"pacemaker"}},
		{"stale and broken pid files", map[string]string{"run/keepalived.pid": "999", "run/corosync.pid": "abc"}, nil},
	} {
		root := t.TempDir()
		for path, content := range tc.files {
			put(t, root, path, content)
		}
		if got := otherManagers(root); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// covers: R11.28, R11.31
func TestCheckAddr(t *testing.T) {
	p := netip.MustParsePrefix
	for _, tc := range []struct {
		vip   string
		nodes []netip.Prefix
		want  error
	}{
		{"10.0.0.9", []netip.Prefix{p("10.0.0.1/24"), p("10.0.0.2/24")}, nil},
		{"10.0.1.9", []netip.Prefix{p("10.0.0.1/24"), p("10.0.0.2/24")}, ErrSubnet},
		{"10.0.1.9", []netip.Prefix{p("10.0.0.1/16"), p("10.0.0.2/24")}, ErrSubnet},
		{"10.0.0.2", []netip.Prefix{p("10.0.0.1/24"), p("10.0.0.2/24")}, ErrNodeAddress},
		{"10.0.0.0", []netip.Prefix{p("10.0.0.1/24")}, ErrNotHost},
		{"10.0.0.255", []netip.Prefix{p("10.0.0.1/24")}, ErrNotHost},
		{"10.0.0.0", []netip.Prefix{p("10.0.0.1/31")}, nil},
		{"0.0.0.0", nil, ErrNotHost},
		{"224.0.0.5", nil, ErrNotHost},
		{"fe80::1", nil, ErrNotHost},
		{"fd99::50", []netip.Prefix{p("fd99::1/64")}, nil},
		{"fd99::", []netip.Prefix{p("fd99::1/64")}, ErrNotHost},
		{"fd99:0:0:1::50", []netip.Prefix{p("fd99::1/64")}, ErrSubnet},
		{"10.0.0.9", []netip.Prefix{p("fd99::1/64")}, ErrSubnet},
		{"127.0.0.9", []netip.Prefix{p("127.0.0.1/8"), p("127.0.0.2/8")}, nil},
	} {
		if err := CheckAddr(netip.MustParseAddr(tc.vip), tc.nodes...); !errors.Is(err, tc.want) {
			t.Errorf("%s in %v: %v, want %v", tc.vip, tc.nodes, err, tc.want)
		}
	}
}

// Only one can hold a loopback address, and the end of the lease or of the process frees it.
func TestLoopback(t *testing.T) {
	ctx, a := context.Background(), netip.MustParseAddr("127.99.7.3")
	d, other := OpenLoopback(), OpenLoopback()
	defer d.Close()
	defer other.Close()
	if err := d.Add(ctx, netip.MustParseAddr("10.0.0.1"), lease.Now()+time.Minute); err == nil {
		t.Error("took an address outside of 127.0.0.0/8")
	}
	if err := d.Renew(ctx, a, lease.Now()+time.Minute); !errors.Is(err, ErrGone) {
		t.Errorf("renewal before it was added: %v", err)
	}
	if err := d.Add(ctx, a, lease.Now()+time.Minute); err != nil {
		t.Fatal(err)
	}
	var use *InUseError
	if err := other.Add(ctx, a, lease.Now()+time.Minute); !errors.As(err, &use) || use.Addr != a {
		t.Errorf("a second holder: %v", err)
	}
	if err := d.Renew(ctx, a, lease.Now()-1); !errors.Is(err, ErrExpired) {
		t.Errorf("renewal after the end of the lease: %v", err)
	}
	if err := other.Add(ctx, a, lease.Now()+1100*time.Millisecond); err != nil {
		t.Errorf("after the first has lost it: %v", err)
	}
	poll(t, "the lease ends", func() bool { return d.Add(ctx, a, lease.Now()+time.Minute) == nil })
	if here, _ := other.Has(ctx, a); here {
		t.Error("two have it")
	}
	if err := other.Renew(ctx, a, lease.Now()+time.Minute); !errors.Is(err, ErrGone) {
		t.Errorf("renewal after expiry: %v", err)
	}
	if err := d.Delete(ctx, a); err != nil {
		t.Error(err)
	}
	var p *process
	run(func() { p = start(t, "lock", 0, a.String()) })
	p.wait(0, "held")
	if err := d.Add(ctx, a, lease.Now()+time.Minute); !errors.As(err, &use) {
		t.Errorf("beside another process: %v", err)
	}
	p.cmd.Process.Kill()
	poll(t, "the dead process frees it", func() bool { return d.Add(ctx, a, lease.Now()+time.Minute) == nil })
}
