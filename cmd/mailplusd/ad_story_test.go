package main

import (
	"strings"
	"testing"

	"mailplusd/mail/directory/ldap/adtest"
)

// bindToDomain binds the daemon to a domain whose controllers DNS names.
func (d *process) bindToDomain(t *testing.T, dc *adtest.DC, more ...string) {
	d.t.Helper()
	d.ok("config", "set", "network.resolvers="+resolver(t, dc.Zone()))
	d.ok(append([]string{"directory", "ad", "bind", "--domain", adtest.Realm, "--ldap-ca", dc.CAFile, "--bind-user", adtest.BindUser,
		"--bind-password-file", d.file("ad.pw", adtest.Password)}, more...)...)
}

// auth gives the answer of SMTP to a login.
func (d *process) auth(user, password string) string {
	d.t.Helper()
	c := d.smtp(2525)
	d.say(c, "250", "EHLO c.example")
	r, err := c.cmd("AUTH PLAIN %s", plain(user, password))
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// TestStoryAD: the users of a real Active Directory domain log in by each of their names, are activated by group, lose and
// keep what is theirs as the domain says.
func TestStoryAD(t *testing.T) {
	// covers: R5.05 R5.06 R5.08 R5.09 R5.10 R5.18 R5.27 R2.46 I.05
	dc := adtest.Start(t)
	for _, n := range []string{"bob", "story-dana", "story-erin"} {
		dc.Add(n, nil)
	}
	dc.Group("Story staff", adtest.DN("bob"), adtest.DN("story-dana"))
	dc.Group("Story all", adtest.DN("Story staff"), adtest.DN("story-erin"))
	d := newDaemon(t)
	d.start()
	d.deliver("bob@example.test", "before")
	d.ok("user", "forward", "set", "bob", "alice@example.test", "--keep-copy")

	d.fails(7, "no Active Directory domain is bound", "directory", "ad", "show")
	d.fails(3, "no directory of type domain", "account", "source", "set", "domain", "--move-mail", "no")
	pw := d.file("ad.pw", adtest.Password)
	base := []string{"directory", "ad", "bind", "--domain", adtest.Realm, "--bind-user", "mail", "--uri", dc.URI(), "--bind-password-file"}
	d.fails(3, "certificate", append(base, pw)...)
	d.fails(3, "the password is wrong", append(base, d.file("bad.pw", "wrong"), "--ldap-ca", dc.CAFile)...)
	d.fails(2, "one of starttls, ldaps", append(base, pw, "--tls", "none")...)
	d.ok("config", "set", "network.resolvers="+resolver(t, dc.Zone()))
	d.fails(3, "names no domain controller", "directory", "ad", "bind", "--domain", "nowhere.example.test", "--bind-user", "mail", "--bind-password-file", pw)
	d.bindToDomain(t, dc)
	d.fails(3, "at a time", append(base, pw)...)
	d.fails(3, "at a time", "directory", "ldap", "bind", "--uri", dc.URI(), "--base-dn", adtest.Base)
	d.has(adtest.Host, "directory", "ad", "show")
	d.has(`"short": "example"`, "directory", "ad", "show", "-o", "json")
	if out := d.ok("directory", "ad", "test"); !strings.Contains(out, "protected by TLS") || !strings.Contains(out, "gone."+adtest.Realm) {
		t.Errorf("test: %s", out)
	}
	d.fails(3, "--move-mail", "account", "source", "set", "domain")
	d.has("domain,yes,yes", "account", "source", "set", "domain", "--move-mail", "yes", "-o", "csv")
	d.has("alice@example.test", "user", "forward", "show", "bob") // it has moved with the mail

	d.has("story-erin", "group", "member", "list", "story all")
	d.seats(20)
	d.ok("account", "group", "activate", "story all")
	for _, name := range []string{"bob", "bob@" + adtest.Realm, adtest.Short + `\bob`, "bob@example.test"} {
		if box, err := d.imapAs(name, adtest.Password).Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 1 {
			t.Errorf("%s: %+v %v", name, box, err)
		}
		if got := d.auth(name, adtest.Password); !strings.HasPrefix(got, "235") {
			t.Errorf("SMTP as %s: %s", name, got)
		}
	}
	if got := d.loginFails("bob", devPassword); !strings.Contains(got, "login failed") {
		t.Errorf("the local password: %s", got)
	}
	if r := d.deliver("story-dana@example.test", "to dana"); !strings.HasPrefix(r, "250") {
		t.Error(r)
	}
	t.Run("states", func(t *testing.T) { storyADStates(t, d, dc) })
	t.Run("names", func(t *testing.T) { storyADNames(t, d, dc) })

	d.fails(3, "those of the directory", "directory", "ad", "unbind", "--yes")
	d.ok("account", "source", "set", "local")
	d.ok("directory", "ad", "unbind", "--yes")
	d.has("domain,no,no", "account", "source", "show", "-o", "csv")
	d.bindToDomain(t, dc)
	d.has(`"synced": ""`, "directory", "ad", "show", "-o", "json") // nothing is left of the last time
}

// storyADStates: who is disabled, locked or expired in the domain is refused at once; mail follows with the next
// synchronisation, where it is to.
func storyADStates(t *testing.T, d *process, dc *adtest.DC) {
	dc.Set("story-erin", "userAccountControl", "514")
	if got := d.loginFails("story-erin", adtest.Password); !strings.Contains(got, "login failed") {
		t.Errorf("disabled a moment ago: %s", got)
	}
	if got := d.auth("story-erin", adtest.Password); !strings.Contains(got, "5.7.8") {
		t.Errorf("disabled a moment ago, SMTP: %s", got)
	}
	if out, _, _ := d.mpctl("check", "login", "story-erin"); !strings.Contains(out, "the account is disabled") {
		t.Errorf("check login: %s", out)
	}
	d.ok("directory", "ad", "sync")
	d.has("disabled", "account", "list", "--search", "story-erin")
	if r := d.deliver("story-erin@example.test", "no"); strings.HasPrefix(r, "250") {
		t.Error("mail for who is disabled:", r)
	}
	dc.Set("story-erin", "userAccountControl", "512")
	d.ok("directory", "ad", "sync")
	d.imapAs("story-erin", adtest.Password)

	dc.Set("story-erin", "pwdLastSet", "0")
	if got := d.auth("story-erin", adtest.Password); !strings.Contains(got, "5.7.8") {
		t.Errorf("must change: %s", got)
	}
	if out := d.ok("directory", "ad", "test", "--user", "story-erin", "--password-file", d.file("ad.pw", adtest.Password)); !strings.Contains(out, "must be changed first") {
		t.Errorf("test: %s", out)
	}
	d.ok("directory", "ad", "sync")
	if r := d.deliver("story-erin@example.test", "still hers"); !strings.HasPrefix(r, "250") {
		t.Error("mail for who must change his password:", r)
	}
}

// storyADNames: a new name in the domain keeps the mailbox; somebody else of the old name gets another.
func storyADNames(t *testing.T, d *process, dc *adtest.DC) {
	dc.Rename("story-dana", "story-dora")
	d.imapAs("story-dana", adtest.Password) // not synchronised yet: she is known by the old name
	_, errs, code := d.mpctl("directory", "ad", "sync")
	if code != 0 || !strings.Contains(errs, "story-dana is now story-dora") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if box, err := d.imapAs("story-dora", adtest.Password).Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 1 {
		t.Errorf("renamed: %+v %v", box, err)
	}
	for _, to := range []string{"story-dana", "story-dora"} {
		if r := d.deliver(to+"@example.test", "to dora"); !strings.HasPrefix(r, "250") {
			t.Error(r)
		}
	}
	if n := d.field("story-dora", "INBOX", "messages"); n != 3.0 {
		t.Errorf("%v messages", n)
	}
	if got := d.loginFails("story-dana", adtest.Password); !strings.Contains(got, "login failed") {
		t.Errorf("the old name: %s", got)
	}
}

// TestStorySetUpFromDirectory: a new system whose accounts are a domain's from the first moment on.
func TestStorySetUpFromDirectory(t *testing.T) {
	// covers: R2.33 R5.08
	dc := adtest.Start(t)
	dc.Add("boss", nil)
	d := freshNode(t, "127.0.77.9")
	pw := d.file("ad.pw", adtest.Password)
	d.fails(3, "no directory of type domain", "setup", "new", "--domain", "a.test", "--account-type", "domain", "--yes")
	d.ok("directory", "ad", "bind", "--domain", adtest.Realm, "--uri", dc.LDAPS(), "--ldap-ca", dc.CAFile, "--bind-user", adtest.BindUser, "--bind-password-file", pw)
	d.fails(3, "no directory of type ldap", "setup", "new", "--domain", "a.test", "--account-type", "ldap", "--yes")
	d.fails(2, "the directory's", "setup", "new", "--domain", "a.test", "--account-type", "domain", "--admin", "boss", "--password-file", pw, "--yes")
	server := resolver(t, "a.test. 60 IN MX 0 mail.a.test.\n")
	d.has("domain", "setup", "new", "--domain", "a.test", "--account-type", "domain", "--admin", "boss", "--interface", "127.0.77.9", "--resolver", server, "--yes")
	d.has("boss@a.test", "user", "show", "boss", "-o", "json")
	d.has(`"admin": true`, "user", "show", "boss", "-o", "json")
	d.has("domain,yes,yes", "account", "source", "show", "-o", "csv")
	d.fails(3, "come from the directory", "user", "add", "new")
}
