package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/wire"
)

// comesFrom connects from an address of loopback, says hello first and reads a greeting.
func comesFrom(t *testing.T, from, addr, hello string) (*smtpClient, string, error) {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}).Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	fmt.Fprint(c, hello)
	s := &smtpClient{c, bufio.NewReader(c)}
	line, err := s.reply()
	return s, line, err
}

// haproxy starts HAProxy, which passes SMTP and IMAP on from 127.0.0.5 with a PROXY header.
func haproxy(t *testing.T, d *process, version string) (smtp, imap string) {
	t.Helper()
	prog, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("haproxy is not installed")
	}
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	smtp, imap = free(), free()
	conf := fmt.Sprintf(`defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen smtp
  bind %s
  source 127.0.0.5
  server a %s %s
listen imap
  bind %s
  source 127.0.0.5
  server a %s %s
`, smtp, d.port(2525), version, imap, d.port(2143), version)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, prog, "-db", "-f", file)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", imap)
		if err == nil {
			c.Close()
			return smtp, imap
		}
		if time.Now().After(deadline) {
			t.Fatalf("haproxy: %v %s", err, out)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestStoryHAProxy: behind HAProxy the client is the client, with both versions of the header, for SMTP and IMAP.
func TestStoryHAProxy(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.fails(2, "is no address or network", "net", "proxy", "set", "all")
	d.fails(2, "whole Internet", "net", "proxy", "set", "0.0.0.0/0")
	d.ok("net", "proxy", "set", "127.0.0.5")
	d.has("127.0.0.5/32", "net", "proxy", "show")
	for _, version := range []string{"send-proxy", "send-proxy-v2"} {
		smtp, imap := haproxy(t, d, version)
		client := map[string]string{"send-proxy": "127.0.0.9", "send-proxy-v2": "127.0.0.10"}[version]
		c, line, err := comesFrom(t, client, smtp, "")
		if err != nil || !strings.HasPrefix(line, "220 ") {
			t.Fatalf("%s: %q %v", version, line, err)
		}
		d.say(c, "250", "EHLO client.example")
		d.say(c, "250", "MAIL FROM:<a@elsewhere.example>")
		d.say(c, "550", "RCPT TO:<nobody@example.test>")
		d.until(`"client": "`+client+`"`, "log", "mail", "list", "--everything", "--recipient", "nobody", "-o", "json")
		d.say(c, "250", "RCPT TO:<alice@example.test>")
		d.say(c, "354", "DATA")
		d.say(c, "250", "Subject: proxied by %s\r\n\r\nx\r\n.", version)
		d.until(`"client": "`+client+`"`, "log", "mail", "list", "--subject", "proxied by "+version, "-o", "json")

		i, line, err := comesFrom(t, client, imap, "")
		if err != nil || !strings.HasPrefix(line, "* OK") {
			t.Fatalf("%s: %q %v", version, line, err)
		}
		for n := range 20 { // then it is locked out, and the proxy is not
			fmt.Fprintf(i.c, "a%d LOGIN bob wrong\r\n", n)
			if _, err := i.r.ReadString('\n'); err != nil {
				break
			}
			if out := d.ok("login", "lock", "list", "-o", "json"); strings.Contains(out, client) {
				break
			}
		}
		if out := d.ok("login", "lock", "list", "-o", "json"); !strings.Contains(out, client) || strings.Contains(out, "127.0.0.5") {
			t.Errorf("%s: the locks are %s", version, out)
		}
	}
}

// TestStoryProxyTrust: only who is listed is believed, and only with a header; what the header says counts for
// relaying and limits.
func TestStoryProxyTrust(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.ok("net", "proxy", "set", "127.0.0.5")
	d.ok("config", "set", "delivery.lan-exempt=on", "network.resolvers=127.0.0.1:9")
	smtp := d.port(2525)
	v1 := "PROXY TCP4 192.0.2.7 192.0.2.1 1234 25\r\n"
	v2 := string(wire.AppendProxyV2(nil, netip.MustParseAddrPort("192.0.2.7:1234"), netip.MustParseAddrPort("192.0.2.1:25")))
	relays := func(c *smtpClient, want string) {
		t.Helper()
		d.say(c, "250", "EHLO client.example")
		d.say(c, "250", "MAIL FROM:<a@elsewhere.example>")
		d.say(c, want, "RCPT TO:<b@far.example>")
	}
	for _, header := range []string{v1, v2} {
		c, line, err := comesFrom(t, "127.0.0.5", smtp, header)
		if err != nil || !strings.HasPrefix(line, "220 ") {
			t.Fatalf("%q %v", line, err)
		}
		relays(c, "550 5.7.1") // the client is no neighbour, though the proxy is
		c.c.Close()
		// An address that is not listed is not believed: it is what it is, and its header is no command.
		c, line, err = comesFrom(t, "127.0.0.6", smtp, header)
		for err == nil && !strings.HasPrefix(line, "5") { // the greeting comes first
			line, err = c.reply()
		}
		if err == nil {
			t.Logf("unlisted: %s", line)
			if r, err := c.cmd("EHLO client.example"); err == nil && strings.Contains(r, "XCLIENT") {
				t.Errorf("XCLIENT is offered: %s", r)
			}
		}
		c.c.Close()
	}
	c, _, _ := comesFrom(t, "127.0.0.6", smtp, "")
	relays(c, "250")
	if out := d.ok("log", "mail", "list", "--everything", "-o", "json"); !strings.Contains(out, "192.0.2.7") {
		t.Errorf("the log does not name the client of the proxy: %s", out)
	}
	for name, hello := range map[string]string{
		"no header": "EHLO client.example\r\n", "another line": "PROXY TCP4 192.0.2.7\r\n", "two lines in one": "PROXY TCP4 192.0.2.7 192.0.2.1 1234 25 x\r\n",
		"too long": "PROXY TCP4 " + strings.Repeat("1", 500) + "\r\n", "too large": v2[:14] + "\xff\xff", "families": "PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n",
	} {
		if _, line, err := comesFrom(t, "127.0.0.5", smtp, hello); err == nil {
			t.Errorf("%s: %s", name, line)
		}
	}

	// One connection of a client is not another's; both come by the proxy.
	d.ok("delivery", "connection-policy", "set", "--limit-connections", "on", "--max-connections", "1")
	first, _, _ := comesFrom(t, "127.0.0.5", smtp, v1)
	d.say(first, "250", "EHLO client.example")
	if _, line, _ := comesFrom(t, "127.0.0.5", smtp, v1); !strings.HasPrefix(line, "421 ") {
		t.Errorf("the second connection of the client: %s", line)
	}
	if _, line, _ := comesFrom(t, "127.0.0.5", smtp, strings.Replace(v1, "192.0.2.7", "192.0.2.8", 1)); !strings.HasPrefix(line, "220 ") {
		t.Errorf("another client: %s", line)
	}
	d.ok("net", "proxy", "set")
	c, line, _ := comesFrom(t, "127.0.0.5", smtp, "")
	if !strings.HasPrefix(line, "220 ") {
		t.Errorf("not a proxy any more: %s", line)
	}
	c.c.Close()
}

// TestStoryXCLIENT: swaks as the proxy. The client that it names counts for relaying, the log and limits.
func TestStoryXCLIENT(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.ok("net", "xclient", "set", "127.0.0.6")
	d.has("XCLIENT", "net", "xclient", "show")
	d.ok("config", "set", "delivery.lan-exempt=on", "network.resolvers=127.0.0.1:9")
	smtp := d.port(2525)
	if prog, err := exec.LookPath("swaks"); err == nil {
		swaks := func(from, to string, xclient ...string) string {
			args := append([]string{"--server", "127.0.0.1", "--port", smtp[strings.LastIndex(smtp, ":")+1:], "--local-interface", from,
				"--from", "a@elsewhere.example", "--to", to, "--helo", "proxy.example", "--header", "Subject: by swaks"}, xclient...)
			out, _ := exec.Command(prog, args...).CombinedOutput()
			return string(out)
		}
		if out := swaks("127.0.0.6", "alice@example.test", "--xclient", "ADDR=192.0.2.9 NAME=client.example HELO=client.example"); !strings.Contains(out, "stored as") {
			t.Errorf("swaks: %s", out)
		}
		d.until(`"client": "192.0.2.9"`, "log", "mail", "list", "--subject", "by swaks", "-o", "json")
		if out := swaks("127.0.0.6", "b@far.example", "--xclient", "ADDR=192.0.2.9"); !strings.Contains(out, "550 5.7.1") {
			t.Errorf("a client from outside relays: %s", out)
		}
		if out := swaks("127.0.0.7", "alice@example.test", "--xclient", "ADDR=192.0.2.9"); strings.Contains(out, "stored as") || strings.Contains(out, "250-XCLIENT") {
			t.Errorf("an address that is not listed: %s", out)
		}
	} else {
		t.Log("swaks is not installed")
	}
	c, _, _ := comesFrom(t, "127.0.0.7", smtp, "")
	d.say(c, "250", "EHLO a.example")
	d.say(c, "550", "XCLIENT ADDR=192.0.2.9")

	d.ok("delivery", "connection-policy", "set", "--limit-connections", "on", "--max-connections", "1")
	open := func(addr, want string) *smtpClient {
		t.Helper()
		c, _, _ := comesFrom(t, "127.0.0.6", smtp, "")
		d.say(c, "250", "EHLO proxy.example")
		d.say(c, want, "XCLIENT %s", addr)
		return c
	}
	first := open("ADDR=192.0.2.20", "220")
	d.say(first, "250", "EHLO client.example")
	d.say(first, "250", "MAIL FROM:<a@elsewhere.example>")
	d.say(first, "503", "XCLIENT ADDR=192.0.2.30") // not within a transaction
	open("ADDR=192.0.2.20", "421")
	open("ADDR=IPV6:2001:db8::9", "220")
	for _, bad := range []string{"ADDR=[UNAVAILABLE]", "ADDR=x", "FOO=1", "ADDR", "ADDR=+ZZ", "PORT=99999999", "NAME=" + strings.Repeat("x", 5000)} {
		open(bad, "5")
	}
	first.c.Close()
	for deadline := time.Now().Add(20 * time.Second); ; { // its place is free again
		c, _, _ := comesFrom(t, "127.0.0.6", smtp, "")
		c.cmd("EHLO proxy.example")
		if r, _ := c.cmd("XCLIENT ADDR=192.0.2.20"); strings.HasPrefix(r, "220") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of a connection that has gone is not free")
		}
	}
}
