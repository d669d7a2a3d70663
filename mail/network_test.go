package mail

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"mailplusd/mail/model"
)

// covers: I.22
func TestConnectedSubnets(t *testing.T) {
	pfx := netip.MustParsePrefix
	host := []Interface{
		{Name: "lo", Up: true, Loopback: true, Addresses: []netip.Prefix{pfx("127.0.0.1/8"), pfx("::1/128")}},
		{Name: "eth0", Up: true, Addresses: []netip.Prefix{pfx("192.168.1.10/24"), pfx("2001:db8::10/64"), pfx("fe80::1/64")}},
		{Name: "eth1", Up: true, Addresses: []netip.Prefix{pfx("10.1.2.3/16"), pfx("10.1.9.9/32")}},
		{Name: "eth2", Up: false, Addresses: []netip.Prefix{pfx("172.16.0.1/12")}},
	}
	for bind, want := range map[string]string{
		"all": "[10.1.0.0/16 192.168.1.0/24 2001:db8::/64]", "": "[10.1.0.0/16 192.168.1.0/24 2001:db8::/64]",
		"eth0": "[192.168.1.0/24 2001:db8::/64]", "eth1": "[10.1.0.0/16]", "10.1.2.3": "[10.1.0.0/16]",
		"lo": "[]", "127.0.0.1": "[]", "eth2": "[]", "eth9": "[]", "192.0.2.1": "[]",
	} {
		if got := fmt.Sprint(connected(host, bind)); got != want {
			t.Errorf("%q: %s, want %s", bind, got, want)
		}
	}
}

func TestLocalNetwork(t *testing.T) {
	set := model.DefaultSettings()
	set.Network.LAN = []string{"198.51.100.0/24"}
	n := &localNetwork{bind: "127.0.0.1"}
	for ip, want := range map[string]bool{"127.0.0.1": true, "::1": true, "::ffff:127.0.0.1": true, "198.51.100.7": true, "::ffff:198.51.100.7": true, "198.51.101.7": false, "203.0.113.1": false} {
		if got := n.contains(netip.MustParseAddr(ip), &set); got != want {
			t.Errorf("%s: %v, want %v", ip, got, want)
		}
	}
}

func TestFindInterfaceNamesTheOthers(t *testing.T) {
	if _, err := FindInterface("nosuch0"); err == nil || !strings.Contains(err.Error(), "lo") {
		t.Errorf("%v", err)
	}
}
