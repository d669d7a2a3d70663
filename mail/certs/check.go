package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Info is what a certificate says.
type Info struct {
	Subject, Issuer     string
	Names               []string
	NotBefore, NotAfter time.Time
	Fingerprint         string // SHA-256
	SelfSigned          bool
	Chain               int    // certificates with the leaf
	Key                 string // such as "ECDSA P-256" or "RSA 2048"
}

// Limits of what is read.
const (
	maxPEM   = 1 << 20 // octets
	maxChain = 20      // certificates
	minRSA   = 2048    // bits; fewer are refused by clients
)

// Read gives what a stored certificate says, good or not.
func Read(certPEM []byte) (Info, error) {
	chain, err := parseChain(certPEM)
	if err != nil {
		return Info{}, err
	}
	return describe(chain), nil
}

// Import makes a certificate of a PEM file and a key, which passphrase opens if it is encrypted:
// the chain in its order, without its root. It says why one can't serve: key and chain must belong
// together, be strong enough and be good now. Warnings tell what clients may not like.
func Import(certPEM, keyPEM []byte, passphrase string, now time.Time) (c Certificate, info Info, warnings []string, err error) {
	if len(certPEM) > maxPEM || len(keyPEM) > maxPEM {
		return c, info, nil, errors.New("the file is larger than 1 MB")
	}
	chain, err := parseChain(certPEM)
	if err != nil {
		return c, info, nil, err
	}
	key, keyPEM, err := openKey(keyPEM, passphrase)
	if err != nil {
		return c, info, nil, err
	}
	leaf, err := leafOf(chain, key)
	if err != nil {
		return c, info, nil, err
	}
	sorted, rooted, err := sortChain(chain, leaf)
	if err != nil {
		return c, info, nil, err
	}
	if !slices.Equal(sorted, chain[:len(sorted)]) {
		warnings = append(warnings, "the certificates of the file were out of order; they are stored in the right one")
	}
	if err := usable(leaf, now); err != nil {
		return c, info, nil, err
	}
	for _, p := range sorted[1:] {
		if now.After(p.NotAfter) {
			return c, info, nil, fmt.Errorf("the intermediate certificate %q expired on %s; get the current chain from the authority", p.Subject.CommonName, p.NotAfter.Format(time.DateOnly))
		}
	}
	if w := incomplete(sorted, now); w != "" && !rooted {
		warnings = append(warnings, w)
	}
	for _, x := range sorted {
		c.CertPEM = append(c.CertPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Raw})...)
	}
	c.KeyPEM = keyPEM
	if _, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM); err != nil {
		return c, info, nil, fmt.Errorf("certificate and key can't be used: %s", strings.TrimPrefix(err.Error(), "tls: "))
	}
	return c, describe(sorted), warnings, nil
}

// parseChain reads the certificates of a PEM file.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := text; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		if len(out) == maxChain {
			return nil, fmt.Errorf("the file has more than %d certificates", maxChain)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the file can't be read: %s", len(out)+1, strings.TrimPrefix(err.Error(), "x509: "))
		}
		for _, n := range append(slices.Clone(c.DNSNames), c.Subject.CommonName) {
			if strings.ContainsFunc(n, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return nil, errors.New("a name of the certificate contains a control character")
			}
		}
		out = append(out, c)
	}
	if len(out) > 0 {
		return out, nil
	}
	if len(text) > 0 && text[0] == '0' { // DER, as PKCS#12 and .cer files are
		return nil, errors.New("the file is no PEM file; convert PKCS#12 with: openssl pkcs12 -in FILE -nodes -out FILE.pem, and DER with: openssl x509 -inform der -in FILE -out FILE.pem")
	}
	return nil, errors.New(`the file has no certificate; it must have a part "-----BEGIN CERTIFICATE-----"`)
}

// samePublic tells whether a certificate is for a key.
func samePublic(c *x509.Certificate, key crypto.Signer) bool {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(c.PublicKey)
}

// leafOf finds the certificate that the key belongs to.
func leafOf(chain []*x509.Certificate, key crypto.Signer) (*x509.Certificate, error) {
	for _, c := range chain {
		if samePublic(c, key) {
			return c, nil
		}
	}
	return nil, fmt.Errorf("certificate and key can't be used: the key belongs to none of the file's certificates; the first is for %s", label(chain[0]))
}

func label(c *x509.Certificate) string {
	switch {
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	}
	return "serial number " + c.SerialNumber.String()
}

// sortChain puts the leaf first and each certificate before its issuer, and leaves the root out,
// which clients have; rooted tells that it was there.
func sortChain(chain []*x509.Certificate, leaf *x509.Certificate) (out []*x509.Certificate, rooted bool, err error) {
	out = []*x509.Certificate{leaf}
	left := slices.DeleteFunc(slices.Clone(chain), func(c *x509.Certificate) bool { return c.Equal(leaf) })
	for last := leaf; !selfSigned(last); {
		i := slices.IndexFunc(left, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(c) == nil
		})
		if i < 0 {
			break
		}
		last = left[i]
		left = slices.Delete(left, i, i+1)
		if rooted = selfSigned(last); !rooted {
			out = append(out, last)
		}
	}
	if len(left) > 0 {
		return nil, false, fmt.Errorf("the certificate of %s in the file does not belong to the chain of %s; take it out, or give the right chain", label(left[0]), label(leaf))
	}
	return out, rooted, nil
}

// usable says why a leaf can't serve.
func usable(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate expired on %s", leaf.NotAfter.Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is good from %s on only; is the clock right? (mpctl check time)", leaf.NotBefore.Format(time.RFC3339))
	case len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0:
		return errors.New("the certificate has no name in subjectAltName; clients do not look at the common name any more (RFC 6125)")
	case len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errors.New("the certificate is not for servers: its extended key usage lacks serverAuth")
	}
	switch leaf.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return fmt.Errorf("the certificate is signed with %s, which clients refuse; order a new one", leaf.SignatureAlgorithm)
	}
	return strong(leaf.PublicKey)
}

func strong(pub any) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA {
			return fmt.Errorf("the key is weak: RSA with %d bits; clients want %d", n, minRSA)
		}
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n < 256 {
			return fmt.Errorf("the key is weak: ECDSA with %d bits; clients want 256", n)
		}
	case ed25519.PublicKey:
	default:
		return errors.New("the key is of a kind that TLS does not know; take ECDSA or RSA")
	}
	return nil
}

// incomplete tells that clients may not find the way from the chain to a root.
func incomplete(chain []*x509.Certificate, now time.Time) string {
	leaf, last := chain[0], chain[len(chain)-1]
	if selfSigned(last) {
		return ""
	}
	opt := x509.VerifyOptions{Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range chain[1:] {
		opt.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opt); err == nil {
		return ""
	}
	return fmt.Sprintf("the chain ends at %q, whose issuer %q is neither in the file nor a root known here: if an intermediate certificate is missing, many clients will refuse; append it to the file and import again. With a private authority all is well", label(last), last.Issuer.CommonName)
}

func describe(chain []*x509.Certificate) Info {
	leaf := chain[0]
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	sum := sha256.Sum256(leaf.Raw)
	info := Info{
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Names: names, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		Fingerprint: hex.EncodeToString(sum[:]), SelfSigned: selfSigned(leaf), Chain: len(chain), Key: leaf.PublicKeyAlgorithm.String(),
	}
	switch k := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		info.Key = fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		info.Key = "ECDSA " + k.Curve.Params().Name
	}
	return info
}
