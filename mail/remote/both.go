package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"mailplusd/mail/dnsask"

	"github.com/miekg/dns"
)

// ranked is a target with its place among the MX of its domain.
type ranked struct {
	target
	preference uint16
}

// both yields the hosts of a domain by every DNS server, because inside and outside may say
// different things: the better preference wins wherever it was found, and this server itself is
// left out (R7.112).
func (c *Client) both(ctx context.Context, domain string, port uint16, yield func(target, error) bool) {
	var list []ranked
	var last error
	for _, server := range dnsask.Servers(c.Resolvers()) {
		found, err := c.view(ctx, server, domain, port)
		if err != nil {
			last = err
		}
		list = append(list, found...)
	}
	list = slices.DeleteFunc(list, func(r ranked) bool { return c.mine(r.target) || c.Self != nil && c.Self(r.host, r.addr) })
	slices.SortStableFunc(list, func(a, b ranked) int { return cmp.Compare(a.preference, b.preference) })
	seen := map[netip.Addr]bool{}
	for _, r := range list {
		if seen[r.addr] || len(seen) >= maxAddresses {
			continue
		}
		if seen[r.addr] = true; !yield(r.target, nil) {
			return
		}
	}
	switch {
	case len(seen) > 0:
	case last != nil:
		yield(target{}, last)
	default: // for now: its record may still come
		yield(target{}, fmt.Errorf("no DNS server names a server of %s other than this one; see mpctl check relay-domain %s", domain, domain))
	}
}

// view is what one DNS server says about a domain. That it knows no such name is no error for
// good: the other may.
func (c *Client) view(ctx context.Context, server, domain string, port uint16) (out []ranked, err error) {
	one := &Client{Resolvers: func() []string { return []string{server} }, Exchange: c.Exchange}
	rrs, err := one.query(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, passing(err, server)
	}
	for _, rr := range rrs {
		mx, ok := rr.(*dns.MX)
		if !ok || mx.Mx == "." || len(out) >= maxHosts {
			continue
		}
		host := lowerHost(mx.Mx)
		addrs, aerr := one.addresses(ctx, host)
		if aerr != nil {
			err = passing(aerr, server)
		}
		for _, a := range addrs {
			out = append(out, ranked{target{host: host, addr: a, port: port}, mx.Preference})
		}
	}
	return out, err
}

// passing takes the finality out of what one of several DNS servers says.
func passing(err error, server string) error {
	if errors.As(err, new(*permanent)) {
		return fmt.Errorf("%s, says DNS server %s", err.Error(), server)
	}
	return err
}
