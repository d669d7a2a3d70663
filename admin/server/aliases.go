package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// getAlias reads an alias.
func getAlias(r state.Reader, d *model.Domain, name string) (*model.Alias, error) {
	local, err := localPart(d, name)
	if err != nil {
		return nil, err
	}
	a, err := state.Aliases.Get(r, d.Name+"/"+local)
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound("alias", local+"@"+d.Name, "mpctl domain alias list "+d.Name)
	}
	return a, err
}

// addAlias stores a new alias whose name is free and whose members exist.
func addAlias(tx *state.Tx, d *model.Domain, name string, members []string, now time.Time) (*model.Alias, error) {
	local, err := localPart(d, name)
	if err != nil {
		return nil, err
	}
	if has, err := state.Aliases.Has(tx, d.Name+"/"+local); err != nil {
		return nil, err
	} else if has {
		return nil, exists("alias", local+"@"+d.Name, "mpctl domain alias set "+d.Name+" "+local)
	}
	owner, err := state.DomainUsers.Find(tx, state.IndexAddress, local+"@"+d.Name)
	if err != nil {
		return nil, err
	}
	if len(owner) > 0 {
		return nil, exists("address", local+"@"+d.Name+" (of "+owner[0].User+")", "mpctl domain user show "+d.Name+" "+owner[0].User)
	}
	a := &model.Alias{Domain: d.Name, Name: local, Created: now.Unix()}
	return a, setMembers(tx, d, a, members)
}

// setMembers gives an alias its recipients; loops are refused (R8.57).
func setMembers(tx *state.Tx, d *model.Domain, a *model.Alias, members []string) error {
	a.Members = a.Members[:0:0]
	for _, s := range members {
		m, err := parseMember(tx, d, s)
		if err != nil {
			return err
		}
		if !slices.Contains(a.Members, m) {
			a.Members = append(a.Members, m)
		}
	}
	if err := a.Validate(); err != nil {
		return err
	}
	if path := aliasLoop(tx, d, a, a.Name, 0); path != "" {
		return refused(fmt.Sprintf("the alias would contain itself: %s", path), "")
	}
	return state.Aliases.Put(tx, a)
}

// parseMember reads one recipient and checks that it exists. A bare name is a user, group or alias, whichever there is.
func parseMember(tx *state.Tx, d *model.Domain, s string) (model.AliasMember, error) {
	s = strings.TrimSpace(s)
	if !strings.ContainsAny(s, ":@") {
		for _, kind := range []model.AliasKind{model.AliasUser, model.AliasAlias, model.AliasGroup} {
			m := model.AliasMember{Kind: kind, Value: model.FoldName(s)}
			if memberExists(tx, d, m) == nil {
				return m, nil
			}
		}
		return model.AliasMember{}, notFound("user, group or alias", s, "mpctl user list")
	}
	m, err := model.ParseAliasMember(s)
	if err != nil {
		return m, err
	}
	return m, memberExists(tx, d, m)
}

func memberExists(tx *state.Tx, d *model.Domain, m model.AliasMember) error {
	switch m.Kind {
	case model.AliasUser:
		_, err := getUser(tx, m.Value)
		return err
	case model.AliasGroup:
		_, err := getGroup(tx, m.Value)
		return err
	case model.AliasAlias:
		_, err := getAlias(tx, d, m.Value)
		return err
	}
	return nil
}

// aliasLoop follows nested aliases and gives the way back to start; empty when there is none.
func aliasLoop(tx *state.Tx, d *model.Domain, a *model.Alias, start string, depth int) string {
	if depth > model.MaxAliasDepth {
		return fmt.Sprintf("nested deeper than %d", model.MaxAliasDepth)
	}
	for _, m := range a.Members {
		if m.Kind != model.AliasAlias {
			continue
		}
		if m.Value == start {
			return a.Name + " → " + start
		}
		next, err := state.Aliases.Get(tx, d.Name+"/"+m.Value)
		if err != nil {
			continue
		}
		if path := aliasLoop(tx, d, next, start, depth+1); path != "" {
			return a.Name + " → " + path
		}
	}
	return ""
}

