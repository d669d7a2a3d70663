// Package directory answers who exists: accounts, their activation and addresses,
// domains, groups and aliases. It keeps a picture of the tables in memory and draws it
// anew when a table has changed, so that a lookup costs no disk and is never stale.
package directory

import (
	"cmp"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/srs"
	"mailplusd/mail/state"
)

// Directory is the accounts of one system.
type Directory struct {
	state *state.State
	log   *slog.Logger
	mu    sync.Mutex
	pic   atomic.Pointer[Picture]
	now   func() time.Time
	// Secret gives the secret of rewritten senders (package srs) in clear; nil: none are. Before first use.
	Secret func(sealed string) (string, error)
}

// New makes a Directory over the tables of s.
func New(s *state.State, log *slog.Logger) *Directory {
	return &Directory{state: s, log: log, now: time.Now}
}

// Account is a user with what follows from groups, defaults and domains.
type Account struct {
	model.User
	Groups    []string      // all, nested ones too, in the order of their names
	Activated bool          // may use mail as far as activation goes (R5.28)
	Why       string        // which step decided: user, group NAME, default
	Addresses []string      // main address first
	Policy    *model.Policy // the one that counts, never nil
	PolicyVia string        // by what it counts: user, group NAME, default
	TwoFactor bool          // administration asks for a code, too
}

// Usable tells whether the account can use mail: activated and of normal status (R5.24).
func (a *Account) Usable() bool { return a.Activated && a.Status() == model.UserNormal }

// MainAddress is the address the account sends from by default; empty when it has none.
func (a *Account) MainAddress() string {
	if len(a.Addresses) == 0 {
		return ""
	}
	return a.Addresses[0]
}

// Picture is all of it at one moment. It is never changed.
type Picture struct {
	version     uint64
	Source      string     // of the accounts and groups: local, ldap or domain; those of others are not in the picture
	admins      string     // group whose members administer the system
	Users       []*Account // by name
	Groups      map[string]*model.Group
	dkim        map[string]*model.DKIM        // by domain
	Domains     map[string]*model.Domain      // also by additional name
	Aliases     map[string]*model.Alias       // by name@domain
	Trusted     []netip.Prefix                // servers that may send without login
	Relayed     map[string]bool               // domains that are taken and passed on to their own servers
	Relays      []*model.RelayRule            // by name
	TLSPolicies map[string]*model.TLSPolicy   // by domain, .suffix or *
	Roots       *x509.CertPool                // whom the administrator trusts besides the system; nil: nobody
	External    []string                      // external postmasters, when they are enabled
	Forwards    map[string]*model.AutoForward // by user
	Replies     map[string]*model.AutoReply   // by user
	BCC         []*model.AutoBCC              // by domain and name
	Holds       []*model.HoldRule             // by name
	SRS         *srs.Rewriter                 // nil: senders can be neither rewritten nor read
	Rewrite     bool                          // the sender of what is passed on is rewritten
	sealed      string                        // secret of SRS
	Policies    []*model.Policy               // in the order in which they count; the default one is last
	byName      map[string]*Account
	byID        map[model.AccountID]*Account
	byAddress   map[string]*Account
	byUPN       map[string]*Account        // of Active Directory
	realm       string                     // of Active Directory: its DNS name; empty: another source
	short       string                     // and its NetBIOS name; empty: not known
	members     map[string]map[string]bool // group → users, nested
	Used        int                        // activated accounts, each one a seat
	Seats       int                        // free ones and licences
	Wanting     int                        // accounts that the default would activate if there were seats
}

