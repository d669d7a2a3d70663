package vip

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
)

const (
	ip6Size   = 40
	icmp6     = 58
	nsType    = 135
	naType    = 136
	hopLimit  = 255 // RFC 4861 7.1: nothing else is neighbour discovery
	maxNDSize = 1500
)

var allNodes = netip.MustParseAddr("ff02::1")

// ndFilter passes neighbour advertisements only: an IPv6 socket would see all traffic.
func ndFilter() ([]bpf.RawInstruction, error) {
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: etherSize + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmp6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: etherSize + ip6Size, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: naType, SkipTrue: 1},
		bpf.RetConstant{Val: maxNDSize},
		bpf.RetConstant{Val: 0},
	})
}

// ndPacket is a neighbour discovery message with all its headers.
func ndPacket(m ndp.Message, mac net.HardwareAddr, src, dst netip.Addr) ([]byte, error) {
	body, err := ndp.MarshalMessageChecksum(m, src, dst)
	if err != nil {
		return nil, err
	}
	to := dst.As16()
	b := ether(net.HardwareAddr{0x33, 0x33, to[12], to[13], to[14], to[15]}, mac, etherIPv6)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, icmp6, hopLimit)
	b = append(append(b, src.AsSlice()...), to[:]...)
	return append(b, body...), nil
}

// solicitation asks for addr as duplicate address detection does (RFC 4862 5.4.2): from no
// address, so that it claims nothing. The answer goes to all nodes.
func solicitation(mac net.HardwareAddr, addr netip.Addr) ([]byte, error) {
	group, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil {
		return nil, err
	}
	return ndPacket(&ndp.NeighborSolicitation{TargetAddress: addr}, mac, netip.IPv6Unspecified(), group)
}

// advertisement tells all nodes that addr is at mac, whatever they knew before.
func advertisement(mac net.HardwareAddr, addr netip.Addr) ([]byte, error) {
	return ndPacket(&ndp.NeighborAdvertisement{
		Override: true, TargetAddress: addr,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	}, mac, addr, allNodes)
}

// parseND reads an Ethernet frame that may hold a neighbour advertisement.
func parseND(b []byte) (claim, bool) {
	if len(b) < etherSize+ip6Size+24 || binary.BigEndian.Uint16(b[12:]) != etherIPv6 {
		return claim{}, false
	}
	mac := net.HardwareAddr(append([]byte(nil), b[6:12]...))
	b = b[etherSize:]
	size := int(binary.BigEndian.Uint16(b[4:]))
	if b[0]>>4 != 6 || b[6] != icmp6 || b[7] != hopLimit || size > len(b)-ip6Size || b[ip6Size] != naType {
		return claim{}, false
	}
	m, err := ndp.ParseMessage(b[ip6Size : ip6Size+size])
	na, ok := m.(*ndp.NeighborAdvertisement)
	if err != nil || !ok || na.TargetAddress.Is4() {
		return claim{}, false
	}
	for _, o := range na.Options {
		if lla, ok := o.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Target && len(lla.Addr) == len(mac) {
			mac = lla.Addr
		}
	}
	return claim{na.TargetAddress, mac}, true
}
