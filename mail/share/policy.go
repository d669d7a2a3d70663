package share

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"net/netip"
)

// Policy says how sessions are spread. Its zero value keeps all of them here.
type Policy struct {
	Self, Peer string // node IDs; no Peer: all sessions stay here
	// Weights of the two nodes, 0 to 100. A node of weight 0 gets none; if both are 0, all
	// stay here.
	SelfWeight, PeerWeight int
}

// Choose tells whether the peer is to serve a client. It depends on the client's network
// (an IPv4 address, a /64 of IPv6), the nodes' names and the weights, and not on the side
// that asks: weighted rendezvous hashing. A change of the weights moves only as many
// clients as it must.
func (p Policy) Choose(client netip.Addr) bool {
	if p.Peer == "" || p.PeerWeight <= 0 || !client.IsValid() {
		return false
	}
	if p.SelfWeight <= 0 {
		return true
	}
	mine, theirs := score(p.Self, p.SelfWeight, client), score(p.Peer, p.PeerWeight, client)
	if mine == theirs {
		return p.Peer < p.Self
	}
	return theirs > mine
}

// score is weight / -ln(u) with u uniform in (0,1): the greatest is that of a node with a
// probability in proportion to its weight.
func score(node string, weight int, client netip.Addr) float64 {
	client = client.Unmap().WithZone("")
	var b [64 + 1 + 17]byte
	in := append(b[:0], node...)
	in = append(in, 0)
	if client.Is6() {
		a := client.As16()
		in = append(in, a[:8]...)
	} else {
		in = append(in, client.AsSlice()...)
	}
	sum := sha256.Sum256(in)
	u := (float64(binary.BigEndian.Uint64(sum[:])>>11) + 0.5) / (1 << 53)
	return float64(weight) / -math.Log(u)
}
