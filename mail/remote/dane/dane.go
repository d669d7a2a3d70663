// Package dane reads TLSA records and compares certificates with them as SMTP does (RFC 7672):
// usages DANE-TA and DANE-EE count, the PKIX ones don't.
package dane

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Certificate usages that SMTP knows (RFC 7672 §3.1).
const (
	UsageTA = 2 // the certificate of who signed the server's
	UsageEE = 3 // the server's own
)

// What a record is made of (RFC 6698 §2.1.2).
const (
	SelectorCert = 0
	SelectorSPKI = 1
)

// How a record is compared (RFC 6698 §2.1.3).
const (
	MatchFull   = 0
	MatchSHA256 = 1
	MatchSHA512 = 2
)

// MaxRecords bounds the records of one server that are looked at.
const MaxRecords = 100

// Record is one TLSA record.
type Record struct {
	Usage, Selector, Match uint8
	Data                   []byte
}

// String is the record as a zone has it.
func (r Record) String() string {
	return fmt.Sprintf("%d %d %d %x", r.Usage, r.Selector, r.Match, r.Data)
}

// FromAnswer takes the TLSA records out of an answer, MaxRecords at most.
func FromAnswer(rrs []dns.RR) []Record {
	var out []Record
	for _, rr := range rrs {
		t, ok := rr.(*dns.TLSA)
		if !ok || len(out) == MaxRecords {
			continue
		}
		data, err := hex.DecodeString(t.Certificate)
		if err != nil {
			data = nil // not usable, and yet a record
		}
		out = append(out, Record{Usage: t.Usage, Selector: t.Selector, Match: t.MatchingType, Data: data})
	}
	return out
}

// usable tells whether a record can be compared with anything (RFC 7672 §2.2, §3.1.3).
func (r *Record) usable() bool {
	if r.Usage != UsageTA && r.Usage != UsageEE || r.Selector > SelectorSPKI {
		return false
	}
	switch r.Match {
	case MatchSHA256:
		return len(r.Data) == sha256.Size
	case MatchSHA512:
		return len(r.Data) == sha512.Size
	case MatchFull:
		var err error
		if r.Selector == SelectorCert {
			_, err = x509.ParseCertificate(r.Data)
		} else {
			_, err = x509.ParsePKIXPublicKey(r.Data)
		}
		return err == nil
	}
	return false
}

// Usable leaves out what can't be compared, and of the digests of a usage and selector all but
// the strongest (RFC 7671 §9).
func Usable(list []Record) []Record {
	strong := map[[2]uint8]bool{}
	for _, r := range list {
		if r.usable() && r.Match == MatchSHA512 {
			strong[[2]uint8{r.Usage, r.Selector}] = true
		}
	}
	var out []Record
	for _, r := range list {
		if r.usable() && (r.Match != MatchSHA256 || !strong[[2]uint8{r.Usage, r.Selector}]) {
			out = append(out, r)
		}
	}
	return out
}

// is tells whether a record is of a certificate.
func (r *Record) is(c *x509.Certificate) bool {
	raw := c.Raw
	if r.Selector == SelectorSPKI {
		raw = c.RawSubjectPublicKeyInfo
	}
	switch r.Match {
	case MatchFull:
		return bytes.Equal(raw, r.Data)
	case MatchSHA256:
		sum := sha256.Sum256(raw)
		return bytes.Equal(sum[:], r.Data)
	case MatchSHA512:
		sum := sha512.Sum512(raw)
		return bytes.Equal(sum[:], r.Data)
	}
	return false
}

// Errors of Verify.
var (
	ErrNoMatch = errors.New("the certificate matches none of the TLSA records")
	ErrName    = errors.New("the certificate is signed as the TLSA records say, but is for another name")
)

// Verify compares a server's chain, its own certificate first, with usable records. Names and
// life time don't matter to DANE-EE (RFC 7672 §3.1.1); for DANE-TA the chain must lead to the record's
// certificate, which is either part of it or whole in the record, and named must like the first one.
func Verify(list []Record, chain []*x509.Certificate, named func(*x509.Certificate) bool, now time.Time) error {
	if len(chain) == 0 {
		return ErrNoMatch
	}
	roots, found := x509.NewCertPool(), false
	for i := range list {
		r := &list[i]
		if r.Usage == UsageEE {
			if r.is(chain[0]) {
				return nil
			}
			continue
		}
		for _, c := range chain {
			if r.is(c) {
				roots.AddCert(c)
				found = true
			}
		}
		if r.Selector == SelectorCert && r.Match == MatchFull {
			if c, err := x509.ParseCertificate(r.Data); err == nil {
				roots.AddCert(c)
				found = true
			}
		}
	}
	if !found {
		return ErrNoMatch
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return ErrNoMatch
		}
		return err
	}
	if !named(chain[0]) {
		return ErrName
	}
	return nil
}
