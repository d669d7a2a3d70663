package server

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"mailplusd/admin/api"

	"github.com/miekg/dns"
)

// mxView is what one DNS server says about a domain's mail.
type mxView struct {
	server string
	best   uint16 // preference of the best MX
	hosts  map[string][]netip.Addr
	err    error
}

func (s *Server) mxView(ctx context.Context, server, domain string) mxView {
	r := resolver{[]string{server}}
	v := mxView{server: server, best: ^uint16(0), hosts: map[string][]netip.Addr{}}
	rrs, err := r.ask(ctx, domain, dns.TypeMX)
	if v.err = err; err != nil {
		return v
	}
	for _, rr := range rrs {
		if mx, ok := rr.(*dns.MX); ok && len(v.hosts) < 20 {
			host := strings.ToLower(strings.TrimSuffix(mx.Mx, "."))
			v.best = min(v.best, mx.Preference)
			v.hosts[host], _ = r.addresses(ctx, host)
		}
	}
	if len(v.hosts) == 0 {
		v.err = fmt.Errorf("there is no MX record")
	}
	return v
}

// checkRelayDomain is R7.107–R7.109 and R7.115: outside the domain's MX must lead here, inside to
// its own server, and with the better preference.
func (s *Server) checkRelayDomain(ctx context.Context, _ *Call, in *api.CheckRelayDomainIn) ([]api.Finding, error) {
	f := findings{}
	list, err := s.relayDomainList(ctx, nil, &api.ListIn{})
	if err != nil {
		return nil, err
	}
	want := asciiDomain(in.Domain)
	for _, d := range list {
		if want == "" || d.Domain == want || d.Name == in.Domain {
			s.relayDomainDNS(ctx, &f, d.Domain)
			want = ""
		}
	}
	if want != "" {
		return nil, notFound("relay domain", in.Domain, "mpctl relay domain list")
	}
	if len(list) == 0 {
		f.add("ok", "relay-domain", "", "", "no mail is taken for other servers")
	}
	return f, nil
}

func (s *Server) relayDomainDNS(ctx context.Context, f *findings, domain string) {
	servers := s.resolver().servers
	if len(servers) < 2 {
		f.add("warning", "relay-domain", domain, "mpctl net dns set --preferred INTERNAL --alternate EXTERNAL", "only one DNS server is asked; inside and outside can't say different things")
	}
	if len(servers) == 0 {
		return
	}
	inside := s.mxView(ctx, servers[0], domain)
	s.insideDNS(f, domain, inside)
	if len(servers) < 2 {
		return
	}
	outside := s.mxView(ctx, servers[1], domain)
	s.outsideDNS(f, domain, outside)
	if inside.err == nil && outside.err == nil {
		if inside.best < outside.best {
			f.add("ok", "relay-domain", domain, "", "inside the MX has the better preference (%d before %d)", inside.best, outside.best)
		} else {
			f.add("error", "relay-domain", domain, "give the MX of the internal DNS a number below "+fmt.Sprint(outside.best), "inside the MX has preference %d, outside %d: the internal one must be better, which is the lower number", inside.best, outside.best)
		}
	}
}

// insideDNS wants an MX that leads to the domain's own server, in a network of this one.
func (s *Server) insideDNS(f *findings, domain string, v mxView) {
	if v.err != nil {
		f.add("error", "relay-domain", domain, "add MX and A of the domain's own server to the internal DNS", "internal DNS %s: %v", v.server, v.err)
		return
	}
	for host, addrs := range v.hosts {
		if len(addrs) == 0 {
			f.add("error", "relay-domain", domain, "add an A record for "+host, "internal DNS %s: the MX %s has no address", v.server, host)
			continue
		}
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return s.isOwn(host, a) }) {
			f.add("error", "relay-domain", domain, "the MX of the internal DNS must name the domain's own server", "internal DNS %s: the MX %s is this server itself", v.server, host)
			continue
		}
		f.add("ok", "relay-domain", domain, "", "inside it leads to %s (%s)", host, addrs[0])
		if !slices.ContainsFunc(addrs, s.mail.IsLocal) {
			f.add("warning", "relay-domain", domain, "mpctl net lan show", "%s (%s) is in no network of this server; the servers should be in one", host, addrs[0])
		}
	}
}

// outsideDNS wants an MX that leads here.
func (s *Server) outsideDNS(f *findings, domain string, v mxView) {
	if v.err != nil {
		f.add("error", "relay-domain", domain, "publish an MX record of "+domain+" that names "+s.mail.State.Current().System.Hostname, "external DNS %s: %v", v.server, v.err)
		return
	}
	for host, addrs := range v.hosts {
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return s.isOwn(host, a) }) {
			f.add("ok", "relay-domain", domain, "", "outside the MX %s leads to this server", host)
			return
		}
	}
	f.add("error", "relay-domain", domain, "publish an MX record of "+domain+" that names "+s.mail.State.Current().System.Hostname, "external DNS %s: no MX leads to this server", v.server)
}

// isOwn tells whether a name and address mean this server as others see it.
func (s *Server) isOwn(host string, a netip.Addr) bool {
	ours, _ := s.publicAddresses(nil)
	return host == s.mail.State.Current().System.Hostname || slices.Contains(ours, a)
}
