package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LocalAddr is one address of this machine.
type LocalAddr struct {
	Interface string
	Prefix    netip.Prefix
	Dynamic   bool // has a lifetime: set by DHCP, router advertisements, or as a floating address
}

// Asker is a Wire that can ask a neighbour who should be there: Link and Guard.
type Asker interface {
	Ask(ctx context.Context, addr netip.Addr) (net.HardwareAddr, error)
}

// Probe says who answers for addr on the named interface; nil: nobody. It opens and closes its
// own sockets; ask a Guard instead where this process has no CAP_NET_RAW.
func Probe(ctx context.Context, ifname string, addr netip.Addr) (net.HardwareAddr, error) {
	l, err := OpenLink(ifname)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Ask(ctx, addr)
}

// DefaultGateway is the next hop of the best default route through the named interface, or
// through any if ifname is empty. ok is false when there is none.
func DefaultGateway(ifname string, ipv6 bool) (gateway netip.Addr, ok bool, err error) {
	family := netlink.FAMILY_V4
	if ipv6 {
		family = netlink.FAMILY_V6
	}
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	mask := netlink.RT_FILTER_TABLE
	if ifname != "" {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return netip.Addr{}, false, fmt.Errorf("vip: interface %s: %w", ifname, err)
		}
		filter.LinkIndex = link.Attrs().Index
		mask |= netlink.RT_FILTER_OIF
	}
	routes, err := netlink.RouteListFiltered(family, filter, mask)
	if err != nil {
		return netip.Addr{}, false, fmt.Errorf("vip: routes: %w", err)
	}
	best := -1
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones != 0 {
				continue
			}
		}
		gw, valid := netip.AddrFromSlice(r.Gw)
		if valid && (best < 0 || r.Priority < best) {
			best, gateway = r.Priority, gw.Unmap()
		}
	}
	return gateway, best >= 0, nil
}

// Carrier says whether the interface is up and has a link below.
func Carrier(ifname string) (bool, error) {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return false, fmt.Errorf("vip: interface %s: %w", ifname, err)
	}
	const want = unix.IFF_UP | unix.IFF_LOWER_UP
	return link.Attrs().RawFlags&want == want, nil
}

// Owner says which interface has addr; ok is false when none has.
func Owner(addr netip.Addr) (a LocalAddr, ok bool, err error) {
	addr = addr.Unmap().WithZone("")
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return a, false, fmt.Errorf("vip: netlink: %w", err)
	}
	defer h.Close()
	all, err := addresses(h, func(x netip.Addr) bool { return x == addr }, addr.Is4())
	if err != nil || len(all) == 0 {
		return a, false, err
	}
	ifi, err := net.InterfaceByIndex(all[0].LinkIndex)
	if err != nil {
		return a, false, fmt.Errorf("vip: interface of %v: %w", addr, err)
	}
	ones, _ := all[0].Mask.Size()
	return LocalAddr{ifi.Name, netip.PrefixFrom(addr, ones), all[0].Flags&unix.IFA_F_PERMANENT == 0}, true, nil
}

// Why an address of a node doesn't suit a pair.
var (
	ErrNotHere     = errors.New("the address is on no interface of this machine")
	ErrDHCP        = errors.New("the address comes from DHCP or from a router and may change; configure it by hand")
	ErrPPP         = errors.New("the address belongs to a point-to-point interface (PPPoE, VPN), where no address can move")
	ErrHostPrefix  = errors.New("the address has no subnet")
	ErrSubnet      = errors.New("the floating address must be in the subnet of both nodes")
	ErrNotHost     = errors.New("the floating address is the network's own, its broadcast, or none of a host")
	ErrNodeAddress = errors.New("the floating address is the address of a node")
)

// CheckNode says whether addr, an address of this machine, suits a node of a pair: on a
// broadcast interface and configured by hand. It gives the address with its subnet.
// Whether DHCP is at work can't be known for sure: old clients set no lifetime, so the
// clients known here are looked for among the processes and their files.
func CheckNode(addr netip.Addr) (LocalAddr, error) { return checkNode("/", addr) }

