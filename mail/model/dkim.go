package model

import (
	"encoding/base64"
	"strings"
)

// Algorithms of DKIM keys (RFC 6376 §3.3.2, RFC 8463 §3).
const (
	DKIMRSA     = "rsa"
	DKIMEd25519 = "ed25519"
)

// DKIM is how a domain's outgoing mail is signed (RFC 6376). A key pair serves the domain and its
// additional names (A.60).
type DKIM struct {
	Domain   string    `cbor:"domain" json:"domain"`
	Enabled  bool      `cbor:"on,omitempty" json:"enabled"`
	Selector string    `cbor:"sel,omitempty" json:"selector"` // of the pair that signs
	Also     string    `cbor:"also,omitempty" json:"also"`    // of a second pair that signs as well; empty: none
	Keys     []DKIMKey `cbor:"keys,omitempty" json:"keys"`
}

// DKIMKey is a key pair under a selector.
type DKIMKey struct {
	Selector  string `cbor:"sel" json:"selector"`
	Algorithm string `cbor:"alg" json:"algorithm"`
	Bits      int    `cbor:"bits,omitempty" json:"bits"` // of an RSA key
	Public    []byte `cbor:"pub" json:"-"`               // what p= holds, decoded
	Private   string `cbor:"key" json:"-"`               // PKCS #8 in base64, sealed
	Created   int64  `cbor:"created" json:"created"`
	Retired   int64  `cbor:"retired,omitempty" json:"retired"` // when it ceased to sign; 0: it signs, or has not yet
}

// MaxDKIMKeys bounds the key pairs of one domain.
const MaxDKIMKeys = 8

// Key finds the pair of a selector; nil: there is none.
func (d *DKIM) Key(selector string) *DKIMKey {
	for i := range d.Keys {
		if d.Keys[i].Selector == selector {
			return &d.Keys[i]
		}
	}
	return nil
}

// Signs tells whether a pair is one that signs.
func (d *DKIM) Signs(k *DKIMKey) bool {
	return d.Enabled && (k.Selector == d.Selector || k.Selector == d.Also)
}

// Signing gives the pairs that sign; none when signing is off.
func (d *DKIM) Signing() (out []*DKIMKey) {
	for i := range d.Keys {
		if d.Signs(&d.Keys[i]) {
			out = append(out, &d.Keys[i])
		}
	}
	return out
}

// Validate checks what the row itself can tell.
func (d *DKIM) Validate() error {
	if err := ValidateDomainName("domain", d.Domain); err != nil {
		return err
	}
	if len(d.Keys) > MaxDKIMKeys {
		return Invalid("selector", "%d key pairs are more than %d; take one out with --drop", len(d.Keys), MaxDKIMKeys)
	}
	seen := map[string]bool{}
	for _, k := range d.Keys {
		if err := ValidateSelector("selector", k.Selector); err != nil {
			return err
		}
		if seen[k.Selector] {
			return Invalid("selector", "%s has two key pairs", k.Selector)
		}
		seen[k.Selector] = true
	}
	if d.Enabled && !seen[d.Selector] || d.Also != "" && !seen[d.Also] {
		return Invalid("selector", "there is no key pair that could sign")
	}
	if d.Also != "" && d.Also == d.Selector {
		return Invalid("also", "%s is the selector that signs already", d.Also)
	}
	return nil
}

// ValidateSelector checks a selector: one or more labels of a domain name (RFC 6376 §3.1).
func ValidateSelector(field, selector string) error {
	if selector == "" || len(selector) > 63 || ValidateDomainName(field, selector+".test") != nil || strings.HasPrefix(selector, "_") {
		return Invalid(field, "%q is no selector: up to 63 lower-case letters, digits and hyphens, such as mail or 2026a", selector)
	}
	return nil
}

// DKIMRecordName is where a public key is published (RFC 6376 §3.6.2.1).
func DKIMRecordName(selector, domain string) string { return selector + "._domainkey." + domain }

// Record is the TXT record that publishes the public key (R8.32).
func (k *DKIMKey) Record() string {
	return "v=DKIM1; k=" + k.Algorithm + "; p=" + base64.StdEncoding.EncodeToString(k.Public)
}
