package model

import (
	"net/netip"
	"strings"
)

// Domain is a hosted domain: names for which this server is the final destination.
type Domain struct {
	Name        string   `cbor:"name" json:"name"` // A-label, lower case
	Description string   `cbor:"desc,omitempty" json:"description,omitempty"`
	Format      string   `cbor:"format,omitempty" json:"format"`     // of new addresses, such as <a>
	AutoAdd     bool     `cbor:"auto,omitempty" json:"auto_add"`     // new users join it
	Additional  []string `cbor:"add,omitempty" json:"additional"`    // further names with the same members
	CatchAll    string   `cbor:"catchall,omitempty" json:"catchall"` // user who gets mail for unknown addresses
	Created     int64    `cbor:"created" json:"created"`

	STS    DomainSTS    `cbor:"sts,omitempty" json:"sts"`
	Limits DomainLimits `cbor:"limits,omitempty" json:"limits"`
}

// DefaultFormat makes the user name the local part.
const DefaultFormat = "<a>"

// DomainRole is what a member may do with the domain's settings (R8.40).
type DomainRole string

// The roles.
const (
	RoleUser    DomainRole = "user"
	RoleManager DomainRole = "manager"
	RoleByGroup DomainRole = "group"
)

// DomainUser is a user's membership in a domain with his addresses there.
type DomainUser struct {
	Domain string     `cbor:"domain" json:"domain"`
	User   string     `cbor:"user" json:"user"`
	Role   DomainRole `cbor:"role,omitempty" json:"role"`
	Locals []string   `cbor:"locals" json:"addresses"` // local parts; the first is the main address
	Source string     `cbor:"src,omitempty" json:"source,omitempty"`
}

// UserKey is the key of the member in the table of users.
func (m *DomainUser) UserKey() string { return SourceKey(m.Source, m.User) }

// MaxAddresses bounds the addresses of one member.
const MaxAddresses = 100

// Validate checks the domain's own fields.
func (d *Domain) Validate() error {
	if err := ValidateDomainName("domain", d.Name); err != nil {
		return err
	}
	for _, a := range d.Additional {
		if err := ValidateDomainName("additional", a); err != nil {
			return err
		}
	}
	if err := d.STS.Validate(); err != nil {
		return err
	}
	if err := d.Limits.Validate(); err != nil {
		return err
	}
	return ValidateFormat(d.Format)
}

// ValidateFormat checks a default address format for local users (R8.07, R8.08).
func ValidateFormat(format string) error {
	rest := format
	for {
		i := strings.IndexByte(rest, '<')
		if i < 0 {
			break
		}
		j := strings.IndexByte(rest[i:], '>')
		if j < 0 {
			return Invalid("format", "%q has a < without >", format)
		}
		switch v := rest[i+1 : i+j]; {
		case v == "a" || v == "m":
		case len(v) > 1 && len(v) < 4 && v[len(v)-1] == 'a' && strings.Trim(v[:len(v)-1], "0123456789") == "":
		default:
			return Invalid("format", "<%s> is not a variable of local users; use <a> (account name), <m> (nickname) or <3a> (first 3 characters of the name)", v)
		}
		rest = rest[i+j+1:]
	}
	return nil
}

// FormatAddress makes the local part of a user by a format; empty when a variable of it is empty.
func FormatAddress(format string, u *User) string {
	if format == "" {
		format = DefaultFormat
	}
	var b strings.Builder
	for format != "" {
		i := strings.IndexByte(format, '<')
		j := strings.IndexByte(format, '>')
		if i < 0 || j < i {
			b.WriteString(format)
			break
		}
		b.WriteString(format[:i])
		value := u.Name
		v := format[i+1 : j]
		if v == "m" {
			value = u.Nickname
		} else if n := strings.TrimSuffix(v, "a"); n != "" {
			k := 0
			for _, c := range n {
				k = k*10 + int(c-'0')
			}
			if r := []rune(value); len(r) > k {
				value = string(r[:k])
			}
		}
		if value == "" {
			return ""
		}
		b.WriteString(value)
		format = format[j+1:]
	}
	return strings.ToLower(b.String())
}

// ValidateDomainName checks a domain name in A-label form (RFC 1035 §2.3.1, RFC 5321 §4.1.2).
func ValidateDomainName(field, name string) error {
	if name == "" {
		return Invalid(field, "is empty")
	}
	if len(name) > 253 {
		return Invalid(field, "%q has %d octets, more than 253", name, len(name))
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return Invalid(field, "%q is an IP address; a domain name is needed", name)
	}
	labels := strings.Split(name, ".")
	if len(labels) < 2 {
		return Invalid(field, "%q has no dot; a full domain name such as example.com is needed", name)
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 {
			return Invalid(field, "%q has an empty label or one above 63 octets", name)
		}
		if l[0] == '-' || l[len(l)-1] == '-' {
			return Invalid(field, "%q: the label %q starts or ends with a hyphen", name, l)
		}
		for _, c := range []byte(l) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return Invalid(field, "%q contains %q, which a domain name can't have", name, c)
			}
		}
	}
	return nil
}

// ValidateHostname checks a fully qualified host name.
func ValidateHostname(field, name string) error {
	if err := ValidateDomainName(field, name); err != nil {
		return err
	}
	if strings.ContainsRune(name, '_') {
		return Invalid(field, "%q contains an underscore, which a host name can't have", name)
	}
	return nil
}

// FoldDomain gives the form in which domain names are compared and stored.
func FoldDomain(name string) string {
	return strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), ".")
}

// SplitAddress cuts an address at its last @; ok is false when there is none or a side is empty.
func SplitAddress(address string) (local, domain string, ok bool) {
	i := strings.LastIndexByte(address, '@')
	if i <= 0 || i == len(address)-1 {
		return "", "", false
	}
	return address[:i], address[i+1:], true
}
