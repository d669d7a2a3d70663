package model

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// DomainSTS is what a hosted domain tells others about TLS towards its servers: an MTA-STS policy
// (RFC 8461), and who hears how it goes (RFC 8460).
type DomainSTS struct {
	Mode     string   `cbor:"mode,omitempty" json:"mode"`     // off, none, testing or enforce
	MaxAge   int      `cbor:"age,omitempty" json:"max_age"`   // seconds that others keep the policy
	ReportTo []string `cbor:"rua,omitempty" json:"report_to"` // mail addresses
}

// Modes of a hosted domain's policy.
const (
	STSOff     = "off"     // there is no policy
	STSNone    = "none"    // the policy says that there is none any more
	STSTesting = "testing" // others tell of failures and send all the same
	STSEnforce = "enforce" // others send safely or not at all
)

// DefaultSTSMaxAge is a week, in seconds.
const DefaultSTSMaxAge = 604800

// MaxSTSReports bounds the addresses that reports go to.
const MaxSTSReports = 5

// Validate checks the policy.
func (s *DomainSTS) Validate() error {
	if !slices.Contains([]string{"", STSOff, STSNone, STSTesting, STSEnforce}, s.Mode) {
		return Invalid("mode", "%q is none of off, none, testing, enforce", s.Mode)
	}
	if s.MaxAge < 0 || s.MaxAge > 31557600 {
		return Invalid("max-age", "%d is outside 0 to 31557600 seconds (a year)", s.MaxAge)
	}
	if len(s.ReportTo) > MaxSTSReports {
		return Invalid("report-to", "%d addresses are more than %d", len(s.ReportTo), MaxSTSReports)
	}
	for _, a := range s.ReportTo {
		local, domain, ok := SplitAddress(a)
		if !ok || strings.ContainsAny(a, ",;!?% \t\r\n") {
			return Invalid("report-to", "%q is no address that a DNS record can have", a)
		}
		if err := ValidateLocalPart("report-to", local); err != nil {
			return err
		}
		if err := ValidateDomainName("report-to", FoldDomain(domain)); err != nil {
			return err
		}
	}
	return nil
}

// STSPolicy gives the policy file of the domain, whose only mail server is host, and the ID that
// its record has: another one for every other text. nil: there is no policy.
func (d *Domain) STSPolicy(host string) (text []byte, id string) {
	s := &d.STS
	if s.Mode == "" || s.Mode == STSOff || host == "" {
		return nil, ""
	}
	text = fmt.Appendf(nil, "version: STSv1\r\nmode: %s\r\nmx: %s\r\nmax_age: %d\r\n", s.Mode, host, s.MaxAge)
	sum := sha256.Sum256(text)
	return text, hex.EncodeToString(sum[:10])
}
