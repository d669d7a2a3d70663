package message

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"mailplusd/mail/srs"

	"golang.org/x/net/idna"
)

// Address is a mailbox of SMTP (RFC 5321 §4.1.2). The zero value is the null reverse path.
type Address struct {
	Local  string // without quotes
	Domain string // A-label, lower case; an address literal keeps its brackets
}

// IsNull tells whether it is the null path <>.
func (a Address) IsNull() bool { return a.Local == "" && a.Domain == "" }

// String gives the address as it stands in a path, the local part quoted where needed.
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	local := a.Local
	if !isDotString(local, true) {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// Limits of RFC 5321 §4.5.3.1, in octets.
const (
	maxLocal  = 64
	maxDomain = 255
	maxPath   = 254
)

// ParseMailbox parses what stands between the angle brackets of a path: local@domain. UTF-8
// is allowed with SMTPUTF8 only (RFC 6531).
func ParseMailbox(s string, utf8Allowed bool) (Address, error) {
	if len(s) > maxPath {
		return Address{}, fmt.Errorf("address has %d octets, more than %d", len(s), maxPath)
	}
	if !utf8.ValidString(s) {
		return Address{}, errors.New("address is not valid UTF-8")
	}
	if !utf8Allowed {
		for i := range len(s) {
			if s[i] >= 0x80 {
				return Address{}, errors.New("address has non-ASCII characters, but SMTPUTF8 was not asked for")
			}
		}
	}
	local, rest, err := cutLocal(s)
	if err != nil {
		return Address{}, err
	}
	if len(local) > maxLocal && !(srs.Is(local) && len(local) <= srs.MaxLocal) { // what was rewritten here comes back
		return Address{}, fmt.Errorf("local part has %d octets, more than %d", len(local), maxLocal)
	}
	domain, err := parseDomain(rest)
	if err != nil {
		return Address{}, err
	}
	return Address{Local: local, Domain: domain}, nil
}

// cutLocal takes the local part (dot-string or quoted-string) and the @ off the front.
func cutLocal(s string) (local, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexByte(s, '@')
		if i < 0 {
			return "", "", errors.New("address has no @")
		}
		if !isDotString(s[:i], true) {
			return "", "", errors.New("local part has characters that must be quoted")
		}
		return s[:i], s[i+1:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			if i+1 >= len(s) || s[i+1] != '@' {
				return "", "", errors.New("quoted local part is not followed by @")
			}
			if b.Len() == 0 {
				return "", "", errors.New("local part is empty")
			}
			return b.String(), s[i+2:], nil
		case c == '\\':
			if i++; i >= len(s) || s[i] < ' ' || s[i] == 0x7f {
				return "", "", errors.New("bad escape in quoted local part")
			}
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f:
			return "", "", errors.New("control character in quoted local part")
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("quoted local part has no end")
}

// isDotString checks atoms joined by single dots (RFC 5321 §4.1.2).
func isDotString(s string, utf8 bool) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c == '.' || isAtext(c) || utf8 && c >= 0x80) {
			return false
		}
	}
	return true
}

func isAtext(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// parseDomain checks a domain or address literal and gives it in A-label form.
func parseDomain(s string) (string, error) {
	if s == "" {
		return "", errors.New("address has no domain")
	}
	if s[0] == '[' {
		return parseLiteral(s)
	}
	for i := range len(s) {
		if s[i] >= 0x80 {
			a, err := idna.Lookup.ToASCII(s)
			if err != nil {
				return "", fmt.Errorf("domain: %w", err)
			}
			s = a
			break
		}
	}
	s = strings.ToLower(s)
	if len(s) > maxDomain {
		return "", fmt.Errorf("domain has %d octets, more than %d", len(s), maxDomain)
	}
	for _, l := range strings.Split(s, ".") {
		switch {
		case l == "":
			return "", errors.New("domain has an empty label")
		case len(l) > 63:
			return "", fmt.Errorf("a label of the domain has %d octets, more than 63", len(l))
		case l[0] == '-' || l[len(l)-1] == '-':
			return "", errors.New("a label of the domain starts or ends with a hyphen")
		}
		for i := range len(l) {
			if c := l[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return "", fmt.Errorf("domain contains %q", c)
			}
		}
	}
	return s, nil
}

func parseLiteral(s string) (string, error) {
	if !strings.HasSuffix(s, "]") {
		return "", errors.New("address literal has no ]")
	}
	in := s[1 : len(s)-1]
	if v6, ok := cutFold(in, "IPv6:"); ok {
		ip, err := netip.ParseAddr(v6)
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", errors.New("bad IPv6 address literal")
		}
		return "[IPv6:" + ip.String() + "]", nil
	}
	ip, err := netip.ParseAddr(in)
	if err != nil || !ip.Is4() {
		return "", errors.New("bad address literal")
	}
	return "[" + ip.String() + "]", nil
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
