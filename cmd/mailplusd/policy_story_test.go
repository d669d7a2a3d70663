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
