package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// smarthost is a relay host that notes what it gets.
type smarthost struct {
	t    *testing.T
	port int
	mu   sync.Mutex
	pass string
	got  []string // "from > to, user, tls or clear"
	text []string // the messages of got
}

// startSmarthost listens on loopback: wrapper wants TLS from the first octet, otherwise STARTTLS is offered.
func startSmarthost(t *testing.T, wrapper bool, pass string) *smarthost {
	t.Helper()
	key, cert := selfSigned(t)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return startSmarthostAs(t, wrapper, pass, &tls.Config{Certificates: []tls.Certificate{pair}})
}

// startSmarthostAs is startSmarthost with a certificate of the test's own; nil: without TLS.
func startSmarthostAs(t *testing.T, wrapper bool, pass string, cfg *tls.Config) *smarthost {
	t.Helper()
	h := &smarthost{t: t, pass: pass}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.port = l.Addr().(*net.TCPAddr).Port
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &smarthostSession{h: h, c: c}, nil }))
	srv.Domain = "smart.example"
	srv.TLSConfig = cfg
	if wrapper {
		l = tls.NewListener(l, srv.TLSConfig)
	}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return h
}

func (h *smarthost) addr() []string {
	return []string{"--host", "127.0.0.1", "--port", fmt.Sprint(h.port)}
}

// wait returns when the host has got what is wanted.
func (h *smarthost) wait(d *process, want string) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		h.mu.Lock()
		got := slices.Clone(h.got)
		h.mu.Unlock()
		if slices.Contains(got, want) {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("the relay host has %q, want %q\n%s", got, want, d.ok("queue", "list", "-o", "wide"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

type smarthostSession struct {
	h              *smarthost
	c              *smtp.Conn
	from, to, user string
}

func (s *smarthostSession) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *smarthostSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		s.h.mu.Lock()
		defer s.h.mu.Unlock()
		if user != "me@smart.example" || pass != s.h.pass {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "who are you?"}
		}
		s.user = user
		return nil
	}), nil
}
func (s *smarthostSession) Mail(from string, _ *smtp.MailOptions) error { s.from = from; return nil }
func (s *smarthostSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.to != "" {
		s.to += " "
	}
	if s.to += to; s.h.pass != "" && s.user == "" {
		return errors.New("log in first")
	}
	return nil
}
func (s *smarthostSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	how := "clear"
	if _, ok := s.c.TLSConnectionState(); ok {
		how = "tls"
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.text = append(s.h.text, string(text))
	s.h.got = append(s.h.got, fmt.Sprintf("%s > %s, %s, %s", s.from, s.to, s.user, how))
	return nil
}
func (s *smarthostSession) Reset()        { s.from, s.to = "", "" }
func (s *smarthostSession) Logout() error { return nil }

// messages counts what a user has in INBOX.
func (d *process) messages(user string) int {
	d.t.Helper()
	box, err := d.imap(user).Select("INBOX", nil).Wait()
	if err != nil {
		d.t.Fatal(err)
	}
	return int(box.NumMessages)
}

// submit sends a message as alice or bob.
func (d *process) submit(from, to string) {
	d.t.Helper()
	d.ok("mail", "send", "--from", from+"@example.test", "--to", to, "--subject", "relayed")
}

// TestStoryRelaySingle: everything through one host, in clear and protected, with and without login.
func TestStoryRelaySingle(t *testing.T) {
	// covers: R7.78 R7.79 R7.80 R7.81 R7.82 R7.83 R7.84 R7.85 R7.86 R7.87 R7.88 R7.89 R6.09 I.81
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "queue.min-backoff=1", "queue.max-backoff=1", "network.resolvers=127.0.0.1:9")
	d.has("direct", "relay", "show")
	d.fails(2, "needs the relay host", "relay", "set", "--mode", "single")
	d.fails(2, "account and password", "relay", "set", "--auth", "on")
	d.fails(2, "neither a host name nor an address", "relay", "set", "--host", "no_host")
	d.fails(2, "65535", "relay", "set", "--port", "70000")

	open := startSmarthost(t, false, "")
	d.ok(append([]string{"relay", "set", "--mode", "single"}, open.addr()...)...)
	d.submit("bob", "x@elsewhere.example")
	open.wait(d, "bob@example.test > x@elsewhere.example, , tls") // offered, so it is used
	d.ok("relay", "set", "--tls", "none")
	d.submit("bob", "y@elsewhere.example")
	open.wait(d, "bob@example.test > y@elsewhere.example, , clear")
	d.submit("bob", "alice@example.test") // what is hosted here stays here
	if n := d.messages("alice"); n != 1 {
		t.Errorf("alice has %d messages", n)
	}

	for name, wrapper := range map[string]bool{"require": false, "wrapper": true} {
		h := startSmarthost(t, wrapper, "s3cret-"+name)
		wrong := d.file("wrong", "guess")
		d.ok(append([]string{"relay", "set", "--tls", name, "--verify", "off", "--auth", "on", "--user", "me@smart.example", "--password-file", wrong}, h.addr()...)...)
		d.submit("bob", name+"@elsewhere.example")
		if out := d.until("who are you?", "queue", "list", "--recipient", name, "-o", "wide"); !strings.Contains(out, "deferred") {
			t.Errorf("after a refused login: %s", out)
		}
		d.ok("relay", "set", "--password-file", d.file("right", "s3cret-"+name))
		h.wait(d, fmt.Sprintf("bob@example.test > %s@elsewhere.example, me@smart.example, tls", name))
	}
	if out := d.ok("relay", "show", "-o", "json") + d.ok("config", "show") + d.ok("config", "export") + d.ok("admin", "log", "list", "-o", "json"); strings.Contains(out, "s3cret") {
		t.Errorf("the password is shown: %s", out)
	}
	d.stop()
	filepath.Walk(d.dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && strings.Contains(read(t, path), "s3cret-wrapper") {
			t.Errorf("the password is in clear in %s", path)
		}
		return nil
	})
	d.start()
	d.has("set", "relay", "show")
	d.ok("relay", "set", "--mode", "direct")
	d.submit("bob", "z@elsewhere.example")
	d.until("DNS server", "queue", "list", "-o", "wide")
}

