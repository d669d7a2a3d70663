package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mailplusd/cluster/lease"
)

const (
	labelSuffix = ":mpvip" // what IPv4 addresses of ours are called, if it fits
	maxLabel    = unix.IFNAMSIZ - 1
	maxRewrites = 3
)

// Netlink is the Driver for an interface of any kind that has addresses: Ethernet, bond,
// VLAN, bridge. It needs CAP_NET_ADMIN.
type Netlink struct {
	ifname string
	now    func() time.Duration

	mu     sync.Mutex
	handle *netlink.Handle
	index  int
	ends   map[netip.Addr]time.Duration // when the kernel removes it
}

var _ Driver = (*Netlink)(nil)

// OpenNetlink gives the driver for the named interface of this network namespace.
func OpenNetlink(ifname string) (*Netlink, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("vip: netlink: %w", err)
	}
	n := &Netlink{ifname: ifname, now: lease.Now, handle: h, ends: map[netip.Addr]time.Duration{}}
	if err := n.resolve(); err != nil {
		h.Close()
		return nil, err
	}
	return n, nil
}

// resolve finds the interface; it may have been made anew since the last time.
func (n *Netlink) resolve() error {
	link, err := n.handle.LinkByName(n.ifname)
	if err != nil {
		return fmt.Errorf("vip: interface %s: %w", n.ifname, err)
	}
	n.index = link.Attrs().Index
	return nil
}

// message is what the kernel is told. create decides whether it may make the address.
func (n *Netlink) message(addr netip.Addr, seconds int, create bool) *netlink.Addr {
	a := &netlink.Addr{
		IPNet:     &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())},
		LinkIndex: n.index,
		ValidLft:  seconds, // PreferedLft 0: never a source address by itself
	}
	if addr.Is6() {
		a.Flags |= unix.IFA_F_NODAD // we probe ourselves; the kernel's own probe takes 1 to 2 s
	} else if label := n.ifname + labelSuffix; len(label) <= maxLabel {
		a.Label = label
	}
	if !create {
		a.Flags |= unix.IFA_F_MCAUTOJOIN
	}
	return a
}

// Add implements Driver.
func (n *Netlink) Add(_ context.Context, addr netip.Addr, end time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr = addr.Unmap()
	if err := n.resolve(); err != nil {
		return err
	}
	seconds, act := lease.Renew(end, 0, n.now())
	if act != lease.Write {
		return ErrExpired
	}
	err := n.handle.AddrAdd(nil, n.message(addr, seconds, true))
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w: %v on %s", ErrForeign, addr, n.ifname)
	}
	if err != nil {
		return fmt.Errorf("vip: add %v to %s: %w", addr, n.ifname, err)
	}
	return n.wrote(addr, seconds, end)
}

// Renew implements Driver.
func (n *Netlink) Renew(_ context.Context, addr netip.Addr, end time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr = addr.Unmap()
	known, held := n.ends[addr]
	if !held {
		return ErrGone
	}
	now := n.now()
	seconds, act := lease.Renew(end, known, now)
	switch {
	case act == lease.Drop:
		if err := n.remove(addr); err != nil {
			return err
		}
		return ErrExpired
	case act == lease.Write:
		return n.rewrite(addr, seconds, end)
	case now >= known:
		delete(n.ends, addr)
		return ErrGone
	}
	return nil
}

// rewrite gives an address that is here another lifetime.
func (n *Netlink) rewrite(addr netip.Addr, seconds int, end time.Duration) error {
	if err := n.handle.AddrReplace(nil, n.message(addr, seconds, false)); err != nil {
		if here, herr := n.has(addr); herr == nil && !here {
			delete(n.ends, addr)
			return ErrGone
		}
		return fmt.Errorf("vip: renew %v on %s: %w", addr, n.ifname, err)
	}
	return n.wrote(addr, seconds, end)
}

// wrote looks at the clock after the kernel has been told something: this process may
// have been stopped just before that.
func (n *Netlink) wrote(addr netip.Addr, seconds int, end time.Duration) error {
	for range maxRewrites {
		now := n.now()
		n.ends[addr] = now + time.Duration(seconds)*time.Second
		again, act := lease.Wrote(end, seconds, now)
		if act == lease.Keep {
			return nil
		}
		if act == lease.Drop {
			break
		}
		seconds = again
		if err := n.handle.AddrReplace(nil, n.message(addr, seconds, false)); err != nil {
			break
		}
	}
	if err := n.remove(addr); err != nil {
		return err
	}
	return ErrExpired
}

// Delete implements Driver.
func (n *Netlink) Delete(_ context.Context, addr netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.remove(addr.Unmap())
}

func (n *Netlink) remove(addr netip.Addr) error {
	err := n.handle.AddrDel(nil, n.message(addr, 0, true))
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("vip: delete %v from %s: %w", addr, n.ifname, err)
	}
	delete(n.ends, addr)
	return nil
}

// Has implements Driver.
func (n *Netlink) Has(_ context.Context, addr netip.Addr) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.has(addr.Unmap())
}

func (n *Netlink) has(addr netip.Addr) (bool, error) {
	all, err := n.list(addr)
	if err != nil {
		return false, err
	}
	for _, a := range all {
		if a.LinkIndex == n.index {
			return true, nil
		}
	}
	return false, nil
}

// list gives every address of this machine that equals addr, on any interface.
func (n *Netlink) list(addr netip.Addr) ([]netlink.Addr, error) {
	return addresses(n.handle, func(a netip.Addr) bool { return a == addr }, addr.Is4())
}

// addresses lists those that match. A change while the kernel lists them repeats the question.
func addresses(h *netlink.Handle, match func(netip.Addr) bool, v4 bool) ([]netlink.Addr, error) {
	family := netlink.FAMILY_V6
	if v4 {
		family = netlink.FAMILY_V4
	}
	var all []netlink.Addr
	var err error
	for range 5 {
		if all, err = h.AddrList(nil, family); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("vip: list addresses: %w", err)
	}
	found := all[:0]
	for _, a := range all {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && match(ip.Unmap()) {
			found = append(found, a)
		}
	}
	return found, nil
}

// Clean implements Driver. An address of ours has a host prefix and a lifetime, on
// whatever interface an earlier configuration had it.
func (n *Netlink) Clean(_ context.Context, addrs ...netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, addr := range addrs {
		all, err := n.list(addr.Unmap())
		if err != nil {
			return err
		}
		for _, a := range all {
			if ones, bits := a.Mask.Size(); ones != bits || a.Flags&unix.IFA_F_PERMANENT != 0 {
				errs = append(errs, fmt.Errorf("%w: %v", ErrForeign, a.IPNet))
				continue
			}
			if err := n.handle.AddrDel(nil, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				errs = append(errs, fmt.Errorf("vip: delete %v: %w", a.IPNet, err))
			}
		}
		delete(n.ends, addr.Unmap())
	}
	return errors.Join(errs...)
}

// Close implements Driver.
func (n *Netlink) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for addr := range n.ends {
		errs = append(errs, n.remove(addr))
	}
	n.handle.Close()
	return errors.Join(errs...)
}
