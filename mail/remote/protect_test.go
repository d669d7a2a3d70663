package remote

import (
	"context"
	"crypto/sha512"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/remote/mtasts"
)

const oneHost = "one.test. 60 IN MX 10 mx.one.test.\nmx.one.test. 60 IN A 192.0.2.1\n"

// TestTLSPolicies: what the administrator demands holds, with the right words where it doesn't.
func TestTLSPolicies(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	good := ca.issue(farOff, "mx.one.test")
	soon := time.Date(1999, 12, 1, 0, 0, 0, 0, time.UTC) // before the clock of the test begins
	for _, x := range []struct {
		name   string
		cert   *tls.Config // nil: no STARTTLS
		policy TLSPolicy
		tls    string // how the delivery is called; empty: there is none
		reason string // part of it
	}{
		{"none", good, TLSPolicy{Level: LevelNone}, Clear, ""},
		{"may", good, TLSPolicy{Level: LevelMay}, Opportunistic, ""},
		{"may, not offered", nil, TLSPolicy{Level: LevelMay}, Clear, ""},
		{"may, signed by nobody", other.issue(soon, "x.test"), TLSPolicy{Level: LevelMay}, Opportunistic, ""},
		{"require", other.issue(soon, "x.test"), TLSPolicy{Level: LevelRequire}, Required, ""},
		{"require, not offered", nil, TLSPolicy{Level: LevelRequire}, "", "offers no STARTTLS; demanded by the policy for one.test: mpctl delivery tls show 'one.test'"},
		{"verify", good, TLSPolicy{Level: LevelVerify}, Verified, ""},
		{"verify, name of the domain", ca.issue(farOff, "one.test"), TLSPolicy{Level: LevelVerify}, Verified, ""},
		{"verify, wildcard", ca.issue(farOff, "*.one.test"), TLSPolicy{Level: LevelVerify}, Verified, ""},
		{"verify, given name", ca.issue(farOff, "mail.provider.test"), TLSPolicy{Level: LevelVerify, Names: []string{"mail.provider.test"}}, Verified, ""},
		{"verify, below a given name", ca.issue(farOff, "a.b.provider.test"), TLSPolicy{Level: LevelVerify, Names: []string{".provider.test"}}, Verified, ""},
		{"verify, wrong name", ca.issue(farOff, "one.test.evil.test", "none.test"), TLSPolicy{Level: LevelVerify}, "", "is for one.test.evil.test, none.test, not for one.test or .one.test"},
		{"verify, common name only", ca.issue(farOff), TLSPolicy{Level: LevelVerify}, "", "is for no name, not for"},
		{"verify, NUL in the name", ca.issue(farOff, "one.test\x00.evil.test"), TLSPolicy{Level: LevelVerify}, "", `"one.test\x00.evil.test", which is no name`},
		{"verify, expired", ca.issue(soon, "mx.one.test"), TLSPolicy{Level: LevelVerify}, "", "valid from 1999-01-01 to 1999-12-01 only"},
		{"verify, unknown authority", other.issue(farOff, "mx.one.test"), TLSPolicy{Level: LevelVerify}, "", `signed by "CN=Test CA", which is not trusted here`},
		{"verify, self-signed", alone(t, "mx.one.test"), TLSPolicy{Level: LevelVerify}, "", "self-signed and not trusted here"},
		{"verify, not offered", nil, TLSPolicy{Level: LevelVerify}, "", "offers no STARTTLS"},
		{"certificate's fingerprint", good, TLSPolicy{Level: LevelFingerprint, Pins: []string{hash(leafOf(good).Raw)}}, Pinned, ""},
		{"key's fingerprint", good, TLSPolicy{Level: LevelFingerprint, Pins: []string{hash([]byte("old")), hash(leafOf(good).RawSubjectPublicKeyInfo)}}, Pinned, ""},
		{"wrong fingerprint", good, TLSPolicy{Level: LevelFingerprint, Pins: []string{hash([]byte("old"))}}, "", "has the fingerprint " + hash(leafOf(good).Raw)},
		{"dane without", good, TLSPolicy{Level: LevelDANE}, "", "can't be verified by DANE: DNSSEC does not vouch for its address"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{tls: x.cert, script: map[string]string{}}
			_, c := newWorld(t, oneHost, map[string]*fake{"192.0.2.1": f})
			if f.tls == nil {
				f.ext = []string{"PIPELINING"}
			}
			x.policy.Domain = "one.test"
			c.Roots = ca.roots
			c.Policy = func(string) *TLSPolicy { return &x.policy }
			check(t, x.name, f, c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0], x.tls, x.reason)
			c.Close()
		})
	}
}

