package model

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/netip"
	"slices"
	"strings"
)

// Levels of a TLS policy, from the weakest on.
const (
	TLSLevelNone        = "none"        // never encrypted
	TLSLevelMay         = "may"         // encrypted when it is offered
	TLSLevelRequire     = "require"     // encrypted, or the mail waits
	TLSLevelVerify      = "verify"      // with a trusted certificate of the right name, or the mail waits
	TLSLevelDANE        = "dane"        // with a certificate that DNSSEC vouches for, or the mail waits
	TLSLevelFingerprint = "fingerprint" // with a certificate that is known, or the mail waits
)

// TLSPolicy is how mail to a destination is protected.
type TLSPolicy struct {
	Domain      string   `cbor:"domain" json:"domain"` // domain; .domain: all below it; *: all others; also the host of a relay
	Level       string   `cbor:"level" json:"level"`
	Name        []string `cbor:"names,omitempty" json:"name"`       // of the certificate, one suffices; .name: all below
	Fingerprint []string `cbor:"pins,omitempty" json:"fingerprint"` // SHA-256 of the certificate or its public key, hex
	Created     int64    `cbor:"created" json:"created"`
}

// MaxTLSNames bounds the names and fingerprints of one policy.
const MaxTLSNames = 100

// AnyDestination is the domain of the policy for all that have none of their own.
const AnyDestination = "*"

// Validate checks the policy and brings names and fingerprints into the form in which they are compared.
func (p *TLSPolicy) Validate() error {
	if p.Domain != AnyDestination {
		if _, err := netip.ParseAddr(p.Domain); err != nil {
			if err := validateBelow("domain", p.Domain); err != nil {
				return err
			}
		}
	}
	switch p.Level {
	case TLSLevelNone, TLSLevelMay, TLSLevelRequire, TLSLevelVerify, TLSLevelDANE, TLSLevelFingerprint:
	default:
		return Invalid("level", "%q is none of none, may, require, verify, dane, fingerprint", p.Level)
	}
	if len(p.Name) > 0 && p.Level != TLSLevelVerify {
		return Invalid("name", "names are compared with --level verify only")
	}
	if (len(p.Fingerprint) > 0) != (p.Level == TLSLevelFingerprint) {
		return Invalid("fingerprint", "--level fingerprint and --fingerprint SHA-256 belong together")
	}
	if len(p.Name)+len(p.Fingerprint) > MaxTLSNames {
		return Invalid("name", "more than %d", MaxTLSNames)
	}
	for i, n := range p.Name {
		n = FoldDomain(n)
		if _, err := netip.ParseAddr(n); err != nil {
			if err := validateBelow("name", n); err != nil {
				return err
			}
		}
		p.Name[i] = n
	}
	for i, f := range p.Fingerprint {
		f = strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(f))
		if raw, err := hex.DecodeString(f); err != nil || len(raw) != 32 {
			return Invalid("fingerprint", "%q is no SHA-256 fingerprint: 64 hexadecimal digits, with or without colons", p.Fingerprint[i])
		}
		p.Fingerprint[i] = f
	}
	slices.Sort(p.Name)
	slices.Sort(p.Fingerprint)
	p.Name, p.Fingerprint = slices.Compact(p.Name), slices.Compact(p.Fingerprint)
	return nil
}

// validateBelow checks a domain, or one with a dot in front that stands for all below it.
func validateBelow(field, name string) error {
	if strings.HasPrefix(name, ".") {
		name = "any" + name // also of a single label, such as .gov
	}
	return ValidateDomainName(field, name)
}

// TrustedCA is an authority, or a single certificate, that is trusted besides those of the system
// when the certificates of other servers are verified.
type TrustedCA struct {
	Name    string `cbor:"name" json:"name"`
	Cert    string `cbor:"cert" json:"-"` // PEM, one or more
	Created int64  `cbor:"created" json:"created"`
}

// MaxTrustedCA bounds the PEM of one entry, in octets.
const MaxTrustedCA = 256 << 10

// Validate checks the entry's own fields.
func (c *TrustedCA) Validate() error {
	if err := ValidateLabel("name", c.Name); err != nil {
		return err
	}
	_, err := c.Certificates()
	return err
}

// Certificates reads the PEM.
func (c *TrustedCA) Certificates() (out []*x509.Certificate, err error) {
	if len(c.Cert) > MaxTrustedCA {
		return nil, Invalid("cert", "has %d octets, more than %d", len(c.Cert), MaxTrustedCA)
	}
	for rest := []byte(c.Cert); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, Invalid("cert", "contains a %s; only certificates belong there", block.Type)
		}
		x, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, Invalid("cert", "certificate %d can't be read: %v", len(out)+1, err)
		}
		out = append(out, x)
	}
	if len(out) == 0 {
		return nil, Invalid("cert", "contains no certificate; PEM is needed (-----BEGIN CERTIFICATE-----)")
	}
	return out, nil
}
