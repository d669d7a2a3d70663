package pairtest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// newPeer makes a further node, at an address of another subnet if it is one.
func (s *site) newPeer(name, addr string) *node {
	n := s.newNode(name, addr)
	n.args = []string{"serve", "--name", name, "--data", n.data, "--link", addr + ":2826", "--admin-socket", n.socket(), "--lease", s.opt.lease, "--cold-wait", "5s"}
	return n
}

// stranger plugs a machine in that has an address, and unplugs it at the end.
func (s *site) stranger(name, addr string) (m *machine, leave func()) {
	m = newMachine(s.t, s.sw, name, addr)
	s.note("%s has %s, %s", name, addr, m.mac)
	return m, func() {
		s.note("%s leaves", name)
		m.ip("addr del %s/24 dev eth0", addr)
	}
}

// TestRefusedInLAN: addresses that must not become a pair's, with real interfaces and neighbours. Each is
// refused with what helps and leaves a single node; and what a pair does about somebody who has its address.
func TestRefusedInLAN(t *testing.T) {
	// covers: R11.21 R11.28 R11.31
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	s := newSite(t, siteOptions{})
	far := s.newPeer("far", "10.98.0.3")
	s.a.ip("route add 10.98.0.0/24 dev eth0")
	far.ip("route add 10.99.0.0/24 dev eth0")
	s.up(s.a, s.b, far)
	s.must(s.a, "setup", "new", "--domain", "example.test", "--admin", "alice", "--password-file", s.file("pw", password+"\n"))
	s.must(s.a, "service", "imap", "set", "--enable", "--tls")
	s.must(s.a, "account", "activate", "alice")
	invite := func(n *node) string {
		var out struct{ Token string }
		if err := json.Unmarshal([]byte(s.must(n, "ha", "invite", "-o", "json")), &out); err != nil {
			t.Fatal(err)
		}
		return s.file("invite", out.Token)
	}
	refused := func(what string, peer *node, address string, words ...string) {
		t.Helper()
		out, err := s.mpctl(s.a, "ha", "create", "--peer", peer.addr.String(), "--vip", address, "--invite-file", invite(peer))
		if err == nil {
			t.Fatalf("%s was taken: %s", what, out)
		}
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("%s: %q is missing in\n%s", what, w, out)
			}
		}
		for _, n := range []*node{s.a, peer} {
			if v := s.shown(n); v.State != "single" {
				t.Errorf("%s: %s is %q afterwards", what, n.name, v.State)
			}
		}
	}
	refused("a peer of another subnet", far, vip.String()+"/24", "this node is in 10.99.0.0/24, the other in 10.98.0.0/24", "addresses of one subnet")
	refused("an address of another subnet", s.b, "10.97.0.10/24", "10.97.0.10", "free address of the nodes' subnet")
	refused("the other node's own address", s.b, s.b.addr.String()+"/24", s.b.mac.String())
	squatter, leave := s.stranger("squatter", vip.String())
	refused("an address that somebody has", s.b, vip.String()+"/24", "in use by "+squatter.mac.String(), "choose a free address")
	leave()

	s.must(s.a, "ha", "create", "--peer", s.b.addr.String(), "--vip", vip.String()+"/24", "--invite-file", invite(s.b))
	s.sync()
	// Somebody takes the address while nobody holds it: the pair says who, and takes it when he has gone.
	s.a.powerOff()
	s.b.powerOff()
	s.sw.heal()
	squatter.ip("addr add %s/24 dev eth0", vip)
	s.up(s.a, s.b)
	s.poll(60*time.Second, "mpctl names who has the address", func() bool {
		return strings.Contains(s.shown(s.a).Alarm+s.shown(s.b).Alarm, squatter.mac.String())
	})
	if now := s.watch.now(); now != "" {
		t.Errorf("%s took an address that is in use", now)
	}
	leave()
	s.holder()
	s.sync()
}
