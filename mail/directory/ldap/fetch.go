package ldap

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mailplusd/mail/model"

	goldap "github.com/go-ldap/ldap/v3"
)

// User is a user as the directory shows him, made safe to store and print.
type User struct {
	DN       string
	Name     string // folded; perhaps one that mail does not support
	Display  string
	Nickname string // valid or empty
	Disabled bool
	GUID     string // of Active Directory: who he is, whatever his name
	UPN      string // of Active Directory: user@domain, folded; empty: none
	primary  rid    // his primary group, which doesn't list him
}

// Group is a group as the directory shows it. Names that are none here are left out.
type Group struct {
	Name, Description string
	GUID              string   // of Active Directory
	Users, Groups     []string // names, sorted
}

// Entries are all users and groups of a directory at one moment.
type Entries struct {
	Users   []User // by name
	Groups  []Group
	LeftOut []string // what was not taken, and why; the first of many
	Left    int      // how many were not taken
}

const maxLeftOut = 20

func (e *Entries) leave(format string, args ...any) {
	if e.Left++; len(e.LeftOut) < maxLeftOut {
		e.LeftOut = append(e.LeftOut, fmt.Sprintf(format, args...))
	}
}

// Fetch reads all users and groups.
func (c *Client) Fetch(ctx context.Context) (*Entries, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	s, err := c.connect(ctx, maxFetch, true)
	if err != nil {
		return nil, err
	}
	defer s.close()
	attrs := []string{c.conf.NameAttr}
	for _, a := range []string{c.conf.DisplayAttr, c.conf.NicknameAttr} {
		if a != "" {
			attrs = append(attrs, a)
		}
	}
	if c.conf.AD() {
		attrs = append(attrs, adAttrs...)
	}
	e, names := &Entries{}, map[string]string{} // by DN
	seen := map[string]bool{}
	err = c.pages(ctx, s, c.conf.BaseDN, c.conf.UserFilter, MaxUsers, "users", attrs, func(x *goldap.Entry) {
		if u, ok := e.user(&c.conf, x, seen); ok {
			e.Users = append(e.Users, u)
			names[DNKey(u.DN)] = u.Name
		}
	})
	if err != nil {
		return nil, err
	}
	if err := c.disabled(ctx, s, e); err != nil {
		return nil, err
	}
	slices.SortFunc(e.Users, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return e, c.groups(ctx, s, e, names)
}

// disabled marks the users for whom the filter of disabled ones holds.
func (c *Client) disabled(ctx context.Context, s *session, e *Entries) error {
	if c.conf.DisabledFilter == "" {
		return nil
	}
	off := map[string]bool{}
	err := c.pages(ctx, s, c.conf.BaseDN, "(&"+c.conf.UserFilter+c.conf.DisabledFilter+")", MaxUsers, "users", []string{"1.1"}, func(x *goldap.Entry) { off[x.DN] = true })
	for i := range e.Users {
		e.Users[i].Disabled = e.Users[i].Disabled || off[e.Users[i].DN]
	}
	return err
}

// user reads one entry. Of two with one name the first counts: the other could log in as him.
func (e *Entries) user(conf *model.LDAP, x *goldap.Entry, seen map[string]bool) (u User, ok bool) {
	name, ok := cleanName(x.GetEqualFoldAttributeValue(conf.NameAttr))
	switch {
	case !ok:
		e.leave("%q: its %s is missing, longer than %d octets or has control characters", clip(x.DN), conf.NameAttr, maxRawName)
		return u, false
	case len(x.DN) > 4*maxRawName || !utf8.ValidString(x.DN):
		e.leave("%q: its DN is too long or no UTF-8", clip(x.DN))
		return u, false
	case seen[name]:
		e.leave("%q: there is another user named %s", clip(x.DN), name)
		return u, false
	}
	u = User{DN: x.DN, Name: name}
	if conf.AD() {
		if u.ad(x, time.Now()); u.GUID == "" {
			e.leave("%q: its objectGUID can't be read", clip(x.DN))
			return u, false
		}
	}
	seen[name] = true
	if conf.DisplayAttr != "" {
		u.Display = cleanText(x.GetEqualFoldAttributeValue(conf.DisplayAttr))
	}
	if conf.NicknameAttr != "" {
		if nick := model.FoldName(x.GetEqualFoldAttributeValue(conf.NicknameAttr)); model.ValidateUserName(nick) == nil {
			u.Nickname = nick
		}
	}
	return u, true
}

// groups reads the groups. Members are DNs of users or groups, or names of users (RFC 2307).
func (c *Client) groups(ctx context.Context, s *session, e *Entries, users map[string]string) error {
	type raw struct {
		group   Group
		members []string
		dn      string
		sid     rid
		next    map[string]int // attributes of which there is more, and from where
	}
	var list []raw
	byDN, seen := map[string]string{}, map[string]bool{}
	attrs := append([]string{c.conf.GroupAttr, "description"}, c.conf.MemberAttrs...)
	base := c.conf.BaseDN
	if c.conf.AD() {
		base, attrs = c.conf.RootDN(), append(attrs, "objectGUID", "objectSid") // users may be of one unit only; their groups are anywhere
	}
	err := c.pages(ctx, s, base, c.conf.GroupFilter, MaxGroups, "groups", attrs, func(x *goldap.Entry) {
		name := model.FoldName(x.GetEqualFoldAttributeValue(c.conf.GroupAttr))
		if model.ValidateGroupName(name) != nil || seen[name] {
			e.leave("group %q: its name is not supported, or another group has it", clip(x.DN))
			return
		}
		r := raw{dn: x.DN, group: Group{Name: name, Description: cleanText(x.GetEqualFoldAttributeValue("description"))}}
		if c.conf.AD() {
			r.group.GUID = guidOf(x)
			r.sid, _ = ridOf(x)
		}
		for _, a := range c.conf.MemberAttrs {
			values, next := ranged(x, a)
			r.members = append(r.members, values...)
			if next > 0 {
				if r.next == nil {
					r.next = map[string]int{}
				}
				r.next[a] = next
			}
		}
		seen[name] = true
		byDN[DNKey(x.DN)] = name
		list = append(list, r)
	})
	if err != nil {
		return err
	}
	known, primary := map[string]bool{}, map[rid][]string{}
	for _, u := range e.Users {
		known[u.Name] = true
		if u.primary.domain != "" {
			primary[u.primary] = append(primary[u.primary], u.Name)
		}
	}
	for _, r := range list {
		for _, a := range sortedNames(r.next) {
			more, err := c.rest(ctx, s, r.dn, a, r.next[a])
			if err != nil {
				return err
			}
			r.members = append(r.members, more...)
		}
		if r.sid.domain != "" {
			r.group.Users = append(r.group.Users, primary[r.sid]...)
		}
		if n := len(r.members) + len(r.group.Users); n > MaxMembers {
			e.leave("group %s: it has %d members, more than %d", r.group.Name, n, MaxMembers)
			continue
		}
		for _, m := range r.members {
			key := DNKey(m)
			if name, ok := users[key]; ok {
				r.group.Users = append(r.group.Users, name)
			} else if name, ok := byDN[key]; ok && name != r.group.Name {
				r.group.Groups = append(r.group.Groups, name)
			} else if name := model.FoldName(m); known[name] {
				r.group.Users = append(r.group.Users, name)
			}
		}
		r.group.Users, r.group.Groups = sorted(r.group.Users), sorted(r.group.Groups)
		if n := octets(r.group.Users) + octets(r.group.Groups); n > maxGroup {
			e.leave("group %s: the names of its %d members have %d octets, more than %d", r.group.Name, len(r.group.Users), n, maxGroup)
			continue
		}
		e.Groups = append(e.Groups, r.group)
	}
	slices.SortFunc(e.Groups, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func octets(list []string) (n int) {
	for _, s := range list {
		n += len(s) + 3
	}
	return n
}

func sorted(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

func sortedNames(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }

// search is a request below a base. Aliases and referrals are not followed.
func (c *Client) search(base, filter string, attrs ...string) *goldap.SearchRequest {
	return goldap.NewSearchRequest(base, goldap.ScopeWholeSubtree, goldap.NeverDerefAliases, 0, 0, false, filter, attrs, nil)
}

// pages reads the answer to a search page by page (RFC 2696).
func (c *Client) pages(ctx context.Context, s *session, base, filter string, most int, what string, attrs []string, fn func(*goldap.Entry)) error {
	req := c.search(base, filter, attrs...)
	paging := goldap.NewControlPaging(pageSize)
	req.Controls = []goldap.Control{paging}
	for n, page := 0, 0; ; page++ {
		if err := ctx.Err(); err != nil {
			return unavailable("%s: %w", s.uri, err)
		}
		s.extend()
		res, err := s.Search(req)
		if err != nil {
			return unavailable("%s: %w", s.uri, err)
		}
		if n += len(res.Entries); n > most || page > maxPages {
			return fmt.Errorf("the directory has more than %d %s; narrow the filter or the base", most, what)
		}
		for _, x := range res.Entries {
			fn(x)
		}
		ctl, ok := goldap.FindControl(res.Controls, goldap.ControlTypePaging).(*goldap.ControlPaging)
		if !ok || len(ctl.Cookie) == 0 {
			return nil
		}
		paging.SetCookie(ctl.Cookie)
	}
}

// DNKey gives the form in which two DNs are compared (RFC 4514, without regard to case).
func DNKey(dn string) string {
	if len(dn) > 4*maxRawName {
		return ""
	}
	d, err := goldap.ParseDN(dn)
	if err != nil {
		return strings.ToLower(strings.TrimSpace(dn))
	}
	var b strings.Builder
	for _, rdn := range d.RDNs {
		parts := make([]string, 0, len(rdn.Attributes))
		for _, a := range rdn.Attributes {
			parts = append(parts, strings.ToLower(strings.TrimSpace(a.Type))+"\x00"+strings.ToLower(strings.TrimSpace(a.Value)))
		}
		slices.Sort(parts)
		b.WriteString(strings.Join(parts, "\x01") + "\x02")
	}
	return b.String()
}

// cleanName folds a name. One that can't be printed is no name; one that mail doesn't support
// stays, so that the administrator sees it.
func cleanName(s string) (string, bool) {
	if len(s) > maxRawName || !utf8.ValidString(s) {
		return "", false
	}
	if s = model.FoldName(s); s == "" || len(s) > maxRawName || strings.ContainsFunc(s, unprintable) {
		return "", false
	}
	return s, true
}

// cleanText makes a text one line that can be shown.
func cleanText(s string) string {
	s = strings.Map(func(r rune) rune {
		if unprintable(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	for len(s) > model.MaxDisplayName {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return strings.TrimSpace(s)
}

func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

func clip(s string) string {
	if len(s) > 100 {
		return strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}
