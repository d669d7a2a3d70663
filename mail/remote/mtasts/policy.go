// Package mtasts is the sender's side of MTA-STS (RFC 8461): it finds the policy of a domain by DNS and
// HTTPS, keeps it as long as the domain says, and tells which mail servers may be sent to.
package mtasts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Modes of a policy (RFC 8461 §5).
const (
	ModeEnforce = "enforce" // mail that can't be sent safely waits
	ModeTesting = "testing" // it is sent all the same, and reported
	ModeNone    = "none"    // there is no policy any more
)

// Limits of policies.
const (
	MaxPolicy = 64 << 10               // octets (RFC 8461 §3.3)
	MaxAge    = 31557600 * time.Second // RFC 8461 §3.2
	maxMX     = 5000                   // lines
)

// Policy is what a domain says about its mail servers.
type Policy struct {
	ID     string // of the TXT record
	Mode   string
	MX     []string // patterns, lower case
	MaxAge time.Duration
}

// ParsePolicy reads a policy file. Lines may end in LF only, as many do; keys that are not known
// are passed over, and of a key that is there twice the first one counts.
func ParsePolicy(raw []byte) (*Policy, error) {
	if len(raw) > MaxPolicy {
		return nil, errors.New("is larger than 64 KB")
	}
	p, seen := &Policy{MaxAge: -1}, map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		line = strings.Trim(line, " \t\r\n")
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if key, value = strings.TrimSpace(key), strings.TrimSpace(value); !ok {
			return nil, fmt.Errorf("has a line without a colon: %q", short(line))
		}
		if key != "mx" {
			if seen[key] {
				continue
			}
			seen[key] = true
		}
		if err := p.field(key, value); err != nil {
			return nil, err
		}
	}
	switch {
	case !seen["version"]:
		return nil, errors.New("has no version")
	case p.Mode == "":
		return nil, errors.New("has no mode")
	case p.MaxAge < 0:
		return nil, errors.New("has no max_age")
	case len(p.MX) == 0 && p.Mode != ModeNone:
		return nil, errors.New("names no mail server (mx)")
	}
	return p, nil
}

func (p *Policy) field(key, value string) error {
	switch key {
	case "version":
		if value != "STSv1" {
			return fmt.Errorf("has version %q, not STSv1", short(value))
		}
	case "mode":
		if value != ModeEnforce && value != ModeTesting && value != ModeNone {
			return fmt.Errorf("has mode %q, which is none of enforce, testing, none", short(value))
		}
		p.Mode = value
	case "max_age":
		n, err := strconv.ParseUint(value, 10, 40)
		if err != nil {
			return fmt.Errorf("has max_age %q, which is no number of seconds", short(value))
		}
		p.MaxAge = min(time.Duration(n)*time.Second, MaxAge)
	case "mx":
		pattern := strings.ToLower(strings.TrimSuffix(value, "."))
		if !hostPattern(pattern) {
			return fmt.Errorf("has mx %q, which is no name", short(value))
		}
		if len(p.MX) == maxMX {
			return fmt.Errorf("has more than %d mx", maxMX)
		}
		p.MX = append(p.MX, pattern)
	}
	return nil
}

// hostPattern: a name, or one whose first label is a star.
func hostPattern(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if s == "" || len(s) > 253 {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// Allows tells whether mail may go to a host. A star stands for one label (RFC 8461 §4.1).
func (p *Policy) Allows(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	_, parent, _ := strings.Cut(host, ".")
	for _, pattern := range p.MX {
		if rest, star := strings.CutPrefix(pattern, "*."); star && rest == parent && parent != "" || pattern == host {
			return true
		}
	}
	return false
}

// Lines is the policy as reports repeat it (RFC 8460 §4.4).
func (p *Policy) Lines() []string {
	out := []string{"version: STSv1", "mode: " + p.Mode}
	for i, mx := range p.MX {
		if i == 50 { // a report is no place for more
			break
		}
		out = append(out, "mx: "+mx)
	}
	return append(out, fmt.Sprintf("max_age: %d", int(p.MaxAge/time.Second)))
}

// ErrNone: the domain has no MTA-STS record.
var ErrNone = errors.New("there is no MTA-STS record")

// ParseRecord reads the TXT records at _mta-sts.DOMAIN and gives the policy's ID. ErrNone: none of
// them is about MTA-STS. Two that are don't count, either (RFC 8461 §3.1).
func ParseRecord(txts []string) (id string, err error) {
	found := ""
	for _, t := range txts {
		if version, _, _ := strings.Cut(t, ";"); strings.TrimRight(version, " \t") != "v=STSv1" {
			continue
		}
		if found != "" {
			return "", errors.New("there are two MTA-STS records")
		}
		found = t
	}
	if found == "" {
		return "", ErrNone
	}
	for _, f := range strings.Split(found, ";")[1:] {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		if k == "id" && id == "" {
			id = v
		}
	}
	if !ValidID(id) {
		return "", fmt.Errorf("the MTA-STS record has no valid id: %q", short(id))
	}
	return id, nil
}

// ValidID: 1 to 32 letters and digits (RFC 8461 §3.1).
func ValidID(id string) bool {
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return id != "" && len(id) <= 32
}

func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
