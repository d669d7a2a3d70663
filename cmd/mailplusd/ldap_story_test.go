package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailplusd/admin/api"
	"mailplusd/mail/directory/ldap/ldaptest"
	"mailplusd/mail/login"

	"github.com/emersion/go-imap/v2/imapclient"
	goldap "github.com/go-ldap/ldap/v3"
)

// bindTo binds the daemon to a directory.
func (d *process) bindTo(s *ldaptest.Slapd, more ...string) {
	d.t.Helper()
	d.ok(append([]string{"directory", "ldap", "bind", "--uri", s.URI, "--ldap-ca", s.CAFile, "--base-dn", ldaptest.Base, "--bind-dn", ldaptest.BindDN,
		"--bind-password-file", d.file("ldap.pw", ldaptest.Password), "--timeout", "2"}, more...)...)
}

// deliver sends a message from outside, and gives the server's last answer.
func (d *process) deliver(to, subject string) string {
	d.t.Helper()
	r, err := d.smtp(2525).send("x@y.example", to, "Subject: "+subject+"\r\n\r\nx\r\n")
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// plain is the argument of AUTH PLAIN.
func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

// loginFails gives how IMAP refuses a login.
func (d *process) loginFails(user, password string) string {
	d.t.Helper()
	c, err := imapclient.DialInsecure(d.port(2143), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(user, password).Wait(); err != nil {
		return err.Error()
	}
	return "logged in"
}

// TestStoryLDAP: a directory is bound, its users take over from the local ones, lose it, and go back.
func TestStoryLDAP(t *testing.T) {
	// covers: R5.01 R5.04 R5.06 R5.07 R5.08 R5.09 R5.10 R5.11 R5.12 R5.13 R5.14 R5.23 I.02 I.03 I.05 I.06 I.07 I.81 A.08
	s := ldaptest.Start(t, []string{"bob", "dana", "erin"}, ldaptest.Group("staff", ldaptest.DN("dana"), ldaptest.DN("erin")), ldaptest.Group("bosses", ldaptest.DN("erin")),
		"dn: cn=two words,ou=people,"+ldaptest.Base+"\nobjectClass: inetOrgPerson\ncn: two words\nsn: x\nuid: two words")
	s.SetPassword("bob", "of-the-directory")
	d := newDaemon(t)
	d.start()
	d.deliver("bob@example.test", "before")
	d.deliver("alice@example.test", "before")

	d.fails(7, "no directory is bound", "directory", "ldap", "show")
	d.fails(3, "no directory of type ldap", "account", "source", "set", "ldap", "--move-mail", "yes")
	pw := d.file("ldap.pw", ldaptest.Password)
	base := []string{"directory", "ldap", "bind", "--base-dn", ldaptest.Base, "--bind-dn", ldaptest.BindDN, "--timeout", "2", "--uri"}
	d.fails(3, "certificate", append(base, s.URI, "--bind-password-file", pw)...)
	d.fails(3, "Invalid Credentials", append(base, s.URI, "--ldap-ca", s.CAFile, "--bind-password-file", d.file("bad.pw", "wrong"))...)
	d.fails(3, "refused", append(base, "ldap://127.0.0.1:1", "--bind-password-file", pw)...)
	d.fails(2, "write it like", append(base, "http://127.0.0.1", "--bind-password-file", pw)...)
	d.fails(2, "no LDAP filter", append(base, s.URI, "--ldap-ca", s.CAFile, "--bind-password-file", pw, "--user-filter", "(x")...)
	d.bindTo(s, "--admin-group", "bosses")
	d.fails(3, "at a time", append(base, s.URI, "--bind-password-file", pw)...)
	d.has("protected by TLS", "directory", "ldap", "test")
	d.has("the password is right", "check", "login", "bob", "--password-file", d.file("dev.pw", devPassword)) // local still
	d.has(`"in_force": false`, "directory", "ldap", "show", "-o", "json")
	if out := d.ok("directory", "ldap", "show", "-o", "json") + d.ok("config", "export"); strings.Contains(out, ldaptest.Password) {
		t.Error("the password of the binding is shown")
	}

	d.ok("user", "forward", "set", "alice", "bob@example.test", "--keep-copy") // alice has no namesake in the directory
	d.ok("user", "autoreply", "set", "bob", "--text", d.file("away.txt", "away\n"))
	d.ok("domain", "user", "set", "example.test", "bob", "--address", "bob", "--address", "sales")
	d.ok("policy", "add", "no pop", "--user", "bob", "--pop3", "off")
	d.fails(3, "--move-mail", "account", "source", "set", "ldap")
	d.fails(3, "no directory of type domain", "account", "source", "set", "domain", "--move-mail", "no")
	d.fails(7, "an LDAP directory is", "directory", "ad", "show")
	d.has("account source", "account", "source", "set", "ldap", "--move-mail", "yes", "--dry-run")
	d.has("local", "account", "source", "show", "--filter", "in_force=yes")
	out, errs, code := d.mpctl("account", "source", "set", "ldap", "--move-mail", "yes", "-o", "csv")
	if code != 0 || !strings.Contains(out, "ldap,yes,yes,4") || !strings.Contains(errs, "sales@example.test") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	d.has("bob", "user", "autoreply", "list", "-o", "name") // moved with the mail
	d.ok("user", "autoreply", "delete", "bob")
	d.has("username not supported", "account", "list", "--search", "two words")
	if out := d.ok("user", "list", "-o", "name"); out != "bob\ndana\nerin\ntwo words\n" {
		t.Errorf("users: %q", out)
	}
	d.has("dana, erin", "group", "show", "staff", "-o", "csv")
	d.fails(3, "come from the directory", "user", "add", "new")
	d.fails(3, "of the directory", "group", "member", "add", "staff", "bob")
	d.fails(3, "the directory's", "user", "passwd", "bob", "--password-file", pw)
	d.fails(3, "the directory's", "user", "set", "bob", "--display-name", "B.")
	d.fails(3, "would be back", "user", "delete", "bob", "--yes")
	d.has("true", "user", "list", "-o", "json", "--filter", "name=erin and admin=yes")
	d.ok("account", "activate", "bob", "dana")

	if got := d.loginFails("bob", devPassword); !strings.Contains(got, "login failed") {
		t.Errorf("the local password: %s", got)
	}
	if got := d.loginFails("alice", devPassword); !strings.Contains(got, "login failed") {
		t.Errorf("a local account: %s", got)
	}
	im := d.imapAs("bob", "of-the-directory")
	if box, err := im.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 1 || box.UIDNext != 2 {
		t.Errorf("bob's mail was not moved: %+v %v", box, err)
	}
	if r := d.deliver("dana@example.test", "to dana"); !strings.HasPrefix(r, "250") {
		t.Error(r)
	}
	c := d.smtp(2525)
	d.say(c, "250", "EHLO c.example")
	d.say(c, "235", "AUTH PLAIN %s", plain("dana@example.test", ldaptest.Password))

	t.Run("forward", func(t *testing.T) { storyForwardOfSource(t, d) })
	d.has("no pop", "policy", "effective", "bob") // a policy names him whichever source he is of
	t.Run("down", func(t *testing.T) { storyDirectoryDown(t, d, s, im) })

	// A user leaves, one is disabled, and one is new.
	s.Delete("dana")
	s.Add("fred")
	_, errs, code = d.mpctl("directory", "ldap", "sync")
	if code != 0 || !strings.Contains(errs, "dana is not in the directory any more") {
		t.Errorf("exit %d: %s", code, errs)
	}
	d.has("disabled", "account", "list", "--search", "dana")
	d.has("fred@example.test", "user", "show", "fred", "-o", "json")
	if r := d.deliver("dana@example.test", "too late"); strings.HasPrefix(r, "250") {
		t.Errorf("mail for who is gone: %s", r)
	}
	if n := d.field("dana", "INBOX", "messages"); n != 2.0 {
		t.Errorf("who is gone has %v messages, want 2", n)
	}
	d.fails(3, "disabled by the directory", "user", "enable", "dana")
	s.Delete("erin")
	s.Delete("fred")
	s.Delete("bob")
	s.Change(func(c *goldap.Conn) error {
		return c.Del(goldap.NewDelRequest("cn=two words,ou=people,"+ldaptest.Base, nil))
	})
	d.fails(3, "nothing was changed", "directory", "ldap", "sync")
	d.has("normal", "account", "list", "--search", "bob")
	s.Add("dana")
	d.ok("directory", "ldap", "sync", "--force")
	if box, err := d.imapAs("dana", ldaptest.Password).Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 2 {
		t.Errorf("dana is back: %+v %v", box, err)
	}

	d.fails(3, "those of the directory", "directory", "ldap", "unbind", "--yes")
	d.fails(3, "moves only from local", "account", "source", "set", "local", "--move-mail", "yes")
	d.ok("account", "source", "set", "local")
	d.has("bob@example.test", "user", "forward", "show", "alice") // the local one's own
	if n := d.messages("alice"); n != 1 {
		t.Errorf("alice has %d messages after switching back", n)
	}
	if n := d.messages("bob"); n != 0 {
		t.Errorf("the local bob has %d messages that were moved", n)
	}
	d.ok("directory", "ldap", "unbind", "--yes")
	d.fails(7, "no directory is bound", "directory", "ldap", "sync")
	if _, errs, code := d.mpctl("user", "delete", "bob", "--yes"); code != 0 || !strings.Contains(errs, "another account source") {
		t.Errorf("exit %d: %s", code, errs)
	}
	d.has("bob", "policy", "show", "no pop") // the other bob's, too
	d.bindTo(s)
	d.has(`"synced": ""`, "directory", "ldap", "show", "-o", "json") // nothing is left of the last time
}

// storyForwardOfSource: forwards and automatic replies are of an account of one source, not of its
// namesake.
func storyForwardOfSource(t *testing.T, d *process) {
	if out := d.ok("user", "forward", "list", "-o", "name"); out != "" {
		t.Errorf("forwards of accounts that are not in force: %q", out)
	}
	d.fails(7, "no forward", "user", "forward", "delete", "bob")
	before := d.field("bob", "INBOX", "messages").(float64)
	d.ok("user", "forward", "set", "dana", "bob@example.test")
	d.has("bob@example.test", "user", "forward", "show", "dana")
	if r := d.deliver("dana@example.test", "passed on"); !strings.HasPrefix(r, "250") {
		t.Error(r)
	}
	if n := d.field("bob", "INBOX", "messages"); n != before+1 {
		t.Errorf("bob has %v messages, want %v", n, before+1)
	}
	d.ok("user", "autoreply", "set", "dana", "--text", d.file("away.txt", "away\n"))
	d.has("dana", "user", "autoreply", "list", "-o", "name")
	d.ok("user", "autoreply", "delete", "dana")
	d.ok("user", "forward", "delete", "dana")
	if out := d.ok("user", "forward", "list", "-o", "name") + d.ok("user", "autoreply", "list", "-o", "name"); out != "" {
		t.Errorf("left: %q", out)
	}
}

// storyDirectoryDown: sessions go on, mail is delivered, logins wait, and nobody is locked out for it.
func storyDirectoryDown(t *testing.T, d *process, s *ldaptest.Slapd, im *imapclient.Client) {
	s.Stop()
	if err := im.Noop().Wait(); err != nil {
		t.Errorf("an open session: %v", err)
	}
	if r := d.deliver("dana@example.test", "while it is down"); !strings.HasPrefix(r, "250") {
		t.Errorf("delivery: %s", r)
	}
	for range 12 { // more than login.max-failures
		if got := d.loginFails("dana", ldaptest.Password); !strings.Contains(got, "UNAVAILABLE") {
			t.Fatalf("IMAP: %s", got)
		}
	}
	if got := d.loginFails("nobody", ldaptest.Password); !strings.Contains(got, "UNAVAILABLE") {
		t.Errorf("somebody who isn't there is told apart: %s", got)
	}
	p := d.pop()
	p.say("+OK", "USER dana")
	p.say("-ERR [SYS/TEMP]", "PASS "+ldaptest.Password)
	c := d.smtp(2525)
	d.say(c, "250", "EHLO c.example")
	d.say(c, "454 4.7.0", "AUTH PLAIN %s", plain("dana", ldaptest.Password))
	d.has("connection refused", "directory", "ldap", "test")
	d.fails(5, "can't be asked", "directory", "ldap", "sync")
	d.has("refused", "directory", "ldap", "show", "-o", "json")
	if out, _, _ := d.mpctl("check", "login", "dana"); !strings.Contains(out, "can't be asked") {
		t.Errorf("check login: %s", out)
	}
	s.Run()
	d.imapAs("dana", ldaptest.Password)
	d.ok("directory", "ldap", "sync")
	if out := d.ok("login", "lock", "list", "-o", "name"); out != "" {
		t.Errorf("locked out: %s", out)
	}
}

// TestStoryTwoFactor: a code besides the password, for administration over TLS and for nothing else.
func TestStoryTwoFactor(t *testing.T) {
	// covers: I.01 I.09
	d := newDaemon(t)
	d.start()
	key, cert := selfSigned(t)
	ca := d.file("s.pem", cert)
	d.ok("cert", "import", "main", "--cert", ca, "--key-file", d.file("s.key", key), "--default", "on")
	pw := d.file("pw", devPassword)
	remote := func(args ...string) []string {
		return append([]string{"--server", d.port(2825), "--ca", ca, "--login", "alice", "--login-password-file", pw}, args...)
	}
	withCode := func(code string, args ...string) []string {
		return remote(append([]string{"--login-code-file", d.file("code", code)}, args...)...)
	}
	d.fails(3, "no secret to confirm", remote("me", "2fa", "confirm", "--code-file", d.file("code", "123456"))...)
	old := strings.TrimSpace(d.ok(remote("login", "session", "add", "-o", "name")...))
	var secret api.MeFactorSecret
	if err := json.Unmarshal([]byte(d.ok(remote("me", "2fa", "enable", "-o", "json")...)), &secret); err != nil || !strings.HasPrefix(secret.URI, "otpauth://totp/") {
		t.Fatal(err, secret)
	}
	d.ok(remote("user", "list")...) // not confirmed: not asked for
	code := func(steps int) string {
		c, err := login.CodeAt(secret.Secret, time.Now().Add(time.Duration(steps)*30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	d.fails(4, "wrong", remote("me", "2fa", "confirm", "--code-file", d.file("code", code(-5)))...)
	var rec api.MeFactorRecovery
	if err := json.Unmarshal([]byte(d.ok(remote("me", "2fa", "confirm", "--code-file", d.file("code", code(0)), "-o", "json")...)), &rec); err != nil || len(rec.Codes) != login.RecoveryCodes {
		t.Fatal(err, rec)
	}

	d.fails(4, "one-time code", remote("user", "list")...)
	d.fails(4, "unknown", "--server", d.port(2825), "--ca", ca, "--token-file", d.file("old", old), "user", "list") // sessions of before have ended
	d.fails(4, "wrong", withCode(code(-5), "user", "list")...)
	next := code(1)
	d.has("bob", withCode(next, "user", "list")...)
	d.fails(4, "used already", withCode(next, "user", "list")...)
	d.has("alice (password and code)", "admin", "log", "list")
	d.has("carol", withCode(rec.Codes[0], "user", "add", "--file", d.file("users", "name\ncarol\n"))...)
	d.fails(4, "used already", withCode(rec.Codes[0], "user", "list")...)
	session := d.file("session", d.ok(withCode(rec.Codes[1], "login", "session", "add", "--minutes", "5", "-o", "name")...))
	byToken := []string{"--server", d.port(2825), "--ca", ca, "--token-file", session}
	for range 2 {
		d.has(`"recovery_codes_left": 8`, append(byToken, "me", "2fa", "show", "-o", "json")...)
	}
	d.fails(3, "login with a password", append(byToken, "login", "session", "add")...)
	d.has("session", "token", "list")
	d.has("yes", "user", "list", "-o", "csv", "--filter", "name=alice and two_factor=yes")
	d.imap("alice") // mail is as before
	if out := d.ok("admin", "log", "list", "-o", "json") + d.log.String(); strings.Contains(out, secret.Secret) || strings.Contains(out, rec.Codes[2]) || strings.Contains(out, next) {
		t.Error("a secret or code is in a log")
	}

	d.kill()
	d.start()
	d.fails(4, "used already", withCode(next, "user", "list")...) // a code stays used
	for range 10 {
		d.mpctl(withCode("000000", "user", "list")...)
	}
	d.fails(4, "locked out", withCode(rec.Codes[2], "user", "list")...)
	d.has("alice", "login", "lock", "list")
	d.ok("login", "lock", "clear", "alice")
	d.fails(4, "wrong", append(byToken, "me", "2fa", "disable", "--code-file", d.file("code", "000000"))...)
	d.ok(append(byToken, "me", "2fa", "disable", "--code-file", d.file("code", rec.Codes[2]))...)
	d.ok(remote("user", "list")...)

	d.ok(remote("me", "2fa", "enable")...)
	d.fails(3, "the secret is his", "user", "set", "alice", "--2fa", "on")
	d.ok("user", "set", "alice", "--2fa", "off")
	d.has(`"pending": false`, remote("me", "2fa", "show", "-o", "json")...)
}

// TestStoryPairOfLDAP: a pair whose accounts come from a directory; both nodes know the users when it is down.
func TestStoryPairOfLDAP(t *testing.T) {
	// covers: R11.26 R11.29 I.05
	s := ldaptest.Start(t, []string{"bob", "dana"})
	l := newLAN(t)
	a, b := l.node("a", 2), l.node("b", 3)
	a.env = []string{"SSL_CERT_FILE=" + s.CAFile} // what this machine trusts, and the other one does not
	a.run()
	b.run()
	a.setUp()
	a.has("allowed: it is replicated", "ha", "precheck")
	a.bindTo(s)
	a.ok("account", "source", "set", "ldap", "--move-mail", "yes")
	a.ok("account", "activate", "bob", "dana")
	s.Stop()
	a.has("this node can't log in to the directory", "ha", "precheck")
	a.fails(3, "can't log in to the directory", "ha", "create", "--peer", b.ip, "--vip", l.vip(), "--invite-file", b.invite(), "--yes")
	s.Run()
	a.ok("directory", "ldap", "set", "--system-ca")
	a.has("this node can log in to the directory", "ha", "precheck")
	a.fails(3, "both must", "ha", "create", "--peer", b.ip, "--vip", l.vip(), "--invite-file", b.invite(), "--yes")
	a.is("single")
	b.is("single")
	a.ok("directory", "ldap", "set", "--ldap-ca", s.CAFile)
	a.create(b)
	a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	b.is("pair")
	b.has("protected by TLS", "directory", "ldap", "test")
	s.Add("fred")
	b.ok("directory", "ldap", "sync") // whichever node is asked, the leader does it
	for _, n := range []*twin{a, b} {
		n.until("fred is known", func() bool { out, _, _ := n.mpctl("user", "list", "-o", "name"); return strings.Contains(out, "fred") })
	}
	s.Stop()
	a.kill()
	b.is("solo-secondary")
	l.deliver(l.vip(), "dana@example.test", "while directory and primary are down")
	s.Run()
	b.until("the mail is there", func() bool {
		c, err := imapclient.DialInsecure(fmt.Sprintf("%s:2143", l.vip()), nil)
		if err != nil {
			return false
		}
		defer c.Close()
		if c.Login("dana", ldaptest.Password).Wait() != nil {
			return false
		}
		box, err := c.Select("INBOX", nil).Wait()
		return err == nil && box.NumMessages == 1
	})
}
