package model

import (
	"crypto/ed25519"
	"net/netip"
	"strings"
)

// Pair is what both nodes agree on about themselves: the replicated facts of high
// availability. It has no address of a single connection and no secret key.
type Pair struct {
	Cluster string     `cbor:"1,keyasint" json:"cluster"` // ID, made at pairing, never changed
	Nodes   []PairNode `cbor:"2,keyasint" json:"nodes"`   // one or two
	VIPs    []VIP      `cbor:"3,keyasint,omitempty" json:"vips,omitempty"`
	Arbiter Arbiter    `cbor:"4,keyasint" json:"arbiter"`
	LeaseMS int        `cbor:"5,keyasint" json:"lease_ms"` // milliseconds: how long a node may lead without word from its peer
	Sharing Sharing    `cbor:"6,keyasint" json:"sharing"`
	Level   uint16     `cbor:"7,keyasint,omitempty" json:"level,omitempty"` // feature level that both programs know
}

// PairRole is what a node was at pairing. Who leads now is not a setting.
type PairRole string

// The roles.
const (
	RolePrimary   PairRole = "primary"
	RoleSecondary PairRole = "secondary"
)

// PairNode is one of the two machines.
type PairNode struct {
	ID     string   `cbor:"1,keyasint" json:"id"`     // short name, unique
	Number uint16   `cbor:"2,keyasint" json:"number"` // 0: original primary, 1: original secondary; part of operation IDs and forced terms
	Addrs  []string `cbor:"3,keyasint" json:"addrs"`  // ADDRESS:PORT of the node link, in the order in which they are tried
	Key    []byte   `cbor:"4,keyasint" json:"key"`    // Ed25519 public key
	Role   PairRole `cbor:"5,keyasint" json:"role"`
}

// VIP is an address that belongs to the node that leads.
type VIP struct {
	Prefix    netip.Prefix `cbor:"1,keyasint" json:"prefix"` // the address with its network's length, such as 192.0.2.10/24
	Interface string       `cbor:"2,keyasint" json:"interface"`
}

// ArbiterMode says who decides whether a node may run alone.
type ArbiterMode string

// The modes.
const (
	ArbiterGateway ArbiterMode = "gateway" // targets on the network answer, the peer doesn't
	ArbiterWitness ArbiterMode = "witness" // a third machine
	ArbiterManual  ArbiterMode = "manual"  // the administrator
)

// Arbiter is the settings of that decision.
type Arbiter struct {
	Mode       ArbiterMode `cbor:"1,keyasint" json:"mode"`
	Targets    []string    `cbor:"2,keyasint,omitempty" json:"targets,omitempty"` // gateway: addresses; none: the default gateway
	Witness    string      `cbor:"3,keyasint,omitempty" json:"witness,omitempty"` // witness: HOST:PORT
	WitnessKey []byte      `cbor:"4,keyasint,omitempty" json:"witness_key,omitempty"`
	WitnessID  string      `cbor:"5,keyasint,omitempty" json:"witness_id,omitempty"` // its name on the link
	Fallback   bool        `cbor:"6,keyasint,omitempty" json:"fallback,omitempty"`   // the gateway rule decides where the witness can't be asked
}

// SharingMode says whether the secondary serves sessions too.
type SharingMode string

// The modes.
const (
	SharingPrimaryOnly SharingMode = "primary-only"
	SharingBalanced    SharingMode = "balanced"
)

// Sharing is how sessions are spread over the nodes.
type Sharing struct {
	Mode    SharingMode    `cbor:"1,keyasint" json:"mode"`
	Weights map[string]int `cbor:"2,keyasint,omitempty" json:"weights,omitempty"` // by node ID, 0 to 100; missing: 50
}

// DefaultWeight is a node's weight when none is set.
const DefaultWeight = 50

// Weight gives a node's weight, 0 to 100.
func (s *Sharing) Weight(node string) int {
	if w, ok := s.Weights[node]; ok {
		return w
	}
	return DefaultWeight
}

