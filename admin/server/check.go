package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/dnsask"
	"mailplusd/mail/model"

	"github.com/miekg/dns"
)

// findings gathers the results of checks.
type findings []api.Finding

func (f *findings) add(level, check, subject, remedy, format string, args ...any) {
	*f = append(*f, api.Finding{Level: level, Check: check, Subject: subject, Message: fmt.Sprintf(format, args...), Remedy: remedy})
}

// resolver asks the servers that the settings name, or the host's.
type resolver struct{ servers []string }

func (s *Server) resolver() resolver {
	return resolver{dnsask.Servers(s.mail.State.Current().Network.Resolvers)}
}

// withPort gives a DNS server its port.
func withPort(a string) string { return dnsask.Servers([]string{a})[0] }

var errNXDomain = errors.New("does not exist")

// dnsTime is how long a check waits for one answer.
const dnsTime = 2 * time.Second

func (r resolver) ask(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), kind)
	m.SetEdns0(1232, false)
	err := errors.New("no DNS server is known")
	for _, srv := range r.servers {
		var resp *dns.Msg
		resp, err = dnsask.Exchange(ctx, m, srv, dnsTime)
		if err != nil {
			err = fmt.Errorf("DNS server %s does not answer", srv)
			continue
		}
		switch resp.Rcode {
		case dns.RcodeSuccess:
			return resp.Answer, nil
		case dns.RcodeNameError:
			return nil, errNXDomain
		}
		err = fmt.Errorf("DNS server %s answers %s", srv, dns.RcodeToString[resp.Rcode])
	}
	return nil, err
}

func (r resolver) addresses(ctx context.Context, host string) (out []netip.Addr, err error) {
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		rrs, e := r.ask(ctx, host, kind)
		if e != nil {
			err = e
		}
		for _, rr := range rrs {
			switch x := rr.(type) {
			case *dns.A:
				if ip, ok := netip.AddrFromSlice(x.A.To4()); ok {
					out = append(out, ip)
				}
			case *dns.AAAA:
				if ip, ok := netip.AddrFromSlice(x.AAAA); ok {
					out = append(out, ip)
				}
			}
		}
	}
	if len(out) > 0 {
		err = nil
	}
	return out, err
}

// dnsOf checks one domain (R2.10–R2.17).
func (s *Server) dnsOf(ctx context.Context, f *findings, domain string) {
	r, set := s.resolver(), s.mail.State.Current()
	ours, _ := s.publicAddresses(nil)
	remedy := "mpctl domain dns-records " + domain
	rrs, err := r.ask(ctx, domain, dns.TypeMX)
	if errors.Is(err, errNXDomain) {
		f.add("error", "dns", domain, remedy, "the domain does not exist in DNS")
		return
	}
	if err != nil {
		f.add("warning", "dns", domain, "mpctl config set network.resolvers=ADDRESS", "can't be looked up: %v", err)
		return
	}
	n := 0
	for _, rr := range rrs {
		mx, ok := rr.(*dns.MX)
		if !ok {
			continue
		}
		n++
		host := strings.ToLower(strings.TrimSuffix(mx.Mx, "."))
		if _, err := netip.ParseAddr(host); err == nil {
			f.add("error", "dns", domain, remedy, "the MX points to the bare address %s; it must be a name (RFC 5321 §5.1)", host)
			continue
		}
		ips, err := r.addresses(ctx, host)
		switch {
		case len(ips) == 0:
			f.add("error", "dns", domain, remedy, "the MX target %s has no address: %v", host, err)
		case slices.ContainsFunc(ips, func(ip netip.Addr) bool { return slices.Contains(ours, ip) }):
			f.add("ok", "dns", domain, "", "MX %d %s leads to this server (%s)", mx.Preference, host, ips[0])
		case host == set.System.Hostname:
			f.add("warning", "dns", domain, "mpctl config set network.public-address="+ips[0].String(), "the MX target %s has %s, which is not an address of this machine: right behind NAT, wrong otherwise", host, ips[0])
		default:
			f.add("error", "dns", domain, remedy, "the MX %s (%s) leads elsewhere", host, ips[0])
		}
	}
	if n == 0 {
		f.add("error", "dns", domain, remedy, "has no MX record, so other servers can't find this one")
	}
	s.stsFound(ctx, f, r, domain)
	s.clientRecords(ctx, f, domain)
}

