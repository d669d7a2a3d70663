package acme

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"mailplusd/mail/model"

	"github.com/miekg/dns"
)

const (
	updateTime = 10 * time.Second // for one exchange with the DNS server
	updateTTL  = 60               // seconds that the record may be kept
	fudge      = 300              // seconds that clocks may differ (RFC 8945 §10)
	maxLabels  = 127
	maxCNAME   = 8
)

// DNS solves dns-01 by dynamic updates (RFC 2136) signed with TSIG (RFC 8945).
type DNS struct {
	Server    string // address or name, with :port if it is not 53
	Zone      string // empty: asked for
	KeyName   string // of TSIG; empty: updates are not signed
	Algorithm string // such as hmac-sha256
	Key       string // base64
	Delay     time.Duration
}

// NewDNS takes what is needed from the settings; secrets are in clear there.
func NewDNS(a *model.ACME) *DNS {
	return &DNS{Server: a.DNSServer, Zone: a.DNSZone, KeyName: a.DNSKeyName, Algorithm: a.DNSAlgorithm, Key: a.DNSKey, Delay: time.Duration(a.DNSWaitSec) * time.Second}
}

func (d *DNS) addr() string { return withPort(d.Server, "53") }

// record gives the zone and the TXT record of a challenge (RFC 8555 §8.4), where a CNAME of the
// owner leads to: it may put the challenges of many names into one zone that may be changed.
func (d *DNS) record(ctx context.Context, c Challenge) (zone string, rr *dns.TXT, err error) {
	name := dns.Fqdn(c.DNS01TXTRecordName())
	for range maxCNAME {
		var to string
		if to, err = d.cname(ctx, name); err != nil || to == "" {
			break
		}
		name = to
	}
	if err != nil {
		return "", nil, err
	}
	zone = dns.Fqdn(d.Zone)
	if d.Zone == "" {
		if zone, err = d.zoneOf(ctx, name); err != nil {
			return "", nil, err
		}
	}
	if !dns.IsSubDomain(zone, name) {
		return "", nil, fmt.Errorf("%s is not in the zone %s that is updated", name, zone)
	}
	return zone, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: updateTTL}, Txt: []string{c.DNS01KeyAuthorization()}}, nil
}

// Present adds the record.
func (d *DNS) Present(ctx context.Context, c Challenge) error {
	zone, rr, err := d.record(ctx, c)
	if err != nil {
		return err
	}
	m := new(dns.Msg).SetUpdate(zone)
	m.Insert([]dns.RR{rr})
	return d.update(ctx, m, zone)
}

// CleanUp removes the record, and no other of its name: another order may have one.
func (d *DNS) CleanUp(ctx context.Context, c Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*updateTime)
	defer cancel()
	zone, rr, err := d.record(ctx, c)
	if err != nil {
		return err
	}
	m := new(dns.Msg).SetUpdate(zone)
	m.Remove([]dns.RR{rr})
	return d.update(ctx, m, zone)
}

// Wait waits for other servers of the zone, for as long as it was told to.
func (d *DNS) Wait(ctx context.Context, _ Challenge) error {
	select {
	case <-time.After(d.Delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *DNS) update(ctx context.Context, m *dns.Msg, zone string) error {
	resp, err := d.exchange(ctx, m)
	if err != nil {
		return err
	}
	if resp.Rcode != dns.RcodeSuccess {
		why := dns.RcodeToString[resp.Rcode]
		switch resp.Rcode {
		case dns.RcodeRefused:
			why += ": this system may not change the zone"
		case dns.RcodeNotAuth:
			why += ": it is not the zone's server, or the TSIG key is unknown there"
		}
		return fmt.Errorf("the DNS server %s refused the update of %s: %s", d.Server, zone, why)
	}
	return nil
}

// exchange sends a message by TCP, signed when there is a key.
func (d *DNS) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	c := &dns.Client{Net: "tcp", Timeout: updateTime, Dialer: &net.Dialer{Timeout: updateTime}}
	if d.KeyName != "" {
		key := strings.ToLower(dns.Fqdn(d.KeyName))
		c.TsigSecret = map[string]string{key: d.Key}
		m.SetTsig(key, dns.Fqdn(d.Algorithm), fudge, time.Now().Unix())
	}
	resp, _, err := c.ExchangeContext(ctx, m, d.addr())
	switch {
	case err == nil:
		return resp, nil
	case errors.Is(err, dns.ErrAuth), errors.Is(err, dns.ErrSig), errors.Is(err, dns.ErrKey), errors.Is(err, dns.ErrSecret):
		return nil, fmt.Errorf("the DNS server %s does not take the TSIG key %s: its name, algorithm (%s) and value must be those of the server: %w", d.Server, d.KeyName, d.Algorithm, err)
	case errors.Is(err, dns.ErrTime):
		return nil, fmt.Errorf("the DNS server %s does not take the signature: its clock and ours differ by more than %d s", d.Server, fudge)
	}
	return nil, fmt.Errorf("the DNS server %s does not answer: %w", d.Server, err)
}

// zoneOf finds the zone of a name at the server: the nearest name above with an SOA.
func (d *DNS) zoneOf(ctx context.Context, name string) (string, error) {
	for i, n := 0, 0; n < maxLabels; n++ {
		at := name[i:]
		resp, err := d.ask(ctx, at, dns.TypeSOA)
		if err != nil {
			return "", err
		}
		for _, rr := range append(resp.Answer, resp.Ns...) {
			if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) && soa.Hdr.Name != "." {
				return strings.ToLower(soa.Hdr.Name), nil
			}
		}
		next, end := dns.NextLabel(name, i)
		if end {
			break
		}
		i = next
	}
	return "", fmt.Errorf("the DNS server %s has no zone for %s; name it with mpctl cert acme set --dns-zone ZONE", d.Server, name)
}

func (d *DNS) cname(ctx context.Context, name string) (string, error) {
	resp, err := d.ask(ctx, name, dns.TypeCNAME)
	if err != nil {
		return "", err
	}
	for _, rr := range resp.Answer {
		if c, ok := rr.(*dns.CNAME); ok && strings.EqualFold(c.Hdr.Name, name) {
			return strings.ToLower(c.Target), nil
		}
	}
	return "", nil
}

func (d *DNS) ask(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	return d.exchange(ctx, new(dns.Msg).SetQuestion(name, kind))
}