// Limits of a pair.
const (
	MaxPairAddrs   = 4
	MaxPairVIPs    = 8
	MaxPairTargets = 8
	MinLeaseMS     = 1000
	MaxLeaseMS     = 60_000
	DefaultLeaseMS = 3000
)

// Node finds a node by its ID; nil when there is none.
func (p *Pair) Node(id string) *PairNode {
	for i := range p.Nodes {
		if p.Nodes[i].ID == id {
			return &p.Nodes[i]
		}
	}
	return nil
}

// Primary is the node that was the primary at pairing; nil when it was removed.
func (p *Pair) Primary() *PairNode {
	for i := range p.Nodes {
		if p.Nodes[i].Role == RolePrimary {
			return &p.Nodes[i]
		}
	}
	return nil
}

// Validate checks what can be checked without looking at the machines.
func (p *Pair) Validate() error {
	if p.Cluster == "" || len(p.Cluster) > 64 {
		return Invalid("cluster", "the ID must have 1 to 64 octets")
	}
	if len(p.Nodes) < 1 || len(p.Nodes) > 2 {
		return Invalid("nodes", "a pair has one or two nodes, not %d", len(p.Nodes))
	}
	for i := range p.Nodes {
		if err := p.Nodes[i].Validate(); err != nil {
			return err
		}
	}
	if len(p.Nodes) == 2 {
		a, b := &p.Nodes[0], &p.Nodes[1]
		switch {
		case a.ID == b.ID:
			return Invalid("nodes", "both nodes are called %q", a.ID)
		case a.Number == b.Number:
			return Invalid("nodes", "both nodes have the number %d", a.Number)
		case a.Role == b.Role:
			return Invalid("nodes", "both nodes have the role %s", a.Role)
		case string(a.Key) == string(b.Key):
			return Invalid("nodes", "both nodes have the same key")
		}
	}
	if len(p.VIPs) > MaxPairVIPs {
		return Invalid("vip", "%d addresses, more than %d", len(p.VIPs), MaxPairVIPs)
	}
	if err := p.validateVIPs(); err != nil {
		return err
	}
	if p.LeaseMS < MinLeaseMS || p.LeaseMS > MaxLeaseMS {
		return Invalid("lease", "%d ms is outside %d to %d ms", p.LeaseMS, MinLeaseMS, MaxLeaseMS)
	}
	if err := p.Arbiter.Validate(); err != nil {
		return err
	}
	return p.Sharing.validate(p)
}

// Validate checks a node's own fields.
func (n *PairNode) Validate() error {
	if err := validateName("node", n.ID); err != nil {
		return err
	}
	if n.Number > 1 {
		return Invalid("node", "%s has the number %d; it is 0 or 1", n.ID, n.Number)
	}
	if n.Role != RolePrimary && n.Role != RoleSecondary {
		return Invalid("role", "%q is neither primary nor secondary", n.Role)
	}
	if len(n.Key) != ed25519.PublicKeySize {
		return Invalid("key", "the public key of %s has %d octets, not %d", n.ID, len(n.Key), ed25519.PublicKeySize)
	}
	if len(n.Addrs) < 1 || len(n.Addrs) > MaxPairAddrs {
		return Invalid("address", "%s needs 1 to %d addresses, has %d", n.ID, MaxPairAddrs, len(n.Addrs))
	}
	for _, a := range n.Addrs {
		ap, err := netip.ParseAddrPort(a)
		if err != nil || ap.Port() == 0 || ap.Addr().IsUnspecified() || ap.Addr().IsMulticast() {
			return Invalid("address", "%q of %s is not ADDRESS:PORT", a, n.ID)
		}
	}
	return nil
}