// TestStoryRelayRules: the rule of the recipient wins over the sender's, an address over its domain.
func TestStoryRelayRules(t *testing.T) {
	// covers: R7.90 R7.91 R7.92 R7.93 R7.94 R7.95 R7.96 R7.97 R7.98
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "queue.min-backoff=1", "queue.max-backoff=1", "network.resolvers=127.0.0.1:9")
	toPartner, toBoss, ofAlice := startSmarthost(t, false, ""), startSmarthost(t, false, ""), startSmarthost(t, false, "")
	rule := func(name, kind string, h *smarthost, match ...string) []string {
		return append(append([]string{"relay", "rule", "add", name, "--kind", kind, "--tls", "none"}, h.addr()...), match...)
	}
	d.fails(2, "needs at least one", rule("none", "recipient", toPartner)...)
	d.fails(2, "no address", rule("bad", "recipient", toPartner, "--address", "x")...)
	d.fails(2, "both its account and password", rule("half", "sender", toPartner, "--domain", "a.example", "--user", "u")...)
	d.ok(rule("partner", "recipient", toPartner, "--domain", "Partner.Example")...)
	d.ok(rule("the boss", "recipient", toBoss, "--address", "boss@partner.example")...)
	d.ok(rule("alice", "sender", ofAlice, "--address", "alice@example.test")...)
	d.fails(3, "is for recipient partner.example already", rule("again", "recipient", toBoss, "--domain", "partner.example")...)
	d.fails(3, "exists already", rule("partner", "recipient", toBoss, "--domain", "b.example")...)
	d.has("no", "relay", "rule", "show", "alice")
	d.ok("relay", "set", "--mode", "multi")
	for _, m := range []struct {
		from, to string
		by       *smarthost
	}{
		{"bob", "x@partner.example", toPartner}, {"alice", "y@partner.example", toPartner}, {"alice", "boss@partner.example", toBoss}, {"alice", "z@else.example", ofAlice},
	} {
		d.submit(m.from, m.to)
		m.by.wait(d, fmt.Sprintf("%s@example.test > %s, , clear", m.from, m.to))
	}
	d.submit("bob", "z@else.example") // no rule: direct
	d.until("DNS server 127.0.0.1:9", "queue", "list", "--sender", "bob", "-o", "wide")
	d.ok("relay", "rule", "set", "alice", "--kind", "sender", "--add", "example.test", "--remove", "alice@example.test", "--rename", "everybody")
	ofAlice.wait(d, "bob@example.test > z@else.example, , clear") // what waits goes the new way
	d.fails(7, "no address or domain", "relay", "rule", "set", "everybody", "--remove", "nobody.example")
	d.ok("relay", "rule", "delete", "the boss")
	d.submit("bob", "boss@partner.example")
	toPartner.wait(d, "bob@example.test > boss@partner.example, , clear")
	d.fails(7, "no relay rule", "relay", "rule", "delete", "the boss")
}

