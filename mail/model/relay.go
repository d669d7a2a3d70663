package model

import (
	"net/netip"
	"slices"
	"strings"
)

// How mail for other servers leaves (R7.79).
const (
	RelayDirect = "direct" // to the servers of the recipient's domain
	RelaySingle = "single" // everything through one host
	RelayMulti  = "multi"  // through the host of the rule that matches, else direct
)

// How a connection to a relay host is protected (A.50).
const (
	RelayNoTLS    = "none"
	RelayStartTLS = "starttls" // when it is offered
	RelayRequire  = "require"  // STARTTLS, or the mail waits
	RelayWrapper  = "wrapper"  // TLS from the first octet (SMTPS)
)

// Relay is the host that all mail for other servers goes through (R7.78–R7.89).
type Relay struct {
	Mode     string `cbor:"mode" key:"mode" enum:"direct,single,multi" help:"how mail for other servers leaves: direct, through a single host, or by rules (multi)"`
	Host     string `cbor:"host" key:"host" help:"relay host of mode single: name or address"`
	Port     int    `cbor:"port" key:"port" min:"1" max:"65535" help:"TCP port of the relay host"`
	TLS      string `cbor:"tls" key:"tls" enum:"none,starttls,require,wrapper" help:"protection towards the relay host: starttls when offered, require, or wrapper (SMTPS)"`
	Auth     bool   `cbor:"auth" key:"auth" help:"log in at the relay host"`
	User     string `cbor:"user" key:"user" help:"account at the relay host"`
	Verify   bool   `cbor:"verify" key:"verify" help:"with require and wrapper: the relay host's certificate must be trusted and have its name, or the mail waits"`
	Password string `cbor:"pw" key:"password" secret:"true" readonly:"true" help:"password at the relay host, sealed; set by mpctl relay set"`
}

// Validate checks that what the mode needs is there.
func (r *Relay) Validate() error {
	if r.Mode == RelaySingle && r.Host == "" {
		return Invalid("host", "mode single needs the relay host's name or address: mpctl relay set --mode single --host HOST")
	}
	if r.Host != "" {
		if err := ValidateRelayHost("host", r.Host); err != nil {
			return err
		}
	}
	if r.Auth && (r.User == "" || r.Password == "") {
		return Invalid("auth", "logging in at the relay host needs its account and password: mpctl relay set --auth on --user NAME --password-file FILE")
	}
	return ValidateRelayUser(r.User)
}

// ValidateRelayHost checks the name or address of a relay host. A name without a dot is allowed:
// the relay may be a machine of the LAN.
func ValidateRelayHost(field, host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if strings.Contains(host, ".") {
		return ValidateHostname(field, host)
	}
	if err := ValidateHostname(field, host+".lan"); err != nil {
		return Invalid(field, "%q is neither a host name nor an address", host)
	}
	return nil
}

// ValidateRelayUser checks the account at a relay host: any text of one line (RFC 4616 §2).
func ValidateRelayUser(user string) error {
	if len(user) > 255 || strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Invalid("user", "must be up to 255 octets without control characters")
	}
	return nil
}

// Kinds of relay rules. A rule by recipient wins over one by sender (R7.93).
const (
	RuleByRecipient = "recipient"
	RuleBySender    = "sender"
)

// RelayRule sends some mail through a host (R7.90–R7.98).
type RelayRule struct {
	Name     string   `cbor:"name" json:"name"`
	Kind     string   `cbor:"kind" json:"kind"` // RuleByRecipient or RuleBySender
	Host     string   `cbor:"host" json:"host"`
	Port     int      `cbor:"port" json:"port"`
	TLS      string   `cbor:"tls" json:"tls"`
	User     string   `cbor:"user,omitempty" json:"user"`     // empty: no login
	Password string   `cbor:"pw,omitempty" json:"-"`          // sealed
	Verify   bool     `cbor:"verify,omitempty" json:"verify"` // with require and wrapper: the certificate is verified
	Address  []string `cbor:"addr,omitempty" json:"address"`
	Domain   []string `cbor:"dom,omitempty" json:"domain"`
	Created  int64    `cbor:"created" json:"created"`
}

// MaxRelayMatches bounds the addresses and domains of one rule.
const MaxRelayMatches = 10000

