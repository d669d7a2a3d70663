package keeper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/mail/certs"
	"mailplusd/mail/certs/acme"
	"mailplusd/mail/certs/acmetest"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
	"mailplusd/mail/vault"
)

// node is a keeper with listeners on loopback, and a clock that only goes forward.
type node struct {
	*Keeper
	t       *testing.T
	leads   atomic.Bool
	forward atomic.Int64 // nanoseconds that the clock is ahead
	http    net.Listener
	tls     net.Listener
	wg      sync.WaitGroup
	cancel  context.CancelFunc
}

func newNode(t *testing.T, st *state.State) *node {
	t.Helper()
	v, err := vault.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t}
	n.leads.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	n.cancel = cancel
	n.Keeper = &Keeper{
		State: st, Vault: v, Ring: certs.NewKeyring(), Leading: n.leads.Load, Log: slog.New(slog.DiscardHandler), Context: ctx, Go: n.wg.Go,
		Now: func() time.Time { return time.Now().Add(time.Duration(n.forward.Load())) }, Apply: func() {}, Serving: func(int) (bool, error) { return true, nil },
	}
	n.http, n.tls = n.listen(), n.listen()
	quiet := log.New(io.Discard, "", 0)
	web := &http.Server{ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, ok := n.Answer(strings.TrimPrefix(r.URL.Path, "/.well-known/acme-challenge/")); ok {
			io.WriteString(w, text)
			return
		}
		http.NotFound(w, r)
	})}
	secure := &http.Server{ErrorLog: quiet, TLSConfig: &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if cfg, err := n.TLS(h); cfg != nil || err != nil {
			return cfg, err
		}
		return n.Ring.Config(), nil
	}}}
	go web.Serve(n.http)
	go secure.ServeTLS(n.tls, "", "")
	t.Cleanup(func() { cancel(); n.wg.Wait(); web.Close(); secure.Close() })
	return n
}

