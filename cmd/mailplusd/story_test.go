package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// fails is mpctl that must be refused with an exit status and words.
func (d *process) fails(code int, words string, args ...string) {
	d.t.Helper()
	out, errs, got := d.mpctl(args...)
	if got != code || !strings.Contains(errs, words) {
		d.t.Errorf("mpctl %s: exit %d, want %d\n%s%swant: %s", strings.Join(args, " "), got, code, out, errs, words)
	}
}

// has is mpctl whose output must contain words.
func (d *process) has(words string, args ...string) {
	d.t.Helper()
	if out := d.ok(args...); !strings.Contains(out, words) {
		d.t.Errorf("mpctl %s: %q is missing in\n%s", strings.Join(args, " "), words, out)
	}
}

func (d *process) file(name, text string) string {
	p := filepath.Join(filepath.Dir(d.dir), name)
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return p
}

func (d *process) smtp(port int) *smtpClient {
	d.t.Helper()
	c, err := dialSMTP(d.port(port))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.c.Close() })
	return c
}

func (d *process) say(c *smtpClient, want, format string, args ...any) string {
	d.t.Helper()
	r, err := c.cmd(format, args...)
	if err != nil || !strings.HasPrefix(r, want) {
		d.t.Errorf("%.60s: %q %v, want %s", fmt.Sprintf(format, args...), r, err, want)
	}
	return r
}

func (d *process) imap(user string) *imapclient.Client {
	d.t.Helper()
	return d.imapAs(user, devPassword)
}