// Now gives the picture of this moment.
func (d *Directory) Now() (*Picture, error) {
	version := d.state.RowsVersion()
	if p := d.pic.Load(); p != nil && p.version == version {
		return p, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	version = d.state.RowsVersion()
	if p := d.pic.Load(); p != nil && p.version == version {
		return p, nil
	}
	p, err := Draw(d.state, d.now())
	if err != nil {
		return nil, err
	}
	p.version = version
	d.readSecret(p)
	d.pic.Store(p)
	return p, nil
}

// Draw makes a picture of what r sees; inside a transaction it shows the changes made so far.
func Draw(r state.Reader, now time.Time) (*Picture, error) {
	set, err := state.LoadSettings(r)
	if err != nil {
		return nil, err
	}
	p := &Picture{
		Groups: map[string]*model.Group{}, Domains: map[string]*model.Domain{}, Aliases: map[string]*model.Alias{},
		byName: map[string]*Account{}, byID: map[model.AccountID]*Account{}, byAddress: map[string]*Account{}, byUPN: map[string]*Account{},
		members: map[string]map[string]bool{}, Seats: model.FreeSeats, Source: set.System.Source, admins: model.Administrators,
	}
	if p.Source != model.SourceLocal {
		if l, err := state.Directories.Get(r, p.Source); err == nil {
			p.admins, p.realm, p.short = l.AdminGroup, l.Realm, l.Short
		} else if !errors.Is(err, state.ErrNotFound) {
			return nil, err
		}
	}
	for u, err := range state.Users.All(r, "") {
		if err != nil {
			return nil, err
		}
		if !p.has(u.Source) {
			continue
		}
		a := &Account{User: *u}
		p.Users = append(p.Users, a)
		p.byName[u.Name], p.byID[u.ID] = a, a
		if u.UPN == "" || u.Away == model.AwayGone {
			continue
		}
		if _, twice := p.byUPN[u.UPN]; twice {
			p.byUPN[u.UPN] = nil // nobody's, for it could be either's
		} else {
			p.byUPN[u.UPN] = a
		}
	}
	for g, err := range state.Groups.All(r, "") {
		if err != nil {
			return nil, err
		}
		if p.has(g.Source) {
			p.Groups[g.Name] = g
		}
	}
	for f, err := range state.SecondFactors.All(r, "") {
		if err != nil {
			return nil, err
		}
		if a := p.byKey(f.User); a != nil {
			a.TwoFactor = f.On()
		}
	}
	p.joinGroups()
	if err := p.addPolicies(r); err != nil {
		return nil, err
	}
	if err := p.addDomains(r, set.System.Domain); err != nil {
		return nil, err
	}
	for l, err := range state.Licenses.All(r, "") {
		if err != nil {
			return nil, err
		}
		if l.Expires == 0 || l.Expires > now.Unix() {
			p.Seats += l.Quantity
		}
	}
	p.activate(set.Accounts.ActivateAll)
	for a, err := range state.Aliases.All(r, "") {
		if err != nil {
			return nil, err
		}
		p.Aliases[a.Name+"@"+a.Domain] = a
	}
	if set.Delivery.Postmaster {
		p.External = set.Delivery.Postmasters
	}
	if err := p.addDKIM(r); err != nil {
		return nil, err
	}
	if err := p.addPassing(r, &set.Delivery); err != nil {
		return nil, err
	}
	if err := p.addTLS(r); err != nil {
		return nil, err
	}
	return p, p.addRelays(r)
}

// byKey finds an account by its key in the table; nil when it is of another source.
func (p *Picture) byKey(key string) *Account {
	if name, ok := strings.CutPrefix(key, model.SourceKey(p.Source, "")); ok {
		return p.byName[name]
	}
	return nil
}

// has tells whether rows of a source are in the picture.
func (p *Picture) has(source string) bool {
	return model.SourceKey(source, "") == model.SourceKey(p.Source, "")
}

func (p *Picture) addDomains(r state.Reader, main string) error {
	for d, err := range state.Domains.All(r, "") {
		if err != nil {
			return err
		}
		p.Domains[d.Name] = d
		for _, name := range d.Additional {
			p.Domains[name] = d
		}
	}
	for m, err := range state.DomainUsers.All(r, "") {
		if err != nil {
			return err
		}
		a := p.byName[m.User]
		if a == nil || !p.has(m.Source) {
			continue
		}
		for i, l := range m.Locals {
			address := model.FoldName(l) + "@" + m.Domain
			p.byAddress[address] = a
			if i == 0 && m.Domain == main {
				a.Addresses = append([]string{address}, a.Addresses...)
			} else {
				a.Addresses = append(a.Addresses, address)
			}
		}
	}
	return nil
}

// joinGroups works out who is in which group, through nested groups and in spite of loops.
func (p *Picture) joinGroups() {
	for name := range p.Groups {
		users := map[string]bool{}
		p.collect(name, users, map[string]bool{})
		p.members[name] = users
	}
	names := sortedKeys(p.Groups)
	for _, g := range names {
		for u := range p.members[g] {
			if a := p.byName[u]; a != nil {
				a.Groups = append(a.Groups, g)
			}
		}
	}
}

func (p *Picture) collect(group string, users, seen map[string]bool) {
	g := p.Groups[group]
	if g == nil || seen[group] {
		return
	}
	seen[group] = true
	for _, u := range g.Users {
		users[u] = true
	}
	for _, sub := range g.Groups {
		p.collect(sub, users, seen)
	}
}

// activate decides by user, then group, then default (R5.28). Between groups, deactivate
// wins (A.06). The default activates while there are seats, older accounts first; those
// beyond stay as they are and are counted in Wanting (A.07).
func (p *Picture) activate(all bool) {
	var byDefault []*Account
	for _, a := range p.Users {
		on, why := p.decide(a)
		a.Activated, a.Why = on, why
		switch {
		case why == "default" && all && a.Status() == model.UserNormal:
			byDefault = append(byDefault, a)
		case on && a.Status() == model.UserNormal:
			p.Used++
		}
	}
	slices.SortFunc(byDefault, func(a, b *Account) int { return cmp.Compare(a.ID, b.ID) })
	for _, a := range byDefault {
		if p.Used >= p.Seats {
			p.Wanting++
			continue
		}
		a.Activated = true
		p.Used++
	}
}

// decide asks the user's and the groups' settings; "default" when neither says anything.
func (p *Picture) decide(a *Account) (bool, string) {
	if a.Activation != model.ActivationInherit {
		return a.Activation == model.ActivationActivate, "user"
	}
	on := ""
	for _, g := range a.Groups {
		switch p.Groups[g].Activation {
		case model.ActivationDeactivate:
			return false, "group " + g
		case model.ActivationActivate:
			if on == "" {
				on = g
			}
		}
	}
	return on != "", cmp.Or(prefixed("group ", on), "default")
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// User finds an account by its name.
func (p *Picture) User(name string) *Account { return p.byName[model.FoldName(name)] }

// ByID finds an account by its ID.
func (p *Picture) ByID(id model.AccountID) *Account { return p.byID[id] }

// Login finds an account by its name or any of its addresses (A.18); that of an Active Directory domain also as
// user@domain (its UPN, or the name it has without one) and as DOMAIN\user (MS-ADTS §5.1.1.1.1).
func (p *Picture) Login(name string) *Account {
	name = model.FoldName(name)
	if a := p.byName[name]; a != nil {
		return a
	}
	if a := p.Address(name); a != nil || p.realm == "" {
		return a
	}
	if a := p.byUPN[name]; a != nil {
		return a
	}
	if domain, user, ok := strings.Cut(name, `\`); ok && (domain == p.short && domain != "" || domain == p.realm) {
		return p.byName[user]
	}
	if user, domain, ok := model.SplitAddress(name); ok && domain == p.realm {
		if _, other := p.byUPN[name]; !other {
			return p.byName[user]
		}
	}
	return nil
}

// Address finds the account that owns an address, through additional domains.
func (p *Picture) Address(address string) *Account {
	local, domain, ok := model.SplitAddress(address)
	if !ok {
		return nil
	}
	d := p.Domains[model.FoldDomain(domain)]
	if d == nil {
		return nil
	}
	return p.byAddress[model.FoldName(local)+"@"+d.Name]
}

// InGroup tells whether a user is a member of a group, nested groups included.
func (p *Picture) InGroup(user, group string) bool { return p.members[group][user] }

// Members lists a group's users, nested groups included, by name.
func (p *Picture) Members(group string) []string { return sortedKeys(p.members[group]) }

// IsAdmin tells whether an account administers the system.
func (p *Picture) IsAdmin(a *Account) bool {
	return !a.Off() && (a.Admin || p.AdminByGroup(a))
}

// AdminByGroup tells whether an account administers the system as a member of a group.
func (p *Picture) AdminByGroup(a *Account) bool {
	return p.admins != "" && p.InGroup(a.Name, p.admins)
}

// Administrators lists the accounts that administer the system and can read mail.
func (p *Picture) Administrators() []*Account {
	var out []*Account
	for _, a := range p.Users {
		if p.IsAdmin(a) && a.Usable() {
			out = append(out, a)
		}
	}
	return out
}

// Alias finds an alias by its address, through additional domains.
func (p *Picture) Alias(address string) *model.Alias {
	local, domain, ok := model.SplitAddress(address)
	if !ok {
		return nil
	}
	d := p.Domains[model.FoldDomain(domain)]
	if d == nil {
		return nil
	}
	return p.Aliases[model.FoldName(local)+"@"+d.Name]
}