func (n *node) listen() net.Listener {
	n.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	return l
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// server starts an ACME server that looks at this node, and makes it the one of the settings.
func (n *node) server(o acmetest.Options, change func(*model.ACME)) *acmetest.Server {
	n.t.Helper()
	o.HTTPPort, o.TLSPort = port(n.http), port(n.tls)
	srv := acmetest.Start(n.t, o)
	roots, err := acme.RootsOf(srv.Root)
	if err != nil {
		n.t.Fatal(err)
	}
	n.set(func(a *model.ACME) {
		a.Directory, a.Root, a.Agreed, a.Contact = srv.URL, roots, srv.URL, "postmaster@example.test"
		a.HTTPPort, a.TLSPort = port(n.http), port(n.tls)
		if change != nil {
			change(a)
		}
	})
	return srv
}

func (n *node) set(change func(*model.ACME)) {
	n.t.Helper()
	if err := n.State.ChangeSettings(n.t.Context(), func(s *model.Settings) error { change(&s.Certs.ACME); return nil }); err != nil {
		n.t.Fatal(err)
	}
}

// want stores that a certificate is wanted.
func (n *node) want(name string, names ...string) {
	n.t.Helper()
	row := &model.Certificate{Name: name, Names: names, Source: model.CertACME, Created: time.Now().Unix()}
	if err := n.State.Update(n.t.Context(), func(tx *state.Tx) error { return state.Certificates.Put(tx, row) }); err != nil {
		n.t.Fatal(err)
	}
}

// served gives the certificate that a client gets who asks for a name.
func (n *node) served(name string) *x509.Certificate {
	n.t.Helper()
	if err := n.Load(); err != nil {
		n.t.Error(err)
	}
	c, err := tls.Dial("tcp", n.tls.Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

func (n *node) issued(name string) *model.IssuedCert {
	n.t.Helper()
	is, err := state.IssuedCerts.Get(n.State, name)
	if err != nil {
		n.t.Fatal(err)
	}
	return is
}

// fails orders and wants a refusal with words, which the state keeps.
func (n *node) fails(name, words string) *model.IssuedCert {
	n.t.Helper()
	err := n.Order(n.t.Context(), name, time.Time{})
	if err == nil || !strings.Contains(err.Error(), words) {
		n.t.Errorf("%s: %v, want %s", name, err, words)
	}
	is := n.issued(name)
	if !strings.Contains(is.Error, words) || is.Failures == 0 || is.Next <= n.Now().Unix() {
		n.t.Errorf("%s: stored is %+v", name, is)
	}
	return is
}

func (n *node) orders(name string) {
	n.t.Helper()
	if err := n.Order(n.t.Context(), name, time.Time{}); err != nil {
		n.t.Fatalf("%s: %v", name, err)
	}
}

// TestOrder: pebble validates by HTTP and by TLS-ALPN, the certificate serves, and nothing secret
// is in the state in clear.
func TestOrder(t *testing.T) {
	// covers: I.23 I.81
	for _, challenge := range []string{model.ChallengeHTTP, model.ChallengeTLS} {
		t.Run(challenge, func(t *testing.T) {
			st, entries := statetest.Open(t)
			n := newNode(t, st)
			srv := n.server(acmetest.Options{}, func(a *model.ACME) { a.Challenge = challenge })
			n.want("main", "mail.example.test", "autoconfig.example.test")
			if err := n.Order(t.Context(), "main", time.Time{}); err != nil {
				t.Fatal(err)
			}
			if c := n.served("autoconfig.example.test"); !strings.HasPrefix(c.Issuer.CommonName, "Pebble") || c.VerifyHostname("mail.example.test") != nil {
				t.Errorf("served is %s of %s", c.DNSNames, c.Issuer)
			}
			if left, err := state.ACMEChallenges.List(st, ""); err != nil || len(left) > 0 {
				t.Errorf("challenges left: %v %v", left, err)
			}
			account, err := state.ACMEAccounts.Get(st, srv.URL)
			if err != nil || account.Location == "" || !vault.IsSealed(account.Key) || !vault.IsSealed(n.issued("main").Key) {
				t.Errorf("%+v %v", account, err)
			}
			for _, e := range entries.Entries {
				if strings.Contains(string(e.Data), "PRIVATE KEY") {
					t.Error("an entry has a key in clear")
				}
			}
			all, err := All(st)
			if err != nil || len(all) != 1 || len(all[0].Info.Names) != 2 {
				t.Fatalf("%+v %v", all, err)
			}
			if at := due(&all[0]); time.Until(at).Round(24*time.Hour) != 60*24*time.Hour {
				t.Errorf("90 days are renewed at %s", at)
			}
			n.orders("main") // with the account that there is
			if again, _ := state.ACMEAccounts.Get(st, srv.URL); again.Location != account.Location || srv.Orders() != 2 {
				t.Errorf("the second order used %s, not %s; %d orders", again.Location, account.Location, srv.Orders())
			}
		})
	}
}

// TestOrderByDNS: BIND takes the updates, pebble finds them there: also for a wildcard, and where a
// CNAME leads into another zone. The records go away again.
func TestOrderByDNS(t *testing.T) {
	// covers: I.23
	named := acmetest.StartNamed(t, "example.test", "_acme-challenge.other IN CNAME other.acme\n")
	st, _ := statetest.Open(t)
	n := newNode(t, st)
	key, err := n.Vault.Seal(DNSSecret, named.Key)
	if err != nil {
		t.Fatal(err)
	}
	n.server(acmetest.Options{Resolver: named.Addr}, func(a *model.ACME) {
		a.Challenge, a.DNSServer, a.DNSKeyName, a.DNSKey = model.ChallengeDNS, named.Addr, named.KeyName, key
	})
	n.want("wild", "*.example.test", "example.test")
	n.orders("wild")
	if c := n.served("x.example.test"); c.VerifyHostname("x.example.test") != nil || c.VerifyHostname("example.test") != nil {
		t.Errorf("served is %s", c.DNSNames)
	}
	n.want("other", "other.example.test") // BIND answers with what is behind the CNAME, too
	n.orders("other")

	wrong, _ := n.Vault.Seal(DNSSecret, "AAAA"+named.Key[4:])
	for name, x := range map[string]struct {
		change func(*model.ACME)
		words  string
	}{
		"wrong key":   {func(a *model.ACME) { a.DNSKey = wrong }, "does not take the TSIG key acme-key"},
		"unknown key": {func(a *model.ACME) { a.DNSKeyName = "nobody" }, "does not take the TSIG key nobody"},
		"no key":      {func(a *model.ACME) { a.DNSKeyName, a.DNSKey = "", "" }, "refused the update of example.test.: REFUSED"},
		"no such zone": {func(a *model.ACME) { a.DNSKeyName, a.DNSKey, a.DNSZone = named.KeyName, key, "elsewhere.test" },
			"is not in the zone elsewhere.test."},
		"no server": {func(a *model.ACME) { a.DNSZone, a.DNSServer = "", "127.0.0.1:1" }, "does not answer"},
	} {
		t.Log(name)
		n.set(func(a *model.ACME) {
			a.DNSKey, a.DNSKeyName, a.DNSZone, a.DNSServer = key, named.KeyName, "", named.Addr
		})
		n.set(x.change)
		if is := n.fails("wild", x.words); is.Cert == "" {
			t.Errorf("%s: the old certificate is gone", name)
		}
	}
}

// TestRefusals: the server's words are kept, and when it names a time it is left alone until then.
func TestRefusals(t *testing.T) {
	st, _ := statetest.Open(t)
	n := newNode(t, st)
	srv := n.server(acmetest.Options{Blocked: []string{"blocked.example.test"}}, func(a *model.ACME) { a.RetrySec = 60 })
	n.want("blocked", "blocked.example.test")
	n.fails("blocked", "blocked.example.test is a forbidden domain (blocked.example.test) [rejectedIdentifier]")
	n.want("nowhere", "nowhere.example.test")
	n.fails("nowhere", "the ACME server says about nowhere.example.test: ")

	n.want("main", "mail.example.test")
	srv.Refuse(&acmetest.Problem{Type: "caa", Detail: "CAA record for example.test prevents issuance", Status: 403})
	is := n.fails("main", "the ACME server says: CAA record for example.test prevents issuance [caa]")
	if wait := time.Until(time.Unix(is.Next, 0)); wait < 55*time.Second || wait > 70*time.Second {
		t.Errorf("after the first failure it waits %s", wait)
	}
	srv.Refuse(&acmetest.Problem{Type: "rateLimited", Detail: "too many certificates already issued", Status: 429, RetryAfter: "7200"})
	is = n.fails("main", "too many certificates already issued [rateLimited]")
	if wait := time.Until(time.Unix(is.Next, 0)); is.Failures != 2 || wait < 7100*time.Second || wait > 7300*time.Second {
		t.Errorf("after %d failures it waits %s, the server wants 2 hours", is.Failures, wait)
	}
	w, err := n.Warnings()
	if err != nil || len(w) != 3 || !w[1].Error || !strings.Contains(w[1].Text, "was not issued, 2 times: the ACME server says: too many") {
		t.Errorf("%+v %v", w, err)
	}
	srv.Refuse(nil)
	n.orders("main")
	if is := n.issued("main"); is.Failures != 0 || is.Error != "" || is.Next != 0 {
		t.Errorf("%+v", is)
	}
	n.set(func(a *model.ACME) { a.Agreed = "" })
	n.fails("main", "wants its terms of service agreed to: data:text/plain,Do%20what%20thou%20wilt (mpctl cert acme set --agree-terms)")
}

// TestExternalAccount: a server that wants one takes no other.
func TestExternalAccount(t *testing.T) {
	const mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	st, _ := statetest.Open(t)
	n := newNode(t, st)
	n.server(acmetest.Options{EAB: map[string]string{"kid-1": mac}}, nil)
	n.want("main", "mail.example.test")
	n.fails("main", "wants an external account")
	n.set(func(a *model.ACME) { a.EABKeyID = "kid-1" }) // as an import of exported settings leaves it
	n.fails("main", "needs both its key ID and its key")
	seal := func(key string) string {
		s, err := n.Vault.Seal(EABSecret, key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	n.set(func(a *model.ACME) { a.EABKeyID, a.EABKey = "kid-1", seal("AAAA"+mac[4:]) })
	n.fails("main", "no account was given: the ACME server says")
	n.set(func(a *model.ACME) { a.EABKey = seal(mac) })
	n.orders("main")
}

// TestServerAway: the certificate of before serves on, attempts get rarer, and the first that
// reaches the server again succeeds, even if it has forgotten the account.
func TestServerAway(t *testing.T) {
	st, _ := statetest.Open(t)
	n := newNode(t, st)
	srv := n.server(acmetest.Options{}, func(a *model.ACME) { a.RetrySec = 300 })
	n.want("main", "mail.example.test")
	n.orders("main")
	first := n.served("mail.example.test")
	n.forward.Add(int64(61 * 24 * time.Hour))
	srv.Stop()
	last := int64(0)
	for i := 1; i <= 3; i++ {
		n.step(t.Context())
		is := n.issued("main")
		if is.Failures != i || is.Cert == "" || is.Error == "" {
			t.Fatalf("attempt %d: %+v", i, is)
		}
		wait := is.Next - n.Now().Unix()
		if wait < 2*last*8/10 || i == 1 && (wait < 295 || wait > 335) {
			t.Errorf("attempt %d: next in %d s, before that %d s", i, wait, last)
		}
		last = wait
		n.step(t.Context())
		if again := n.issued("main"); again.Failures != i {
			t.Fatalf("it was tried before its time: %+v", again)
		}
		n.forward.Add(int64(wait+1) * int64(time.Second))
	}
	if c := n.served("mail.example.test"); !c.Equal(first) {
		t.Error("the certificate of before serves no more")
	}
	w, err := n.Warnings()
	if err != nil || len(w) == 0 || w[0].Error || !strings.Contains(w[0].Text, "not issued, 3 times") || w[0].Remedy != "mpctl cert renew main" {
		t.Errorf("%+v %v", w, err)
	}
	srv.Forget()
	srv.Restart()
	n.forward.Add(int64(time.Hour))
	n.step(t.Context())
	if c := n.served("mail.example.test"); c.Equal(first) {
		t.Errorf("nothing new: %+v", n.issued("main"))
	}
}

// TestRenewal: certificates that are good for seconds are renewed while Run runs, each time before
// they end.
func TestRenewal(t *testing.T) {
	st, _ := statetest.Open(t)
	n := newNode(t, st)
	n.server(acmetest.Options{Validity: 6 * time.Second}, nil)
	n.want("main", "mail.example.test")
	n.wg.Go(func() { n.Run(n.Context) })
	seen := map[string]*x509.Certificate{}
	var last *x509.Certificate
	for deadline := time.Now().Add(40 * time.Second); len(seen) < 3; {
		if is, err := state.IssuedCerts.Get(st, "main"); err == nil && is.Cert != "" {
			b, _ := pem.Decode([]byte(is.Cert))
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if seen[c.SerialNumber.String()] == nil && last != nil && c.NotBefore.Before(last.NotBefore.Add(2*time.Second)) {
				t.Errorf("renewed already at %s what was made at %s", c.NotBefore, last.NotBefore)
			}
			seen[c.SerialNumber.String()], last = c, c
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d certificates so far", len(seen))
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// TestOnlyTheLeaderOrders: one node of a pair orders; when it stops to lead in the middle of an
// order, that ends without a trace of failure, and the other node, which has the keys, goes on.
func TestOnlyTheLeaderOrders(t *testing.T) {
	st, _ := statetest.Open(t)
	a, b := newNode(t, st), newNode(t, st)
	b.leads.Store(false)
	srv := a.server(acmetest.Options{}, nil)
	a.want("main", "mail.example.test")
	b.step(t.Context())
	if _, err := state.IssuedCerts.Get(st, "main"); !errors.Is(err, state.ErrNotFound) || srv.Orders() != 0 {
		t.Fatalf("a node that does not lead has ordered: %v", err)
	}
	a.Serving = func(int) (bool, error) { // in the middle: the challenge is stored
		a.leads.Store(false)
		<-time.After(time.Second)
		return true, nil
	}
	if err := a.Order(t.Context(), "main", time.Time{}); !errors.Is(err, errNotLeading) {
		t.Errorf("%v", err)
	}
	if is := a.issued("main"); is.Failures != 0 || is.Cert != "" || is.Tried == 0 {
		t.Errorf("%+v", is)
	}
	b.leads.Store(true)
	b.server(acmetest.Options{}, nil)
	b.step(t.Context())
	if is := b.issued("main"); is.Cert == "" {
		t.Errorf("the other node did not go on: %+v", is)
	}
	if err := a.Load(); !errors.Is(err, vault.ErrNoKey) || a.Ring.Serves("mail.example.test") != "" {
		t.Errorf("without the key: %v", err)
	}
	if w, _ := a.Warnings(); len(w) != 1 || !w[0].Error || !strings.Contains(w[0].Text, "can't be used on this node") {
		t.Errorf("%+v", w)
	}
	if err := a.Vault.Add(b.Vault.Keys()); err != nil {
		t.Fatal(err)
	}
	a.step(t.Context())
	if a.Ring.Serves("mail.example.test") != "main" {
		t.Error("with the key it does not serve")
	}
}

// TestOneOrderForTwo: who orders and the loop that finds the same certificate due ask the server once.
func TestOneOrderForTwo(t *testing.T) {
	st, _ := statetest.Open(t)
	n := newNode(t, st)
	srv := n.server(acmetest.Options{}, nil)
	since := time.Now()
	n.want("main", "mail.example.test")
	n.Serving = func(int) (bool, error) { // the first is under way
		n.Serving = func(int) (bool, error) { return true, nil }
		n.wg.Go(func() { n.step(n.Context) })
		<-time.After(200 * time.Millisecond)
		return true, nil
	}
	if err := <-n.Start("main", since); err != nil {
		t.Fatal(err)
	}
	if err := <-n.Start("main", since); err != nil {
		t.Fatal(err)
	}
	n.cancel()
	n.wg.Wait()
	if got := srv.Orders(); got != 1 {
		t.Errorf("%d orders", got)
	}
}

// TestStaleChallenge: what an order has left that was cut off is answered no more and goes away.
func TestStaleChallenge(t *testing.T) {
	st, _ := statetest.Open(t)
	n := newNode(t, st)
	s := &rowSolver{n.Keeper, &model.ACME{}}
	c := acme.Challenge{Type: model.ChallengeHTTP, Token: "tok", KeyAuthorization: "tok.x"}
	if err := s.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if text, ok := n.Answer("tok"); !ok || text != "tok.x" || n.Ports()[ListenHTTP] != 80 {
		t.Errorf("%q %v %v", text, ok, n.Ports())
	}
	for _, token := range []string{"", "other", strings.Repeat("x", 1000), "../tok"} {
		if _, ok := n.Answer(token); ok {
			t.Errorf("%q is answered", token)
		}
	}
	n.forward.Add(int64(challengeLife + time.Second))
	if _, ok := n.Answer("tok"); ok || len(n.Ports()) != 0 {
		t.Error("a stale one is answered")
	}
	n.step(t.Context())
	if left, err := state.ACMEChallenges.List(st, ""); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

// TestKeysAreSealed: a key that came into the state in clear is sealed by the node that leads.
func TestKeysAreSealed(t *testing.T) {
	// covers: I.81
	st, _ := statetest.Open(t)
	n := newNode(t, st)
	made, err := certs.SelfSigned("default", []string{"mail.example.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	row := &model.Certificate{Name: "default", Cert: string(made.CertPEM), Key: string(made.KeyPEM), Source: model.CertSelfSigned, Default: true}
	if err := st.Update(t.Context(), func(tx *state.Tx) error { return state.Certificates.Put(tx, row) }); err != nil {
		t.Fatal(err)
	}
	before := n.served("mail.example.test")
	n.step(t.Context())
	if c, err := state.Certificates.Get(st, "default"); err != nil || !vault.IsSealed(c.Key) {
		t.Errorf("%+v %v", c, err)
	}
	if !n.served("mail.example.test").Equal(before) {
		t.Error("another certificate serves")
	}
}

// TestExpiryWarnings: an imported one is warned of before it ends, one that is renewed by itself
// only when that is late.
func TestExpiryWarnings(t *testing.T) {
	st, _ := statetest.Open(t)
	n := newNode(t, st)
	made, err := certs.SelfSigned("own", []string{"mail.example.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	row := &model.Certificate{Name: "own", Cert: string(made.CertPEM), Key: string(made.KeyPEM), Source: model.CertImported}
	if err := st.Update(t.Context(), func(tx *state.Tx) error { return state.Certificates.Put(tx, row) }); err != nil {
		t.Fatal(err)
	}
	years := int64(time.Until(time.Now().AddDate(10, 0, 0)))
	for _, x := range []struct {
		ahead int64
		words string
		bad   bool
	}{{0, "", false}, {years - int64(15*24*time.Hour), "", false}, {years - int64(13*24*time.Hour), "expires in 12 days", false}, {years + int64(time.Hour), "expired", true}} {
		n.forward.Store(x.ahead)
		w, err := n.Warnings()
		if err != nil || (x.words == "") != (len(w) == 0) {
			t.Fatalf("%d: %+v %v", x.ahead, w, err)
		}
		if len(w) > 0 && (!strings.HasPrefix(w[0].Text, x.words) || w[0].Error != x.bad || w[0].Remedy != "mpctl cert import own --cert FILE --key-file FILE") {
			t.Errorf("%d: %+v", x.ahead, w)
		}
	}
}

func TestBackoff(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: 5 * time.Minute, 2: 10 * time.Minute, 5: 80 * time.Minute, 9: 12 * time.Hour, 1000: 12 * time.Hour} {
		if got := backoff(failures, 5*time.Minute); got != want {
			t.Errorf("after %d failures %s, want %s", failures, got, want)
		}
	}
}
