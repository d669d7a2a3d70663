package certs

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"
)

func handshake(t *testing.T, k *Keyring, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { s := tls.Server(b, k.Config()); s.Handshake(); b.Close() }()
	client.InsecureSkipVerify = true
	c := tls.Client(a, client)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestKeyring(t *testing.T) {
	// covers: R6.10 R6.22
	now := time.Now()
	one, err := SelfSigned("one", []string{"mail.one.test", "*.wild.test"}, now)
	if err != nil {
		t.Fatal(err)
	}
	two, _ := SelfSigned("two", []string{"mail.two.test"}, now)
	k := NewKeyring()
	if err := k.Load([]Certificate{*one, *two}, "two"); err != nil {
		t.Fatal(err)
	}
	for sni, want := range map[string]string{"mail.one.test": "mail.one.test", "x.wild.test": "mail.one.test", "mail.two.test": "mail.two.test", "other.test": "mail.two.test", "": "mail.two.test"} {
		c, err := handshake(t, k, &tls.Config{ServerName: sni})
		if err != nil || c.DNSNames[0] != want {
			t.Errorf("%q: %v %v, want %s", sni, c, err, want)
		}
	}
	if _, err := handshake(t, k, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestCheck(t *testing.T) {
	now := time.Now()
	one, _ := SelfSigned("one", []string{"mail.one.test"}, now)
	two, _ := SelfSigned("two", []string{"mail.two.test"}, now)
	if info, err := Check(one, now); err != nil || !info.SelfSigned || info.Names[0] != "mail.one.test" {
		t.Errorf("%+v %v", info, err)
	}
	for name, c := range map[string]*Certificate{
		"key of another": {CertPEM: one.CertPEM, KeyPEM: two.KeyPEM}, "no PEM": {CertPEM: []byte("x"), KeyPEM: one.KeyPEM},
		"wrong chain": {CertPEM: append(append([]byte{}, one.CertPEM...), two.CertPEM...), KeyPEM: one.KeyPEM},
	} {
		if _, err := Check(c, now); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := Check(one, now.AddDate(11, 0, 0)); err == nil {
		t.Error("an expired one was accepted")
	}
}
