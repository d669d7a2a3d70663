package certs

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
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

// TestKeyring: the certificate is chosen by the name that the client asks for: exactly, by a
// wildcard of one label, else the default one.
func TestKeyring(t *testing.T) {
	// covers: R6.10 R6.22 I.23
	now := time.Now()
	one, err := SelfSigned("one", []string{"mail.one.test", "*.wild.test"}, now)
	if err != nil {
		t.Fatal(err)
	}
	two, _ := SelfSigned("two", []string{"mail.two.test"}, now)
	three, _ := SelfSigned("three", []string{"x.wild.test"}, now)
	k := NewKeyring()
	if _, err := handshake(t, k, &tls.Config{}); err == nil {
		t.Error("an empty ring serves")
	}
	if err := k.Load([]Certificate{*one, *two, *three}, "two"); err != nil {
		t.Fatal(err)
	}
	for sni, want := range map[string]string{
		"mail.one.test": "mail.one.test", "MAIL.One.test": "mail.one.test", "y.wild.test": "mail.one.test", "x.wild.test": "x.wild.test", "mail.two.test": "mail.two.test",
		"other.test": "mail.two.test", "": "mail.two.test", "a.b.wild.test": "mail.two.test", "wild.test": "mail.two.test",
	} {
		c, err := handshake(t, k, &tls.Config{ServerName: sni})
		if err != nil || c.DNSNames[0] != want {
			t.Errorf("%q: %v %v, want %s", sni, c, err, want)
		}
	}
	if _, err := handshake(t, k, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

// TestKeyringPrefers: of several certificates for a name, an authority's one before a self-signed
// one, then the default one, then the one that is good for longest; whatever the order of loading.
func TestKeyringPrefers(t *testing.T) {
	p256 := elliptic.P256()
	root := issue(t, nil, ecKey(t, p256), asCA("Root"))
	make := func(name string, by *authority, days int) Certificate {
		key := ecKey(t, p256)
		c := issue(t, by, key, func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, days) })
		return Certificate{Name: name, CertPEM: c.pem(), KeyPEM: keyPEM(t, key)}
	}
	own, short, long, def := make("own", nil, 3650), make("short", root, 10), make("long", root, 90), make("def", root, 5)
	for _, x := range []struct {
		list []Certificate
		def  string
		want string
	}{
		{[]Certificate{own, short}, "own", "short"}, {[]Certificate{short, own}, "own", "short"}, {[]Certificate{long, short, own}, "own", "long"},
		{[]Certificate{short, long, own}, "", "long"}, {[]Certificate{short, def, long}, "def", "def"}, {[]Certificate{own}, "gone", "own"},
	} {
		k := NewKeyring()
		if err := k.Load(x.list, x.def); err != nil {
			t.Fatal(err)
		}
		if got := k.Serves("mail.example.test"); got != x.want {
			t.Errorf("%v, default %s: %s serves, want %s", names(x.list), x.def, got, x.want)
		}
	}
	k := NewKeyring()
	star := ecKey(t, p256)
	wild := Certificate{Name: "wild", CertPEM: issue(t, root, star, func(c *x509.Certificate) { c.DNSNames = []string{"*.example.test"} }).pem(), KeyPEM: keyPEM(t, star)}
	if err := k.Load([]Certificate{own, wild}, "own"); err != nil || k.Serves("mail.example.test") != "wild" {
		t.Errorf("beside a self-signed one %q serves, not the wildcard's (%v)", k.Serves("mail.example.test"), err)
	}
	if err := k.Load([]Certificate{short, wild}, ""); err != nil || k.Serves("mail.example.test") != "short" || k.Serves("imap.example.test") != "wild" {
		t.Errorf("beside a wildcard's %q serves (%v)", k.Serves("mail.example.test"), err)
	}
	if err := k.Load([]Certificate{own, long}, "own"); err != nil || k.Serves("other.test") != "own" {
		t.Errorf("the default is %s %v", k.Serves("other.test"), err)
	}
	damaged := Certificate{Name: "damaged", CertPEM: own.CertPEM, KeyPEM: long.KeyPEM}
	if err := k.Load([]Certificate{damaged, long}, ""); err == nil || k.Serves("mail.example.test") != "long" {
		t.Errorf("beside a damaged one %q serves (%v)", k.Serves("mail.example.test"), err)
	}
}

func names(list []Certificate) (out []string) {
	for _, c := range list {
		out = append(out, c.Name)
	}
	return out
}

// TestKeyringBothKinds: a client that knows no ECDSA gets the RSA certificate for the same name.
func TestKeyringBothKinds(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	old := issue(t, nil, key, func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, 5) })
	ec := ecKey(t, elliptic.P256())
	k := NewKeyring()
	if err := k.Load([]Certificate{{"rsa", old.pem(), keyPEM(t, key)}, {"ec", issue(t, nil, ec, nil).pem(), keyPEM(t, ec)}}, ""); err != nil {
		t.Fatal(err)
	}
	for want, suite := range map[x509.PublicKeyAlgorithm]uint16{x509.RSA: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, x509.ECDSA: tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256} {
		c, err := handshake(t, k, &tls.Config{ServerName: "mail.example.test", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
		if err != nil || c.PublicKeyAlgorithm != want {
			t.Errorf("%v: %v %v", want, c, err)
		}
	}
}
