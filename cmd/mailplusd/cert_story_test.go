package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/certs/acmetest"
)

func portOf(addr string) int {
	_, p, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(p)
	return n
}

// startTLS gives a TLS connection to a port: "" for implicit TLS, or the protocol whose STARTTLS is used.
func startTLS(t *testing.T, addr, proto, sni string) *tls.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	expect := func(send, prefix string) {
		t.Helper()
		io.WriteString(c, send)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%s %s: %v", proto, addr, err)
			}
			if strings.HasPrefix(line, prefix) {
				return
			}
		}
	}
	switch proto {
	case "smtp":
		expect("", "220 ")
		expect("EHLO x.example\r\n", "250 ")
		expect("STARTTLS\r\n", "220 ")
	case "imap":
		expect("", "* OK")
		expect("a STARTTLS\r\n", "a OK")
	case "pop3":
		expect("", "+OK")
		expect("STLS\r\n", "+OK")
	}
	s := tls.Client(c, &tls.Config{ServerName: sni, InsecureSkipVerify: true})
	if err := s.Handshake(); err != nil {
		t.Fatalf("%s %s for %s: %v", proto, addr, sni, err)
	}
	return s
}

func peer(c *tls.Conn) *x509.Certificate { return c.ConnectionState().PeerCertificates[0] }

// everywhere wants a certificate, by a word of its issuer, from every service.
func (d *process) everywhere(t *testing.T, sni, issuer string) {
	t.Helper()
	for _, x := range []struct {
		port  int
		proto string
	}{{2525, "smtp"}, {2587, "smtp"}, {2465, ""}, {2143, "imap"}, {2993, ""}, {2110, "pop3"}, {2995, ""}, {2443, ""}, {2825, ""}} {
		if c := peer(startTLS(t, d.port(x.port), x.proto, sni)); !strings.Contains(c.Issuer.String(), issuer) {
			t.Errorf("port %d for %q serves %s of %s, want %s", x.port, sni, c.DNSNames, c.Issuer, issuer)
		}
	}
}

// acme starts an ACME server that looks at the daemon's autoconfig ports, and names it to the daemon.
func (d *process) acme(t *testing.T, o acmetest.Options) *acmetest.Server {
	t.Helper()
	o.HTTPPort, o.TLSPort = portOf(d.port(2480)), portOf(d.port(2443))
	srv := acmetest.Start(t, o)
	d.ok("cert", "acme", "set", "--directory", srv.URL, "--root", srv.RootFile(), "--contact", "postmaster@example.test", "--retry", "1",
		"--http-port", fmt.Sprint(o.HTTPPort), "--tls-port", fmt.Sprint(o.TLSPort))
	return srv
}

