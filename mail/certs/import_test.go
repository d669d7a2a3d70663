package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (a *authority) pem() []byte { return pemOf("CERTIFICATE", a.cert.Raw) }

var serial int64

// issue makes a certificate; nil: signed by itself.
func issue(t testing.TB, by *authority, key crypto.Signer, change func(*x509.Certificate)) *authority {
	t.Helper()
	serial++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "mail.example.test"}, DNSNames: []string{"mail.example.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 90), BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(c)
	}
	if by == nil {
		by = &authority{c, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{made, key}
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func asCA(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames, c.ExtKeyUsage, c.IsCA = name, nil, nil, true
		c.KeyUsage = x509.KeyUsageCertSign
	}
}

func keyPEM(t testing.TB, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PRIVATE KEY", der)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestImport: what can't serve is refused in words that tell why; what can be mended is mended.
func TestImport(t *testing.T) {
	// covers: I.23
	p256 := elliptic.P256()
	root := issue(t, nil, ecKey(t, p256), asCA("Root"))
	middle := issue(t, root, ecKey(t, p256), asCA("Middle"))
	key := ecKey(t, p256)
	leaf := issue(t, middle, key, nil)
	signed := func(k crypto.Signer, change func(*x509.Certificate)) []byte {
		return issue(t, nil, k, change).pem()
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("this Go makes no small keys: ", err)
	}
	other := ecKey(t, p256)
	oldMiddle := issue(t, root, middle.key, func(c *x509.Certificate) {
		asCA("Middle")(c)
		c.NotAfter = time.Now().Add(-time.Minute)
	})
	der, _ := x509.MarshalECPrivateKey(key)
	for name, x := range map[string]struct {
		cert, key  []byte
		refused    string
		warned     string
		chain      int
		passphrase string
	}{
		"whole chain":          {cert: join(leaf.pem(), middle.pem(), root.pem()), key: keyPEM(t, key), chain: 2},
		"old form of the key":  {cert: join(leaf.pem(), middle.pem(), root.pem()), key: pemOf("EC PRIVATE KEY", der), chain: 2},
		"one file for both":    {cert: join(keyPEM(t, key), leaf.pem(), middle.pem(), root.pem()), key: join(leaf.pem(), keyPEM(t, key)), chain: 2},
		"wrong order":          {cert: join(root.pem(), middle.pem(), leaf.pem()), key: keyPEM(t, key), chain: 2, warned: "out of order"},
		"no root":              {cert: join(leaf.pem(), middle.pem()), key: keyPEM(t, key), chain: 2, warned: `issuer "Root" is neither in the file nor a root known here`},
		"missing intermediate": {cert: leaf.pem(), key: keyPEM(t, key), chain: 1, warned: `issuer "Middle"`},
		"self-signed":          {cert: signed(other, nil), key: keyPEM(t, other), chain: 1},
		"RSA":                  {cert: signed(weak, nil), key: pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(weak)), chain: 1},
		"key of another":       {cert: leaf.pem(), key: keyPEM(t, other), refused: "the key belongs to none of the file's certificates; the first is for mail.example.test"},
		"foreign certificate":  {cert: join(leaf.pem(), signed(other, nil)), key: keyPEM(t, key), refused: "does not belong to the chain of mail.example.test"},
		"old intermediate":     {cert: join(leaf.pem(), oldMiddle.pem()), key: keyPEM(t, key), refused: `intermediate certificate "Middle" expired`},
		"expired":              {cert: signed(key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), key: keyPEM(t, key), refused: "expired on"},
		"not yet":              {cert: signed(key, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), key: keyPEM(t, key), refused: "is the clock right"},
		"weak RSA":             {cert: signed(small, nil), key: keyPEM(t, small), refused: "RSA with 1024 bits"},
		"weak curve":           {cert: signed(ecKey(t, elliptic.P224()), nil), key: keyPEM(t, key), refused: "belongs to none"},
		"no names":             {cert: signed(key, func(c *x509.Certificate) { c.DNSNames = nil }), key: keyPEM(t, key), refused: "no name in subjectAltName"},
		"for clients":          {cert: signed(key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), key: keyPEM(t, key), refused: "lacks serverAuth"},
		"control character":    {cert: signed(key, func(c *x509.Certificate) { c.Subject.CommonName = "mail.example.test\x00.evil.test" }), key: keyPEM(t, key), refused: "control character"},
		"no certificate":       {cert: keyPEM(t, key), key: keyPEM(t, key), refused: "has no certificate"},
		"DER":                  {cert: leaf.cert.Raw, key: keyPEM(t, key), refused: "openssl pkcs12"},
		"damaged":              {cert: pemOf("CERTIFICATE", leaf.cert.Raw[:100]), key: keyPEM(t, key), refused: "certificate 1 of the file can't be read"},
		"no key":               {cert: leaf.pem(), key: leaf.pem(), refused: "has no private key"},
		"two keys":             {cert: leaf.pem(), key: join(keyPEM(t, key), keyPEM(t, other)), refused: "several private keys"},
		"damaged key":          {cert: leaf.pem(), key: pemOf("PRIVATE KEY", der[:20]), refused: "private key can't be read"},
		"too long":             {cert: bytes.Repeat([]byte("x"), maxPEM+1), key: keyPEM(t, key), refused: "larger than 1 MB"},
		"old encryption":       {cert: leaf.pem(), key: []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), refused: "openssl pkcs8 -topk8"},
	} {
		made, info, warnings, err := Import(x.cert, x.key, x.passphrase, time.Now())
		if x.refused != "" {
			if err == nil || !strings.Contains(err.Error(), x.refused) {
				t.Errorf("%s: %v, want %s", name, err, x.refused)
			}
			continue
		}
		if err != nil || info.Chain != x.chain || len(info.Names) == 0 {
			t.Errorf("%s: %+v %v", name, info, err)
		}
		if got := strings.Join(warnings, "; "); x.warned == "" && got != "" || !strings.Contains(got, x.warned) {
			t.Errorf("%s: warned of %q, want %q", name, got, x.warned)
		}
		if err := NewKeyring().Load([]Certificate{made}, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEncryptedKey: what OpenSSL encrypts is opened with the passphrase and with no other.
func TestEncryptedKey(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	cert := issue(t, nil, key, nil).pem()
	for _, how := range [][]string{{"-v2", "aes-256-cbc"}, {"-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"}, {"-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA512", "-iter", "10000"}, {"-scrypt"}} {
		cmd := exec.Command("openssl", append([]string{"pkcs8", "-topk8", "-passout", "pass:top secret"}, how...)...)
		cmd.Stdin = bytes.NewReader(keyPEM(t, key))
		enc, err := cmd.Output()
		if err != nil {
			t.Skip("openssl: ", err)
		}
		_, _, _, err = Import(cert, enc, "top secret", time.Now())
		if how[0] == "-scrypt" {
			if err == nil || !strings.Contains(err.Error(), "openssl pkcs8") {
				t.Errorf("%q: %v", how, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", how, err)
		}
		for pass, want := range map[string]string{"": "--passphrase-file", "guess": "passphrase"} {
			if _, _, _, err := Import(cert, enc, pass, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q with %q: %v", how, pass, err)
			}
		}
	}
}

func FuzzImport(f *testing.F) {
	key := ecKey(f, elliptic.P256())
	cert := issue(f, nil, key, nil).pem()
	f.Add(cert, keyPEM(f, key), "")
	f.Add(cert, []byte(encrypted), "x")
	f.Fuzz(func(t *testing.T, cert, key []byte, pass string) {
		c, _, _, err := Import(cert, key, pass, time.Now())
		if err == nil {
			if err := NewKeyring().Load([]Certificate{c}, ""); err != nil {
				t.Errorf("imported and not usable: %v", err)
			}
		}
	})
}

// encrypted is a key with 1 iteration, so that fuzzing is quick.
const encrypted = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHrMFYGCSqGSIb3DQEFDTBJMCgGCSqGSIb3DQEFDDAbBAhdYTwpxJ9fxgIBATAM
BggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQLbvS0kpTwqea0CSeIFrorgSBkDKq
Tkwah9OgWJbZhK638TqGYpNQw+R1yhEQgDbGsL4xG/q0g6hMvZm3NniFIKH1KNIM
ITEAXond3rcPIi2xa6mjoA9th3oKNvna/WgAuz6dqTpbjQE1cCQNx0KbOKa2UiMC
xntbWLw41ai/IAlsQeFmGbISXyXO31oyCKhlLsIo2F0Fzxcp5YHbuizULmnaMQ==
-----END ENCRYPTED PRIVATE KEY-----
`
