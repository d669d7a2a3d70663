package check

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone answers from records; a name that begins with "fail" gets SERVFAIL, "slow" no answer.
func zone(t *testing.T, records string) *DNS {
	t.Helper()
	have := map[string][]dns.RR{}
	names := map[string]bool{}
	zp := dns.NewZoneParser(strings.NewReader(records), ".", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		key := rr.Header().Name + dns.TypeToString[rr.Header().Rrtype]
		have[key] = append(have[key], rr)
		names[rr.Header().Name] = true
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	return &DNS{
		Servers: func() []string { return []string{"192.0.2.53"} },
		Exchange: func(ctx context.Context, m *dns.Msg, _ string) (*dns.Msg, error) {
			q := m.Question[0]
			r := new(dns.Msg)
			r.SetReply(m)
			r.Answer = have[q.Name+dns.TypeToString[q.Qtype]]
			switch {
			case strings.HasPrefix(q.Name, "fail"):
				r.Rcode = dns.RcodeServerFailure
			case strings.HasPrefix(q.Name, "slow"):
				return nil, context.DeadlineExceeded
			case !names[q.Name]:
				r.Rcode = dns.RcodeNameError
			}
			return r, nil
		},
	}
}

func TestClientName(t *testing.T) {
	d := zone(t, `
1.2.0.192.in-addr.arpa. 60 IN PTR MX.good.example.
mx.good.example. 60 IN A 192.0.2.1
2.2.0.192.in-addr.arpa. 60 IN PTR liar.example.
liar.example. 60 IN A 192.0.2.77
3.2.0.192.in-addr.arpa. 60 IN PTR gone.example.
5.2.0.192.in-addr.arpa. 60 IN PTR fail.example.
6.2.0.192.in-addr.arpa. 60 IN PTR slow.example.
7.2.0.192.in-addr.arpa. 60 IN PTR liar.example.
7.2.0.192.in-addr.arpa. 60 IN PTR second.example.
second.example. 60 IN A 192.0.2.7
8.2.0.192.in-addr.arpa. 60 IN TXT "no PTR"
9.2.0.192.in-addr.arpa. 60 IN PTR liar.example.
9.2.0.192.in-addr.arpa. 60 IN PTR fail.example.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 IN PTR six.example.
six.example. 60 IN AAAA 2001:db8::1
`)
	for ip, want := range map[string]struct {
		name string
		sure bool // refused for sure
	}{
		"192.0.2.1": {name: "mx.good.example"}, "::ffff:192.0.2.1": {name: "mx.good.example"}, "2001:db8::1": {name: "six.example"},
		"192.0.2.7": {name: "second.example"},
		"192.0.2.2": {sure: true}, "192.0.2.3": {sure: true}, "192.0.2.4": {sure: true}, "192.0.2.8": {sure: true},
		"192.0.2.5": {}, "192.0.2.6": {}, "192.0.2.9": {},
	} {
		name, err := d.ClientName(context.Background(), netip.MustParseAddr(ip))
		if name != want.name || (err == nil) != (want.name != "") || errors.Is(err, ErrNone) != want.sure {
			t.Errorf("%s: %q %v, want %+v", ip, name, err, want)
		}
	}
}

func TestSenderDomain(t *testing.T) {
	d := zone(t, `
mx.example. 60 IN MX 10 mail.mx.example.
a.example. 60 IN A 192.0.2.1
aaaa.example. 60 IN AAAA 2001:db8::1
null.example. 60 IN MX 0 .
bare.example. 60 IN MX 10 192.0.2.9.
mixed.example. 60 IN MX 10 192.0.2.9.
mixed.example. 60 IN MX 20 mail.mx.example.
text.example. 60 IN TXT "neither"
`)
	for domain, want := range map[string]error{
		"mx.example": nil, "a.example": nil, "aaaa.example": nil, "mixed.example": nil,
		"null.example": ErrNullMX, "bare.example": ErrNone, "text.example": ErrNone, "gone.example": ErrNone, strings.Repeat("a.", 200) + "example": ErrNone,
	} {
		if err := d.SenderDomain(context.Background(), domain); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", domain, err, want)
		}
	}
	for _, domain := range []string{"fail.example", "slow.example"} {
		if err := d.SenderDomain(context.Background(), domain); err == nil || errors.Is(err, ErrNone) {
			t.Errorf("%s: %v, which is taken for sure", domain, err)
		}
	}
}

// TestKept: what is sure is asked once in a while, a failure is asked again at once.
func TestKept(t *testing.T) {
	d := zone(t, "a.example. 60 IN A 192.0.2.1\n")
	now := time.Unix(1e9, 0)
	d.Now = func() time.Time { return now }
	asked, exchange := 0, d.Exchange
	d.Exchange = func(ctx context.Context, m *dns.Msg, s string) (*dns.Msg, error) {
		asked++
		return exchange(ctx, m, s)
	}
	count := func(domain string) int {
		before := asked
		d.SenderDomain(context.Background(), domain)
		return asked - before
	}
	if count("a.example") == 0 || count("a.example") != 0 || count("gone.example") == 0 || count("gone.example") != 0 {
		t.Error("what is sure is not kept")
	}
	for range 2 {
		if count("fail.example") == 0 {
			t.Error("a failure is kept")
		}
	}
	now = now.Add(keep)
	if count("a.example") == 0 {
		t.Error("it is kept for ever")
	}
	for i := range maxCache + 10 {
		d.clients.put(netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1}), answer[string]{}, now)
	}
	if n := len(d.clients.m); n > maxCache {
		t.Errorf("%d answers are kept", n)
	}
}
