package server

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

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
	return state.Domains.Put(tx, d)
}

// joinDomain makes a user a member of a domain with the given local parts.
func joinDomain(tx *state.Tx, d *model.Domain, user string, locals []string, role model.DomainRole) error {
	u, err := getUser(tx, user)
	if err != nil {
		return err
	}
	key := d.Name + "/" + u.Name
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
	m := &model.DomainUser{Domain: d.Name, User: u.Name, Role: role}
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
	members, err := state.DomainUsers.List(tx, old+"/")
	if err != nil {
		return err
	}
	aliases, err := state.Aliases.List(tx, old+"/")
	if err != nil {
		return err
	}
	if err := removeDomain(tx, d); err != nil {
		return err
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
		if err := state.DomainUsers.Delete(tx, m.Domain+"/"+m.User); err != nil {
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

// getMember reads a membership.
func getMember(r state.Reader, d *model.Domain, user string) (*model.DomainUser, error) {
	m, err := state.DomainUsers.Get(r, d.Name+"/"+model.FoldName(user))
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound("member", user+" of "+d.Name, "mpctl domain user list "+d.Name)
	}
	return m, err
}
