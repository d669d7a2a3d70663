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

// TestStoryMailboxServices switches IMAP and POP3 off and on, moves each of their four ports, and says
// what is offered on it.
func TestStoryMailboxServices(t *testing.T) {
	// covers: R6.01 R6.19 R6.25 R6.26 R6.27 R6.28
	d := newDaemon(t)
	d.start()
	greets := func(port int, implicit bool) string {
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		var c net.Conn
		var err error
		if c, err = net.DialTimeout("tcp", addr, 5*time.Second); err != nil {
			return ""
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if implicit {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		}
		line, _ := bufio.NewReader(c).ReadString('\n')
		return line
	}
	for i, s := range []struct {
		name, greeting string
		port, tlsPort  int
	}{{"imap", "* OK", 2143, 2993}, {"pop3", "+OK", 2110, 2995}} {
		clear, secure := s.port+d.offset, s.tlsPort+d.offset
		if a, b := greets(clear, false), greets(secure, true); !strings.HasPrefix(a, s.greeting) || !strings.HasPrefix(b, s.greeting) {
			t.Errorf("%s: %q, with TLS %q", s.name, a, b)
		}
		d.ok("service", s.name, "set", "--tls", "off", "--yes")
		if a, b := greets(clear, false), greets(secure, true); !strings.HasPrefix(a, s.greeting) || b != "" {
			t.Errorf("%s without TLS: %q, with TLS %q", s.name, a, b)
		}
		d.ok("service", s.name, "set", "--enable", "off", "--tls", "on", "--yes")
		if a, b := greets(clear, false), greets(secure, true); a != "" || b != "" {
			t.Errorf("%s is off: %q, with TLS %q", s.name, a, b)
		}
		moved := freeOffset(t) + 10*i
		d.ok("service", s.name, "set", "--enable", "on", "--port", fmt.Sprint(moved), "--tls-port", fmt.Sprint(moved+1), "--yes")
		if a, b := greets(moved, false), greets(moved+1, true); !strings.HasPrefix(a, s.greeting) || !strings.HasPrefix(b, s.greeting) {
			t.Errorf("%s moved: %q, with TLS %q", s.name, a, b)
		}
		if a, b := greets(clear, false), greets(secure, true); a != "" || b != "" {
			t.Errorf("%s is still at its old ports: %q %q", s.name, a, b)
		}
	}
}

// TestStoryNoSSL: what is older than TLS 1.2 gets nowhere, on any listener with TLS.
func TestStoryNoSSL(t *testing.T) {
	// covers: R6.10 R6.22
	d := newDaemon(t)
	d.start()
	ssl3 := "\x16\x03\x00\x00\x2f\x01\x00\x00\x2b\x03\x00" + strings.Repeat("r", 32) + "\x00\x00\x04\x00\x0a\x00\x05\x01\x00"
	for name, port := range map[string]int{"smtps": 2465, "imaps": 2993, "pop3s": 2995, "admin": 2825} {
		c, err := net.Dial("tcp", d.port(port))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, ssl3)
		answer := make([]byte, 100)
		if n, _ := c.Read(answer); n > 0 && answer[0] != 0x15 { // an alert
			t.Errorf("%s answers SSL 3 with %x", name, answer[:n])
		}
		c.Close()
		for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			c, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", d.port(port), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
			if (err == nil) != want {
				t.Errorf("%s, %s: %v", name, tls.VersionName(version), err)
			}
			if err == nil {
				c.Close()
			}
		}
	}
}

// TestStoryGreetingAndLogin: the greeting is what was set, behind the host's name; without SMTP
// authentication nobody can log in, and only the local network sends through this server.
func TestStoryGreetingAndLogin(t *testing.T) {
	// covers: R7.02 R7.03 R7.20 R7.27
	d := newDaemon(t)
	d.start()
	greeting := func() string {
		t.Helper()
		c, err := net.Dial("tcp", d.port(2525))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		line, _ := bufio.NewReader(c).ReadString('\n')
		return strings.TrimSpace(line)
	}
	if got := greeting(); got != "220 mail.example.test ESMTP" {
		t.Errorf("%q", got)
	}
	d.fails(2, "first word", "delivery", "general", "set", "--banner", "hello there")
	d.ok("config", "set", "network.resolvers="+resolver(t, "mx.example.test. 60 IN A 198.51.100.2\n"))
	_, warned, code := d.mpctl("delivery", "general", "set", "--banner", "$hostname no spam, please", "--hostname", "mx.example.test")
	if code != 0 || !strings.Contains(warned, "mx.example.test: has address 198.51.100.2, which is not an address of this machine") {
		t.Errorf("DNS says otherwise: exit %d, %q", code, warned)
	}
	if got := greeting(); got != "220 mx.example.test no spam, please" {
		t.Errorf("%q", got)
	}
	relay := func(c *smtpClient, want string) {
		t.Helper()
		d.say(c, "250", "MAIL FROM:<bob@example.test>")
		d.say(c, want, "RCPT TO:<who@elsewhere.example>")
		d.say(c, "250", "RCPT TO:<alice@example.test>")
		d.say(c, "250", "RSET")
	}
	c := d.smtp(2525)
	relay(c, "550 5.7.1")
	if _, warned, code := d.mpctl("delivery", "auth", "set", "--enable", "off"); code != 0 || !strings.Contains(warned, "sends to other servers freely") {
		t.Errorf("exit %d, %q", code, warned)
	}
	c = d.smtp(2525)
	if r := d.say(c, "250", "EHLO client.example"); strings.Contains(r, "AUTH") {
		t.Errorf("AUTH is offered though it is off: %s", r)
	}
	d.say(c, "5", "%s", plainLogin["bob"])
	relay(c, "250") // loopback is the local network
	d.ok("delivery", "auth", "set", "--enable", "on")
	c = d.smtp(2525)
	d.say(c, "235", "%s", plainLogin["bob"])
	d.say(c, "250", "MAIL FROM:<bob@example.test>")
	d.say(c, "250", "RCPT TO:<who@elsewhere.example>")
}
