// Package certs keeps the TLS certificates of the services: made at set-up, imported,
// chosen by the name that a client asks for, and replaced without a restart.
package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Certificate is a certificate chain with its key, as PEM.
type Certificate struct {
	Name            string
	CertPEM, KeyPEM []byte
	Source          string // self-signed or imported
}

// Info is what a certificate says.
type Info struct {
	Subject, Issuer     string
	Names               []string
	NotBefore, NotAfter time.Time
	Fingerprint         string // SHA-256
	SelfSigned          bool
}

// SelfSigned makes a certificate for names that is good for ten years from now on.
func SelfSigned(name string, names []string, now time.Time) (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &Certificate{
		Name: name, Source: "self-signed",
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}),
	}, nil
}

const maxPEM = 1 << 20

// Check says why a certificate can't serve: key and chain must belong together, names must be
// clean, and it must not have expired.
func Check(c *Certificate, now time.Time) (Info, error) {
	if len(c.CertPEM) > maxPEM || len(c.KeyPEM) > maxPEM {
		return Info{}, errors.New("the file is larger than 1 MB")
	}
	pair, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM)
	if err != nil {
		return Info{}, fmt.Errorf("certificate and key can't be used: %s", strings.TrimPrefix(err.Error(), "tls: "))
	}
	leaf := pair.Leaf
	for i := 1; i < len(pair.Certificate); i++ {
		parent, err := x509.ParseCertificate(pair.Certificate[i])
		if err != nil {
			return Info{}, fmt.Errorf("certificate %d of the chain: %w", i+1, err)
		}
		child, err := x509.ParseCertificate(pair.Certificate[i-1])
		if err != nil {
			return Info{}, err
		}
		if !bytes.Equal(child.RawIssuer, parent.RawSubject) {
			return Info{}, fmt.Errorf("the chain is out of order: certificate %d is not the issuer of the one before", i+1)
		}
	}
	for _, n := range append(leaf.DNSNames, leaf.Subject.CommonName) {
		if strings.ContainsAny(n, "\x00\r\n") {
			return Info{}, errors.New("a name of the certificate contains a control character")
		}
	}
	if now.After(leaf.NotAfter) {
		return Info{}, fmt.Errorf("the certificate expired on %s", leaf.NotAfter.Format(time.DateOnly))
	}
	return describe(leaf), nil
}

func describe(leaf *x509.Certificate) Info {
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	sum := sha256.Sum256(leaf.Raw)
	return Info{
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Names: names, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		Fingerprint: hex.EncodeToString(sum[:]), SelfSigned: bytes.Equal(leaf.RawSubject, leaf.RawIssuer),
	}
}

// Keyring gives each connection its certificate.
type Keyring struct{ p atomic.Pointer[ring] }

type ring struct {
	byName map[string]*tls.Certificate
	def    *tls.Certificate
	cfg    *tls.Config
}

// NewKeyring makes an empty ring: TLS fails until Load.
func NewKeyring() *Keyring {
	k := &Keyring{}
	k.p.Store(&ring{cfg: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.get}})
	return k
}

// Load replaces all certificates; connections that are open keep theirs.
func (k *Keyring) Load(list []Certificate, def string) error {
	r := &ring{byName: map[string]*tls.Certificate{}, cfg: k.p.Load().cfg}
	var errs error
	for _, c := range list {
		pair, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("certificate %s: %w", c.Name, err))
			continue
		}
		if c.Name == def || r.def == nil {
			r.def = &pair
		}
		for _, n := range pair.Leaf.DNSNames {
			r.byName[strings.ToLower(n)] = &pair
		}
	}
	k.p.Store(r)
	return errs
}

// Config is for servers: TLS 1.2 and 1.3 only (R6.10, R6.22).
func (k *Keyring) Config() *tls.Config { return k.p.Load().cfg }

func (k *Keyring) get(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	r := k.p.Load()
	name := strings.ToLower(strings.TrimSuffix(h.ServerName, "."))
	if c := r.byName[name]; c != nil {
		return c, nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if c := r.byName["*."+parent]; c != nil {
			return c, nil
		}
	}
	if r.def == nil {
		return nil, errors.New("no certificate")
	}
	return r.def, nil
}
