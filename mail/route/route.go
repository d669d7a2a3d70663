// Package route decides who receives a message: accounts here, and addresses
// elsewhere, through aliases, groups and catch-all (I.26).
package route

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/srs"
)

// Target is where one copy of a message goes: an account here or an address elsewhere.
type Target struct {
	Account *directory.Account // nil: remote
	Address string             // remote address, or the address by which the account was found
}

// Resolved is what became of one recipient.
type Resolved struct {
	Targets []Target
	Alias   bool // through an alias: one line in the mail log (R10.75)
	Local   bool // the recipient's domain is hosted here
	Relayed bool // its mail is taken here and passed on (R7.104)
	Bounce  bool // an address made by SRS: it leads to the sender that was rewritten, for bounces only
}

// Errors of Resolve.
var (
	ErrUnknown   = errors.New("no such user here")
	ErrNoAdmin   = errors.New("no administrator has an activated account to receive this")
	ErrAliasLoop = errors.New("the alias leads nowhere")
)

// wellKnown always exist in a hosted domain and reach the administrators (RFC 2142, I.27).
var wellKnown = map[string]bool{"postmaster": true, "abuse": true, "mailer-daemon": true, "hostmaster": true, "webmaster": true}

// Resolve finds the targets of an address: exact address, alias, well-known address, catch-all.
func Resolve(p *directory.Picture, local, domain string) (Resolved, error) {
	if domain == "" && strings.EqualFold(local, "postmaster") { // RFC 5321 §4.5.1
		return administrators(p, "postmaster")
	}
	d := p.Domains[model.FoldDomain(domain)]
	if d == nil {
		return Resolved{Targets: []Target{{Address: quoteLocal(local) + "@" + domain}}, Relayed: p.Relayed[model.FoldDomain(domain)]}, nil
	}
	r, err := hosted(p, d, model.FoldName(local))
	if errors.Is(err, ErrUnknown) {
		if base, _, tagged := strings.Cut(local, "+"); tagged && base != "" { // user+tag
			r, err = hosted(p, d, model.FoldName(base))
		}
	}
	if errors.Is(err, ErrUnknown) && srs.Is(local) {
		if r, err := bounce(p, local); !errors.Is(err, srs.ErrNotSRS) {
			return r, err
		}
	}
	if errors.Is(err, ErrUnknown) && d.CatchAll != "" {
		if a := p.User(d.CatchAll); a != nil && a.Usable() {
			r, err = Resolved{Targets: []Target{{Account: a, Address: local + "@" + d.Name}}}, nil
		}
	}
	r.Local = true
	return r, err
}

// bounce finds the sender that an address was made from. Who it is may be hosted here by now.
func bounce(p *directory.Picture, local string) (Resolved, error) {
	if p.SRS == nil {
		return Resolved{}, srs.ErrNotSRS
	}
	origLocal, origDomain, err := p.SRS.Reverse(local, time.Now())
	if err != nil {
		return Resolved{}, fmt.Errorf("%w: the SRS address %w", ErrUnknown, err)
	}
	r := Resolved{Targets: []Target{{Address: quoteLocal(origLocal) + "@" + origDomain}}}
	if p.Hosts(origDomain) {
		if r, err = Resolve(p, origLocal, origDomain); err != nil {
			return r, err
		}
	}
	r.Local, r.Bounce = true, true
	return r, nil
}

func hosted(p *directory.Picture, d *model.Domain, local string) (Resolved, error) {
	address := local + "@" + d.Name
	if a := p.Address(address); a != nil {
		if !a.Usable() {
			return Resolved{}, ErrUnknown
		}
		return Resolved{Targets: []Target{{Account: a, Address: address}}}, nil
	}
	if al := p.Aliases[address]; al != nil {
		e := expansion{p: p, seen: map[string]bool{}, done: map[string]bool{}}
		e.alias(al, 0)
		if len(e.out) == 0 {
			return Resolved{}, fmt.Errorf("%w: %w", ErrUnknown, ErrAliasLoop)
		}
		return Resolved{Targets: e.out, Alias: true}, nil
	}
	if wellKnown[local] {
		return administrators(p, address)
	}
	return Resolved{}, ErrUnknown
}

func administrators(p *directory.Picture, address string) (Resolved, error) {
	r := Resolved{Local: true}
	for _, a := range p.Administrators() {
		r.Targets = append(r.Targets, Target{Account: a, Address: address})
	}
	if local, _, _ := strings.Cut(address, "@"); local == "postmaster" || local == "mailer-daemon" { // R7.08
		for _, x := range p.External {
			r.Targets = append(r.Targets, Target{Address: x})
		}
	}
	if len(r.Targets) == 0 {
		return r, ErrNoAdmin
	}
	return r, nil
}

// expansion unfolds an alias: each account and address once, loops broken off (R8.57).
type expansion struct {
	p    *directory.Picture
	seen map[string]bool // aliases
	done map[string]bool // accounts and addresses
	out  []Target
}

func (e *expansion) alias(al *model.Alias, depth int) {
	key := al.Name + "@" + al.Domain
	if e.seen[key] || depth > model.MaxAliasDepth {
		return
	}
	e.seen[key] = true
	for _, m := range al.Members {
		switch m.Kind {
		case model.AliasUser:
			e.account(e.p.User(m.Value), key)
		case model.AliasGroup:
			for _, u := range e.p.Members(m.Value) {
				e.account(e.p.User(u), key)
			}
		case model.AliasAlias:
			if next := e.p.Aliases[m.Value+"@"+al.Domain]; next != nil {
				e.alias(next, depth+1)
			}
		case model.AliasExternal:
			e.address(m.Value, depth)
		}
	}
}

func (e *expansion) account(a *directory.Account, address string) {
	if a == nil || !a.Usable() || e.done["account "+a.Name] {
		return
	}
	e.done["account "+a.Name] = true
	e.out = append(e.out, Target{Account: a, Address: address})
}

// address adds an address: one that is hosted here is followed, others are remote.
func (e *expansion) address(address string, depth int) {
	local, domain, ok := model.SplitAddress(address)
	if !ok {
		return
	}
	if d := e.p.Domains[model.FoldDomain(domain)]; d != nil {
		key := model.FoldName(local) + "@" + d.Name
		if a := e.p.Address(key); a != nil {
			e.account(a, key)
		} else if al := e.p.Aliases[key]; al != nil {
			e.alias(al, depth+1)
		}
		return
	}
	if !e.done[address] {
		e.done[address] = true
		e.out = append(e.out, Target{Address: address})
	}
}

// quoteLocal writes a local part as it must stand in an address (RFC 5321 §4.1.2).
func quoteLocal(local string) string {
	if model.ValidateLocalPart("", local) == nil {
		return local
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
}
