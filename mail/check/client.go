package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// ClientName gives the host name of a client that is confirmed by a look-up forward (R7.65). ErrNone: it
// has no name, or none that leads back to the address.
func (d *DNS) ClientName(ctx context.Context, ip netip.Addr) (string, error) {
	ip = ip.Unmap()
	now := d.now()
	if a, ok := d.clients.get(ip, now); ok {
		return a.value, a.err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	name, err := d.clientName(ctx, ip)
	if err == nil || errors.Is(err, ErrNone) {
		d.clients.put(ip, answer[string]{value: name, err: err}, now)
	}
	return name, err
}

func (d *DNS) clientName(ctx context.Context, ip netip.Addr) (string, error) {
	owner, err := dns.ReverseAddr(ip.WithZone("").String())
	if err != nil {
		return "", fmt.Errorf("%s has no name in DNS: %w", ip, ErrNone)
	}
	rrs, err := d.ask(ctx, owner, dns.TypePTR)
	if errors.Is(err, ErrNone) {
		return "", fmt.Errorf("%s has no PTR record: %w", ip, ErrNone)
	}
	if err != nil {
		return "", err
	}
	var passing error
	name := ""
	for _, rr := range rrs[:min(len(rrs), maxNames)] {
		name = lower(rr.(*dns.PTR).Ptr)
		back, err := d.addresses(ctx, name)
		switch {
		case slices.Contains(back, ip.WithZone("")):
			return name, nil
		case err != nil && !errors.Is(err, ErrNone):
			passing = err
		}
	}
	if passing != nil {
		return "", passing
	}
	return "", fmt.Errorf("the name %s of %s does not lead back to it: %w", name, ip, ErrNone)
}

func (d *DNS) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}
