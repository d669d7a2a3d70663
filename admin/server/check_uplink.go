package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"mailplusd/admin/api"
	"mailplusd/admin/op"

	"golang.org/x/sys/unix"
)

// checkNetwork is R2.60: online under a fixed address, or under a name that follows a changing one.
func (s *Server) checkNetwork(ctx context.Context, _ *Call, _ *op.None) ([]api.Finding, error) {
	f := findings{}
	set := s.mail.State.Current()
	ips, err := s.publicAddresses(nil)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		f.add("error", "network", "", "give the machine an address, or mpctl config set network.public-address=ADDRESS", "no address by which this server could be reached")
		return f, nil
	}
	changing, err := changingAddresses()
	if err != nil {
		f.add("info", "network", "", "", "whether addresses are fixed can't be seen: %v", err)
	}
	host := set.System.Hostname
	named, err := s.resolver().addresses(ctx, host)
	if err != nil && !errors.Is(err, errNXDomain) {
		f.add("warning", "network", host, "mpctl config set network.resolvers=ADDRESS", "can't be looked up: %v", err)
	}
	for _, ip := range ips {
		known := slices.Contains(named, ip)
		switch {
		case slices.Contains(changing, ip) && known:
			f.add("ok", "network", ip.String(), "", "changes with its lease; %s leads to it now", host)
		case slices.Contains(changing, ip):
			f.add("error", "network", ip.String(), "ask for a fixed address, or keep "+host+" current (dynamic DNS)", "changes with its lease, and %s leads to %s", host, addressList(named))
		case known:
			f.add("ok", "network", ip.String(), "", "is fixed; %s leads to it", host)
		default:
			f.add("warning", "network", ip.String(), "publish an address record for "+host, "is fixed, but %s leads to %s", host, addressList(named))
		}
	}
	return f, nil
}

func addressList(ips []netip.Addr) string {
	if len(ips) == 0 {
		return "no address"
	}
	words := make([]string, len(ips))
	for i, ip := range ips {
		words[i] = ip.String()
	}
	return strings.Join(words, ", ")
}

// changingAddresses asks the kernel for the addresses with a life time: those from DHCP or PPP, which
// the next lease may replace (rtnetlink(7), IFA_F_PERMANENT). Temporary IPv6 addresses are among them.
func changingAddresses() ([]netip.Addr, error) {
	raw, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	msgs, err := syscall.ParseNetlinkMessage(raw)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for i := range msgs {
		m := &msgs[i]
		const flagsAt = 2 // struct ifaddrmsg: family, prefix length, flags, scope, index
		if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) <= flagsAt || m.Data[flagsAt]&unix.IFA_F_PERMANENT != 0 {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(m)
		if err != nil {
			return nil, err
		}
		for _, a := range attrs {
			if a.Attr.Type != syscall.IFA_ADDRESS && a.Attr.Type != syscall.IFA_LOCAL {
				continue
			}
			if ip, ok := netip.AddrFromSlice(net.IP(a.Value)); ok && !slices.Contains(out, ip.Unmap()) {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out, nil
}