// check looks at a result: delivered under a name, or put off for a reason and nothing sent.
func check(t *testing.T, name string, f *fake, res Result, label, reason string) {
	t.Helper()
	switch {
	case label == "":
		if res.Outcome != model.OutcomeDeferred || !strings.Contains(res.Reason, reason) || f.count() != 0 {
			t.Errorf("%s: %+v with %d messages sent, want %q", name, res, f.count(), reason)
		}
		for _, line := range f.lines {
			if strings.HasPrefix(line, "MAIL") {
				t.Errorf("%s: the envelope went out: %s", name, line)
			}
		}
	case res.Outcome != model.OutcomeDelivered || label == Clear && res.TLS != Clear || label != Clear && !strings.HasPrefix(res.TLS, label+", TLS 1.3 TLS_"):
		t.Errorf("%s: %+v, want %s", name, res, label)
	case !strings.Contains(res.Note, reason):
		t.Errorf("%s: note %q, want %q", name, res.Note, reason)
	}
}

// TestVerifiedRelay: a relay's certificate is verified where that is wanted, and only there.
func TestVerifiedRelay(t *testing.T) {
	ca := newAuthority(t)
	good, wrong := ca.issue(farOff, "relay.test"), ca.issue(farOff, "other.test")
	row := &TLSPolicy{Domain: "relay.test", Level: LevelVerify, Names: []string{"other.test"}}
	pin := &TLSPolicy{Domain: "relay.test", Level: LevelFingerprint, Pins: []string{hash(leafOf(wrong).Raw)}}
	all := &TLSPolicy{Domain: "*", Level: LevelNone}
	for _, x := range []struct {
		name, mode string
		verify     bool
		cert       *tls.Config
		policy     *TLSPolicy
		tls        string
	}{
		{"as before", TLSRequire, false, wrong, nil, Required},
		{"opportunistic", TLSStartTLS, true, wrong, nil, Opportunistic},
		{"require", TLSRequire, true, good, nil, Verified},
		{"wrapper", TLSWrapped, true, good, nil, Verified},
		{"require, wrong name", TLSRequire, true, wrong, nil, ""},
		{"wrapper, wrong name", TLSWrapped, true, wrong, nil, ""},
		{"given name", TLSRequire, true, wrong, row, Verified},
		{"given fingerprint", TLSRequire, true, wrong, pin, Pinned},
		{"policy for all", TLSRequire, true, wrong, all, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{tls: x.cert, script: map[string]string{}}
			if x.mode == TLSWrapped {
				f.script["tls"] = "wrapped"
			}
			_, c := newWorld(t, "relay.test. 60 IN A 192.0.2.7\n", map[string]*fake{"192.0.2.7:587": f})
			c.Roots = ca.roots
			c.Policy = func(string) *TLSPolicy { return x.policy }
			j := job("elsewhere.test", sample, "x@elsewhere.test")
			j.Route = &Route{Host: "relay.test", Port: 587, TLS: x.mode, Verify: x.verify, Remedy: "mpctl relay set --verify off"}
			res := c.Deliver(context.Background(), j)[0]
			check(t, x.name, f, res, x.tls, "")
			if x.tls == "" && !strings.Contains(res.Reason, "is for other.test, not for relay.test; the relay's settings require it: mpctl relay set --verify off") {
				t.Errorf("%s: %s", x.name, res.Reason)
			}
			c.Close()
		})
	}
}

