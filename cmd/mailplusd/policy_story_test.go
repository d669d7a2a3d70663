package main

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"
)

// TestStoryClientAndSenderPolicy: who may hand in mail, by what DNS says of the client and the sender.
func TestStoryClientAndSenderPolicy(t *testing.T) {
	// covers: R7.63 R7.64 R7.65 R2.24 I.38 I.39 I.40
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.resolvers="+resolver(t, `
1.0.0.127.in-addr.arpa. 60 IN PTR good.example.
good.example. 60 IN A 127.0.0.1
2.0.0.127.in-addr.arpa. 60 IN PTR liar.example.
liar.example. 60 IN A 192.0.2.1
mx.example. 60 IN MX 10 mail.mx.example.
addr.example. 60 IN A 192.0.2.1
null.example. 60 IN MX 0 .
bare.example. 60 IN MX 10 192.0.2.1.
text.example. 60 IN TXT "neither MX nor address"
`))
	from := func(ip string) *smtpClient {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		conn, err := dialer.Dial("tcp", d.port(2525))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(60 * time.Second))
		c := &smtpClient{conn, bufio.NewReader(conn)}
		if r, err := c.reply(); err != nil || !strings.HasPrefix(r, "220") {
			t.Fatal(r, err)
		}
		d.say(c, "250", "EHLO client.example")
		return c
	}
	try := func(ip, sender, want string) {
		t.Helper()
		c := from(ip)
		d.say(c, "250", "MAIL FROM:<%s>", sender) // held back until RCPT
		d.say(c, want, "RCPT TO:<alice@example.test>")
	}
	// The client. Nobody is asked before it is set.
	try("127.0.0.3", "x@mx.example", "250")
	d.has("off", "config", "get", "delivery.reject-unknown-client")
	d.ok("delivery", "connection-policy", "set", "--reject-unknown-client", "on")
	try("127.0.0.1", "x@mx.example", "250")
	try("127.0.0.2", "x@mx.example", "550 5.7.25")
	try("127.0.0.3", "x@mx.example", "550 5.7.25")
	msg := d.file("m.eml", "From: x@mx.example\r\nSubject: x\r\n\r\nx\r\n")
	trace := func(words string, args ...string) {
		t.Helper()
		d.has(words, append([]string{"flow", "trace", "-o", "json", "--message", msg, "--rcpt", "alice@example.test"}, args...)...)
	}
	trace("does not lead back", "--ip", "127.0.0.2", "--from", "x@mx.example")
	trace("no PTR record", "--ip", "192.0.2.77", "--from", "x@mx.example")
	trace("pass (good.example)", "--ip", "127.0.0.1", "--from", "x@mx.example")
	d.has("client-name", "flow", "show")
	// Who has logged in, or is trusted, is not asked.
	c := from("127.0.0.3")
	d.startTLS(c)
	d.say(c, "235", "%s", plainLogin["bob"])
	d.say(c, "250", "MAIL FROM:<bob@example.test>")
	d.say(c, "250", "RCPT TO:<alice@example.test>")
	d.ok("relay", "trusted", "add", "gateway", "127.0.0.3")
	try("127.0.0.3", "x@mx.example", "250")
	d.ok("delivery", "connection-policy", "set", "--reject-unknown-client", "off")

	// The sender.
	try("127.0.0.2", "x@localhost", "550 5.1.8")
	try("127.0.0.2", "", "250")
	d.ok("delivery", "sender-policy", "set", "--reject-non-fqdn", "off")
	try("127.0.0.2", "x@localhost", "250")
	d.ok("delivery", "sender-policy", "set", "--reject-non-fqdn", "on", "--reject-unknown-domain", "on")
	for sender, want := range map[string]string{
		"x@mx.example": "250", "x@addr.example": "250", "": "250", "nobody@example.test": "250", "x@[192.0.2.1]": "250", // this server is the final destination of example.test
		"x@gone.example": "550 5.1.8", "x@text.example": "550 5.1.8", "x@bare.example": "550 5.1.8", "x@null.example": "550 5.7.27",
	} {
		try("127.0.0.2", sender, want)
	}
	trace("malformed", "--ip", "192.0.2.77", "--from", "x@bare.example")
	d.has("domain not found", "log", "mail", "list", "--everything", "-o", "csv")

	// DNS that does not answer is no reason to refuse for good, and the administrator is told.
	d.ok("config", "set", "network.resolvers=127.0.0.1:9")
	if _, errs, code := d.mpctl("delivery", "connection-policy", "set", "--reject-unknown-client", "on"); code != 0 || !strings.Contains(errs, "DNS does not answer") {
		t.Errorf("set while DNS is away: %d %s", code, errs)
	}
	try("127.0.0.9", "x@mx2.example", "450 4.7.25")
	d.ok("delivery", "connection-policy", "set", "--reject-unknown-client", "off")
	try("127.0.0.9", "x@mx2.example", "450 4.1.8")
}

// TestStoryClientLimits: one client's connections and messages, and how a block is lifted.
func TestStoryClientLimits(t *testing.T) {
	// covers: R7.66 R7.67 R7.68 R7.69 R7.70 R7.71
	d := newDaemon(t)
	d.start()
	dial := func(ip string) (*smtpClient, string) {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		conn, err := dialer.Dial("tcp", d.port(2525))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(60 * time.Second))
		c := &smtpClient{conn, bufio.NewReader(conn)}
		greeting, _ := c.reply()
		return c, greeting
	}
	greets := func(ip, want string) *smtpClient {
		t.Helper()
		c, greeting := dial(ip)
		if !strings.HasPrefix(greeting, want) {
			t.Errorf("%s: greeted with %q, want %s", ip, greeting, want)
		}
		return c
	}
	if out := d.ok("delivery", "connection-policy", "show", "-o", "csv"); !strings.Contains(out, "no,no,50,no,100,no,100") {
		t.Errorf("by default: %s", out)
	}
	d.fails(2, "outside", "delivery", "connection-policy", "set", "--max-connections", "0")

	// At a time: when one goes, another may come.
	d.ok("delivery", "connection-policy", "set", "--limit-connections", "on", "--max-connections", "2")
	first := greets("127.0.1.1", "220")
	greets("127.0.1.1", "220")
	greets("127.0.1.1", "421")
	greets("127.0.1.2", "220")
	d.say(first, "221", "QUIT")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, greeting := dial("127.0.1.1"); strings.HasPrefix(greeting, "220") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no connection is taken after one has gone")
		}
	}
	d.ok("delivery", "connection-policy", "set", "--limit-connections", "off")
	for range 4 {
		greets("127.0.1.1", "220")
	}

	// Messages within a minute, over however many connections. Minutes begin anew while the test runs.
	d.ok("delivery", "connection-policy", "set", "--limit-messages", "on", "--max-messages", "3")
	flood := func(ip string) bool {
		for range 8 { // twice the limit and more: a new minute may begin in between
			c, _ := dial(ip)
			d.say(c, "250", "EHLO x.example")
			r, err := c.cmd("MAIL FROM:<x@y.example>")
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(r, "450 4.7.1") {
				return true
			}
		}
		return false
	}
	if !flood("127.0.1.3") {
		t.Fatal("no message is too many")
	}
	d.has("127.0.1.3", "delivery", "block", "list", "--search", "messages")
	c := greets("127.0.1.3", "220")
	d.say(c, "250", "EHLO x.example")
	d.say(c, "450 4.7.1", "MAIL FROM:<x@y.example>")
	other := greets("127.0.1.4", "220")
	d.say(other, "250", "EHLO x.example")
	d.say(other, "250", "MAIL FROM:<x@y.example>")
	d.ok("delivery", "block", "delete", "127.0.1.3")
	d.fails(7, "no blocked client", "delivery", "block", "delete", "127.0.1.3")
	d.fails(2, "no address", "delivery", "block", "delete", "x")
	d.say(c, "250", "MAIL FROM:<x@y.example>")
	d.ok("relay", "trusted", "add", "gateway", "127.0.1.5")
	if flood("127.0.1.5") {
		t.Error("a trusted server is held to the limit")
	}
	d.ok("delivery", "connection-policy", "set", "--limit-messages", "off")

	// Connections within a minute.
	d.ok("delivery", "connection-policy", "set", "--limit-rate", "on", "--max-rate", "3")
	blocked := false
	for range 8 {
		_, greeting := dial("127.0.1.6")
		blocked = blocked || strings.HasPrefix(greeting, "421")
	}
	if !blocked {
		t.Error("no connection is too many")
	}
	greets("127.0.1.6", "421")
	greets("127.0.1.7", "220")
	d.has("connections", "delivery", "block", "list", "--search", "127.0.1.6")
	d.ok("delivery", "block", "delete", "127.0.1.6")
	greets("127.0.1.6", "220")
	if out := d.ok("delivery", "block", "list", "-o", "name"); strings.TrimSpace(out) != "" {
		t.Errorf("still blocked: %s", out)
	}
}
