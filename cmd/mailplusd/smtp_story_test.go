package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// plainLogin is AUTH PLAIN with the accounts of dev.
var plainLogin = map[string]string{"alice": "AUTH PLAIN AGFsaWNlAGNvcnJlY3QtaG9yc2UtOQ==", "bob": "AUTH PLAIN AGJvYgBjb3JyZWN0LWhvcnNlLTk="}

// startTLS goes on encrypted and says EHLO again.
func (d *process) startTLS(c *smtpClient) {
	d.t.Helper()
	d.say(c, "220", "STARTTLS")
	tc := tls.Client(c.c, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		d.t.Fatal(err)
	}
	c.c, c.r = tc, bufio.NewReader(tc)
	d.say(c, "250", "EHLO client.example")
}

// smtps connects with TLS from the first octet.
func (d *process) smtps() *smtpClient {
	d.t.Helper()
	tc, err := tls.Dial("tcp", d.port(2465), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { tc.Close() })
	tc.SetDeadline(time.Now().Add(60 * time.Second))
	c := &smtpClient{tc, bufio.NewReader(tc)}
	if r, err := c.reply(); err != nil || !strings.HasPrefix(r, "220") {
		d.t.Fatalf("greeting: %q %v", r, err)
	}
	d.say(c, "250", "EHLO client.example")
	return c
}

// TestStorySMTPPorts is what each of the three ports is for.
func TestStorySMTPPorts(t *testing.T) {
	// covers: R6.04 R6.05 R6.07 R6.08 R6.11 R6.16 R7.20 R7.21
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.resolvers=127.0.0.1:9")
	c := d.smtp(2525) // from outside to here, in clear, without login
	if r, err := c.send("out@elsewhere.example", "alice@example.test", "Subject: from outside\r\n\r\nx"); err != nil || r[0] != '2' {
		t.Fatal(r, err)
	}
	if r, err := c.send("bob@example.test", "alice@example.test", "Subject: from here to here\r\n\r\nx"); err != nil || r[0] != '2' {
		t.Fatal(r, err)
	}
	d.say(c, "250", "MAIL FROM:<bob@example.test>")
	d.say(c, "550 5.7.1", "RCPT TO:<a@elsewhere.example>")
	d.say(c, "250", "RSET")
	d.startTLS(c)
	d.say(c, "235", "%s", plainLogin["bob"])
	if r, err := c.send("bob@example.test", "a@elsewhere.example", "Subject: by port 25\r\n\r\nx"); err != nil || r[0] != '2' {
		t.Fatal(r, err)
	}

	sub := d.smtp(2587)
	d.say(sub, "530 5.7.0 Must issue a STARTTLS", "MAIL FROM:<bob@example.test>")
	if r := d.say(sub, "250", "EHLO x.example"); strings.Contains(r, "AUTH") {
		t.Errorf("submission offers a login in clear: %s", r)
	}
	d.say(sub, "5", "%s", plainLogin["bob"])
	d.startTLS(sub)
	d.say(sub, "530 5.7.0 Authentication required", "MAIL FROM:<bob@example.test>")
	d.say(sub, "235", "%s", plainLogin["bob"])
	if r, err := sub.send("bob@example.test", "a@elsewhere.example", "Subject: by submission\r\n\r\nx"); err != nil || r[0] != '2' {
		t.Fatal(r, err)
	}

	s := d.smtps()
	d.say(s, "250", "MAIL FROM:<out@elsewhere.example>")
	d.say(s, "550 5.7.1", "RCPT TO:<b@elsewhere.example>")
	d.say(s, "250", "RCPT TO:<alice@example.test>") // other servers may hand in by SMTPS, too
	d.say(s, "250", "RSET")
	d.say(s, "235", "%s", plainLogin["alice"])
	if r, err := s.send("alice@example.test", "b@elsewhere.example", "Subject: by SMTPS\r\n\r\nx"); err != nil || r[0] != '2' {
		t.Fatal(r, err)
	}
	for subject, want := range map[string]string{"from outside": "received", "from here to here": "received"} {
		d.has(want, "log", "mail", "list", "--subject", subject, "-o", "csv")
	}
	for _, subject := range []string{"by port 25", "by submission", "by SMTPS"} {
		if out := d.ok("queue", "list", "--search", subject, "-o", "name"); strings.Count(out, "\n") != 1 {
			t.Errorf("%s: %q in the queue", subject, out)
		}
	}
	im := d.imap("alice")
	if box, err := im.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 2 {
		t.Errorf("alice's mailbox: %+v %v, want 2 messages", box, err)
	}
}