// Validate checks the rule's own fields, and brings addresses and domains into the form in which
// they are compared.
func (r *RelayRule) Validate() error {
	if err := ValidateLabel("name", r.Name); err != nil {
		return err
	}
	if r.Kind != RuleByRecipient && r.Kind != RuleBySender {
		return Invalid("kind", "%q is neither recipient nor sender", r.Kind)
	}
	if err := ValidateRelayHost("host", r.Host); err != nil {
		return err
	}
	if r.Port < 1 || r.Port > 65535 {
		return Invalid("port", "%d is outside 1 to 65535", r.Port)
	}
	if !slices.Contains([]string{RelayNoTLS, RelayStartTLS, RelayRequire, RelayWrapper}, r.TLS) {
		return Invalid("tls", "%q is none of none, starttls, require, wrapper", r.TLS)
	}
	if err := ValidateRelayUser(r.User); err != nil {
		return err
	}
	if (r.User == "") != (r.Password == "") {
		return Invalid("user", "logging in at the relay host needs both its account and password: --user NAME --password-file FILE")
	}
	switch n := len(r.Address) + len(r.Domain); {
	case n == 0:
		return Invalid("address", "a rule needs at least one --address or --domain that it is for")
	case n > MaxRelayMatches:
		return Invalid("address", "%d addresses and domains are more than %d", n, MaxRelayMatches)
	}
	for i, a := range r.Address {
		local, domain, ok := SplitAddress(a)
		if !ok {
			return Invalid("address", "%q is no address", a)
		}
		domain = FoldDomain(domain)
		if err := ValidateDomainName("address", domain); err != nil {
			return err
		}
		r.Address[i] = FoldName(local) + "@" + domain
	}
	for i, d := range r.Domain {
		r.Domain[i] = FoldDomain(strings.TrimPrefix(d, "@"))
		if err := ValidateDomainName("domain", r.Domain[i]); err != nil {
			return err
		}
	}
	slices.Sort(r.Address)
	slices.Sort(r.Domain)
	r.Address, r.Domain = slices.Compact(r.Address), slices.Compact(r.Domain)
	return nil
}

// Matches tells whether the rule is for an address, and whether the address itself is named: that
// is stronger than its domain.
func (r *RelayRule) Matches(address string) (named, any bool) {
	local, domain, ok := SplitAddress(address)
	if !ok {
		return false, false
	}
	domain = FoldDomain(domain)
	if _, found := slices.BinarySearch(r.Address, FoldName(local)+"@"+domain); found {
		return true, true
	}
	_, found := slices.BinarySearch(r.Domain, domain)
	return false, found
}

// TrustedServer is a server or network that may send through this one without login (R7.99–R7.102).
type TrustedServer struct {
	Name    string `cbor:"name" json:"name"`
	Network string `cbor:"net" json:"network"` // address or CIDR
	Created int64  `cbor:"created" json:"created"`
}

// Validate checks the entry's own fields.
func (t *TrustedServer) Validate() error {
	if err := ValidateLabel("name", t.Name); err != nil {
		return err
	}
	p, err := ParsePrefix(t.Network)
	if err != nil {
		return Invalid("network", "%q is no address or network; write it like 192.0.2.7 or 192.0.2.0/24", t.Network)
	}
	if p.Bits() == 0 {
		return Invalid("network", "%s is the whole Internet: this server would send anybody's mail", t.Network)
	}
	t.Network = p.String()
	return nil
}

// RelayDomain is a domain whose mail this server takes and passes on to its own server (R7.104–R7.106).
type RelayDomain struct {
	Name    string `cbor:"name" json:"name"`
	Domain  string `cbor:"domain" json:"domain"` // A-label, lower case
	Created int64  `cbor:"created" json:"created"`
}

// Validate checks the entry's own fields.
func (d *RelayDomain) Validate() error {
	if err := ValidateLabel("name", d.Name); err != nil {
		return err
	}
	return ValidateDomainName("domain", d.Domain)
}

// ValidateLabel checks the name that an administrator gives to an entry of a list.
func ValidateLabel(field, name string) error {
	if name == "" || len(name) > 128 || strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' }) {
		return Invalid(field, "%q must have 1 to 128 octets, no slash or control character, and no blank at an end", name)
	}
	return nil
}
