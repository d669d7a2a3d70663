package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startSASL runs Dovecot's login service for Postfix, in a configuration of its own; it gives what sets the
// password of the account `me`.
func (p *postfix) startSASL() (password func(string)) {
	p.t.Helper()
	dovecot, err := exec.LookPath("dovecot")
	if err != nil {
		if dovecot = "/usr/sbin/dovecot"; !exists(dovecot) {
			p.t.Skip("dovecot is not installed")
		}
	}
	dir := filepath.Join(p.dir, "sasl")
	users, conf := filepath.Join(dir, "users"), filepath.Join(dir, "dovecot.conf")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	password = func(word string) {
		if err := os.WriteFile(users, []byte("me:{PLAIN}"+word+"\n"), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	password("first-word")
	text := fmt.Sprintf(`base_dir = %[1]s/run
log_path = %[1]s/log
protocols =
ssl = no
auth_mechanisms = plain login
passdb {
  driver = passwd-file
  args = %[1]s/users
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}
service auth {
  unix_listener %[2]s/spool/private/auth {
    mode = 0666
  }
}
`, dir, p.dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(dovecot, "-F", "-c", conf)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); !exists(p.dir + "/spool/private/auth"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(dir + "/log")
			p.t.Fatalf("dovecot does not listen\n%s", log)
		}
	}
	return password
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// TestPostfixIsTheSmarthost sends all mail through a real Postfix: TLS from the start, a certificate that
// must be trusted, a login that fails and is mended while mail waits, and addresses that need SMTPUTF8.
func TestPostfixIsTheSmarthost(t *testing.T) {
	// covers: R7.81 R7.82 R7.83 R7.86 R7.87 R7.88 R7.89
	d := newDaemon(t)
	d.start()
	p := startPostfix(t, d)
	password := p.startSASL()
	ca := newTestCA(t)
	key, cert, _ := ca.issue("relay.peer.example")
	port := freePort(t, "127.0.0.1")
	master := filepath.Join(p.dir, "etc/master.cf")
	service := fmt.Sprintf(`127.0.0.1:%d inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes -o smtpd_sasl_auth_enable=yes -o smtpd_sasl_type=dovecot -o smtpd_sasl_path=private/auth
  -o smtpd_tls_cert_file=%[2]s/etc/relay.pem -o smtpd_tls_key_file=%[2]s/etc/relay.key
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject -o smtpd_client_restrictions=permit_sasl_authenticated,reject
`, port, p.dir)
	for name, text := range map[string]string{
		master: read(t, master) + service, p.dir + "/etc/relay.pem": cert, p.dir + "/etc/relay.key": key,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.set("virtual_mailbox_maps = inline:{ { ann@peer.example = ann/ } { ben@peer.example = ben/ } { jörg@peer.example = joerg/ } }")
	dns := resolver(t, "relay.peer.example. 60 IN A 127.0.0.1\n")
	d.ok("config", "set", "network.resolvers="+dns, "queue.min-backoff=1", "queue.max-backoff=1", "delivery.lan-exempt=on")
	d.ok("relay", "set", "--mode", "single", "--host", "relay.peer.example", "--port", fmt.Sprint(port), "--tls", "wrapper",
		"--auth", "on", "--user", "me", "--password-file", d.file("relay.pw", "first-word\n"))

	d.submit("bob", "ann@peer.example")
	d.until("not trusted here", "queue", "list", "-o", "json")
	d.ok("delivery", "tls", "ca", "add", "theirs", "--cert", d.file("ca.pem", ca.pem))
	d.ok("queue", "resend", "--all", "--yes")
	if got := p.has("ann", 1)[0]; !strings.Contains(got, "with ESMTPSA") {
		t.Errorf("not over TLS with a login:\n%s", got)
	}
	d.until("verified, TLS", "log", "mail", "list", "--recipient", "ann@peer.example", "-o", "wide")

	// The password is changed there: mail waits and says so; once it is changed here it goes, each message once.
	password("second-word")
	p.quiet()
	quiet(t, port)
	for range 3 {
		d.submit("bob", "ben@peer.example")
	}
	d.until("535", "queue", "list", "--recipient", "ben@", "-o", "json")
	d.ok("relay", "set", "--password-file", d.file("relay.pw", "second-word\n"))
	d.ok("queue", "resend", "--all", "--yes")
	p.has("ben", 3)
	d.until("[]", "queue", "list", "-o", "json")
	p.has("ben", 3)

	// An address that only SMTPUTF8 can carry: where it is offered, and where it is not.
	utf8 := func() {
		t.Helper()
		c := d.smtp(2525)
		defer c.c.Close()
		for _, cmd := range []string{"MAIL FROM:<bob@example.test> SMTPUTF8 BODY=8BITMIME", "RCPT TO:<jörg@peer.example>", "DATA"} {
			if r, err := c.cmd("%s", cmd); err != nil || r[0] > '3' {
				t.Fatalf("%s: %s %v", cmd, r, err)
			}
		}
		if r, err := c.cmd("From: bob@example.test\r\nTo: jörg@peer.example\r\nSubject: grüße\r\n\r\nx\r\n."); err != nil || r[0] != '2' {
			t.Fatal(r, err)
		}
	}
	utf8()
	if got := p.has("joerg", 1)[0]; !strings.Contains(got, "with UTF8SMTPSA") || !strings.Contains(got, "Subject: grüße") {
		t.Errorf("not as it was sent:\n%s", got)
	}
	quiet(t, port)
	p.set("smtputf8_enable = no")
	utf8()
	d.until("bounced", "log", "mail", "list", "--recipient", "jörg@peer.example", "-o", "wide")
	im := d.imap("bob")
	if box, err := im.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 1 {
		t.Fatalf("bob has %+v %v", box, err)
	}
	text := d.body(im, 1)
	for _, want := range []string{ // RFC 6533
		"Status: 5.6.7", "Action: failed", "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n", "Final-Recipient: utf-8; jörg@peer.example\r\n",
		"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n", "Subject: grüße\r\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("what bob is told lacks %q:\n%s", want, text)
		}
	}
	p.has("joerg", 1)
}