// TestNoOpenRelay asks a stranger's questions in every form known from relay tests.
func TestNoOpenRelay(t *testing.T) {
	// covers: R7.19 R7.20 R7.27
	d := newDaemon(t)
	d.start()
	forms := []string{
		"victim@elsewhere.example", `"victim@elsewhere.example"`, `"victim%elsewhere.example"`, "victim%elsewhere.example@example.test", "victim%elsewhere.example",
		"elsewhere.example!victim@example.test", "elsewhere.example!victim", "@example.test:victim@elsewhere.example", "@mail.example.test,@example.test:victim@elsewhere.example",
		"victim@elsewhere.example@example.test", `"victim@elsewhere.example"@example.test`, "victim@[127.0.0.1]", "victim@[192.0.2.1]", "victim@elsewhere.example.", "victim@example.test.elsewhere.example",
		"victim@", "victim@xn--elsewhere.example", "alice@elsewhere.example", "postmaster@elsewhere.example",
	}
	for _, from := range []string{"", "stranger@elsewhere.example", "alice@example.test", "postmaster@mail.example.test", "root@[127.0.0.1]", "alice@localhost"} {
		for _, to := range forms {
			c := d.smtp(2525) // a new one each time: who errs too often is thrown out
			r, err := c.cmd("MAIL FROM:<%s>", from)
			if err == nil && r[0] == '2' {
				r, err = c.cmd("RCPT TO:<%s>", to)
			}
			if err != nil || r[0] != '5' {
				t.Errorf("from <%s> to <%s>: %q %v, want 5xx", from, to, r, err)
			}
			c.c.Close()
		}
	}
	if out := d.ok("queue", "list", "-o", "name"); out != "" {
		t.Errorf("in the queue: %s", out)
	}
}

func TestStoryTrustedNetworks(t *testing.T) {
	// covers: R7.28 R7.30 R7.31 R7.32 R7.33 R7.99 R7.100 R7.101 R7.102 R7.103
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.resolvers=127.0.0.1:9")
	from := func(want, sender string) {
		t.Helper()
		c := d.smtp(2525)
		defer c.c.Close()
		r, err := c.cmd("MAIL FROM:<%s>", sender)
		if err == nil && r[0] == '2' {
			r, err = c.cmd("RCPT TO:<who@elsewhere.example>")
		}
		if err != nil || !strings.HasPrefix(r, want) {
			t.Errorf("from %s: %q %v, want %s", sender, r, err, want)
		}
	}
	from("550 5.7.1", "printer@device.example")
	d.fails(2, "no address or network", "relay", "trusted", "add", "here", "127.0.0.0/33")
	d.fails(2, "the whole Internet", "relay", "trusted", "add", "here", "0.0.0.0/0")
	d.ok("relay", "trusted", "add", "printer", "127.0.0.0/8")
	from("250", "printer@device.example")
	_, errs, _ := d.mpctl("delivery", "auth", "set", "--sender-match", "on")
	if !strings.Contains(errs, "mail from trusted networks (127.0.0.0/8) may be refused now") {
		t.Errorf("no warning about the trusted list: %q", errs)
	}
	from("553 5.7.1", "printer@device.example") // R7.31
	d.has("delivery.sender-match: is on: mail from trusted networks", "check", "config")
	d.ok("delivery", "auth", "set", "--skip-match-trusted", "on")
	from("250", "printer@device.example") // R7.32
	d.ok("relay", "trusted", "set", "printer", "--network", "192.0.2.7", "--rename", "the printer")
	d.has("192.0.2.7", "relay", "trusted", "list", "--search", "the printer")
	from("550 5.7.1", "printer@device.example")
	d.ok("relay", "trusted", "delete", "the printer")
	from("550 5.7.1", "printer@device.example")
	d.ok("delivery", "auth", "set", "--skip-match-trusted", "off", "--lan-exempt", "on")
	from("250", "printer@device.example") // R7.33
	d.ok("delivery", "auth", "set", "--enable", "off")
	for _, setting := range []string{"delivery.auth", "delivery.lan-exempt", "delivery.sender-match"} {
		d.has("config "+setting+": is ", "check", "config")
	}
	if out := d.ok("check", "config"); strings.Contains(out, "delivery.skip-match-trusted") || strings.Count(out, "is inactive") != 2 {
		t.Errorf("inactive features:\n%s", out)
	}
	d.fails(3, "need SMTP authentication", "delivery", "auth", "set", "--sender-match", "on")
}

