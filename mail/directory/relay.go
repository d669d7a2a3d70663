package directory

import (
	"net/netip"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (p *Picture) addRelays(r state.Reader) error {
	var err error
	if p.Relays, err = state.RelayRules.List(r, ""); err != nil {
		return err
	}
	p.Relayed = map[string]bool{}
	for d, err := range state.RelayDomains.All(r, "") {
		if err != nil {
			return err
		}
		p.Relayed[d.Domain] = true
	}
	for t, err := range state.TrustedServers.All(r, "") {
		if err != nil {
			return err
		}
		if n, err := model.ParsePrefix(t.Network); err == nil {
			p.Trusted = append(p.Trusted, n)
		}
	}
	return nil
}

// Trusts tells whether a client may send without login (R7.102).
func (p *Picture) Trusts(ip netip.Addr) bool {
	ip = ip.Unmap()
	for _, n := range p.Trusted {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// Relay gives the rule that mail from one address to another goes by; nil: none. Rules by recipient
// win over those by sender (R7.93), and an address over its domain.
func (p *Picture) Relay(from, to string) *model.RelayRule {
	for _, kind := range []struct{ name, address string }{{model.RuleByRecipient, to}, {model.RuleBySender, from}} {
		var byDomain *model.RelayRule
		for _, r := range p.Relays {
			if r.Kind != kind.name {
				continue
			}
			switch named, any := r.Matches(kind.address); {
			case named:
				return r
			case any && byDomain == nil:
				byDomain = r
			}
		}
		if byDomain != nil {
			return byDomain
		}
	}
	return nil
}
