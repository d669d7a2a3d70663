package server

import (
	"context"
	"slices"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func domainRow(r state.Reader, d *model.Domain) (api.DomainRow, error) {
	row := api.DomainRow{Name: d.Name, Description: d.Description, Format: d.Format, AutoAdd: d.AutoAdd, Additional: d.Additional, CatchAll: d.CatchAll}
	set, err := state.LoadSettings(r)
	if err != nil {
		return row, err
	}
	for m, err := range state.DomainUsers.All(r, d.Name+"/") {
		if err != nil {
			return row, err
		}
		if model.SourceKey(m.Source, "") == model.SourceKey(set.System.Source, "") {
			row.Users++
		}
	}
	for _, err := range state.Aliases.All(r, d.Name+"/") {
		if err != nil {
			return row, err
		}
		row.Aliases++
	}
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
	if err == nil && in.Rename != nil {
		c.Warn("publish the DNS records under the new name, those of DKIM too: mpctl domain dns-records %s", row.Name)
	}
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

// getDomain reads a domain by its name or an additional name.
func getDomain(r state.Reader, name string) (*model.Domain, error) {
	list, err := state.Domains.Find(r, state.IndexDomainName, asciiDomain(name))
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, notFound("domain", name, "mpctl domain list")
	}
	return list[0], nil
}

// addDomain stores a new domain.
func addDomain(tx *state.Tx, d *model.Domain, now time.Time) error {
	d.Name = asciiDomain(d.Name)
	if d.Format == "" {
		d.Format = model.DefaultFormat
	}
	d.Created = now.Unix()
	if err := d.Validate(); err != nil {
		return err
	}
	if _, err := getDomain(tx, d.Name); err == nil {
		return exists("domain", d.Name, "mpctl domain set "+d.Name)
	}
	if err := notRelayed(tx, d.Name); err != nil {
		return err
	}
	return state.Domains.Put(tx, d)
}

// notRelayed refuses to host a domain whose mail is passed on to its own server.
func notRelayed(tx *state.Tx, domain string) error {
	all, err := state.RelayDomains.List(tx, "")
	for _, d := range all {
		if d.Domain == domain {
			return refused("mail for "+domain+" is passed on to its own server", "mpctl relay domain delete '"+d.Name+"'")
		}
	}
	return err
}

// renameDomain moves a domain with its members and aliases to a new name.
func renameDomain(tx *state.Tx, d *model.Domain, to string) error {
	old := d.Name
	to = asciiDomain(to)
	if err := model.ValidateDomainName("name", to); err != nil {
		return err
	}
	if other, err := getDomain(tx, to); err == nil && other.Name != old {
		return exists("domain", to, "mpctl domain list")
	}
	if err := notRelayed(tx, to); err != nil {
		return err
	}
	members, err := state.DomainUsers.List(tx, old+"/")
	if err != nil {
		return err
	}
	aliases, err := state.Aliases.List(tx, old+"/")
	if err != nil {
		return err
	}
	keys, err := state.DKIM.List(tx, old)
	if err != nil {
		return err
	}
	rules, err := state.AutoBCCs.List(tx, old+"/")
	if err != nil {
		return err
	}
	if err := removeDomain(tx, d); err != nil {
		return err
	}
	for _, k := range keys { // the new name needs its own TXT records
		if k.Domain == old {
			k.Domain = to
			if err := state.DKIM.Put(tx, k); err != nil {
				return err
			}
		}
	}
	d.Name = to
	d.Additional = slices.DeleteFunc(d.Additional, func(a string) bool { return a == to })
	if err := state.Domains.Put(tx, d); err != nil {
		return err
	}
	for _, m := range members {
		m.Domain = to
		if err := state.DomainUsers.Put(tx, m); err != nil {
			return err
		}
	}
	for _, a := range aliases {
		a.Domain = to
		if err := state.Aliases.Put(tx, a); err != nil {
			return err
		}
	}
	for _, b := range rules {
		b.Domain = to
		if err := state.AutoBCCs.Put(tx, b); err != nil {
			return err
		}
	}
	set, err := state.LoadSettings(tx)
	if err != nil {
		return err
	}
	if set.System.Domain == old {
		set.System.Domain = to
		return state.StoreSettings(tx, set)
	}
	return nil
}

// removeDomain takes a domain out with its memberships and aliases; mailboxes stay.
func removeDomain(tx *state.Tx, d *model.Domain) error {
	members, err := state.DomainUsers.List(tx, d.Name+"/")
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := state.DomainUsers.Delete(tx, state.DomainUsers.Key(m)); err != nil {
			return err
		}
	}
	aliases, err := state.Aliases.List(tx, d.Name+"/")
	if err != nil {
		return err
	}
	for _, a := range aliases {
		if err := state.Aliases.Delete(tx, a.Domain+"/"+a.Name); err != nil {
			return err
		}
	}
	if has, err := state.DKIM.Has(tx, d.Name); err != nil {
		return err
	} else if has {
		if err := state.DKIM.Delete(tx, d.Name); err != nil {
			return err
		}
	}
	rules, err := state.AutoBCCs.List(tx, d.Name+"/")
	if err != nil {
		return err
	}
	for _, b := range rules {
		if err := state.AutoBCCs.Delete(tx, b.Domain+"/"+b.Name); err != nil {
			return err
		}
	}
	return state.Domains.Delete(tx, d.Name)
}

// deleteDomain refuses to remove the main domain.
func deleteDomain(tx *state.Tx, name string) (*model.Domain, error) {
	d, err := getDomain(tx, name)
	if err != nil {
		return nil, err
	}
	set, err := state.LoadSettings(tx)
	if err != nil {
		return nil, err
	}
	if set.System.Domain == d.Name {
		return nil, refused(d.Name+" is the main domain", "mpctl config set system.domain=OTHER.DOMAIN")
	}
	return d, removeDomain(tx, d)
}