func TestStoryInterface(t *testing.T) {
	// covers: R6.02 R6.03 R6.18
	d := newDaemon(t)
	d.start()
	d.fails(3, "wants a confirmation", "service", "interface", "set", "127.0.0.9")
	d.fails(2, "there is no interface", "service", "interface", "set", "eth77", "--yes")
	d.has("127.0.0.9", "service", "interface", "set", "127.0.0.9", "--dry-run")
	open := d.smtp(2525)
	d.ok("service", "interface", "set", "127.0.0.9", "--yes")
	d.say(open, "250", "NOOP") // sessions go on
	for _, p := range []int{2525, 2143, 2995} {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.9:%d", p+d.offset)); err != nil {
			t.Errorf("port %d at the new address: %v", p, err)
		} else {
			c.Close()
		}
		if c, err := net.Dial("tcp", d.port(p)); err == nil {
			c.Close()
			t.Errorf("port %d is still open at the old address", p)
		}
	}
	d.has(fmt.Sprintf("127.0.0.9:%d", 2525+d.offset), "service", "show")
	busy, err := net.Listen("tcp", fmt.Sprintf("127.0.0.8:%d", 2143+d.offset))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	d.fails(2, "can't listen", "service", "interface", "set", "127.0.0.8", "--yes")
	d.has(fmt.Sprintf("127.0.0.9:%d", 2143+d.offset), "service", "show") // all stays as it was
	d.ok("service", "interface", "set", "lo", "--yes")
	d.smtp(2525)
}

// TestStoryPortsFromOutside: the public address leads here, to nobody, and to somebody else.
func TestStoryPortsFromOutside(t *testing.T) {
	// covers: R2.55 R2.61
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.public-address=127.0.0.1")
	d.has(fmt.Sprintf("smtp at 127.0.0.1:%d: this server answers at its public address", 2525+d.offset), "check", "ports")
	d.ok("config", "set", "network.public-address=127.0.0.7")
	out := d.ok("check", "ports")
	for _, p := range []int{2525, 2465, 2587, 2143, 2993, 2110, 2995} {
		if want := fmt.Sprintf("forward TCP port %d of the router to this machine", p+d.offset); !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.7:%d", 2525+d.offset))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "220 other.example ESMTP\r\n")
			c.Close()
		}
	}()
	d.has("another server answers there: 220 other.example", "check", "ports")
	l.Close()
	relay, err := net.Listen("tcp", fmt.Sprintf("127.0.0.7:%d", 2525+d.offset)) // what a router does
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	go func() {
		for {
			c, err := relay.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", d.port(2525))
			if err == nil {
				buf := make([]byte, 1000)
				n, _ := to.Read(buf)
				c.Write(buf[:n])
				to.Close()
			}
			c.Close()
		}
	}()
	d.has(fmt.Sprintf("smtp at 127.0.0.7:%d: forwarded to this server", 2525+d.offset), "check", "ports")
	d.ok("service", "pop3", "set", "--enable", "off", "--yes")
	if out := d.ok("check", "ports"); strings.Contains(out, "pop3") {
		t.Errorf("a port that is off is checked:\n%s", out)
	}
}