// TestDANE goes through RFC 7672: who must vouch, which records count, and what happens without.
func TestDANE(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(farOff, "mx.one.test")
	old := ca.issue(time.Date(1999, 12, 1, 0, 0, 0, 0, time.UTC), "elsewhere.test")
	leaf, spki := leafOf(cert), hash(leafOf(cert).RawSubjectPublicKeyInfo)
	sum := sha512.Sum512(leaf.Raw)
	secure := func(string) bool { return true }
	for _, x := range []struct {
		name, tlsa string // records at _25._tcp.mx.one.test, each "U S M DATA"
		cert       *tls.Config
		secure     func(string) bool
		broken     string
		tls, words string
	}{
		{"EE, key", "3 1 1 " + spki, cert, secure, "", DANE, ""},
		{"EE, certificate", "3 0 1 " + hash(leaf.Raw), cert, secure, "", DANE, ""},
		{"EE, SHA-512", fmt.Sprintf("3 0 2 %x", sum), cert, secure, "", DANE, ""},
		{"EE, whole key", fmt.Sprintf("3 1 0 %x", leaf.RawSubjectPublicKeyInfo), cert, secure, "", DANE, ""},
		{"EE, one of two", "3 1 1 " + hash(nil) + "|3 1 1 " + spki, cert, secure, "", DANE, ""},
		{"EE, expired and of another name", "3 0 1 " + hash(leafOf(old).Raw), old, secure, "", DANE, ""},
		{"EE, wrong", "3 1 1 " + hash(nil), cert, secure, "", "", "matches none of the TLSA records; demanded by the TLSA records of mx.one.test; to send all the same: mpctl delivery tls set one.test --level may"},
		{"EE, the strongest digest counts", "3 1 1 " + spki + "|3 1 2 " + strings.Repeat("00", 64), cert, secure, "", "", "matches none"},
		{"TA, certificate", "2 0 1 " + hash(ca.cert.Raw), cert, secure, "", DANE, ""},
		{"TA, key", "2 1 1 " + hash(ca.cert.RawSubjectPublicKeyInfo), cert, secure, "", DANE, ""},
		{"TA, whole", fmt.Sprintf("2 0 0 %x", ca.cert.Raw), cert, secure, "", DANE, ""},
		{"TA, wrong name", "2 0 1 " + hash(ca.cert.Raw), ca.issue(farOff, "evil.test"), secure, "", "", "is for evil.test, not for mx.one.test"},
		{"TA, name of the domain", "2 0 1 " + hash(ca.cert.Raw), ca.issue(farOff, "one.test"), secure, "", DANE, ""},
		{"TA, expired", "2 0 1 " + hash(ca.cert.Raw), ca.issue(leafOf(old).NotAfter, "mx.one.test"), secure, "", "", "valid from 1999-01-01"},
		{"TA, somebody else's", "2 0 1 " + hash(newAuthority(t).cert.Raw), cert, secure, "", "", "matches none"},
		{"PKIX usages don't count", "1 1 1 " + spki + "|0 0 1 " + hash(nil), alone(t, "mx.one.test"), secure, "", Required, ""},
		{"unknown numbers don't count", "3 7 1 " + spki + "|3 1 9 " + spki + "|3 1 1 abcd", alone(t, "mx.one.test"), secure, "", Required, ""},
		{"not usable, and no STARTTLS", "3 1 1 abcd", nil, secure, "", "", "offers no STARTTLS; demanded by the TLSA records"},
		{"EE, and no STARTTLS", "3 1 1 " + spki, nil, secure, "", "", "offers no STARTTLS"},
		{"no records", "", cert, secure, "", Opportunistic, ""},
		{"MX not secure", "3 1 1 " + hash(nil), cert, func(n string) bool { return n != "one.test." }, "", Opportunistic, ""},
		{"address not secure", "3 1 1 " + hash(nil), cert, func(n string) bool { return n != "mx.one.test." }, "", Opportunistic, ""},
		{"records not secure", "3 1 1 " + hash(nil), cert, func(n string) bool { return !strings.HasPrefix(n, "_25.") }, "", Opportunistic, ""},
		{"nothing secure", "3 1 1 " + hash(nil), cert, nil, "", Opportunistic, ""},
		{"lookup fails", "3 1 1 " + spki, cert, secure, "_25._tcp.mx.one.test.", "", "TLSA records of mx.one.test can't be looked up"},
		{"lookup fails where nothing is signed", "", cert, nil, "_25._tcp.mx.one.test.", Opportunistic, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			zone := oneHost
			for _, rr := range strings.Split(x.tlsa, "|") {
				if rr != "" {
					zone += "_25._tcp.mx.one.test. 60 IN TLSA " + rr + "\n"
				}
			}
			f := &fake{tls: x.cert, script: map[string]string{}}
			w, c := newWorld(t, zone, map[string]*fake{"192.0.2.1": f})
			w.secure, w.broken = x.secure, map[string]bool{x.broken: true}
			c.UseDANE, c.Validates = func() bool { return true }, func(string) bool { return true }
			check(t, x.name, f, c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0], x.tls, x.words)
			c.Close()
		})
	}
}