// TestStoryRelayDomain: mail for another server's domain is taken and reaches that server by the
// better MX of both DNS servers, although one of them names this server.
func TestStoryRelayDomain(t *testing.T) {
	// covers: R7.104 R7.105 R7.106 R7.107 R7.108 R7.109 R7.110 R7.111 R7.112 R7.115
	d := newDaemon(t)
	d.start()
	branch := startSmarthost(t, false, "")
	inside := resolver(t, `
branch.example. 60 IN MX 5 own.branch.example.
own.branch.example. 60 IN A 127.0.0.1
far.example. 60 IN MX 50 own.far.example.
own.far.example. 60 IN A 198.51.100.9
`)
	outside := resolver(t, `
branch.example. 60 IN MX 10 mail.example.test.
far.example. 60 IN MX 10 other.example.
other.example. 60 IN A 198.51.100.8
mail.example.test. 60 IN A 203.0.113.5
`)
	d.ok("config", "set", fmt.Sprintf("queue.port=%d", branch.port), "network.public-address=203.0.113.5")
	d.fails(2, "needs a preferred one", "net", "dns", "set", "--alternate", outside)
	d.ok("net", "dns", "set", "--preferred", inside, "--alternate", outside)
	d.has(outside, "net", "dns", "show")
	c := d.smtp(2525)
	defer c.c.Close()
	d.say(c, "250", "MAIL FROM:<who@elsewhere.example>")
	d.say(c, "550 5.7.1", "RCPT TO:<ann@branch.example>")
	d.fails(3, "is hosted here", "relay", "domain", "add", "own", "example.test")
	d.ok("relay", "domain", "add", "branch office", "branch.example")
	d.fails(3, "in the list already", "relay", "domain", "add", "again", "branch.example")
	d.fails(3, "passed on to its own server", "domain", "add", "branch.example")
	d.has("branch.example", "relay", "domain", "list")
	d.say(c, "250", "RSET")
	d.say(c, "250", "MAIL FROM:<who@elsewhere.example>")
	d.say(c, "250", "RCPT TO:<ann@branch.example>")
	d.say(c, "354", "DATA")
	d.say(c, "250", "Subject: for the branch\r\n\r\nhello\r\n.")
	branch.wait(d, "who@elsewhere.example > ann@branch.example, , tls")
	for _, want := range []string{"inside it leads to own.branch.example", "outside the MX mail.example.test leads to this server", "inside the MX has the better preference"} {
		d.has(want, "check", "relay-domain", "branch.example")
	}
	// A policy that a relay domain can't fulfil is told of when it is set, and by what waits.
	d.ok("config", "set", "network.dnssec=all", "queue.min-backoff=1", "queue.max-backoff=1")
	d.warns("mail to the relay domain branch.example waits", "delivery", "tls", "set", "branch.example", "--level", "dane")
	d.warns("mail to the relay domain branch.example waits", "relay", "domain", "set", "branch office", "--domain", "branch.example")
	d.submit("bob", "ann@branch.example")
	d.until("branch.example is a relay domain, whose server is found by the inside DNS server, too", "queue", "list", "--domain", "branch.example", "-o", "csv")
	d.ok("delivery", "tls", "set", "branch.example", "--level", "require")
	branch.wait(d, "bob@example.test > ann@branch.example, , tls")
	d.ok("relay", "domain", "set", "branch office", "--domain", "far.example")
	for _, want := range []string{"no MX leads to this server", "the internal one must be better", "is in no network of this server"} {
		d.has(want, "check", "relay-domain")
	}
	d.ok("relay", "domain", "delete", "branch office")
	d.say(c, "250", "MAIL FROM:<who@elsewhere.example>")
	d.say(c, "550 5.7.1", "RCPT TO:<ann@far.example>")
}

// warns is mpctl that does what is asked and warns.
func (d *process) warns(words string, args ...string) {
	d.t.Helper()
	if _, errs, code := d.mpctl(args...); code != 0 || !strings.Contains(errs, words) {
		d.t.Errorf("mpctl %s: exit %d, %q is not in: %s", strings.Join(args, " "), code, words, errs)
	}
}

// TestStoryPostmaster: external postmasters get system mail beside the administrators.
func TestStoryPostmaster(t *testing.T) {
	// covers: R7.07 R7.08 R7.09 I.27
	d := newDaemon(t)
	d.start()
	h := startSmarthost(t, false, "")
	d.ok(append([]string{"relay", "set", "--mode", "single", "--tls", "none"}, h.addr()...)...)
	send := func(to string) {
		t.Helper()
		c := d.smtp(2525)
		defer c.c.Close()
		d.say(c, "250", "MAIL FROM:<mta@elsewhere.example>")
		d.say(c, "250", "RCPT TO:<%s>", to)
		d.say(c, "354", "DATA")
		d.say(c, "250", "Subject: to %s\r\n\r\nx\r\n.", to)
	}
	d.ok("delivery", "forward", "set", "--srs", "off") // so that the sender is what it was
	d.fails(3, "is hosted here", "delivery", "postmaster", "add", "bob@example.test")
	d.fails(2, "no address", "delivery", "postmaster", "add", "nobody")
	d.ok("delivery", "postmaster", "add", "ops@noc.example", "night@noc.example")
	send("postmaster@example.test")
	if out := d.ok("queue", "list", "-o", "name"); out != "" {
		t.Errorf("off, and queued: %s", out)
	}
	d.ok("delivery", "postmaster", "enable")
	d.has("ops@noc.example", "delivery", "postmaster", "show")
	send("MAILER-DAEMON@example.test")
	send("abuse@example.test") // only of administrators
	h.wait(d, "mta@elsewhere.example > ops@noc.example night@noc.example, , clear")
	if n := d.messages("alice"); n != 3 {
		t.Errorf("the administrator has %d messages, want 3", n)
	}
	d.ok("delivery", "postmaster", "delete", "night@noc.example")
	d.ok("delivery", "postmaster", "disable")
	d.has("no", "delivery", "postmaster", "show")
}
