package server

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func domainRow(r state.Reader, d *model.Domain) (api.DomainRow, error) {
	row := api.DomainRow{Name: d.Name, Description: d.Description, Format: d.Format, AutoAdd: d.AutoAdd, Additional: d.Additional, CatchAll: d.CatchAll}
	for _, err := range state.DomainUsers.All(r, d.Name+"/") {
		if err != nil {
			return row, err
		}
		row.Users++
	}
	for _, err := range state.Aliases.All(r, d.Name+"/") {
		if err != nil {
			return row, err
		}
		row.Aliases++
	}
	set, err := state.LoadSettings(r)
	if err == nil {
		row.Main = set.System.Domain == d.Name
	}
	return row, err
}

func (s *Server) domainAdd(ctx context.Context, c *Call, in *api.DomainAddIn) (row api.DomainRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		d := &model.Domain{Name: in.Name, Description: in.Description, Format: in.Format, AutoAdd: in.AutoAdd}
		if err := addDomain(tx, d, time.Now()); err != nil {
			return err
		}
		for _, u := range in.Users {
			if err := joinDomain(tx, d, u, nil, model.RoleUser); err != nil {
				return err
			}
		}
		if row, err = domainRow(tx, d); err == nil {
			diffRows(c, nil, row)
		}
		return err
	})
	if err == nil {
		c.Warn("publish the DNS records: mpctl domain dns-records %s", row.Name)
	}
	return row, err
}

func (s *Server) domainList(_ context.Context, _ *Call, in *api.ListIn) ([]api.DomainRow, error) {
	out := []api.DomainRow{}
	for d, err := range state.Domains.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		if !matches(in.Search, d.Name, d.Description, d.Additional) {
			continue
		}
		row, err := domainRow(s.mail.State, d)
		if err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, nil
}

func (s *Server) domainShow(_ context.Context, _ *Call, in *api.DomainIn) (api.DomainRow, error) {
	d, err := getDomain(s.mail.State, in.Name)
	if err != nil {
		return api.DomainRow{}, err
	}
	return domainRow(s.mail.State, d)
}

func (s *Server) domainSet(ctx context.Context, c *Call, in *api.DomainSetIn) (row api.DomainRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getDomain(tx, in.Name)
		if err != nil {
			return err
		}
		before, err := domainRow(tx, d)
		if err != nil {
			return err
		}
		if in.Description != nil {
			d.Description = *in.Description
		}
		if in.Format != nil {
			d.Format = *in.Format
		}
		if in.AutoAdd != nil {
			d.AutoAdd = *in.AutoAdd
		}
		if err := d.Validate(); err != nil {
			return err
		}
		if in.Rename != nil && asciiDomain(*in.Rename) != d.Name {
			err = renameDomain(tx, d, *in.Rename)
		} else {
			err = state.Domains.Put(tx, d)
		}
		if err != nil {
			return err
		}
		row, err = domainRow(tx, d)
		c.diff = nil
		diffRows(c, before, row)
		return err
	})
	return row, err
}

func (s *Server) domainDelete(ctx context.Context, c *Call, in *api.DomainIn) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getDomain(tx, in.Name)
		if err != nil {
			return err
		}
		before, err := domainRow(tx, d)
		if err != nil {
			return err
		}
		c.diff = nil
		diffRows(c, before, nil)
		_, err = deleteDomain(tx, in.Name)
		return err
	})
}

// publicAddresses are the addresses by which the Internet sees this server, as far as is known.
func (s *Server) publicAddresses(given []string) ([]netip.Addr, error) {
	if len(given) == 0 {
		given = s.mail.State.Current().Network.PublicIP
	}
	var out []netip.Addr
	for _, g := range given {
		ip, err := netip.ParseAddr(g)
		if err != nil {
			return nil, model.Invalid("address", "%q is no IP address", g)
		}
		out = append(out, ip)
	}
	if len(out) > 0 {
		return out, nil
	}
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			out = append(out, p.Addr())
		}
	}
	return out, err
}

