package mail

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mailplusd/mail/flow"
	"mailplusd/mail/model"
)

// Interface is a network interface of this host.
type Interface struct {
	Name      string
	Up        bool
	Loopback  bool
	MAC       string
	Addresses []netip.Prefix // with the length of their subnet
}

// Interfaces lists the host's network interfaces, as the kernel orders them.
func Interfaces() ([]Interface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []Interface
	for _, i := range list {
		it := Interface{Name: i.Name, Up: i.Flags&net.FlagUp != 0, Loopback: i.Flags&net.FlagLoopback != 0, MAC: i.HardwareAddr.String()}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				it.Addresses = append(it.Addresses, p)
			}
		}
		out = append(out, it)
	}
	return out, nil
}

// FindInterface gives an interface by its name; the error names those that there are.
func FindInterface(name string) (Interface, error) {
	all, err := Interfaces()
	if err != nil {
		return Interface{}, err
	}
	var have []string
	for _, i := range all {
		if i.Name == name {
			return i, nil
		}
		have = append(have, i.Name)
	}
	return Interface{}, fmt.Errorf("there is no interface %q on this host; there are %s", name, strings.Join(have, ", "))
}

// connected gives the subnets that are directly connected to what the services listen on: an
// interface, the one that has an address, or all of them. Loopback is not among them.
func connected(all []Interface, bind string) []netip.Prefix {
	addr, addrErr := netip.ParseAddr(bind)
	var out []netip.Prefix
	for _, i := range all {
		if i.Loopback || !i.Up {
			continue
		}
		for _, p := range i.Addresses {
			switch {
			case bind == "" || bind == "all", i.Name == bind, addrErr == nil && p.Addr() == addr:
				if p.Bits() < p.Addr().BitLen() && !p.Addr().IsLinkLocalUnicast() {
					out = append(out, p.Masked())
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(out)
}

// localNetwork knows what is directly connected; interfaces come and go, so it looks again now and then.
type localNetwork struct {
	bind string // fixed address of the listeners; empty: as the settings say
	mu   sync.Mutex
	of   string
	at   time.Time
	list []netip.Prefix
}

const localNetworkAge = 30 * time.Second

// subnets gives the connected subnets of the interface that the services listen on (I.22).
func (n *localNetwork) subnets(set *model.Settings) []netip.Prefix {
	of := set.System.Interface
	if n.bind != "" {
		of = n.bind
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of != of || time.Since(n.at) > localNetworkAge {
		if all, err := Interfaces(); err == nil {
			n.list = connected(all, of)
		}
		n.of, n.at = of, time.Now()
	}
	return n.list
}

// contains tells whether an address is of the local network: this machine, a connected subnet, or
// one that network.lan names (I.22).
func (n *localNetwork) contains(ip netip.Addr, set *model.Settings) bool {
	if flow.IsNear(ip) || flow.InNetworks(ip, set.Network.LAN) {
		return true
	}
	ip = ip.Unmap()
	return slices.ContainsFunc(n.subnets(set), func(p netip.Prefix) bool { return p.Contains(ip) })
}

// IsLocal tells whether an address is of the local network (I.22).
func (s *Server) IsLocal(ip netip.Addr) bool { return s.local.contains(ip, s.State.Current()) }

// LocalSubnets gives the directly connected subnets that count as local without being named.
func (s *Server) LocalSubnets() []netip.Prefix { return s.local.subnets(s.State.Current()) }