func (d *process) imapAs(user, password string) *imapclient.Client {
	d.t.Helper()
	c, err := imapclient.DialInsecure(d.port(2143), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	if err := c.Login(user, password).Wait(); err != nil {
		d.t.Fatal(err)
	}
	return c
}

func TestStoryAccounts(t *testing.T) {
	// covers: R5.01 R5.02 R5.03 R5.16 R5.17 R5.19 R5.21 R5.22 R5.23 R5.24 R5.25 R5.26 R5.31 R2.39 R2.40 R4.02 R4.10 I.03 I.16
	d := newDaemon(t)
	d.start()
	pw := d.file("pw", "long-enough-1\n")
	d.ok("user", "add", "carol", "--display-name", "Carol", "--password-file", pw)
	d.has("carol@example.test", "user", "show", "carol")
	d.fails(3, "exists already", "user", "add", "carol")
	d.ok("user", "add", "carol", "--if-not-exists")
	d.fails(2, "not allowed", "user", "add", "a/b")
	d.fails(7, "no user", "user", "show", "nobody")
	d.fails(2, "characters", "user", "passwd", "carol", "--password-file", d.file("short", "x"))

	c := d.smtp(2525)
	d.say(c, "250", "MAIL FROM:<x@y.example>")
	d.say(c, "550 5.1.1", "RCPT TO:<carol@example.test>") // not activated
	d.has("activated", "account", "activate", "carol", "--dry-run")
	d.say(c, "550", "RCPT TO:<carol@example.test>")
	d.ok("account", "activate", "carol")
	d.say(c, "250", "RSET")
	d.say(c, "250", "MAIL FROM:<x@y.example>")
	d.say(c, "250", "RCPT TO:<carol@example.test>")
	d.has("seats: 5, used: 3, unused: 2", "account", "list")

	for i := range 4 {
		d.ok("user", "add", fmt.Sprintf("u%d", i))
	}
	d.fails(3, "2 more needed", "account", "activate", "u0", "u1", "u2", "u3") // all or none
	d.has("used: 3", "account", "list")
	d.fails(3, "seats", "account", "default", "set", "--activate-all", "on")
	key := strings.TrimSpace(d.ok("license", "issue", "--quantity", "20"))
	d.fails(3, "agreed", "license", "add", key)
	d.fails(3, "no licence key", "license", "add", "MPL1.x", "--accept-terms")
	d.ok("license", "add", key, "--accept-terms", "--owner", "us")
	d.fails(3, "exists already", "license", "add", key, "--accept-terms")
	d.ok("account", "default", "set", "--activate-all", "on")
	d.has("used: 7", "account", "list")
	d.ok("account", "deactivate", "u0")
	d.has("used: 6", "account", "list")
	d.ok("account", "default", "set", "--activate-all", "off")
	d.ok("group", "add", "staff", "--user", "u1", "--user", "u0")
	d.ok("account", "group", "activate", "staff")
	d.has("group staff", "account", "list")
	d.has("used: 4", "account", "list") // u0 is deactivated by its own setting
	d.ok("account", "reset", "u0")
	d.has("used: 5", "account", "list")
	d.ok("user", "disable", "u0")
	d.has("disabled", "account", "list")
	d.fails(3, "last administrator", "user", "set", "alice", "--admin", "off")
	d.fails(3, "wants a confirmation", "user", "delete", "u3")
	d.ok("user", "delete", "u3", "--yes")
	d.has("user delete", "admin", "log", "list")
	if strings.Contains(d.ok("admin", "log", "list", "-o", "json"), "long-enough-1") {
		t.Error("a password is in the admin log")
	}
}

func TestStoryBulk(t *testing.T) {
	// covers: R5.26
	d := newDaemon(t)
	d.start()
	const n = 2000
	key := strings.TrimSpace(d.ok("license", "issue", "--quantity", "1990"))
	d.ok("license", "add", key, "--accept-terms")
	d.ok("group", "add", "staff")
	var b strings.Builder
	b.WriteString("name,groups\n")
	for i := range n {
		fmt.Fprintf(&b, "user%04d,staff\n", i)
	}
	b.WriteString("bad/name,\n")
	out, errs, code := d.mpctlIn(b.String(), "user", "add", "--file", "-")
	if code != 6 || strings.Count(out, "\n") != n+1 || !strings.Contains(errs, "1 of 2001 rows failed") || strings.Count(out, "\tok") != n {
		t.Fatalf("exit %d, %d lines\n%.500s\n%s", code, strings.Count(out, "\n"), out, errs)
	}
	out, _, code = d.mpctlIn(b.String(), "user", "add", "--file", "-")
	if code != 6 || strings.Count(out, "unchanged") != n {
		t.Errorf("again: exit %d, %d unchanged", code, strings.Count(out, "unchanged"))
	}
	names := d.ok("user", "list", "-o", "name", "--search", "user")
	out, errs, code = d.mpctlIn(names, "account", "activate", "--file", "-", "-o", "jsonl")
	var ok, failed int
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var r struct{ Status string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		switch r.Status {
		case "ok":
			ok++
		case "failed":
			failed++
		}
	}
	if code != 6 || ok != 1993 || failed != 7 { // 1995 seats, alice and bob have two
		t.Errorf("exit %d, %d ok, %d failed\n%s", code, ok, failed, errs)
	}
	if out := d.ok("group", "show", "staff", "-o", "json"); !strings.Contains(out, `"members": 2000`) {
		t.Error("the group has not all members")
	}
}

func TestStoryDomains(t *testing.T) {
	// covers: R8.14 R8.15 R8.16 R8.17 R8.38 R8.40 R8.44 R8.46 R8.54 R8.60 R8.61 R8.62 R8.63 R8.64 R8.65 R8.66 R2.14 R2.17 R2.32
	d := newDaemon(t)
	d.start()
	d.ok("domain", "add", "Example.ORG", "--user", "alice")
	d.has("alice@example.org", "domain", "user", "list", "example.org")
	d.fails(3, "exists already", "domain", "add", "example.org")
	d.fails(2, "no dot", "domain", "add", "local")
	d.fails(2, "IP address", "domain", "add", "192.0.2.1")
	d.ok("domain", "user", "set", "example.org", "alice", "--address", "alice", "--address", "boss")
	d.ok("domain", "user", "add", "example.org", "bob", "--address", "bobby")
	d.fails(3, "belongs to", "domain", "user", "set", "example.org", "bob", "--address", "boss")
	d.ok("domain", "alias", "add", "example.org", "sales", "alice", "user:bob", "x@elsewhere.example")
	d.fails(3, "exists already", "domain", "alias", "add", "example.org", "boss", "bob")
	d.fails(7, "no user", "domain", "alias", "add", "example.org", "ghost", "nobody")
	d.ok("domain", "alias", "add", "example.org", "all", "alias:sales")
	d.fails(3, "contain itself", "domain", "alias", "set", "example.org", "sales", "--add", "alias:all")
	d.has("sales", "domain", "alias", "list", "example.org", "--search", "elsewhere")

	text := d.ok("domain", "alias", "export", "example.org")
	if !strings.Contains(text, "sales: alice@example.org, bobby@example.org, x@elsewhere.example\n") || !strings.Contains(text, "all: sales\n") {
		t.Errorf("export:\n%s", text)
	}
	file := d.file("aliases", "# a comment\n"+text+"new:\tcarl@elsewhere.example,\n  alice\nlater: new\nsales: bob\n\"quoted\": alice\nbad: nobody\n")
	out, errs, code := d.mpctl("domain", "alias", "import", "example.org", "--file", file)
	if code != 6 || strings.Count(out, "imported") != 3 || strings.Count(out, "exists") < 3 || !strings.Contains(out, "failed") {
		t.Errorf("import: exit %d\n%s%s", code, out, errs)
	}
	d.has("x@elsewhere.example", "domain", "alias", "show", "example.org", "sales") // not updated
	for _, a := range []string{"sales", "all", "new", "later", "quoted"} {
		d.ok("domain", "alias", "delete", "example.org", a)
	}
	d.ok("domain", "alias", "import", "example.org", "--file", d.file("back", text))
	if again := d.ok("domain", "alias", "export", "example.org"); again != text {
		t.Errorf("a file exported here came back as\n%s", again)
	}

	d.has("MX    example.org", "domain", "dns-records", "example.org", "--address", "192.0.2.7")
	d.has("192.0.2.7", "domain", "dns-records", "example.org", "--address", "192.0.2.7", "-o", "json")
	d.ok("domain", "set", "example.org", "--rename", "example.net", "--description", "renamed")
	d.has("boss@example.net", "domain", "user", "list", "example.net")
	d.has("sales", "domain", "alias", "list", "example.net")
	c := d.smtp(2525)
	d.say(c, "250", "MAIL FROM:<x@y.example>")
	d.say(c, "550", "RCPT TO:<boss@example.org>") // relaying now
	d.say(c, "250", "RCPT TO:<boss@example.net>")
	d.say(c, "250", "RCPT TO:<all@example.net>")
	d.fails(3, "can't be undone", "domain", "delete", "example.net")
	d.has("- name", "domain", "delete", "example.net", "--dry-run")
	d.ok("domain", "delete", "example.net", "--confirm=example.net")
	d.fails(3, "main domain", "domain", "delete", "example.test", "--confirm=example.test")
}

func TestStorySMTP(t *testing.T) {
	// covers: R6.06 R6.07 R6.16 R7.01 R7.02 R7.03 R7.04 R7.05 R7.06 R7.20 R7.21 R7.27 R7.29 R7.30 R7.33 R2.37 I.34
	d := newDaemon(t)
	d.start()
	d.ok("delivery", "general", "set", "--banner", "$hostname hello there", "--max-recipients", "2", "--max-hops", "3", "--max-size", "1", "--hostname", "mx.example.test")
	d.fails(2, "outside", "delivery", "general", "set", "--max-hops", "101")
	d.fails(2, "no dot", "delivery", "general", "set", "--hostname", "mx")
	c := &smtpClient{}
	raw := d.smtp(2525)
	if r := d.say(raw, "250", "EHLO x.example"); !strings.Contains(r, "SIZE 1048576") || !strings.Contains(r, "STARTTLS") || !strings.Contains(r, "mx.example.test") || !strings.Contains(r, "CHUNKING") || !strings.Contains(r, "SMTPUTF8") || !strings.Contains(r, "DSN") {
		t.Errorf("EHLO: %s", r)
	}
	_ = c
	d.say(raw, "552 5.3.4", "MAIL FROM:<x@y.example> SIZE=2000000")
	d.say(raw, "250", "MAIL FROM:<x@y.example>")
	d.say(raw, "550 5.7.1", "RCPT TO:<who@elsewhere.example>")
	d.say(raw, "250", "RCPT TO:<alice@example.test>")
	d.say(raw, "250", "RCPT TO:<bob@example.test>")
	d.say(raw, "550 5.5.3", "RCPT TO:<postmaster@example.test>")
	d.say(raw, "354", "DATA")
	d.say(raw, "550 5.5.3", "Subject: too many\r\n\r\nx\r\n.")
	loop := strings.Repeat("Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n", 4)
	if r, _ := raw.send("x@y.example", "alice@example.test", loop+"Subject: loop\r\n\r\nx"); !strings.HasPrefix(r, "554 5.4.6") {
		t.Errorf("loop: %s", r)
	}
	if r, _ := raw.send("x@y.example", "postmaster", "Subject: to postmaster\r\n\r\nx"); !strings.HasPrefix(r, "250") {
		t.Errorf("postmaster: %s", r)
	}
	d.say(raw, "221", "QUIT")

	auth := d.smtp(2525)
	d.say(auth, "535", "AUTH PLAIN AGFsaWNlAHdyb25n")
	d.say(auth, "334", "AUTH PLAIN")
	d.say(auth, "235", "AGFsaWNlAGNvcnJlY3QtaG9yc2UtOQ==")
	d.ok("delivery", "auth", "set", "--sender-match", "on")
	d.say(auth, "553 5.7.1", "MAIL FROM:<bob@example.test>")
	d.say(auth, "250", "MAIL FROM:<alice@example.test>")
	d.say(auth, "250", "RCPT TO:<who@elsewhere.example>")

	d.ok("delivery", "auth", "set", "--lan-exempt", "on")
	lan := d.smtp(2525)
	d.say(lan, "250", "MAIL FROM:<bob@example.test>")
	d.say(lan, "250", "RCPT TO:<who@elsewhere.example>")

	sub := d.smtp(2587)
	d.say(sub, "530", "MAIL FROM:<alice@example.test>")
}

func TestStoryServices(t *testing.T) {
	// covers: R6.01 R6.03 R6.13 R6.18 R6.27 R2.49 R2.52 R2.57
	d := newDaemon(t)
	d.start()
	open := d.smtp(2525)
	other := freeOffset(t) + 3
	d.fails(3, "wants a confirmation", "service", "smtp", "set", "--port", fmt.Sprint(other))
	d.ok("service", "smtp", "set", "--port", fmt.Sprint(other), "--yes")
	d.say(open, "250", "NOOP") // sessions go on
	c, err := dialSMTP(fmt.Sprintf("127.0.0.1:%d", other))
	if err != nil {
		t.Fatalf("the new port: %v", err)
	}
	c.c.Close()
	if c, err := dialSMTP(d.port(2525)); err == nil {
		c.c.Close()
		t.Error("the old port is still open")
	}
	d.fails(2, "is the port of both", "service", "smtps", "set", "--port", fmt.Sprint(other), "--yes")
	d.fails(2, "can't listen", "service", "smtps", "set", "--port", fmt.Sprint(2900+d.offset), "--yes") // the metrics port
	d.has("smtps       yes", "service", "show")
	d.ok("service", "imap", "set", "--enable", "off", "--yes")
	if _, err := dialSMTP(d.port(2143)); err == nil {
		t.Error("IMAP is still open")
	}
	d.ok("service", "pop3", "set", "--enable", "off", "--yes")
	d.has("both are off", "check", "services")
	d.ok("service", "imap", "set", "--enable", "on", "--tls", "off", "--yes")
	im, err := imapclient.DialInsecure(d.port(2143), nil)
	if err != nil {
		t.Fatal(err)
	}
	if im.Caps().Has(imap.CapStartTLS) {
		t.Error("STARTTLS is offered though TLS is off")
	}
	im.Close()
	d.has("ok", "check", "ports")
	text := d.ok("config", "export")
	d.ok("config", "set", "delivery.max-size=33", "queue.lifetime=72")
	d.fails(2, "outside", "config", "set", "delivery.max-size=44", "delivery.max-hops=9999")
	d.has("33", "config", "get", "delivery.max-size") // all or none
	d.has("delivery.max-size", "config", "diff", "--file", d.file("conf", text))
	d.ok("config", "import", "--file", d.file("conf", text))
	d.has("10", "config", "get", "delivery.max-size")
}

func TestStoryQueue(t *testing.T) {
	// covers: R10.47 R10.48 R10.49 R10.50 R10.51 R10.54 R10.55 R10.56 R10.57 R10.58 R10.64 R10.65 R10.66 R10.67 R10.68 R10.69 R10.70 R10.71 R10.72 R10.73 R10.74 R10.75 I.29
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.resolvers=127.0.0.1:9", "delivery.lan-exempt=on") // nobody answers: mail waits
	d.ok("domain", "alias", "add", "example.test", "team", "alice", "bob", "out@elsewhere.example")
	c := d.smtp(2525)
	for i, to := range []string{"a@one.example", "b@two.example", "team@example.test", "alice@example.test"} {
		if r, err := c.send("bob@example.test", to, fmt.Sprintf("Subject: number %d\r\nMessage-ID: <%d@example.test>\r\n\r\ntext", i, i)); err != nil || !strings.HasPrefix(r, "250") {
			t.Fatal(r, err)
		}
	}
	log := d.ok("log", "mail", "list", "--status", "received", "-o", "csv")
	if strings.Count(log, "\n") != 3 || !strings.Contains(log, "team@example.test") || !strings.Contains(log, "<3@example.test>") {
		t.Errorf("one line for the alias, one for alice:\n%s", log)
	}
	d.has("DNS server", "queue", "list", "--domain", "one.example")
	if out := d.ok("queue", "list", "-o", "name"); strings.Count(out, "\n") != 3 {
		t.Errorf("queue:\n%s", out)
	}
	d.has("deferred", "queue", "list", "--search", "a@one")
	d.ok("queue", "hold", "1")
	d.has("held", "queue", "show", "1")
	d.ok("queue", "release", "1")
	d.has(`"new":"1"`, "queue", "resend", "--all", "--sender", "bob", "--domain", "two.example", "-o", "json", "--dry-run")
	d.fails(2, "--all", "queue", "resend")
	d.fails(7, "no message in the queue", "queue", "resend", "999")
	d.ok("queue", "clear", "1", "--yes")
	d.fails(7, "no message", "queue", "show", "1")
	d.fails(3, "wants a confirmation", "queue", "resend", "--all")
	d.ok("queue", "resend", "--all", "--yes")
	d.ok("queue", "clear", "--all", "--yes")
	if out := d.ok("queue", "list", "-o", "name"); out != "" {
		t.Errorf("not empty:\n%s", out)
	}
}

func TestStoryMailClients(t *testing.T) {
	// covers: R6.23 R6.24 R2.46 R2.48 I.17
	d := newDaemon(t)
	d.start()
	c := d.smtp(2525)
	for i := range 20 {
		if r, err := c.send("x@y.example", "bob@example.test", fmt.Sprintf("Subject: m%d\r\nMessage-ID: <%d@y.example>\r\n\r\n..dots\r\n%s", i, i, strings.Repeat("text\r\n", i*10))); err != nil || !strings.HasPrefix(r, "250") {
			t.Fatal(r, err)
		}
	}
	t.Run("mbsync", func(t *testing.T) { mbsync(t, d) })
	t.Run("curl", func(t *testing.T) {
		if _, err := exec.LookPath("curl"); err != nil {
			t.Skip("curl is not installed")
		}
		out, err := exec.Command("curl", "-sk", "--user", "bob@example.test:"+devPassword, "pop3s://"+d.port(2995)+"/1").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "\n.dots\r\n") {
			t.Errorf("POP3S: %v\n%s", err, out)
		}
	})
}

