package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// socket is a UDP socket of one IP version that knows where datagrams come from.
type socket struct {
	conn net.PacketConn
	p4   *ipv4.PacketConn // one of the two
	p6   *ipv6.PacketConn
}

// incoming describes a datagram.
type incoming struct {
	n       int
	from    netip.AddrPort
	hops    int // hop limit left
	ifindex int
}

func listenUDP(network string, port int) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		if port == 0 {
			return nil
		}
		var err error
		cerr := raw.Control(func(fd uintptr) { // several programs may answer on one host
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		})
		if cerr != nil {
			return cerr
		}
		return err
	}}
	return lc.ListenPacket(context.Background(), network, fmt.Sprintf(":%d", port))
}

func openSocket4(port int) (*socket, error) {
	c, err := listenUDP("udp4", port)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: c, p4: ipv4.NewPacketConn(c)}
	for _, f := range []func() error{
		func() error { return s.p4.SetControlMessage(ipv4.FlagTTL|ipv4.FlagInterface, true) },
		func() error { return s.p4.SetTTL(onLink) },
		func() error { return s.p4.SetMulticastTTL(onLink) },
		func() error { return s.p4.SetMulticastLoopback(true) },
	} {
		if err := f(); err != nil {
			c.Close()
			return nil, err
		}
	}
	return s, nil
}

func openSocket6(port int) (*socket, error) {
	c, err := listenUDP("udp6", port)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: c, p6: ipv6.NewPacketConn(c)}
	for _, f := range []func() error{
		func() error { return s.p6.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true) },
		func() error { return s.p6.SetHopLimit(onLink) },
		func() error { return s.p6.SetMulticastHopLimit(onLink) },
		func() error { return s.p6.SetMulticastLoopback(true) },
	} {
		if err := f(); err != nil {
			c.Close()
			return nil, err
		}
	}
	return s, nil
}

func (s *socket) join(i net.Interface) error {
	if s.p4 != nil {
		return s.p4.JoinGroup(&i, &net.UDPAddr{IP: discovery4.AsSlice()})
	}
	return s.p6.JoinGroup(&i, &net.UDPAddr{IP: discovery6.AsSlice()})
}

// multicast sends b to the group through i.
func (s *socket) multicast(b []byte, i net.Interface, port int) error {
	if s.p4 != nil {
		_, err := s.p4.WriteTo(b, &ipv4.ControlMessage{IfIndex: i.Index}, &net.UDPAddr{IP: discovery4.AsSlice(), Port: port})
		return err
	}
	_, err := s.p6.WriteTo(b, &ipv6.ControlMessage{IfIndex: i.Index}, &net.UDPAddr{IP: discovery6.AsSlice(), Port: port, Zone: i.Name})
	return err
}

// read waits for a datagram; errors that end the socket are returned.
func (s *socket) read(buf []byte) (incoming, error) {
	var in incoming
	var from net.Addr
	var err error
	if s.p4 != nil {
		var cm *ipv4.ControlMessage
		if in.n, cm, from, err = s.p4.ReadFrom(buf); cm != nil {
			in.hops, in.ifindex = cm.TTL, cm.IfIndex
		}
	} else {
		var cm *ipv6.ControlMessage
		if in.n, cm, from, err = s.p6.ReadFrom(buf); cm != nil {
			in.hops, in.ifindex = cm.HopLimit, cm.IfIndex
		}
	}
	if err != nil {
		return in, err
	}
	if a, ok := from.(*net.UDPAddr); ok {
		in.from = a.AddrPort()
	}
	return in, nil
}

// answer sends b back to where in came from, through the same interface.
func (s *socket) answer(b []byte, in incoming) error {
	to := net.UDPAddrFromAddrPort(in.from)
	if s.p4 != nil {
		_, err := s.p4.WriteTo(b, &ipv4.ControlMessage{IfIndex: in.ifindex}, to)
		return err
	}
	_, err := s.p6.WriteTo(b, &ipv6.ControlMessage{IfIndex: in.ifindex}, to)
	return err
}