// dropFromAliases takes a member out of every alias; an alias that would be left empty goes.
func dropFromAliases(tx *state.Tx, m model.AliasMember) error {
	for a, err := range state.Aliases.All(tx, "") {
		if err != nil {
			return err
		}
		i := slices.Index(a.Members, m)
		if i < 0 {
			continue
		}
		if a.Members = slices.Delete(a.Members, i, i+1); len(a.Members) == 0 {
			if err := state.Aliases.Delete(tx, a.Domain+"/"+a.Name); err != nil {
				return err
			}
			continue
		}
		if err := state.Aliases.Put(tx, a); err != nil {
			return err
		}
	}
	return nil
}

// aliasLine is one alias of a Postfix alias file.
type aliasLine struct {
	Line    int
	Name    string
	Members []string
}

// Limits of an alias file.
const (
	maxAliasLine  = 1 << 20
	maxAliasLines = 200_000
)

// parseAliases reads a Postfix alias file (aliases(5)): `name: member, member`, comments
// with #, a line that starts with white space continues the one before.
func parseAliases(r io.Reader) ([]aliasLine, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxAliasLine)
	var out []aliasLine
	n := 0
	for sc.Scan() {
		n++
		line := strings.TrimPrefix(sc.Text(), "\ufeff")
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(out) == 0 {
				return nil, fmt.Errorf("line %d continues nothing", n)
			}
			last := &out[len(out)-1]
			last.Members = append(last.Members, splitMembers(line)...)
			continue
		}
		name, rest, ok := cutName(line)
		if !ok {
			return nil, fmt.Errorf("line %d: %.60q is not `name: member, member`", n, line)
		}
		if out = append(out, aliasLine{Line: n, Name: name, Members: splitMembers(rest)}); len(out) > maxAliasLines {
			return nil, fmt.Errorf("more than %d aliases", maxAliasLines)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	return out, nil
}

// cutName splits at the colon that ends the name; the name may be quoted.
func cutName(line string) (name, rest string, ok bool) {
	if strings.HasPrefix(line, `"`) {
		end := strings.Index(line[1:], `"`)
		if end < 0 {
			return "", "", false
		}
		name, rest = line[1:1+end], strings.TrimSpace(line[2+end:])
		rest, ok = strings.CutPrefix(rest, ":")
		return name, rest, ok && name != ""
	}
	name, rest, ok = strings.Cut(line, ":")
	name = strings.TrimSpace(name)
	return name, rest, ok && name != ""
}

func splitMembers(s string) []string {
	var out []string
	for _, m := range strings.Split(s, ",") {
		if m = strings.Trim(strings.TrimSpace(m), `"`); m != "" {
			out = append(out, m)
		}
	}
	return out
}

// exportAlias writes an alias as a line of a Postfix alias file: groups are expanded,
// users become their addresses in the domain, nested aliases keep their names (A.57).
func exportAlias(p *directory.Picture, a *model.Alias) string {
	var members []string
	add := func(s string) {
		if !slices.Contains(members, s) {
			members = append(members, s)
		}
	}
	user := func(name string) {
		if u := p.User(name); u != nil {
			add(addressIn(u, a.Domain))
		}
	}
	for _, m := range a.Members {
		switch m.Kind {
		case model.AliasUser:
			user(m.Value)
		case model.AliasGroup:
			for _, u := range p.Members(m.Value) {
				user(u)
			}
		default:
			add(m.Value)
		}
	}
	return a.Name + ": " + strings.Join(members, ", ")
}

// addressIn is a user's address in a domain, or his name when he has none there.
func addressIn(u *directory.Account, domain string) string {
	for _, a := range u.Addresses {
		if strings.HasSuffix(a, "@"+domain) {
			return a
		}
	}
	return u.Name
}
