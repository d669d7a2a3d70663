package route

import (
	"fmt"
	"slices"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
)

// BlindCopies finds whom the rules of the domains send a copy of a message (R8.67–R8.71). A rule sees
// only mail of its own domain: the sender or a recipient belongs to it. own says that the
// server wrote the message itself; rules for all messages pass over it (R8.70, I.44). problems
// tells of rules whose target is nobody.
func BlindCopies(p *directory.Picture, from string, rcpts []string, own bool) (copies []Receiver, problems []string) {
	for _, b := range p.BCC {
		if !meets(p, b, from, rcpts, own) {
			continue
		}
		r, err := bccTarget(p, b)
		if err != nil {
			problems = append(problems, fmt.Sprintf("rule %q of %s: %s: %v", b.Name, b.Domain, b.To, err))
			continue
		}
		copies = append(copies, r)
	}
	return copies, problems
}

func meets(p *directory.Picture, b *model.AutoBCC, from string, rcpts []string, own bool) bool {
	belongs := func(address string) bool {
		_, domain, ok := model.SplitAddress(address)
		d := p.Domains[model.FoldDomain(domain)]
		return ok && d != nil && d.Name == b.Domain
	}
	switch b.Kind {
	case model.BCCSender:
		return b.Matches(from) && (belongs(from) || slices.ContainsFunc(rcpts, belongs))
	case model.BCCRecipient:
		return slices.ContainsFunc(rcpts, func(to string) bool { return b.Matches(to) && (belongs(to) || belongs(from)) })
	case model.BCCAll:
		return !own && (belongs(from) || slices.ContainsFunc(rcpts, belongs))
	}
	return false
}

func bccTarget(p *directory.Picture, b *model.AutoBCC) (Receiver, error) {
	r := Receiver{N: -1, Domain: b.Domain}
	local, domain := "", ""
	switch b.To.Kind {
	case model.AliasUser:
		a := p.User(b.To.Value)
		if a == nil || !a.Usable() {
			return r, ErrUnknown
		}
		r.Address = a.MainAddress()
		r.Resolved = Resolved{Targets: []Target{{Account: a, Address: r.Address}}, Local: true}
		return r, nil
	case model.AliasAlias:
		local, domain = b.To.Value, b.Domain
	default:
		local, domain, _ = model.SplitAddress(b.To.Value)
	}
	var err error
	r.Address = local + "@" + domain
	r.Resolved, err = Resolve(p, local, domain)
	return r, err
}
