package main

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestStoryPOP3(t *testing.T) {
	// covers: R6.20 R6.24
	d := newDaemon(t)
	d.start()
	c := d.smtp(2525)
	for i := range 3 {
		if r, err := c.send("x@y.example", "bob@example.test", fmt.Sprintf("Subject: p%d\r\n\r\n..x\r\nline two\r\nline three", i)); err != nil || r[0] != '2' {
			t.Fatal(r, err)
		}
	}
	p := d.pop()
	p.say("-ERR", "STAT")
	p.say("+OK", "CAPA")
	p.until()
	p.say("+OK", "USER bob")
	p.say("-ERR [AUTH]", "PASS wrong")
	p.say("+OK", "USER bob@example.test")
	p.say("+OK 3 messages", "PASS "+devPassword)
	other := d.pop()
	other.say("+OK", "USER bob")
	other.say("-ERR [IN-USE]", "PASS "+devPassword)
	p.say("+OK 3 ", "STAT")
	p.say("+OK", "UIDL")
	ids := p.until()
	p.say("+OK", "TOP 1 1")
	if got := p.until(); !strings.HasSuffix(got, "\r\n\r\n..x\r\n") {
		t.Errorf("TOP: %q", got)
	}
	p.say("+OK", "RETR 2")
	if got := p.until(); !strings.HasSuffix(got, "..x\r\nline two\r\nline three\r\n") {
		t.Errorf("RETR: %q", got)
	}
	p.say("+OK", "DELE 1")
	p.say("-ERR", "RETR 1")
	p.say("-ERR", "DELE 1")
	p.say("-ERR", "RETR 9")
	p.say("+OK 2 ", "STAT")
	p.say("+OK", "RSET")
	p.say("+OK", "DELE 3")
	p.say("+OK", "QUIT")
	again := d.pop()
	again.say("+OK", "AUTH PLAIN AGJvYgBjb3JyZWN0LWhvcnNlLTk=")
	again.say("+OK", "UIDL")
	if got := again.until(); !strings.HasPrefix(ids, got) || strings.Count(got, "\n") != 2 {
		t.Errorf("UIDL was %q, is %q", ids, got)
	}
	cut := d.pop() // without QUIT nothing is deleted
	again.say("+OK", "QUIT")
	cut.say("+OK", "USER bob")
	cut.say("+OK 2", "PASS "+devPassword)
	cut.say("+OK", "DELE 1")
	cut.c.c.Close()
	last := d.pop()
	last.say("+OK", "USER bob")
	for range 100 { // until the server has seen that the session before is gone
		fmt.Fprintf(last.c.c, "PASS %s\r\n", devPassword)
		if l, _ := last.c.r.ReadString('\n'); strings.HasPrefix(l, "+OK 2") {
			return
		}
		last.say("+OK", "USER bob")
	}
	t.Error("a session that was cut has deleted a message")
}

type pop struct {
	d *process
	c *smtpClient
}

func (d *process) pop() *pop {
	d.t.Helper()
	c, err := dialRaw(d.port(2110))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.c.Close() })
	return &pop{d, c}
}

func (p *pop) say(want, cmd string) {
	p.d.t.Helper()
	fmt.Fprintf(p.c.c, "%s\r\n", cmd)
	l, err := p.c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(l, want) {
		p.d.t.Errorf("%s: %q %v, want %s", cmd, l, err, want)
	}
}

func (p *pop) until() string {
	var b strings.Builder
	for {
		l, err := p.c.r.ReadString('\n')
		if err != nil || l == ".\r\n" {
			return b.String()
		}
		b.WriteString(l)
	}
}

// ca is a file with the daemon's own certificate.
func (d *process) ca() string {
	d.t.Helper()
	c, err := tls.Dial("tcp", d.port(2993), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	return d.file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ConnectionState().PeerCertificates[0].Raw})))
}

