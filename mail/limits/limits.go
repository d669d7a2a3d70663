// Package limits says what a user may send: his policy decides, what it leaves open the domain of the
// address that he sends from, then the system; and the smallest limit of the system always holds (I.36).
package limits

import (
	"slices"
	"strings"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
)

// Kind is who decides.
type Kind string

// Who may decide.
const (
	Policy Kind = "policy"
	Domain Kind = "domain"
	System Kind = "system"
)

// Rule is who has decided.
type Rule struct {
	Kind Kind
	Name string // of the policy or domain
}

func (r Rule) String() string {
	if r.Name == "" {
		return string(r.Kind)
	}
	return string(r.Kind) + " " + r.Name
}

// Value is a limit and who has set it.
type Value struct {
	N  int64 // 0: there is no limit
	By Rule
}

// Passed tells whether n is more than the limit allows.
func (v Value) Passed(n int64) bool { return v.N > 0 && n > v.N }

// Limits are what holds for a sender.
type Limits struct {
	Message      Value // octets of one message
	Attachment   Value // decoded octets of one attachment; 0: only the message is limited
	Messages     Value // a day
	Traffic      Value // octets a day
	InternalOnly bool  // he may write to hosted domains only; his policy says so
	By           Rule  // the policy that counts for him
}

// Of gives the limits of somebody who sends from an address of a domain. a may be nil, when nobody
// has logged in: then the default policy counts. A domain in which the account has no address says
// nothing, or he would choose his limits; that of his main address stands in for it.
func Of(p *directory.Picture, set *model.Settings, a *directory.Account, domain string) Limits {
	pol, d := policyOf(a), domainOf(p, a, domain)
	l := Limits{By: Rule{Policy, pol.Name}, InternalOnly: pol.InternalOnly, Message: system(set)}
	if d != nil && d.Limits.MessageMB > 0 { // R8.80
		l.Message = smaller(l.Message, Value{int64(d.Limits.MessageMB) * model.MB, Rule{Domain, d.Name}})
	}
	l.Attachment = attachment(pol, d, set)
	l.Messages = l.daily(pol.DailyCount.Value, d, func(d *model.Domain) (int64, bool) { return d.Limits.DailyCount.Value() })
	l.Traffic = l.daily(pol.DailyMB.Octets, d, func(d *model.Domain) (int64, bool) { return d.Limits.DailyMB.Octets() })
	if !set.Delivery.AuthEnabled { // R5.67, R5.75, R7.28: nobody is known who sends
		l.Messages, l.Traffic = Value{By: Rule{Kind: System}}, Value{By: Rule{Kind: System}}
	}
	return l
}

func (l *Limits) daily(policy func() (int64, bool), d *model.Domain, domain func(*model.Domain) (int64, bool)) Value {
	if n, said := policy(); said {
		return Value{n, l.By}
	}
	if d == nil {
		return Value{By: Rule{Kind: System}}
	}
	n, _ := domain(d)
	return Value{n, Rule{Domain, d.Name}}
}

// attachment: what the policy leaves to the domain and the domain does not limit is limited by the
// size of a message (R5.79, A.12).
func attachment(pol *model.Policy, d *model.Domain, set *model.Settings) Value {
	if n, said := pol.AttachmentMB.Octets(); said {
		if n == 0 {
			return Value{By: Rule{Policy, pol.Name}}
		}
		return smaller(system(set), Value{n, Rule{Policy, pol.Name}})
	}
	if d != nil {
		if n, _ := d.Limits.AttachmentMB.Octets(); n > 0 {
			return smaller(system(set), Value{n, Rule{Domain, d.Name}})
		}
	}
	return system(set)
}

// Incoming gives the limit on attachments of mail that comes from outside for some domains: that of
// the default policy, whatever policies the recipients have (R5.80); of several domains the smallest.
func Incoming(p *directory.Picture, set *model.Settings, domains []string) Value {
	v := system(set)
	for _, name := range domains {
		v = smaller(v, attachment(model.DefaultPolicy(), p.Domains[model.FoldDomain(name)], set))
	}
	return v
}

// Forward tells whether an account's mail may be passed on automatically, and who says so (R5.56–R5.58,
// R8.83). The domain is that of its main address, in whose name mail is passed on.
func Forward(p *directory.Picture, a *directory.Account) (bool, Rule) {
	pol := policyOf(a)
	if may := pol.AutoForward(true); may == pol.AutoForward(false) { // it does not ask the domain
		return may, Rule{Policy, pol.Name}
	}
	if d := domainOf(p, a, ""); d != nil {
		return pol.AutoForward(!d.Limits.DisableAutoForward), Rule{Domain, d.Name}
	}
	return pol.AutoForward(true), Rule{Kind: System}
}

func policyOf(a *directory.Account) *model.Policy {
	if a == nil || a.Policy == nil {
		return model.DefaultPolicy()
	}
	return a.Policy
}

func domainOf(p *directory.Picture, a *directory.Account, domain string) *model.Domain {
	if p == nil {
		return nil
	}
	d := p.Domains[model.FoldDomain(domain)]
	if a == nil || d != nil && slices.ContainsFunc(a.Addresses, func(x string) bool { return strings.HasSuffix(x, "@"+d.Name) }) {
		return d
	}
	_, main, _ := model.SplitAddress(a.MainAddress())
	return p.Domains[main]
}

func system(set *model.Settings) Value {
	return Value{int64(set.Delivery.MaxSizeMB) * model.MB, Rule{Kind: System}}
}

// smaller gives the smaller of two limits that there are; the first when they are alike.
func smaller(a, b Value) Value {
	if b.N < a.N {
		return b
	}
	return a
}