func (s *Server) hostDNS(ctx context.Context, f *findings) {
	host := s.mail.State.Current().System.Hostname
	ips, err := s.resolver().addresses(ctx, host)
	if len(ips) == 0 {
		f.add("error", "dns", host, "publish an A record for "+host, "this server's name has no address: %v", err)
		return
	}
	if ours, _ := s.publicAddresses(nil); !slices.ContainsFunc(ips, func(ip netip.Addr) bool { return slices.Contains(ours, ip) }) {
		f.add("warning", "dns", host, "mpctl config set network.public-address="+ips[0].String(), "has address %s, which is not an address of this machine: right behind NAT, wrong otherwise", ips[0])
		return
	}
	f.add("ok", "dns", host, "", "has address %s", ips[0])
}

func (s *Server) checkDNS(ctx context.Context, _ *Call, in *api.CheckDNSIn) ([]api.Finding, error) {
	f := findings{}
	if in.Domain != "" {
		s.dnsOf(ctx, &f, asciiDomain(in.Domain))
		s.dkimRecords(ctx, &f, asciiDomain(in.Domain))
		return f, nil
	}
	s.hostDNS(ctx, &f)
	s.daneFound(ctx, &f)
	s.validating(ctx, &f)
	domains, err := s.domainList(ctx, nil, &api.ListIn{})
	for _, d := range domains {
		for _, name := range append([]string{d.Name}, d.Additional...) {
			s.dnsOf(ctx, &f, name)
			s.dkimRecords(ctx, &f, name)
		}
	}
	return f, err
}

// checkRDNS checks that each public address has a name that leads back (R2.18–R2.23).
func (s *Server) checkRDNS(ctx context.Context, _ *Call, _ *op.None) ([]api.Finding, error) {
	f := findings{}
	ips, err := s.publicAddresses(nil)
	if err != nil {
		return f, err
	}
	if len(ips) == 0 {
		f.add("info", "rdns", "", "mpctl config set network.public-address=ADDRESS", "no public address is known")
	}
	r := s.resolver()
	for _, ip := range ips {
		owner, err := dns.ReverseAddr(ip.String())
		if err != nil {
			continue
		}
		ask := "ask the owner of the address block (your ISP) for: " + owner + " PTR " + s.mail.State.Current().System.Hostname + ". ; if that is impossible, send through another server"
		rrs, err := r.ask(ctx, owner, dns.TypePTR)
		if len(rrs) == 0 {
			why := "there is none"
			if err != nil {
				why = err.Error()
			}
			f.add("error", "rdns", ip.String(), ask, "no PTR record: %s; many providers refuse mail from such addresses", why)
			continue
		}
		for _, rr := range rrs {
			ptr, ok := rr.(*dns.PTR)
			if !ok {
				continue
			}
			name := strings.TrimSuffix(strings.ToLower(ptr.Ptr), ".")
			back, _ := r.addresses(ctx, name)
			switch {
			case !slices.Contains(back, ip):
				f.add("error", "rdns", ip.String(), ask, "the PTR name %s does not lead back to the address", name)
			case name != s.mail.State.Current().System.Hostname:
				f.add("warning", "rdns", ip.String(), "mpctl delivery general set --hostname "+name, "the PTR name is %s, the server calls itself %s", name, s.mail.State.Current().System.Hostname)
			default:
				f.add("ok", "rdns", ip.String(), "", "%s, and back", name)
				if svc := s.mail.State.Current().Services.SMTP; svc.Enabled {
					f.greeted(ctx, ip, svc.Port, name)
				}
			}
		}
	}
	return f, nil
}

