package remote

import (
	"context"
	"crypto/tls"
	"testing"
	"testing/synctest"
)

// TestDANERelay: a relay is verified by its TLSA records, at the port that is used, where a policy for that
// host says so; then nothing else will do (RFC 7672 §2.2.2).
func TestDANERelay(t *testing.T) {
	ca := newAuthority(t)
	cert, other := ca.issue(farOff, "relay.test"), ca.issue(farOff, "other.test")
	dane := &TLSPolicy{Domain: "relay.test", Level: LevelDANE}
	right := "_587._tcp.relay.test. 60 IN TLSA 3 1 1 " + hash(leafOf(cert).RawSubjectPublicKeyInfo) + "\n"
	for _, x := range []struct {
		name, mode, zone string
		cert             *tls.Config
		policy           *TLSPolicy
		secure           bool
		tls, words       string
	}{
		{"require", TLSRequire, right, cert, dane, true, DANE, ""},
		{"opportunistic", TLSStartTLS, right, cert, dane, true, DANE, ""},
		{"opportunistic, another certificate", TLSStartTLS, right, other, dane, true, "", "matches none of the TLSA records"},
		{"wrapper", TLSWrapped, right, cert, dane, true, DANE, ""},
		{"another certificate", TLSRequire, right, other, dane, true, "", "matches none of the TLSA records"},
		{"another certificate, wrapper", TLSWrapped, right, other, dane, true, "", "matches none of the TLSA records"},
		{"no records", TLSRequire, "", cert, dane, true, "", "relay.test can't be verified by DANE: it has no TLSA records"},
		{"records of another port", TLSRequire, "_25._tcp.relay.test. 60 IN TLSA 3 1 1 " + hash(nil) + "\n", cert, dane, true, "", "it has no TLSA records"},
		{"not signed", TLSRequire, right, cert, dane, false, "", "DNSSEC does not vouch for its address"},
		{"no policy", TLSRequire, "_587._tcp.relay.test. 60 IN TLSA 3 1 1 " + hash(nil) + "\n", cert, nil, true, Verified, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{tls: x.cert, script: map[string]string{}}
			if x.mode == TLSWrapped {
				f.script["tls"] = "wrapped"
			}
			w, c := newWorld(t, "relay.test. 60 IN A 192.0.2.7\n"+x.zone, map[string]*fake{"192.0.2.7:587": f})
			w.secure = func(string) bool { return x.secure }
			c.UseDANE, c.Validates, c.Roots = func() bool { return true }, func(string) bool { return true }, ca.roots
			c.Policy = func(string) *TLSPolicy { return x.policy }
			j := job("elsewhere.test", sample, "x@elsewhere.test")
			j.Route = &Route{Host: "relay.test", Port: 587, TLS: x.mode, Verify: x.policy == nil} // the policy is enough
			check(t, x.name, f, c.Deliver(context.Background(), j)[0], x.tls, x.words)
			c.Close()
		})
	}
}
