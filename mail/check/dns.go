package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"mailplusd/mail/dnsask"

	"github.com/miekg/dns"
)

// ErrNone: DNS says for sure that there is no such record. Every other error may pass.
var ErrNone = errors.New("there is no such record in DNS")

// Limits of one look-up.
const (
	answerTime = 4 * time.Second  // for one answer of one server
	lookupTime = 10 * time.Second // for everything that a stage asks
	maxNames   = 5                // names of a client, or mail servers of a domain, that are looked up
)

// DNS asks the resolvers. It is safe for many sessions at once.
type DNS struct {
	// Servers are the resolvers, as address or address:port; empty: the host's.
	Servers func() []string
	// Exchange, where set, is used instead of the network.
	Exchange func(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error)
	Now      func() time.Time // nil: time.Now

	clients cache[netip.Addr, string]
	domains cache[string, struct{}]
}

// ask gives the records of a name; ErrNone where there are none.
func (d *DNS) ask(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	if _, ok := dns.IsDomainName(name); !ok {
		return nil, fmt.Errorf("%q is no domain name: %w", name, ErrNone)
	}
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), kind)
	m.SetEdns0(1232, false)
	last := errors.New("no DNS server is known; set network.resolvers")
	for _, s := range dnsask.Servers(d.Servers()) {
		resp, err := d.exchange(ctx, m, s)
		switch {
		case err != nil:
			last = fmt.Errorf("DNS server %s does not answer for %s", s, name)
		case resp.Rcode == dns.RcodeNameError:
			return nil, ErrNone
		case resp.Rcode != dns.RcodeSuccess:
			last = fmt.Errorf("DNS server %s answers %s for %s", s, dns.RcodeToString[resp.Rcode], name)
		default:
			out := resp.Answer[:0:0]
			for _, rr := range resp.Answer {
				if rr.Header().Rrtype == kind {
					out = append(out, rr)
				}
			}
			if len(out) == 0 {
				return nil, ErrNone
			}
			return out, nil
		}
	}
	return nil, last
}

func (d *DNS) exchange(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if d.Exchange != nil {
		return d.Exchange(ctx, m, server)
	}
	return dnsask.Exchange(ctx, m, server, answerTime)
}

// addresses gives those of a host. ErrNone where it has neither A nor AAAA.
func (d *DNS) addresses(ctx context.Context, host string) (out []netip.Addr, err error) {
	last := ErrNone
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		rrs, err := d.ask(ctx, host, kind)
		if err != nil && !errors.Is(err, ErrNone) {
			last = err
		}
		for _, rr := range rrs {
			switch r := rr.(type) {
			case *dns.A:
				if ip, ok := netip.AddrFromSlice(r.A.To4()); ok {
					out = append(out, ip)
				}
			case *dns.AAAA:
				if ip, ok := netip.AddrFromSlice(r.AAAA); ok {
					out = append(out, ip)
				}
			}
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	return nil, last
}

func lower(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