func (s *Server) domainDNSRecords(_ context.Context, c *Call, in *api.DNSRecordsIn) ([]api.RecordRow, error) {
	d, err := getDomain(s.mail.State, in.Name)
	if err != nil {
		return nil, err
	}
	ips, err := s.publicAddresses(in.Address)
	if err != nil {
		return nil, err
	}
	for _, ip := range ips {
		if ip.IsPrivate() {
			c.Warn("%s is a private address: behind NAT give the public one with --address", ip)
		}
	}
	out := []api.RecordRow{}
	for _, r := range dnsRecords(s.mail.State.Current(), d, asciiDomain(in.Name), ips) {
		out = append(out, api.RecordRow(r))
	}
	return out, nil
}

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
	out := []api.DomainUserRow{}
	for m, err := range state.DomainUsers.All(s.mail.State, d.Name+"/") {
		if err != nil {
			return nil, err
		}
		if matches(in.Search, m.User, m.Locals, m.Role) {
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
		return state.DomainUsers.Delete(tx, m.Domain+"/"+m.User)
	})
	return op.None{}, err
}

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
		return addAlias(tx, d, *in.Rename, members, time.Unix(a.Created, 0))
	})
}

func (s *Server) aliasDelete(ctx context.Context, c *Call, in *api.AliasIn) (op.None, error) {
	_, err := s.aliasChange(ctx, c, in.Domain, in.Name, func(tx *state.Tx, d *model.Domain) (*model.Alias, error) {
		a, err := getAlias(tx, d, in.Name)
		if err != nil {
			return nil, err
		}
		return nil, state.Aliases.Delete(tx, d.Name+"/"+a.Name)
	})
	return op.None{}, err
}

// aliasImport imports what is new; what exists is left as it is and listed (R8.64). Aliases may
// name others that come later in the file, so it goes over what fails for that until nothing more helps.
func (s *Server) aliasImport(ctx context.Context, c *Call, in *api.AliasImportIn) ([]api.AliasImportRow, error) {
	lines, err := parseAliases(strings.NewReader(in.Text))
	if err != nil {
		return nil, op.Errorf(op.Usage, "the alias file can't be read: %v", err)
	}
	rows := make([]api.AliasImportRow, len(lines))
	err = s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getDomain(tx, in.Domain)
		if err != nil {
			return err
		}
		for progress := true; progress; {
			progress = false
			for i, l := range lines {
				if rows[i].Result == "imported" || rows[i].Result == "exists" {
					continue
				}
				err := tx.Sub(func() error { _, e := addAlias(tx, d, l.Name, l.Members, time.Now()); return e })
				rows[i] = api.AliasImportRow{Line: l.Line, Name: l.Name, Result: "imported"}
				if err == nil {
					progress = true
					continue
				}
				e := explain(err)
				rows[i].Result, rows[i].Error = "failed", e.Error()
				if e.Code == op.Exists {
					rows[i].Result = "exists"
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	failed := 0
	for _, r := range rows {
		if r.Result == "failed" {
			failed++
		}
	}
	if failed > 0 {
		return rows, op.Errorf(op.Partial, "%d of %d aliases were not imported", failed, len(rows))
	}
	return rows, nil
}

func (s *Server) aliasExport(_ context.Context, _ *Call, in *api.AliasExportIn) (api.AliasExport, error) {
	d, err := getDomain(s.mail.State, in.Domain)
	if err != nil {
		return api.AliasExport{}, err
	}
	pic, err := directory.Draw(s.mail.State, time.Now())
	if err != nil {
		return api.AliasExport{}, err
	}
	var b strings.Builder
	for a, err := range state.Aliases.All(s.mail.State, d.Name+"/") {
		if err != nil {
			return api.AliasExport{}, err
		}
		b.WriteString(exportAlias(pic, a) + "\n")
	}
	return api.AliasExport{Text: b.String()}, nil
}
