package model

import "strings"

// What a rule of blind copies compares (R8.68–R8.70).
const (
	BCCSender    = "sender"    // the reverse path: MAIL FROM
	BCCRecipient = "recipient" // a recipient: RCPT TO
	BCCAll       = "all"       // every message of the domain but notifications of the system
)

// AutoBCC is a rule of a domain that sends blind copies (R8.67–R8.73).
type AutoBCC struct {
	Domain string      `cbor:"domain" json:"domain"`
	Name   string      `cbor:"name" json:"name"`
	Kind   string      `cbor:"kind" json:"kind"`
	Match  string      `cbor:"match,omitempty" json:"match"` // lower case; empty with BCCAll
	To     AliasMember `cbor:"to" json:"to"`                 // user, alias of the domain, or address
	// Created is when it was made, Unix seconds.
	Created int64 `cbor:"created" json:"created"`
}

// MaxAutoBCC bounds the rules of one domain.
const MaxAutoBCC = 1000

// Validate checks the rule's own fields.
func (b *AutoBCC) Validate() error {
	if err := ValidateLabel("name", b.Name); err != nil {
		return err
	}
	b.Match = FoldName(b.Match)
	switch b.Kind {
	case BCCAll:
		if b.Match != "" {
			return Invalid("match", "a rule for all messages compares nothing")
		}
	case BCCSender, BCCRecipient:
		if b.Match == "" {
			return Invalid("match", "say which addresses: --match ADDRESS, --match @DOMAIN or --match PART")
		}
		if len(b.Match) > 254 || strings.ContainsFunc(b.Match, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return Invalid("match", "%q is neither an address nor a part of one", b.Match)
		}
	default:
		return Invalid("kind", "%q is none of sender, recipient, all", b.Kind)
	}
	switch b.To.Kind {
	case AliasUser, AliasAlias, AliasExternal:
		return nil
	}
	return Invalid("to", "%s is none of user:NAME, alias:NAME or an address", b.To)
}

// Matches tells whether an address meets the rule.
func (b *AutoBCC) Matches(address string) bool { return MatchAddress(b.Match, address) }
