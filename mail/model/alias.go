package model

import "strings"

// AliasKind says what an alias's member is (R8.55–58).
type AliasKind string

// The kinds of members.
const (
	AliasUser     AliasKind = "user"     // a user account
	AliasGroup    AliasKind = "group"    // every member of a group
	AliasAlias    AliasKind = "alias"    // another alias of the same domain
	AliasExternal AliasKind = "external" // any address
)

// AliasMember is one recipient of an alias.
type AliasMember struct {
	_     struct{} `cbor:",toarray"`
	Kind  AliasKind
	Value string
}

func (m AliasMember) String() string {
	if m.Kind == AliasExternal {
		return m.Value
	}
	return string(m.Kind) + ":" + m.Value
}

// ParseAliasMember reads `user:NAME`, `group:NAME`, `alias:NAME` or an address.
func ParseAliasMember(s string) (AliasMember, error) {
	s = strings.TrimSpace(s)
	if kind, value, ok := strings.Cut(s, ":"); ok {
		switch k := AliasKind(strings.ToLower(kind)); k {
		case AliasUser, AliasGroup, AliasAlias:
			if value == "" {
				return AliasMember{}, Invalid("member", "%q names nobody", s)
			}
			return AliasMember{Kind: k, Value: FoldName(value)}, nil
		}
	}
	local, domain, ok := SplitAddress(s)
	if !ok {
		return AliasMember{}, Invalid("member", "%q is none of user:NAME, group:NAME, alias:NAME or an address", s)
	}
	domain = FoldDomain(domain)
	if err := ValidateDomainName("member", domain); err != nil {
		return AliasMember{}, err
	}
	return AliasMember{Kind: AliasExternal, Value: local + "@" + domain}, nil
}

// Alias is an address that stands for others.
type Alias struct {
	Domain  string        `cbor:"domain" json:"domain"`
	Name    string        `cbor:"name" json:"name"` // local part, lower case
	Members []AliasMember `cbor:"members" json:"members"`
	Created int64         `cbor:"created" json:"created"`
}

// Limits of aliases.
const (
	MaxAliasMembers = 5000
	MaxAliasDepth   = 16 // nesting
)

// Validate checks the alias's own fields.
func (a *Alias) Validate() error {
	if err := ValidateLocalPart("name", a.Name); err != nil {
		return err
	}
	if len(a.Members) == 0 {
		return Invalid("member", "an alias needs at least one recipient")
	}
	if len(a.Members) > MaxAliasMembers {
		return Invalid("member", "%d recipients are more than %d", len(a.Members), MaxAliasMembers)
	}
	for _, m := range a.Members {
		if m.Kind == AliasAlias && m.Value == a.Name {
			return Invalid("member", "the alias %q can't be its own recipient", a.Name)
		}
	}
	return nil
}

// ValidateLocalPart checks a local part as an administrator gives it: a dot-atom, UTF-8 allowed
// (RFC 5321 §4.1.2, RFC 6531 §3.3).
func ValidateLocalPart(field, local string) error {
	switch {
	case local == "":
		return Invalid(field, "is empty")
	case len(local) > 64:
		return Invalid(field, "%q has %d octets, more than 64", local, len(local))
	case strings.HasPrefix(local, "."), strings.HasSuffix(local, "."), strings.Contains(local, ".."):
		return Invalid(field, "%q has a dot at an end or two dots in a row", local)
	}
	for _, r := range local {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`@"\<>()[]:;,`, r) {
			return Invalid(field, "%q contains %q, which is not allowed", local, r)
		}
	}
	return nil
}
