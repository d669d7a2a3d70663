package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// ErrNullMX: the domain says that it neither takes nor sends mail (RFC 7505 §4.2).
var ErrNullMX = errors.New("the domain says that it has no mail (null MX)")

// SenderDomain tells whether mail could be returned to a domain (R7.64): it has an MX record in the right
// form, or an address. ErrNone and ErrNullMX are for sure.
func (d *DNS) SenderDomain(ctx context.Context, domain string) error {
	now := d.now()
	if a, ok := d.domains.get(domain, now); ok {
		return a.err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	err := d.senderDomain(ctx, domain)
	if err == nil || errors.Is(err, ErrNone) || errors.Is(err, ErrNullMX) {
		d.domains.put(domain, answer[struct{}]{err: err}, now)
	}
	return err
}

func (d *DNS) senderDomain(ctx context.Context, domain string) error {
	rrs, err := d.ask(ctx, domain, dns.TypeMX)
	if errors.Is(err, ErrNone) {
		if _, err = d.addresses(ctx, domain); errors.Is(err, ErrNone) {
			return fmt.Errorf("%s has neither MX nor address: %w", domain, ErrNone)
		}
		return err
	}
	if err != nil {
		return err
	}
	for _, rr := range rrs {
		host := lower(rr.(*dns.MX).Mx)
		if host == "" {
			if len(rrs) == 1 {
				return ErrNullMX
			}
			continue
		}
		if _, err := netip.ParseAddr(host); err != nil && !strings.ContainsAny(host, " \\@") {
			return nil
		}
	}
	return fmt.Errorf("the MX of %s is malformed: %w", domain, ErrNone)
}