// validateVIPs refuses an address that is a node's own, or whose network has none of its kind.
func (p *Pair) validateVIPs() error {
	seen := map[netip.Addr]bool{}
	for _, v := range p.VIPs {
		if err := v.Validate(); err != nil {
			return err
		}
		if seen[v.Prefix.Addr()] {
			return Invalid("vip", "%s is there twice", v.Prefix.Addr())
		}
		seen[v.Prefix.Addr()] = true
		for i := range p.Nodes {
			for _, a := range p.Nodes[i].Addrs {
				if ap, err := netip.ParseAddrPort(a); err == nil && ap.Addr().Unmap() == v.Prefix.Addr() {
					return Invalid("vip", "%s is the own address of %s; choose a free one of the same network", v.Prefix.Addr(), p.Nodes[i].ID)
				}
			}
		}
	}
	return nil
}

// Validate checks the address for itself.
func (v *VIP) Validate() error {
	a := v.Prefix.Addr()
	switch {
	case !v.Prefix.IsValid():
		return Invalid("vip", "is not ADDRESS/LENGTH, such as 192.0.2.10/24")
	case a.Is4In6(), a.Zone() != "":
		return Invalid("vip", "%s: write a plain IPv4 or IPv6 address", a)
	case a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return Invalid("vip", "%s can't be given to a service", a)
	case v.Prefix.Bits() == 0:
		return Invalid("vip", "%s has no network", v.Prefix)
	}
	if hosts := a.BitLen() - v.Prefix.Bits(); a.Is4() && hosts > 1 {
		if a == v.Prefix.Masked().Addr() {
			return Invalid("vip", "%s is the name of the network %s, not an address in it", a, v.Prefix.Masked())
		}
		if a == lastAddr(v.Prefix) {
			return Invalid("vip", "%s is the broadcast address of %s", a, v.Prefix.Masked())
		}
	}
	if v.Interface == "" || len(v.Interface) > 15 || strings.ContainsAny(v.Interface, "/ \t\n:") {
		return Invalid("interface", "%q is no name of a network interface", v.Interface)
	}
	return nil
}

// SameSubnet tells whether addr, a node's service address, is in the VIP's network: only
// then does its segment answer for the VIP.
func (v *VIP) SameSubnet(addr netip.Addr) bool { return v.Prefix.Contains(addr.Unmap()) }

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Validate checks the arbiter's settings.
func (a *Arbiter) Validate() error {
	switch a.Mode {
	case ArbiterGateway, ArbiterManual:
	case ArbiterWitness:
		host, port, ok := strings.Cut(a.Witness, ":")
		if i := strings.LastIndexByte(a.Witness, ':'); i >= 0 {
			host, port = a.Witness[:i], a.Witness[i+1:]
		}
		if !ok || host == "" || port == "" || strings.Trim(port, "0123456789") != "" || len(port) > 5 {
			return Invalid("witness", "%q is not HOST:PORT", a.Witness)
		}
		if len(a.WitnessKey) != ed25519.PublicKeySize {
			return Invalid("witness", "the public key has %d octets, not %d", len(a.WitnessKey), ed25519.PublicKeySize)
		}
	default:
		return Invalid("arbiter", "%q is not one of gateway, witness, manual", a.Mode)
	}
	if len(a.Targets) > MaxPairTargets {
		return Invalid("targets", "%d targets, more than %d", len(a.Targets), MaxPairTargets)
	}
	for _, t := range a.Targets {
		if _, err := netip.ParseAddr(t); err != nil {
			return Invalid("targets", "%q is no IP address", t)
		}
	}
	return nil
}

func (s *Sharing) validate(p *Pair) error {
	if s.Mode != SharingPrimaryOnly && s.Mode != SharingBalanced {
		return Invalid("sharing", "%q is not one of primary-only, balanced", s.Mode)
	}
	for id, w := range s.Weights {
		if p.Node(id) == nil {
			return Invalid("weights", "%q is no node of this pair", id)
		}
		if w < 0 || w > 100 {
			return Invalid("weights", "%d of %s is outside 0 to 100", w, id)
		}
	}
	return nil
}
