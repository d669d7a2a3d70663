package dane

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func rrs(t *testing.T, lines ...string) (out []dns.RR) {
	t.Helper()
	for _, l := range lines {
		rr, err := dns.NewRR("_25._tcp.mx.test. 60 IN " + l)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

func TestUsable(t *testing.T) {
	a, b := strings.Repeat("aa", 32), strings.Repeat("bb", 64)
	list := FromAnswer(rrs(t, "A 192.0.2.1", "TLSA 3 1 1 "+a, "TLSA 3 1 2 "+b, "TLSA 2 1 1 "+a, "TLSA 0 0 1 "+a, "TLSA 1 1 1 "+a, "TLSA 3 2 1 "+a, "TLSA 3 1 3 "+a, "TLSA 3 1 1 aabb", "TLSA 3 0 0 aabb", "TLSA 2 1 0 aabb"))
	if len(list) != 10 {
		t.Fatalf("%d records", len(list))
	}
	got := []string{}
	for _, r := range Usable(list) {
		got = append(got, r.String())
	}
	// SHA-256 of 3 1 gives way to SHA-512, that of 2 1 has none to give way to (RFC 7671 §9).
	if want := "3 1 2 " + b + "\n2 1 1 " + a; strings.Join(got, "\n") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	many := make([]dns.RR, 0, 1000)
	for range 1000 {
		many = append(many, rrs(t, "TLSA 3 1 1 "+a)...)
	}
	if n := len(FromAnswer(many)); n != MaxRecords {
		t.Errorf("%d of 1,000 records are looked at", n)
	}
	if Verify(list, nil, nil, time.Now()) != ErrNoMatch {
		t.Error("a server without a certificate passes")
	}
}

// FuzzTLSA: whatever the answer holds, nothing panics, and what is usable has a form that can be compared.
func FuzzTLSA(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("_25._tcp.mx.test.", dns.TypeTLSA)
	rr, _ := dns.NewRR("_25._tcp.mx.test. 60 IN TLSA 3 1 1 " + strings.Repeat("aa", 32))
	m.Answer = append(m.Answer, rr)
	raw, _ := m.Pack()
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m dns.Msg
		if m.Unpack(raw) != nil {
			return
		}
		usable := Usable(FromAnswer(m.Answer))
		for _, r := range usable {
			if r.Usage != UsageTA && r.Usage != UsageEE || r.Match == MatchSHA256 && len(r.Data) != 32 {
				t.Errorf("%s is no record that can be used", r)
			}
		}
		if Verify(usable, []*x509.Certificate{{Raw: []byte{1}}}, func(*x509.Certificate) bool { return false }, time.Now()) == nil {
			for _, r := range usable {
				if r.Usage == UsageEE && r.Match == MatchFull {
					return
				}
			}
			t.Error("a certificate of nothing passes")
		}
	})
}