// TestStoryACME: a certificate is ordered and serves everywhere without a restart; what the server
// says is shown; a server that is away is asked again, and the certificate of before serves on.
func TestStoryACME(t *testing.T) {
	// covers: I.23 I.81
	d := newDaemon(t)
	d.start()
	d.ok("service", "autoconfig", "set", "--enable", "--yes")
	d.everywhere(t, "mail.example.test", "mail.example.test") // self-signed
	srv := d.acme(t, acmetest.Options{Blocked: []string{"blocked.example.test"}})
	d.has("not agreed", "cert", "acme", "show")
	d.fails(1, "wants its terms of service agreed to", "cert", "order", "mail.example.test")
	d.has("failed: the ACME server wants", "cert", "show", "mail.example.test")
	d.has("agreed", "cert", "acme", "set", "--agree-terms")

	d.has("Pebble", "cert", "order", "mail.example.test", "autoconfig.example.test", "--default", "-o", "wide")
	d.everywhere(t, "mail.example.test", "Pebble")
	if c := peer(startTLS(t, d.port(2525), "smtp", "")); !strings.Contains(c.Issuer.String(), "Pebble") {
		t.Errorf("the default one is of %s", c.Issuer)
	}
	d.has("/my-account/", "cert", "acme", "show")
	d.ok("cert", "acme", "set", "--challenge", "tls-alpn-01")
	d.ok("cert", "order", "imap.example.test", "--name", "imap")
	if c := peer(startTLS(t, d.port(2143), "imap", "imap.example.test")); c.VerifyHostname("imap.example.test") != nil {
		t.Errorf("by TLS-ALPN: %s", c.DNSNames)
	}
	d.fails(3, "dns-01", "cert", "order", "*.example.test")
	d.fails(2, "is an address", "cert", "order", "192.0.2.1")
	d.fails(1, `forbidden by policy: "blocked.example.test"`, "cert", "order", "blocked.example.test")
	d.has("forbidden by policy", "check", "certs")
	d.ok("cert", "delete", "blocked.example.test", "--yes")

	// Ports of their own, open only as long as the server looks.
	d.ok("service", "autoconfig", "set", "--enable=false", "--yes")
	d.ok("cert", "acme", "set", "--challenge", "http-01")
	d.ok("cert", "renew", "imap")
	if c, err := net.Dial("tcp", d.port(2480)); err == nil {
		c.Close()
		t.Error("the port for challenges is still open")
	}
	busy, err := net.Listen("tcp", d.port(2480))
	if err != nil {
		t.Fatal(err)
	}
	d.fails(1, "address already in use", "cert", "order", "pop.example.test", "--name", "pop")
	busy.Close()
	d.until(",ok,", "cert", "list", "--filter", "name=pop", "-o", "csv") // by itself
	d.fails(3, "is the port of imaps", "cert", "acme", "set", "--http-port", fmt.Sprint(portOf(d.port(2993))))

	// The server is away: tried again and again, warned of, and in the end it works.
	before := peer(startTLS(t, d.port(2993), "", "imap.example.test"))
	srv.Stop()
	d.fails(1, "does not answer", "cert", "renew", "imap")
	d.until("was not issued", "check", "certs")
	d.has("certificate imap was not issued", "status", "-o", "json")
	if c := peer(startTLS(t, d.port(2993), "", "imap.example.test")); !c.Equal(before) {
		t.Error("the certificate of before serves no more")
	}
	if m := d.metric(t, `mailplusd_certificate_order_failures{certificate="imap"}`); m == "0" {
		t.Errorf("failures: %s", m)
	}
	srv.Restart()
	d.until(",ok,", "cert", "list", "--filter", "name=imap", "-o", "csv")
	if c := peer(startTLS(t, d.port(2993), "", "imap.example.test")); c.Equal(before) {
		t.Error("nothing new")
	}
	d.certsInUse(t)
	d.stop()
	d.noKeyInClear(t)
	d.start()
	if c := peer(startTLS(t, d.port(2993), "", "mail.example.test")); !strings.Contains(c.Issuer.String(), "Pebble") {
		t.Errorf("after a restart: %s", c.Issuer)
	}
}

// certsInUse: what clients need is not deleted by mistake, and the command that is named works.
func (d *process) certsInUse(t *testing.T) {
	t.Helper()
	d.fails(3, "mpctl cert set ", "cert", "delete", "mail.example.test", "--yes")
	d.ok("cert", "set", "imap", "--default", "on")
	d.ok("cert", "delete", "default", "--yes") // another one is for its name
	d.fails(3, "the only certificate for mail.example.test", "cert", "delete", "mail.example.test", "--yes")
	d.fails(3, "there must be a default", "cert", "set", "imap", "--default", "off")
	d.ok("cert", "set", "mail.example.test", "--default", "on")
}

func (d *process) metric(t *testing.T, name string) string {
	t.Helper()
	resp, err := http.Get("http://" + d.port(2900) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			return v
		}
	}
	t.Fatalf("no metric %s", name)
	return ""
}

func (d *process) noKeyInClear(t *testing.T) {
	t.Helper()
	filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() != "node.key" && strings.Contains(read(t, path), "PRIVATE KEY") {
			t.Errorf("%s has a private key in clear", path)
		}
		return nil
	})
}