func (s *Server) checkServices(context.Context, *Call, *op.None) ([]api.Finding, error) {
	f := findings{}
	set := s.mail.State.Current()
	if !set.Services.SMTP.Enabled {
		f.add("error", "services", "smtp", "mpctl service smtp set --enable on", "SMTP is off: no mail arrives")
	} else {
		f.add("ok", "services", "smtp", "", "enabled, %s for %s", set.System.Hostname, set.System.Domain)
	}
	if !set.Services.Submission.Enabled && !set.Services.SMTPS.Enabled {
		f.add("warning", "services", "submission", "mpctl service submission set --enable on", "users have no port to send through")
	}
	if !set.Services.IMAP.Enabled && !set.Services.POP3.Enabled {
		f.add("error", "services", "imap, pop3", "mpctl service imap set --enable on --tls on", "both are off: mail clients can't read mail")
	} else {
		f.add("ok", "services", "imap, pop3", "", "IMAP %v, POP3 %v", word(set.Services.IMAP.Enabled), word(set.Services.POP3.Enabled))
	}
	return f, nil
}

func word(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// needsAuth names the features that are set and do nothing without SMTP authentication (R7.28).
func needsAuth(d *model.Delivery) (out []string) {
	for name, on := range map[string]bool{"delivery.sender-match": d.SenderMatch, "delivery.skip-match-trusted": d.SkipTrusted, "delivery.lan-exempt": d.LANExempt} {
		if on {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (s *Server) checkConfig(context.Context, *Call, *op.None) ([]api.Finding, error) {
	f := findings{}
	set := s.mail.State.Current()
	if !set.Delivery.AuthEnabled {
		f.add("warning", "config", "delivery.auth", "mpctl delivery auth set --enable on", "is off: the local network sends to other servers freely, and nobody can log in to send from elsewhere")
		for _, x := range needsAuth(&set.Delivery) {
			f.add("warning", "config", x, "mpctl delivery auth set --enable on", "is inactive while delivery.auth is off")
		}
		if pic, err := s.mail.Directory.Now(); err == nil {
			for _, x := range dailyLimits(pic) {
				f.add("warning", "config", x, "mpctl delivery auth set --enable on", "are inactive while delivery.auth is off")
			}
		}
	} else if d := set.Delivery; d.SenderMatch && !d.SkipTrusted && len(s.trustedNetworks()) > 0 {
		f.add("warning", "config", "delivery.sender-match", "mpctl delivery auth set --skip-match-trusted on", "is on: mail from trusted networks (%s) whose sender belongs to no login is refused", strings.Join(s.trustedNetworks(), ", "))
	}
	if set.Services.IMAP.Enabled && !set.Services.IMAP.TLS || set.Services.POP3.Enabled && !set.Services.POP3.TLS {
		f.add("warning", "config", "service.imap.tls, service.pop3.tls", "mpctl service imap set --tls on", "without TLS passwords can't be sent from other machines")
	}
	if set.Services.PlainLogin == "always" {
		f.add("warning", "config", "service.plain-login", "mpctl config set service.plain-login=loopback", "passwords may cross the network in clear")
	}
	if set.Queue.Port != 25 {
		f.add("warning", "config", "queue.port", "mpctl config set queue.port=25", "mail goes out to port %d", set.Queue.Port)
	}
	if len(f) == 0 {
		f.add("ok", "config", "", "", "nothing differs from what is recommended")
	}
	return f, nil
}

func (s *Server) checkAll(ctx context.Context, c *Call, none *op.None) ([]api.Finding, error) {
	f := findings{}
	for _, check := range []func(context.Context, *Call, *op.None) ([]api.Finding, error){
		s.checkServices, s.checkCerts, s.checkConfig, s.checkDirectory, s.checkNetwork, s.checkPorts,
		func(ctx context.Context, c *Call, _ *op.None) ([]api.Finding, error) {
			return s.checkDNS(ctx, c, &api.CheckDNSIn{})
		},
		s.checkRDNS, s.checkBlocklist, s.checkTime,
		func(ctx context.Context, c *Call, _ *op.None) ([]api.Finding, error) {
			return s.checkRelayDomain(ctx, c, &api.CheckRelayDomainIn{})
		},
	} {
		more, err := check(ctx, c, none)
		if err != nil {
			return f, err
		}
		f = append(f, more...)
	}
	return f, nil
}