// TestDANENeedsTrust: answers of servers that nobody has declared as validating vouch for nothing,
// an alias is followed, and a host that fails is passed over for the next one.
func TestDANENeedsTrust(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(farOff, "mx.one.test")
	bad := "_25._tcp.mx.one.test. 60 IN TLSA 3 1 1 " + hash(nil) + "\n"
	for _, x := range []struct {
		name, zone     string
		trusted, wants bool
		tls            string
	}{
		{"not trusted", oneHost + bad, false, true, Opportunistic},
		{"switched off", oneHost + bad, true, false, Opportunistic},
		{"second host", oneHost + bad + "one.test. 60 IN MX 20 b.one.test.\nb.one.test. 60 IN A 192.0.2.2\n_25._tcp.b.one.test. 60 IN TLSA 3 1 1 " + hash(leafOf(cert).RawSubjectPublicKeyInfo) + "\n", true, true, DANE},
		{"end of an alias", "one.test. 60 IN MX 10 mx.one.test.\nmx.one.test. 60 IN CNAME real.test.\nreal.test. 60 IN A 192.0.2.1\n_25._tcp.real.test. 60 IN TLSA 3 1 1 " + hash(leafOf(cert).RawSubjectPublicKeyInfo) + "\n", true, true, DANE},
		{"begin of an alias", "one.test. 60 IN MX 10 mx.one.test.\nmx.one.test. 60 IN CNAME real.test.\nreal.test. 60 IN A 192.0.2.1\n_25._tcp.mx.one.test. 60 IN TLSA 3 1 1 " + hash(leafOf(cert).RawSubjectPublicKeyInfo) + "\n", true, true, DANE},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, second := &fake{tls: cert, script: map[string]string{}}, &fake{tls: cert, script: map[string]string{}}
			w, c := newWorld(t, x.zone, map[string]*fake{"192.0.2.1": f, "192.0.2.2": second})
			w.secure = func(string) bool { return true }
			c.UseDANE, c.Validates = func() bool { return x.wants }, func(string) bool { return x.trusted }
			check(t, x.name, f, c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0], x.tls, "")
			if x.name == "second host" && (f.count() != 0 || second.count() != 1) {
				t.Errorf("%d and %d messages", f.count(), second.count())
			}
			c.Close()
		})
	}
}

// TestMTASTS: enforce holds mail back, testing tells, and DANE comes before both.
func TestMTASTS(t *testing.T) {
	// covers: R7.85
	ca := newAuthority(t)
	good := ca.issue(farOff, "mx.one.test")
	enforce := &mtasts.Policy{ID: "1", Mode: mtasts.ModeEnforce, MX: []string{"mx.one.test"}}
	testing1 := &mtasts.Policy{ID: "1", Mode: mtasts.ModeTesting, MX: []string{"mx.one.test"}}
	elsewhere := &mtasts.Policy{ID: "1", Mode: mtasts.ModeEnforce, MX: []string{"*.other.test"}}
	for _, x := range []struct {
		name       string
		policy     *mtasts.Policy
		cert       *tls.Config
		tlsa       string
		tls, words string
		kind, fail string // as the report has it
	}{
		{"enforce", enforce, good, "", MTASTS, "", PolicySTS, ""},
		{"enforce, wrong name", enforce, ca.issue(farOff, "one.test"), "", "", "is for one.test, not for mx.one.test; demanded by the MTA-STS policy of one.test; to send all the same: mpctl delivery tls set one.test --level may", PolicySTS, failName},
		{"enforce, self-signed", enforce, alone(t, "mx.one.test"), "", "", "self-signed", PolicySTS, failUntrusted},
		{"enforce, no STARTTLS", enforce, nil, "", "", "offers no STARTTLS; demanded by the MTA-STS policy", PolicySTS, failNoTLS},
		{"enforce, not listed", elsewhere, good, "", "", "mx.one.test is not among the mail servers of its domain's MTA-STS policy", PolicySTS, failValidation},
		{"testing", testing1, good, "", MTASTS, "", PolicySTS, ""},
		{"testing, self-signed", testing1, alone(t, "mx.one.test"), "", Opportunistic, "would not do if the MTA-STS policy were enforced", PolicySTS, failUntrusted},
		{"testing, no STARTTLS", testing1, nil, "", Clear, "", PolicySTS, failNoTLS},
		{"DANE wins", elsewhere, alone(t, "mx.one.test"), "3 1 1 ", DANE, "", PolicyTLSA, ""},
		{"no policy", nil, good, "", Opportunistic, "", PolicyNone, ""},
		{"no policy, no STARTTLS", nil, nil, "", Clear, "", PolicyNone, failNoTLS},
	} {
		synctest.Test(t, func(t *testing.T) {
			zone := oneHost
			if x.tlsa != "" {
				zone += "_25._tcp.mx.one.test. 60 IN TLSA " + x.tlsa + hash(leafOf(x.cert).RawSubjectPublicKeyInfo) + "\n"
			}
			f := &fake{tls: x.cert, script: map[string]string{}}
			w, c := newWorld(t, zone, map[string]*fake{"192.0.2.1": f})
			w.secure = func(string) bool { return true }
			c.UseDANE, c.Validates = func() bool { return true }, func(string) bool { return true }
			c.Roots = ca.roots
			c.STS = func(context.Context, string) (*mtasts.Policy, error) { return x.policy, nil }
			var tried []TLSAttempt
			c.Tried = func(a TLSAttempt) { tried = append(tried, a) }
			check(t, x.name, f, c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0], x.tls, x.words)
			if len(tried) != 1 || tried[0].Kind != x.kind || tried[0].Failure != x.fail || tried[0].Domain != "one.test" || tried[0].Host != "mx.one.test" {
				t.Errorf("%s: told %+v", x.name, tried)
			}
			c.Close()
		})
	}
}