// TestStoryCertificateByName: two imported certificates serve by the name that is asked for, at once;
// a session that is open keeps the one it has.
func TestStoryCertificateByName(t *testing.T) {
	// covers: I.23
	d := newDaemon(t)
	d.start()
	open := startTLS(t, d.port(2993), "", "")
	key, cert := selfSigned(t)
	d.fails(3, "belongs to none", "cert", "import", "one", "--cert", d.file("c.pem", cert), "--key-file", d.file("k.pem", first(selfSigned(t))))
	d.fails(3, "openssl pkcs12", "cert", "import", "one", "--cert", d.file("c.p12", "0\x82\x01\x02"), "--key-file", d.file("k.pem", key))
	d.has("localhost", "cert", "import", "one", "--cert", d.file("c.pem", cert), "--key-file", d.file("k.pem", key))
	if c := peer(startTLS(t, d.port(2143), "imap", "localhost")); c.Subject.CommonName != "localhost" {
		t.Errorf("localhost is served as %s", c.Subject)
	}
	if c := peer(startTLS(t, d.port(2465), "", "other.example")); c.Subject.CommonName != "mail.example.test" {
		t.Errorf("an unknown name is served as %s", c.Subject)
	}
	_, errs, code := d.mpctl("cert", "import", "one", "--cert", d.file("c.pem", cert), "--key-file", d.file("k.pem", key), "--default")
	if code != 0 || !strings.Contains(errs, "not for this server's name") {
		t.Errorf("%d %s", code, errs)
	}
	if c := peer(startTLS(t, d.port(2465), "", "other.example")); c.Subject.CommonName != "localhost" {
		t.Errorf("the new default serves as %s", c.Subject)
	}
	if c := peer(open); c.Subject.CommonName != "mail.example.test" {
		t.Error("an open session has changed its certificate")
	}
	io.WriteString(open, "a NOOP\r\n")
	if line, err := bufio.NewReader(open).ReadString('\n'); err != nil || !strings.HasPrefix(line, "* OK") {
		t.Errorf("the open session: %q %v", line, err)
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestStoryPairCertificate: what the primary has ordered both serve; when it is lost, the other node
// serves it on, and orders anew itself.
func TestStoryPairCertificate(t *testing.T) {
	// covers: I.23
	l := newLAN(t)
	a, b := l.pair()
	a.ok("service", "imap", "set", "--tls", "on", "--yes")
	srv := acmetest.Start(t, acmetest.Options{Address: l.vip(), HTTPPort: 2480, TLSPort: 2443})
	a.ok("cert", "acme", "set", "--directory", srv.URL, "--root", srv.RootFile(), "--agree-terms", "--http-port", "2480", "--retry", "1")
	b.has("Pebble", "cert", "order", "mail.example.test", "--default", "-o", "wide") // the primary does it
	want := peer(startTLS(t, a.ip+":2993", "", "mail.example.test"))
	if !strings.Contains(want.Issuer.String(), "Pebble") {
		t.Fatalf("the primary serves %s", want.Issuer)
	}
	b.until("the secondary serves it", func() bool { return peer(startTLS(t, b.ip+":2993", "", "")).Equal(want) })
	// A name that leads to the other node: the challenges are answered there.
	other := acmetest.Start(t, acmetest.Options{Address: b.ip, HTTPPort: 2480, TLSPort: 2443})
	a.ok("cert", "acme", "set", "--directory", other.URL, "--root", other.RootFile(), "--agree-terms", "--challenge", "tls-alpn-01", "--tls-port", "2443")
	a.has("Pebble", "cert", "order", "b.example.test", "-o", "wide")
	a.ok("cert", "acme", "set", "--challenge", "http-01")
	a.has("Pebble", "cert", "order", "c.example.test", "-o", "wide")
	b.until("the secondary serves it", func() bool {
		return peer(startTLS(t, b.ip+":2993", "", "b.example.test")).VerifyHostname("b.example.test") == nil
	})
	a.ok("cert", "acme", "set", "--directory", srv.URL, "--root", srv.RootFile(), "--agree-terms")
	a.kill()
	b.is("solo-secondary")
	b.until("the floating address is here", func() bool {
		c, err := tls.Dial("tcp", l.vip()+":2993", &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return false
		}
		defer c.Close()
		return peer(c).Equal(want)
	})
	b.fails(3, "settings can't be changed here", "cert", "order", "other.example.test")
	b.ok("cert", "renew", "mail.example.test")
	if c := peer(startTLS(t, l.vip()+":2993", "", "")); c.Equal(want) || !strings.Contains(c.Issuer.String(), "Pebble") {
		t.Errorf("after the renewal by the other node %s serves", c.Issuer)
	}
	if n := srv.Orders(); n != 2 {
		t.Errorf("%d orders, want 2", n)
	}
}