func TestStoryAdministration(t *testing.T) {
	// covers: R2.47 R2.58 R5.18 I.10 I.13 I.14 I.23 I.84 I.86
	d := newDaemon(t)
	d.start()
	d.has("resolve", "flow", "show")
	msg := d.file("m.eml", "Subject: t\r\n\r\nx\r\n")
	d.has("mailbox of alice", "flow", "trace", "--message", msg, "--rcpt", "alice@example.test")
	d.has("Relay access denied", "flow", "trace", "--message", msg, "--rcpt", "x@elsewhere.example")
	d.has("queue for x@elsewhere.example", "flow", "trace", "--message", msg, "--rcpt", "x@elsewhere.example", "--user", "bob")
	d.ok("mail", "send", "--to", "bob@example.test", "--subject", "hi")
	d.has("hi", "log", "mail", "list")

	for range 10 {
		c := d.smtp(2525)
		d.say(c, "535", "AUTH PLAIN AGJvYgB3cm9uZw==")
		c.c.Close()
	}
	d.has("bob 127.0.0.1/32", "login", "lock", "list")
	d.has("locked out", "check", "login", "bob")
	d.ok("login", "lock", "clear", "bob")
	d.has("can use mail", "check", "login", "bob", "--password-file", d.file("pw", devPassword))
	d.has("wrong", "check", "login", "bob", "--password-file", d.file("pw2", "nonsense"))
	d.fails(1, "has found", "check", "login", "bob", "--password-file", d.file("pw2", "nonsense"))
	d.ok("account", "deactivate", "bob")
	d.has("not activated", "check", "login", "bob")
	d.ok("user", "disable", "bob")
	d.has("the account is disabled", "check", "login", "bob")

	d.has("mail.example.test", "cert", "list")
	key, cert := selfSigned(t)
	d.has("imported", "cert", "import", "main", "--cert", d.file("c.pem", cert), "--key-file", d.file("k.pem", key), "--default", "on")
	if got := d.ca(); got == "" {
		t.Error("no certificate")
	}
	d.fails(3, "can't be used", "cert", "import", "bad", "--cert", d.file("c.pem", cert), "--key-file", d.file("c2.pem", cert))
	d.fails(3, "import the new one", "cert", "renew", "main")
	d.ok("cert", "renew", "default")
	d.fails(3, "default certificate", "cert", "delete", "main", "--yes")

	d.ok("user", "enable", "bob")
	remote := []string{"--server", d.port(2825), "--ca", d.file("c.pem", cert), "--login", "bob", "--login-password-file", d.file("pw", devPassword)}
	d.has("submission", append(remote, "me", "client-settings")...)
	d.fails(4, "may not", append(remote, "user", "list")...)
	d.fails(4, "login failed", "--server", d.port(2825), "--ca", d.file("c.pem", cert), "--login", "bob", "--login-password-file", d.file("no", "nope-nope"), "me", "show")
	out := d.ok("token", "add", "cron", "--user", "alice", "-o", "json")
	i := strings.Index(out, "mpt_")
	token := d.file("token", out[i:i+strings.IndexByte(out[i:], '"')])
	d.has("example.test", "--server", d.port(2825), "--ca", d.file("c.pem", cert), "--token-file", token, "domain", "list")
	d.ok("token", "delete", "cron")
	d.fails(4, "unknown", "--server", d.port(2825), "--ca", d.file("c.pem", cert), "--token-file", token, "domain", "list")
	d.fails(5, "does not answer", "--socket", filepath.Join(d.dir, "nothing.sock"), "status")
	d.has("alice,", "user", "list", "-o", "csv")
	d.has("name: alice", "user", "show", "alice", "-o", "yaml")
	if out := d.ok("user", "list", "--filter", "admin=yes and name~ali", "-o", "name"); out != "alice\n" {
		t.Errorf("filter: %q", out)
	}
	_, errs, _ := d.mpctl("user", "show", "nobody", "-o", "json")
	if !strings.Contains(errs, `"code":"notfound"`) {
		t.Errorf("the error is no JSON: %s", errs)
	}
}

// selfSigned makes a certificate for 127.0.0.1 with openssl.
func selfSigned(t *testing.T) (key, cert string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", "/CN=localhost",
		"-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", dir+"/k", "-out", dir+"/c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return read(t, dir+"/k"), read(t, dir+"/c")
}
