package vip

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
	etherSize = 14
	arpSize   = 28

	arpRequest = 1
	arpReply   = 2
)

var broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// claim is what a packet says: this address is at that MAC.
type claim struct {
	addr netip.Addr
	mac  net.HardwareAddr
}

// ether appends an Ethernet header.
func ether(dst, src net.HardwareAddr, kind uint16) []byte {
	b := make([]byte, 0, 96)
	b = append(append(b, dst...), src...)
	return binary.BigEndian.AppendUint16(b, kind)
}

// arpPacket is an ARP packet for IPv4 over Ethernet with its header, to everybody (RFC 826).
func arpPacket(op uint16, mac net.HardwareAddr, sender, target netip.Addr) []byte {
	b := ether(broadcastMAC, mac, etherARP)
	b = append(b, 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, mac...), sender.AsSlice()...)
	if op == arpReply {
		b = append(b, mac...)
	} else {
		b = append(b, 0, 0, 0, 0, 0, 0)
	}
	return append(b, target.AsSlice()...)
}

// parseARP reads an Ethernet frame. A probe (sender 0.0.0.0) claims nothing: the peer's look at the
// address must not be taken for a holder.
func parseARP(b []byte) (claim, bool) {
	if len(b) < etherSize+arpSize || binary.BigEndian.Uint16(b[12:]) != etherARP {
		return claim{}, false
	}
	b = b[etherSize:]
	if [6]byte(b) != [6]byte{0, 1, 8, 0, 6, 4} {
		return claim{}, false
	}
	if op := binary.BigEndian.Uint16(b[6:]); op != arpRequest && op != arpReply {
		return claim{}, false
	}
	c := claim{netip.AddrFrom4([4]byte(b[14:])), net.HardwareAddr(append([]byte(nil), b[8:14]...))}
	return c, !c.addr.IsUnspecified()
}
