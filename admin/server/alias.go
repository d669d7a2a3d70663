package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func aliasRow(a *model.Alias) api.AliasRow {
	row := api.AliasRow{Name: a.Name, Domain: a.Domain}
	for _, m := range a.Members {
		row.Members = append(row.Members, m.String())
	}
	return row
}

// aliasChange runs fn in a domain and gives the alias before and after.
func (s *Server) aliasChange(ctx context.Context, c *Call, domain, name string, fn func(*state.Tx, *model.Domain) (*model.Alias, error)) (row api.AliasRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getDomain(tx, domain)
		if err != nil {
			return err
		}
		var before, after any
		if a, err := getAlias(tx, d, name); err == nil {
			before = aliasRow(a)
		}
		a, err := fn(tx, d)
		if err != nil {
			return err
		}
		if a != nil {
			row = aliasRow(a)
			after = row
		}
		c.diff = nil
		diffRows(c, before, after)
		return nil
	})
	return row, err
}

func (s *Server) aliasAdd(ctx context.Context, c *Call, in *api.AliasAddIn) (api.AliasRow, error) {
	return s.aliasChange(ctx, c, in.Domain, in.Name, func(tx *state.Tx, d *model.Domain) (*model.Alias, error) {
		return addAlias(tx, d, in.Name, in.Members, time.Now())
	})
}

func (s *Server) aliasList(_ context.Context, _ *Call, in *api.DomainListIn) ([]api.AliasRow, error) {
	d, err := getDomain(s.mail.State, in.Domain)
	if err != nil {
		return nil, err
	}
	out := []api.AliasRow{}
	for a, err := range state.Aliases.All(s.mail.State, d.Name+"/") {
		if err != nil {
			return nil, err
		}
		if row := aliasRow(a); matches(in.Search, row.Name, row.Members) {
			out = append(out, row)
		}
	}
	return out, nil
}

func (s *Server) aliasShow(_ context.Context, _ *Call, in *api.AliasIn) (api.AliasRow, error) {
	d, err := getDomain(s.mail.State, in.Domain)
	if err != nil {
		return api.AliasRow{}, err
	}
	a, err := getAlias(s.mail.State, d, in.Name)
	if err != nil {
		return api.AliasRow{}, err
	}
	return aliasRow(a), nil
}

func (s *Server) aliasSet(ctx context.Context, c *Call, in *api.AliasSetIn) (api.AliasRow, error) {
	return s.aliasChange(ctx, c, in.Domain, in.Name, func(tx *state.Tx, d *model.Domain) (*model.Alias, error) {
		a, err := getAlias(tx, d, in.Name)
		if err != nil {
			return nil, err
		}
		members := in.Member
		if len(members) == 0 {
			members = aliasRow(a).Members
		}
		members = append(members, in.Add...)
		for _, m := range in.Remove {
			gone, err := parseMember(tx, d, m)
			if err != nil {
				return nil, err
			}
			i := slices.IndexFunc(members, func(x string) bool { return strings.EqualFold(x, gone.String()) })
			if i < 0 {
				return nil, notFound("recipient", m, "mpctl domain alias show "+d.Name+" "+a.Name)
			}
			members = slices.Delete(members, i, i+1)
		}
		if in.Rename == nil {
			return a, setMembers(tx, d, a, members)
		}
		if err := state.Aliases.Delete(tx, d.Name+"/"+a.Name); err != nil {
			return nil, err
		}
		next, err := addAlias(tx, d, *in.Rename, members, time.Unix(a.Created, 0))
		if err != nil {
			return nil, err
		}
		return next, renameInBCC(tx, d, a.Name, next.Name)
	})
}

func (s *Server) aliasDelete(ctx context.Context, c *Call, in *api.AliasIn) (op.None, error) {
	_, err := s.aliasChange(ctx, c, in.Domain, in.Name, func(tx *state.Tx, d *model.Domain) (*model.Alias, error) {
		a, err := getAlias(tx, d, in.Name)
		if err != nil {
			return nil, err
		}
		if err := dropFromBCC(tx, d.Name, model.AliasMember{Kind: model.AliasAlias, Value: a.Name}); err != nil {
			return nil, err
		}
		return nil, state.Aliases.Delete(tx, d.Name+"/"+a.Name)
	})
	return op.None{}, err
}

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
	source, err := state.Source(tx)
	if err != nil {
		return nil, err
	}
	owner, err := state.DomainUsers.Find(tx, state.IndexAddress, model.SourceKey(source, local+"@"+d.Name))
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

// Limits of an alias file.
const (
	maxAliasLine  = 1 << 20
	maxAliasLines = 200_000
)