// TestFailureOfThePolicyIsTold: a domain whose policy can't be had hears of it, and gets its mail.
func TestFailureOfThePolicyIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{tls: alone(t, "mx.one.test"), script: map[string]string{}}
		_, c := newWorld(t, oneHost, map[string]*fake{"192.0.2.1": f})
		c.STS = func(context.Context, string) (*mtasts.Policy, error) {
			return nil, &mtasts.Failure{Kind: mtasts.FetchError, Err: errors.New("404")}
		}
		var kinds []string
		c.Tried = func(a TLSAttempt) { kinds = append(kinds, a.Kind+" "+a.Failure) }
		check(t, "fetch", f, c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0], Opportunistic, "")
		if !slices.Equal(kinds, []string{PolicyNone + " ", PolicySTS + " " + mtasts.FetchError}) {
			t.Errorf("told %q", kinds)
		}
		c.Close()
	})
}

// TestStricterDemandsTakeNoOldConnection: a connection that was opened under weaker demands is not
// used for stronger ones.
func TestStricterDemandsTakeNoOldConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{tls: alone(t, "mx.one.test"), script: map[string]string{}}
		_, c := newWorld(t, oneHost, map[string]*fake{"192.0.2.1": f})
		level := LevelMay
		c.Policy = func(string) *TLSPolicy { return &TLSPolicy{Domain: "one.test", Level: level} }
		check(t, "first", f, c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0], Opportunistic, "")
		level = LevelVerify
		res := c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0]
		if res.Outcome != model.OutcomeDeferred || f.count() != 1 {
			t.Errorf("%+v, %d messages", res, f.count())
		}
		c.Close()
	})
}

func TestMatchName(t *testing.T) {
	for _, x := range []struct {
		has, want string
		ok        bool
	}{
		{"mx.a.test", "mx.a.test", true}, {"mx.a.test.", "mx.a.test", true}, {"*.a.test", "mx.a.test", true}, {"*.a.test", "a.test", false},
		{"*.a.test", "x.mx.a.test", false}, {"*.test", "a.test", false}, {"m*.a.test", "mx.a.test", false}, {"*", "a", false}, {"", "", false},
		{"x.a.test", ".a.test", true}, {"a.test", ".a.test", false}, {"*.a.test", ".a.test", true}, {"xa.test", ".a.test", false},
		{"mx.a.test\x00.evil.test", "mx.a.test", false}, {"mx.a.test\x00.evil.test", ".evil.test", false}, {"*.*.test", "a.b.test", false},
	} {
		if got := matchName(x.has, x.want); got != x.ok {
			t.Errorf("%q for %q: %v", x.has, x.want, got)
		}
	}
}

func FuzzMatchName(f *testing.F) {
	f.Add("*.a.test", "mx.a.test")
	f.Add("mx.a.test\x00x", ".test")
	f.Fuzz(func(t *testing.T, has, want string) {
		if matchName(has, want) && strings.ContainsAny(has, "\x00 \r\n") {
			t.Errorf("%q matches %q", has, want)
		}
	})
}
