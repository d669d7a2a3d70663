package model

import (
	"net/netip"
	"strings"
	"testing"
)

func goodPair() Pair {
	key := func(b byte) []byte { return []byte(strings.Repeat(string(b), 32)) }
	return Pair{
		Cluster: "c1",
		Nodes: []PairNode{
			{ID: "a", Number: 0, Addrs: []string{"192.0.2.1:4430", "[2001:db8::1]:4430"}, Key: key('a'), Role: RolePrimary},
			{ID: "b", Number: 1, Addrs: []string{"192.0.2.2:4430"}, Key: key('b'), Role: RoleSecondary},
		},
		VIPs:    []VIP{{Prefix: netip.MustParsePrefix("192.0.2.10/24"), Interface: "eth0"}},
		Arbiter: Arbiter{Mode: ArbiterGateway},
		LeaseMS: DefaultLeaseMS,
		Sharing: Sharing{Mode: SharingPrimaryOnly},
	}
}

func TestPairValidate(t *testing.T) {
	good := goodPair()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Pair){
		"cluster":   func(p *Pair) { p.Cluster = "" },
		"nodes":     func(p *Pair) { p.Nodes = nil },
		"called":    func(p *Pair) { p.Nodes[1].ID = "a" },
		"number":    func(p *Pair) { p.Nodes[1].Number = 0 },
		"role":      func(p *Pair) { p.Nodes[1].Role = RolePrimary },
		"same key":  func(p *Pair) { p.Nodes[1].Key = p.Nodes[0].Key },
		"octets":    func(p *Pair) { p.Nodes[1].Key = []byte("x") },
		"ADDRESS":   func(p *Pair) { p.Nodes[0].Addrs[0] = "example.com:1" },
		"own":       func(p *Pair) { p.VIPs[0].Prefix = netip.MustParsePrefix("192.0.2.2/24") },
		"twice":     func(p *Pair) { p.VIPs = append(p.VIPs, p.VIPs[0]) },
		"broadcast": func(p *Pair) { p.VIPs[0].Prefix = netip.MustParsePrefix("192.0.2.255/24") },
		"network":   func(p *Pair) { p.VIPs[0].Prefix = netip.MustParsePrefix("192.0.2.0/24") },
		"interface": func(p *Pair) { p.VIPs[0].Interface = "" },
		"lease":     func(p *Pair) { p.LeaseMS = 10 },
		"witness":   func(p *Pair) { p.Arbiter = Arbiter{Mode: ArbiterWitness, Witness: "w"} },
		"arbiter":   func(p *Pair) { p.Arbiter.Mode = "coin" },
		"targets":   func(p *Pair) { p.Arbiter.Targets = []string{"gw"} },
		"sharing":   func(p *Pair) { p.Sharing.Mode = "" },
		"weights":   func(p *Pair) { p.Sharing.Weights = map[string]int{"z": 1} },
	} {
		p := goodPair()
		change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestVIPSameSubnet(t *testing.T) {
	v := VIP{Prefix: netip.MustParsePrefix("192.0.2.10/24")}
	if !v.SameSubnet(netip.MustParseAddr("192.0.2.77")) || v.SameSubnet(netip.MustParseAddr("198.51.100.1")) {
		t.Fatal("192.0.2.10/24 holds 192.0.2.77 and not 198.51.100.1")
	}
}
