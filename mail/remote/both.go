package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// ranked is a target with the preference of its MX.
type ranked struct {
	target
	preference uint16
}

// lookupBoth asks every DNS server for the hosts of a domain, because inside and outside may say
// different things: the better preference wins wherever it was found, and this server itself is
// left out (R7.112).
func (c *Client) lookupBoth(ctx context.Context, domain string) ([]target, error) {
	var all []ranked
	var last error
	for _, server := range c.servers() {
		found, err := c.view(ctx, server, domain)
		if err != nil {
			last = err
		}
		all = append(all, found...)
	}
	if len(all) == 0 && last != nil {
		return nil, last
	}
	all = slices.DeleteFunc(all, func(r ranked) bool { return c.Self != nil && c.Self(r.host, r.addr) })
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(a.preference, b.preference) })
	seen := map[netip.Addr]bool{}
	var out []target
	for _, r := range all {
		if !seen[r.addr] && len(out) < maxAddresses {
			seen[r.addr] = true
			out = append(out, r.target)
		}
	}
	if len(out) == 0 { // for now: its server may still get its record
		return nil, fmt.Errorf("no DNS server names a server of %s other than this one; see mpctl check relay-domain %s", domain, domain)
	}
	return out, nil
}

// view is what one DNS server says about a domain.
func (c *Client) view(ctx context.Context, server, domain string) (out []ranked, err error) {
	one := &Client{Resolvers: func() []string { return []string{server} }}
	rrs, err := one.query(ctx, domain, dns.TypeMX)
	if errors.As(err, new(*permanent)) {
		return nil, fmt.Errorf("%w (says %s)", errors.New(err.Error()), server) // outside it may exist
	}
	if err != nil {
		return nil, err
	}
	for _, rr := range rrs {
		mx, ok := rr.(*dns.MX)
		if !ok || mx.Mx == "." || len(out) >= maxHosts {
			continue
		}
		host := strings.ToLower(strings.TrimSuffix(mx.Mx, "."))
		targets, aerr := one.addresses(ctx, host)
		if aerr != nil {
			err = errors.New(aerr.Error())
		}
		for _, t := range targets {
			out = append(out, ranked{t, mx.Preference})
		}
	}
	return out, err
}