// mbsync syncs both ways, edits, and syncs again.
func mbsync(t *testing.T, d *process) {
	if _, err := exec.LookPath("mbsync"); err != nil {
		t.Skip("mbsync is not installed")
	}
	dir := t.TempDir()
	rc := filepath.Join(dir, "rc")
	os.WriteFile(rc, fmt.Appendf(nil, "IMAPAccount a\nHost 127.0.0.1\nPort %d\nUser bob\nPass %s\nSSLType None\nAuthMechs LOGIN\n\nIMAPStore far\nAccount a\n\nMaildirStore near\nPath %s/\nInbox %s/INBOX\nSubFolders Verbatim\n\nChannel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
		2143+d.offset, devPassword, dir, dir), 0o600)
	sync := func() string {
		t.Helper()
		out, err := exec.Command("mbsync", "-c", rc, "-V", "c").CombinedOutput()
		if err != nil || strings.Contains(strings.ToLower(strings.ReplaceAll(string(out), "*** IMAP Warning *** Password is being sent in the clear", "")), "warning") {
			t.Fatalf("mbsync: %v\n%s", err, out)
		}
		return string(out)
	}
	sync()
	list := func() []string { l, _ := filepath.Glob(filepath.Join(dir, "INBOX", "*", "*")); return l }
	if got := len(list()); got != 20 {
		t.Fatalf("%d messages came", got)
	}
	first := list()[0]
	if err := os.Rename(first, filepath.Join(dir, "INBOX", "cur", strings.TrimSuffix(filepath.Base(first), ":2,")+map[bool]string{true: "", false: ":2,S"}[strings.Contains(filepath.Base(first), ":2,")]+map[bool]string{true: "S", false: ""}[strings.Contains(filepath.Base(first), ":2,")])); err != nil {
		t.Fatal(err)
	}
	os.Remove(list()[5])
	os.WriteFile(filepath.Join(dir, "INBOX", "cur", "1.new.host:2,F"), []byte("Subject: from here\n\nbody\n"), 0o600)
	sync()
	sync()
	im := d.imap("bob")
	box, err := im.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages != 20 { // one removed, one added
		t.Fatalf("%+v %v", box, err)
	}
	res, err := im.Search(&imap.SearchCriteria{Flag: []imap.Flag{imap.FlagFlagged}, Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "from here"}}}, nil).Wait()
	if err != nil || len(res.AllSeqNums()) != 1 {
		t.Errorf("the message from here: %v %v", res, err)
	}
}
