package main

import (
	"bytes"
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailplusd/mail/certs/acmetest"
)

// TestStoryACMEByDNS: a wildcard certificate is ordered with a real BIND that takes the updates and a real
// ACME server that looks there; it outlives kill -9, and its key stays where that is wanted.
func TestStoryACMEByDNS(t *testing.T) {
	// covers: I.23 I.81
	d := newDaemon(t)
	d.start()
	named := acmetest.StartNamed(t, "example.test", "")
	srv := acmetest.Start(t, acmetest.Options{Resolver: named.Addr})
	d.fails(2, "dns-01 needs the DNS server", "cert", "acme", "set", "--challenge", "dns-01")
	if _, errs, _ := d.mpctl("cert", "acme", "set", "--directory", srv.URL, "--root", srv.RootFile(), "--agree-terms", "--retry", "1", "--challenge", "dns-01", "--dns-server", named.Addr); !strings.Contains(errs, "are not signed") {
		t.Errorf("no word on updates without a signature: %s", errs)
	}
	d.fails(1, "REFUSED", "cert", "order", "*.example.test", "example.test", "--name", "wild", "--default")
	if c := peer(startTLS(t, d.port(2993), "", "x.example.test")); c.Subject.CommonName != "mail.example.test" {
		t.Errorf("nothing was issued, and %s serves", c.Subject)
	}
	d.ok("cert", "acme", "set", "--dns-key-name", named.KeyName, "--dns-key-file", d.file("tsig.key", named.Key+"\n"))
	d.until(",ok,", "cert", "list", "--filter", "name=wild", "-o", "csv") // tried again by itself
	serving := func() *x509.Certificate {
		t.Helper()
		c := peer(startTLS(t, d.port(2143), "imap", "x.example.test"))
		if c.VerifyHostname("x.example.test") != nil || c.VerifyHostname("example.test") != nil || !strings.Contains(c.Issuer.String(), "Pebble") {
			t.Fatalf("served is %s of %s", c.DNSNames, c.Issuer)
		}
		return c
	}
	first := serving()
	d.kill()
	d.start()
	if c := serving(); !c.Equal(first) {
		t.Error("another certificate after kill -9")
	}

	// TLSA records name the key. With a key that stays a renewal leaves them right.
	_, errs, _ := d.mpctl("domain", "dns-records", "example.test", "--tlsa", "-o", "csv")
	if !strings.Contains(errs, "certificate wild gets a new key whenever it is renewed: mpctl cert acme set --keep-key on") {
		t.Errorf("no word on the key that changes: %s", errs)
	}
	d.ok("cert", "acme", "set", "--keep-key", "on")
	tlsa := func() string {
		t.Helper()
		for _, line := range strings.Split(d.ok("domain", "dns-records", "example.test", "--tlsa", "-o", "csv"), "\n") {
			if strings.HasPrefix(line, "TLSA,_25._tcp.mail.example.test,3 1 1 ") {
				return line
			}
		}
		t.Fatal("no TLSA record")
		return ""
	}
	before := tlsa()
	d.ok("cert", "renew", "wild")
	second := serving()
	if second.Equal(first) || !bytes.Equal(second.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) || tlsa() != before {
		t.Error("the key was to be kept in a new certificate")
	}
	d.ok("cert", "acme", "set", "--keep-key", "off")
	d.ok("cert", "renew", "wild")
	if c := serving(); bytes.Equal(c.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) || tlsa() == before {
		t.Error("the key was to be a new one")
	}

	if out := d.ok("cert", "acme", "show", "-o", "json"); strings.Contains(out, named.Key) {
		t.Errorf("the key is shown:\n%s", out)
	}
	d.stop()
	d.noKeyInClear(t)
	filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.HasPrefix(e.Name(), "tsig") {
			if raw, _ := os.ReadFile(path); bytes.Contains(raw, []byte(named.Key)) {
				t.Errorf("%s has the TSIG key in clear", path)
			}
		}
		return nil
	})
}
