package vip

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Addresses that can't be those of a pair are told apart from those that can.
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
