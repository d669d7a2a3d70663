package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func memberRow(m *model.DomainUser) api.DomainUserRow {
	row := api.DomainUserRow{User: m.User, Role: string(m.Role)}
	for _, l := range m.Locals {
		row.Addresses = append(row.Addresses, l+"@"+m.Domain)
	}
	return row
}

// memberChange runs fn on a membership and gives it before and after.
func (s *Server) memberChange(ctx context.Context, c *Call, domain, user string, fn func(*state.Tx, *model.Domain) error) (row api.DomainUserRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getDomain(tx, domain)
		if err != nil {
			return err
		}
		var before any
		if m, err := getMember(tx, d, user); err == nil {
			before = memberRow(m)
		}
		if err := fn(tx, d); err != nil {
			return err
		}
		c.diff = nil
		m, err := getMember(tx, d, user)
		if err != nil {
			diffRows(c, before, nil)
			return nil
		}
		row = memberRow(m)
		diffRows(c, before, row)
		return nil
	})
	return row, err
}

func (s *Server) domainUserAdd(ctx context.Context, c *Call, in *api.DomainUserAddIn) (api.DomainUserRow, error) {
	return s.memberChange(ctx, c, in.Domain, in.User, func(tx *state.Tx, d *model.Domain) error {
		return joinDomain(tx, d, in.User, in.Addresses, model.DomainRole(in.Role))
	})
}

func (s *Server) domainUserList(_ context.Context, _ *Call, in *api.DomainListIn) ([]api.DomainUserRow, error) {
	d, err := getDomain(s.mail.State, in.Domain)
	if err != nil {
		return nil, err
	}
	source, err := state.Source(s.mail.State)
	if err != nil {
		return nil, err
	}
	out := []api.DomainUserRow{}
	for m, err := range state.DomainUsers.All(s.mail.State, d.Name+"/") {
		if err != nil {
			return nil, err
		}
		if model.SourceKey(m.Source, "") == model.SourceKey(source, "") && matches(in.Search, m.User, m.Locals, m.Role) {
			out = append(out, memberRow(m))
		}
	}
	return out, nil
}

func (s *Server) domainUserShow(_ context.Context, _ *Call, in *api.DomainUserIn) (api.DomainUserRow, error) {
	d, err := getDomain(s.mail.State, in.Domain)
	if err != nil {
		return api.DomainUserRow{}, err
	}
	m, err := getMember(s.mail.State, d, in.User)
	if err != nil {
		return api.DomainUserRow{}, err
	}
	return memberRow(m), nil
}

func (s *Server) domainUserSet(ctx context.Context, c *Call, in *api.DomainUserSetIn) (api.DomainUserRow, error) {
	return s.memberChange(ctx, c, in.Domain, in.User, func(tx *state.Tx, d *model.Domain) error {
		m, err := getMember(tx, d, in.User)
		if err != nil {
			return err
		}
		if in.Role != nil {
			m.Role = model.DomainRole(*in.Role)
		}
		if len(in.Addresses) > 0 {
			return setAddresses(tx, d, m, in.Addresses)
		}
		return state.DomainUsers.Put(tx, m)
	})
}

func (s *Server) domainUserDelete(ctx context.Context, c *Call, in *api.DomainUserIn) (op.None, error) {
	_, err := s.memberChange(ctx, c, in.Domain, in.User, func(tx *state.Tx, d *model.Domain) error {
		m, err := getMember(tx, d, in.User)
		if err != nil {
			return err
		}
		return state.DomainUsers.Delete(tx, state.DomainUsers.Key(m))
	})
	return op.None{}, err
}

// joinDomain makes a user a member of a domain with the given local parts.
func joinDomain(tx *state.Tx, d *model.Domain, user string, locals []string, role model.DomainRole) error {
	u, err := getUser(tx, user)
	if err != nil {
		return err
	}
	key := d.Name + "/" + u.Key()
	if has, err := state.DomainUsers.Has(tx, key); err != nil {
		return err
	} else if has {
		return exists("member", u.Name+" of "+d.Name, "mpctl domain user set "+d.Name+" "+u.Name)
	}
	if len(locals) == 0 {
		local := model.FormatAddress(d.Format, u)
		if local == "" {
			return refused(fmt.Sprintf("the format %s gives no address for %s", d.Format, u.Name), "mpctl domain user add "+d.Name+" "+u.Name+" --address LOCAL-PART")
		}
		locals = []string{local}
	}
	m := &model.DomainUser{Domain: d.Name, User: u.Name, Source: u.Source, Role: role}
	return setAddresses(tx, d, m, locals)
}

// setAddresses gives a member his addresses, each of them free in the domain.
func setAddresses(tx *state.Tx, d *model.Domain, m *model.DomainUser, locals []string) error {
	if len(locals) == 0 {
		return model.Invalid("address", "a member needs at least one address; to remove the member use mpctl domain user delete")
	}
	if len(locals) > model.MaxAddresses {
		return model.Invalid("address", "%d addresses are more than %d", len(locals), model.MaxAddresses)
	}
	m.Locals = m.Locals[:0:0]
	for _, l := range locals {
		local, err := localPart(d, l)
		if err != nil {
			return err
		}
		if has, err := state.Aliases.Has(tx, d.Name+"/"+local); err != nil {
			return err
		} else if has {
			return exists("alias", local+"@"+d.Name, "mpctl domain alias show "+d.Name+" "+local)
		}
		if !slices.Contains(m.Locals, local) {
			m.Locals = append(m.Locals, local)
		}
	}
	return state.DomainUsers.Put(tx, m)
}

// localPart takes a local part, or an address of the domain.
func localPart(d *model.Domain, s string) (string, error) {
	if local, domain, ok := model.SplitAddress(s); ok {
		if name := asciiDomain(domain); name != d.Name && !slices.Contains(d.Additional, name) {
			return "", model.Invalid("address", "%s is not in the domain %s", s, d.Name)
		}
		s = local
	}
	s = model.FoldName(s)
	return s, model.ValidateLocalPart("address", s)
}

// getMember reads a membership.
func getMember(r state.Reader, d *model.Domain, user string) (*model.DomainUser, error) {
	source, err := state.Source(r)
	if err != nil {
		return nil, err
	}
	m, err := state.DomainUsers.Get(r, d.Name+"/"+model.SourceKey(source, model.FoldName(user)))
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound("member", user+" of "+d.Name, "mpctl domain user list "+d.Name)
	}
	return m, err
}
