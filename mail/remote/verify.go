package remote

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Kinds of failure, as reports call them (RFC 8460 §4.3).
const (
	failNoTLS      = "starttls-not-supported"
	failName       = "certificate-host-mismatch"
	failExpired    = "certificate-expired"
	failUntrusted  = "certificate-not-trusted"
	failValidation = "validation-failure"
	failTLSA       = "tlsa-invalid"
	failDNSSEC     = "dnssec-invalid"
	failDANE       = "dane-required"
)

// certFailure: the certificate is not what is demanded.
type certFailure struct {
	kind string // one of the above
	err  error
}

func (f *certFailure) Error() string { return f.err.Error() }
func (f *certFailure) Unwrap() error { return f.err }

// verifyPKIX checks a chain, the server's own certificate first, against roots (nil: the system's)
// and the names that it may have, of which one suffices.
func verifyPKIX(chain []*x509.Certificate, roots *x509.CertPool, names []string, now time.Time) error {
	if len(chain) == 0 {
		return &certFailure{failValidation, errors.New("the server has no certificate")}
	}
	leaf, between := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return chainFailure(leaf, err)
	}
	if !named(leaf, names) {
		return &certFailure{failName, fmt.Errorf("the certificate is for %s, not for %s", namesOf(leaf), strings.Join(names, " or "))}
	}
	return nil
}

// chainFailure says in words why a chain is no good.
func chainFailure(leaf *x509.Certificate, err error) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		c := leaf
		if invalid.Cert != nil {
			c = invalid.Cert
		}
		return &certFailure{failExpired, fmt.Errorf("the certificate (%s) is valid from %s to %s only", oneLine(subject(c)), c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly))}
	case errors.As(err, &unknown) && slices.Equal(leaf.RawIssuer, leaf.RawSubject):
		return &certFailure{failUntrusted, errors.New("the certificate is self-signed and not trusted here")}
	case errors.As(err, &unknown):
		return &certFailure{failUntrusted, fmt.Errorf("the certificate is signed by %q, which is not trusted here", oneLine(leaf.Issuer.String()))}
	}
	return &certFailure{failValidation, fmt.Errorf("the certificate is not valid: %w", err)}
}

func subject(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return s
	}
	return namesOf(c)
}

// named tells whether a certificate has one of the wanted names: a host, an address, or with a dot
// in front anything below a domain. Only names of the extension count, the common name doesn't (RFC 9525 §6.3).
func named(c *x509.Certificate, want []string) bool {
	for _, w := range want {
		w = strings.ToLower(strings.TrimSuffix(strings.Trim(w, "[]"), "."))
		if ip, err := netip.ParseAddr(w); err == nil {
			for _, has := range c.IPAddresses {
				if a, ok := netip.AddrFromSlice(has); ok && a.Unmap() == ip.Unmap() {
					return true
				}
			}
			continue
		}
		for _, has := range c.DNSNames {
			if matchName(strings.ToLower(has), w) {
				return true
			}
		}
	}
	return false
}

// matchName compares a certificate's name with a wanted one. A star in the certificate stands for
// one label, the first. What is no name, such as one with a NUL in it, matches nothing.
func matchName(has, want string) bool {
	has = strings.TrimSuffix(has, ".")
	rest, star := strings.CutPrefix(has, "*.")
	if !plainName(rest) {
		return false
	}
	if below, ok := strings.CutPrefix(want, "."); ok {
		return strings.HasSuffix(rest, "."+below) || star && rest == below
	}
	if !star {
		return has == want
	}
	_, parent, ok := strings.Cut(want, ".")
	return ok && parent == rest && strings.Contains(rest, ".")
}

func plainName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return s != ""
}

// namesOf lists a certificate's names for people.
func namesOf(c *x509.Certificate) string {
	var list []string
	for _, n := range c.DNSNames {
		if plainName(strings.TrimPrefix(strings.ToLower(n), "*.")) {
			list = append(list, n)
		} else {
			list = append(list, fmt.Sprintf("%.80q, which is no name,", n))
		}
	}
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	switch {
	case len(list) == 0:
		return "no name"
	case len(list) > 5:
		list = append(list[:5], "…")
	}
	return strings.Join(list, ", ")
}

// verifyPin compares the certificate, or its public key, with SHA-256 fingerprints in lower-case hex.
func verifyPin(chain []*x509.Certificate, pins []string) error {
	if len(chain) == 0 {
		return &certFailure{failValidation, errors.New("the server has no certificate")}
	}
	cert, key := sha256.Sum256(chain[0].Raw), sha256.Sum256(chain[0].RawSubjectPublicKeyInfo)
	if slices.Contains(pins, hex.EncodeToString(cert[:])) || slices.Contains(pins, hex.EncodeToString(key[:])) {
		return nil
	}
	return &certFailure{failUntrusted, fmt.Errorf("the certificate has the fingerprint %x, which is not the one that was given", cert)}
}