func checkNode(root string, addr netip.Addr) (LocalAddr, error) {
	a, ok, err := Owner(addr)
	if err != nil {
		return a, err
	}
	if !ok {
		return a, fmt.Errorf("%v: %w", addr, ErrNotHere)
	}
	ifi, err := net.InterfaceByName(a.Interface)
	if err != nil {
		return a, fmt.Errorf("vip: interface %s: %w", a.Interface, err)
	}
	switch {
	case addr.IsLoopback():
		return a, nil
	case ifi.Flags&net.FlagPointToPoint != 0 || ifi.Flags&net.FlagBroadcast == 0:
		return a, fmt.Errorf("%v on %s: %w", addr, a.Interface, ErrPPP)
	case a.Prefix.Bits() == addr.BitLen():
		return a, fmt.Errorf("%v on %s: %w", addr, a.Interface, ErrHostPrefix)
	case a.Dynamic:
		return a, fmt.Errorf("%v on %s: %w", addr, a.Interface, ErrDHCP)
	}
	if sign := dhcpSign(root, ifi); addr.Is4() && sign != "" {
		return a, fmt.Errorf("%v on %s (%s): %w", addr, a.Interface, sign, ErrDHCP)
	}
	return a, nil
}

// dhcpSign looks for a DHCP client of the interface and says what was found.
func dhcpSign(root string, ifi *net.Interface) string {
	if path := fmt.Sprintf("run/systemd/netif/leases/%d", ifi.Index); exists(root, path) {
		return "lease of systemd-networkd"
	}
	for _, path := range []string{"run/dhcpcd/%s.pid", "run/dhcpcd/%s-4.pid", "run/dhcpcd-%s.pid", "run/udhcpc.%s.pid", "run/dhclient.%s.pid", "run/dhclient-%s.pid"} {
		if path = fmt.Sprintf(path, ifi.Name); pidAlive(root, path) {
			return "/" + path
		}
	}
	if found, _ := filepath.Glob(filepath.Join(root, "var/lib/NetworkManager/internal-*-"+ifi.Name+".lease")); len(found) > 0 && processes(root)["NetworkManager"] != nil {
		return "lease of NetworkManager"
	}
	for _, name := range []string{"dhclient", "udhcpc", "dhcpcd"} {
		for _, args := range processes(root)[name] {
			for _, arg := range args[1:] {
				if arg == ifi.Name || arg == "-i"+ifi.Name || strings.HasPrefix(arg, ifi.Name+"=") {
					return "process " + name
				}
			}
		}
	}
	return ""
}

func exists(root, path string) bool {
	_, err := os.Stat(filepath.Join(root, path))
	return err == nil
}

// CheckAddr says whether vip can be the floating address of nodes that have these
// addresses. Whether it is in use is for Probe.
func CheckAddr(vip netip.Addr, nodes ...netip.Prefix) error {
	vip = vip.Unmap()
	if !vip.IsValid() || vip.IsUnspecified() || vip.IsMulticast() || vip.IsLinkLocalUnicast() || vip.Zone() != "" {
		return fmt.Errorf("%v: %w", vip, ErrNotHost)
	}
	for _, n := range nodes {
		switch {
		case n.Addr() == vip:
			return fmt.Errorf("%v: %w", vip, ErrNodeAddress)
		case !n.Contains(vip):
			return fmt.Errorf("%v is not in %v: %w", vip, n.Masked(), ErrSubnet)
		case n.Bits() < vip.BitLen()-1 && (vip == n.Masked().Addr() || vip.Is4() && vip == broadcast(n)):
			return fmt.Errorf("%v: %w", vip, ErrNotHost)
		}
	}
	return nil
}

// broadcast is the highest address of an IPv4 subnet.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	mask := net.CIDRMask(p.Bits(), 32)
	for i := range b {
		b[i] |= ^mask[i]
	}
	return netip.AddrFrom4(b)
}
