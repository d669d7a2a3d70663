package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/packet"

	"mailplusd/cluster/lease"
)

const (
	probes      = 3
	probeGap    = 70 * time.Millisecond
	conflictGap = time.Second
)

// Link is the Wire of one interface: ARP for IPv4, neighbour discovery for IPv6. Its sockets stay open
// until Close, since closing a packet socket costs the kernel 10 ms. It needs CAP_NET_RAW.
type Link struct {
	ifname string
	arp    *packet.Conn
	nd     *packet.Conn
	wg     sync.WaitGroup

	mu     sync.Mutex
	subs   map[*subscriber]struct{}
	closed bool
}

type subscriber struct {
	addr netip.Addr
	tell func(net.HardwareAddr)
}

var _ Wire = (*Link)(nil)

// OpenLink opens the sockets on the named interface, which must speak Ethernet.
func OpenLink(ifname string) (*Link, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("vip: interface %s: %w", ifname, err)
	}
	if len(ifi.HardwareAddr) != 6 || ifi.Flags&net.FlagPointToPoint != 0 {
		return nil, fmt.Errorf("vip: interface %s has no Ethernet address: neighbours can't be asked there", ifname)
	}
	filter, err := ndFilter()
	if err != nil {
		return nil, err
	}
	l := &Link{ifname: ifname, subs: map[*subscriber]struct{}{}}
	if l.arp, err = packet.Listen(ifi, packet.Raw, etherARP, nil); err != nil {
		return nil, fmt.Errorf("vip: ARP on %s: %w", ifname, err)
	}
	if l.nd, err = packet.Listen(ifi, packet.Raw, etherIPv6, &packet.Config{Filter: filter}); err != nil {
		l.arp.Close()
		return nil, fmt.Errorf("vip: neighbour discovery on %s: %w", ifname, err)
	}
	// The kernel listens to all nodes only while the interface has an IPv6 address.
	l.nd.JoinGroup(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1})
	l.wg.Add(2)
	go l.read(l.arp, parseARP)
	go l.read(l.nd, parseND)
	return l, nil
}

// Close implements Wire.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	err := errors.Join(l.arp.Close(), l.nd.Close())
	l.wg.Wait()
	return err
}

// read hands what others claim to those who want to know.
func (l *Link) read(c *packet.Conn, parse func([]byte) (claim, bool)) {
	defer l.wg.Done()
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			if l.pause() {
				continue
			}
			return
		}
		if cl, ok := parse(buf[:n]); ok {
			l.dispatch(cl)
		}
	}
}

// pause keeps a socket with an error from taking the processor: ENETDOWN lasts while the interface
// is down. false: the Link is closed.
func (l *Link) pause() bool {
	time.Sleep(20 * time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed
}

func (l *Link) dispatch(c claim) {
	l.mu.Lock()
	var tell []func(net.HardwareAddr)
	for s := range l.subs {
		if s.addr == c.addr {
			tell = append(tell, s.tell)
		}
	}
	l.mu.Unlock()
	if len(tell) == 0 || isOwn(c.mac) {
		return
	}
	for _, f := range tell {
		f(c.mac)
	}
}

// isOwn says whether any interface of this machine has mac. A switch may send our packets back,
// and Linux answers on one interface for addresses of another.
func isOwn(mac net.HardwareAddr) bool {
	all, err := net.Interfaces()
	if err != nil {
		return false
	}
	for _, i := range all {
		if string(i.HardwareAddr) == string(mac) {
			return true
		}
	}
	return false
}

func (l *Link) subscribe(addr netip.Addr, tell func(net.HardwareAddr)) (stop func()) {
	s := &subscriber{addr.Unmap(), tell}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs[s] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.subs, s)
	}
}

// Watch implements Wire.
func (l *Link) Watch(addr netip.Addr, conflict func(net.HardwareAddr)) (func(), error) {
	var mu sync.Mutex
	last := -conflictGap
	return l.subscribe(addr, func(mac net.HardwareAddr) {
		mu.Lock()
		now := lease.Now()
		tell := now-last >= conflictGap
		if tell {
			last = now
		}
		mu.Unlock()
		if tell {
			conflict(mac)
		}
	}), nil
}

// Probe implements Wire.
func (l *Link) Probe(ctx context.Context, addr netip.Addr) (net.HardwareAddr, error) {
	return l.ask(ctx, addr.Unmap(), netip.IPv4Unspecified())
}

// Ask is Probe for a neighbour that should be there, such as a gateway: the question comes
// from an own address of the same subnet, if there is one, since some answer only those.
func (l *Link) Ask(ctx context.Context, addr netip.Addr) (net.HardwareAddr, error) {
	return l.ask(ctx, addr.Unmap(), ownSource(l.ifname, addr.Unmap()))
}

func (l *Link) ask(ctx context.Context, addr, from netip.Addr) (net.HardwareAddr, error) {
	answer := make(chan net.HardwareAddr, 1)
	defer l.subscribe(addr, func(mac net.HardwareAddr) {
		select {
		case answer <- mac:
		default:
		}
	})()
	next := time.NewTicker(probeGap)
	defer next.Stop()
	for range probes {
		if err := l.send(func(mac net.HardwareAddr) ([][]byte, error) {
			if addr.Is4() {
				return [][]byte{arpPacket(arpRequest, mac, from, addr)}, nil
			}
			b, err := solicitation(mac, addr)
			return [][]byte{b}, err
		}, addr); err != nil {
			return nil, err
		}
		select {
		case mac := <-answer:
			return mac, nil
		case <-next.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, nil
}

// Announce implements Wire. IPv4 gets both forms of a gratuitous ARP: some systems believe
// only requests, some only replies.
func (l *Link) Announce(_ context.Context, addr netip.Addr) error {
	addr = addr.Unmap()
	return l.send(func(mac net.HardwareAddr) ([][]byte, error) {
		if addr.Is4() {
			return [][]byte{arpPacket(arpRequest, mac, addr, addr), arpPacket(arpReply, mac, addr, addr)}, nil
		}
		b, err := advertisement(mac, addr)
		return [][]byte{b}, err
	}, addr)
}

// send makes packets with the MAC that the interface has now (a bond may change its own)
// and puts them on the wire.
func (l *Link) send(make func(net.HardwareAddr) ([][]byte, error), addr netip.Addr) error {
	ifi, err := net.InterfaceByName(l.ifname)
	if err != nil {
		return fmt.Errorf("vip: interface %s: %w", l.ifname, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return fmt.Errorf("vip: interface %s has no Ethernet address", l.ifname)
	}
	packets, err := make(ifi.HardwareAddr)
	if err != nil {
		return err
	}
	c := l.nd
	if addr.Is4() {
		c = l.arp
	}
	for _, p := range packets {
		if _, err := c.WriteTo(p, &packet.Addr{HardwareAddr: net.HardwareAddr(p[:6])}); err != nil {
			return fmt.Errorf("vip: send on %s: %w", l.ifname, err)
		}
	}
	return nil
}

// ownSource is the IPv4 address of the interface in addr's subnet; 0.0.0.0 without one.
func ownSource(ifname string, addr netip.Addr) netip.Addr {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return netip.IPv4Unspecified()
	}
	addrs, _ := ifi.Addrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			ip, _ := netip.AddrFromSlice(n.IP)
			ones, _ := n.Mask.Size()
			if ip = ip.Unmap(); ip.Is4() && ip != addr && netip.PrefixFrom(ip, ones).Contains(addr) {
				return ip
			}
		}
	}
	return netip.IPv4Unspecified()
}
