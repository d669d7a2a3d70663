package route

import (
	"fmt"
	"slices"
	"strings"

	"mailplusd/mail/directory"
	"mailplusd/mail/limits"
	"mailplusd/mail/model"
)

// MayForward tells whether a user's mail may be passed on, by the policy that counts for him or the
// domain of his main address (R5.56–R5.58). It is the only place that asks. What was set before it was
// forbidden stays, and does nothing.
func MayForward(p *directory.Picture, a *directory.Account) bool {
	may, _ := limits.Forward(p, a)
	return may
}

// Limits of passing on. What they cut stays in the mailbox.
const (
	maxForwardDepth = model.MaxAliasDepth // forwards of forwards
	maxForwarded    = 1000                // addresses elsewhere that forwards add to one message
)

// Receiver is who is to get a message: a recipient that the sender named, or one of a rule of
// blind copies.
type Receiver struct {
	N        int    // index of the recipient; the copy of a rule has none: -1
	Address  string // as named
	Resolved Resolved
	Domain   string // of the rule, for a copy
}

// Way is where copies of a message go: each account and each address elsewhere once.
type Way struct {
	Local  []Local
	Remote []Remote
	Lines  []string // recipients of the mail log's received lines (R10.72–R10.76)
}

// Local is an account that gets the message.
type Local struct {
	Account *directory.Account
	Keep    bool   // a copy is stored; false: it is only passed on
	Asked   bool   // a sender's recipient led here, not a rule
	By      string // account whose forward led here, or empty
	Why     string // why its forward was not followed, or empty
}

// Remote is an address elsewhere that gets the message.
type Remote struct {
	Address string
	N       int      // index of the recipient that led here, -1: a rule of blind copies
	Domain  string   // hosted domain in whose name it is passed on; empty: the sender named the address
	By      string   // account whose forward led here, or empty
	Trail   []string // addresses whose forwards it came through, for Delivered-To
}

// Spread finds where a message goes. delivered are the addresses of its Delivered-To fields: what
// came through a forward before is kept rather than passed on again (I.31). held says why the forward
// of an account is not followed just now, or nothing; nil: none is held back.
func Spread(p *directory.Picture, receivers []Receiver, delivered []string, held func(*directory.Account) string) *Way {
	s := spreading{p: p, way: &Way{}, at: map[model.AccountID]int{}, remote: map[string]bool{}, delivered: delivered, held: held}
	for i := range receivers {
		r := &receivers[i]
		s.r, s.trail = r, nil
		if r.Resolved.Alias {
			s.way.Lines = append(s.way.Lines, r.Address) // one line for the alias (R10.75)
		}
		for _, t := range r.Resolved.Targets {
			if t.Account != nil {
				s.account(t.Account, "", r.Address, !r.Resolved.Alias)
			} else {
				s.elsewhere(t.Address, "", s.onBehalf())
			}
		}
	}
	return s.way
}

type spreading struct {
	p         *directory.Picture
	way       *Way
	at        map[model.AccountID]int // places in way.Local
	remote    map[string]bool
	delivered []string
	held      func(*directory.Account) string
	forwarded int
	r         *Receiver
	trail     []step // accounts whose forwards are being followed
}

type step struct {
	id      model.AccountID
	address string
}

// onBehalf is the domain in whose name a receiver's address elsewhere gets the message.
func (s *spreading) onBehalf() string {
	if s.r.N < 0 {
		return s.r.Domain
	}
	if s.r.Resolved.Local && !s.r.Resolved.Bounce {
		if _, domain, ok := model.SplitAddress(s.r.Address); ok {
			if d := s.p.Domains[model.FoldDomain(domain)]; d != nil {
				return d.Name
			}
		}
	}
	return ""
}

// elsewhere adds an address; false when forwards have added too many.
func (s *spreading) elsewhere(address, by, domain string) bool {
	if s.remote[address] {
		return true
	}
	r := Remote{Address: address, N: s.r.N, Domain: domain, By: by}
	if by != "" {
		if s.forwarded++; s.forwarded > maxForwarded {
			return false
		}
		for _, t := range s.trail {
			r.Trail = append(r.Trail, t.address)
		}
	}
	s.remote[address] = true
	s.way.Remote = append(s.way.Remote, r)
	return true
}

// account adds an account and what its forward leads to. It is done once for each, and then the
// message is either kept there or somebody else has it, so nothing is lost in a loop.
func (s *spreading) account(a *directory.Account, by, address string, line bool) {
	if i, done := s.at[a.ID]; done {
		s.way.Local[i].Asked = s.way.Local[i].Asked || s.r.N >= 0 && by == ""
		return
	}
	i := len(s.way.Local)
	s.at[a.ID] = i
	s.way.Local = append(s.way.Local, Local{Account: a, Keep: true, Asked: s.r.N >= 0 && by == "", By: by})
	if line {
		s.way.Lines = append(s.way.Lines, address)
	}
	f := s.p.Forwards[a.Name]
	if f == nil {
		return
	}
	if why := s.forbidden(a); why != "" {
		s.way.Local[i].Why = why
		return
	}
	self, why := s.follow(a, f)
	s.way.Local[i].Keep, s.way.Local[i].Why = f.Keep || self || why != "", why
}

// forbidden says why an account's forward is not followed.
func (s *spreading) forbidden(a *directory.Account) string {
	switch {
	case !MayForward(s.p, a):
		return "the user may not forward mail"
	case len(s.trail) >= maxForwardDepth:
		return fmt.Sprintf("more than %d forwards in a row", maxForwardDepth)
	}
	for _, d := range s.delivered {
		if slices.ContainsFunc(a.Addresses, func(own string) bool { return strings.EqualFold(own, d) }) || s.p.Address(d) == a {
			return "a loop: Delivered-To says that it was forwarded from " + d + " before"
		}
	}
	if s.held != nil {
		return s.held(a)
	}
	return ""
}

// follow passes on to every address of a forward. self: one of them is the account's own. why tells
// about the first that leads nowhere.
func (s *spreading) follow(a *directory.Account, f *model.AutoForward) (self bool, why string) {
	s.trail = append(s.trail, step{a.ID, a.MainAddress()})
	defer func() { s.trail = s.trail[:len(s.trail)-1] }()
	domain := ""
	if _, d, has := model.SplitAddress(a.MainAddress()); has {
		domain = d
	}
	fails := func(format string, args ...any) {
		if why == "" {
			why = fmt.Sprintf(format, args...)
		}
	}
	for _, to := range f.To {
		local, d, _ := model.SplitAddress(to)
		r, err := Resolve(s.p, local, d)
		if err != nil {
			fails("%s: %v", to, err)
			continue
		}
		if r.Alias {
			s.way.Lines = append(s.way.Lines, to)
		}
		for _, t := range r.Targets {
			if t.Account == nil {
				if !r.Local && a.Policy != nil && a.Policy.InternalOnly { // R5.81 holds for what is sent in his name, too
					fails("%s: the user may send to hosted domains only", to)
					continue
				}
				if !s.elsewhere(t.Address, a.Name, domain) {
					fails("more than %d forwarded copies of one message", maxForwarded)
				}
				continue
			}
			switch {
			case t.Account == a:
				self = true
			case slices.ContainsFunc(s.trail, func(x step) bool { return x.id == t.Account.ID }):
				fails("a loop: %s leads back to %s", to, t.Account.Name)
			default:
				s.account(t.Account, a.Name, to, !r.Alias)
			}
		}
	}
	return self, why
}
