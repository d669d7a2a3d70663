package directory

import (
	"errors"
	"slices"
	"strings"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// Aliases, policies, rules of blind copies and catch-alls name users and groups without their source: the one
// in force counts. So who goes is taken out of them only where no other source has one of his name.

// namesake tells whether another source has a user or group of that name.
func namesake(r state.Reader, source string, who model.AliasMember) (bool, error) {
	for _, other := range []string{model.SourceLocal, model.SourceLDAP, model.SourceDomain} {
		if model.SourceKey(other, "") == model.SourceKey(source, "") {
			continue
		}
		key := model.SourceKey(other, who.Value)
		has, err := state.Users.Has(r, key)
		if who.Kind == model.AliasGroup {
			has, err = state.Groups.Has(r, key)
		}
		if has || err != nil {
			return has, err
		}
	}
	return false, nil
}

// DropReferences takes a user or group of a source who is no more out of all that names him. An alias
// that would be left empty goes. kept: nothing was changed, for another source has one of that name.
func DropReferences(tx *state.Tx, source string, who model.AliasMember) (kept bool, err error) {
	if kept, err = namesake(tx, source, who); kept || err != nil {
		return kept, err
	}
	return false, references{who: who}.change(tx)
}

// RenameReferences has all that names a user or group of a source name him by his new name; where another source has
// one of the old name, by both.
func RenameReferences(tx *state.Tx, source string, who model.AliasMember, to string) error {
	both, err := namesake(tx, source, who)
	if err != nil {
		return err
	}
	return references{who: who, to: to, both: both}.change(tx)
}

// references is a change of all that names somebody.
type references struct {
	who  model.AliasMember
	to   string // empty: he is taken out
	both bool   // the old name stays beside the new one
}

func (f references) change(tx *state.Tx) error {
	return errors.Join(f.aliases(tx), f.policies(tx), f.rules(tx), f.catchAlls(tx))
}

// in changes a list of names; false: he is not in it.
func (f references) in(list []string) ([]string, bool) {
	i := slices.Index(list, f.who.Value)
	if i < 0 {
		return list, false
	}
	list = slices.Clone(list)
	if !f.both {
		list = slices.Delete(list, i, i+1)
	}
	if f.to != "" && !slices.Contains(list, f.to) {
		list = append(list, f.to)
		slices.Sort(list)
	}
	return list, true
}

func (f references) aliases(tx *state.Tx) error {
	list, err := state.Aliases.List(tx, "")
	if err != nil {
		return err
	}
	for _, a := range list {
		i := slices.Index(a.Members, f.who)
		if i < 0 {
			continue
		}
		members := slices.Clone(a.Members)
		next := model.AliasMember{Kind: f.who.Kind, Value: f.to}
		switch {
		case f.to == "" || slices.Contains(members, next):
			if !f.both {
				members = slices.Delete(members, i, i+1)
			}
		case f.both:
			members = append(members, next)
		default:
			members[i] = next
		}
		if a.Members = members; len(members) == 0 {
			err = state.Aliases.Delete(tx, a.Domain+"/"+a.Name)
		} else {
			err = state.Aliases.Put(tx, a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f references) policies(tx *state.Tx) error {
	list, err := state.Policies.List(tx, "")
	if err != nil {
		return err
	}
	for _, p := range list {
		changed := false
		if f.who.Kind == model.AliasUser {
			p.Users, changed = f.in(p.Users)
		} else {
			p.Groups, changed = f.in(p.Groups)
		}
		if changed {
			if err := state.Policies.Put(tx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// rules of blind copies lead to one receiver each: a rule without one goes.
func (f references) rules(tx *state.Tx) error {
	list, err := state.AutoBCCs.List(tx, "")
	if err != nil {
		return err
	}
	for _, b := range list {
		if b.To.Kind != f.who.Kind || !strings.EqualFold(b.To.Value, f.who.Value) || f.both {
			continue
		}
		if b.To.Value = f.to; f.to == "" {
			err = state.AutoBCCs.Delete(tx, b.Domain+"/"+b.Name)
		} else {
			err = state.AutoBCCs.Put(tx, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f references) catchAlls(tx *state.Tx) error {
	if f.who.Kind != model.AliasUser || f.both || f.to == "" {
		return nil // one that leads to nobody rejects
	}
	list, err := state.Domains.List(tx, "")
	if err != nil {
		return err
	}
	for _, d := range list {
		if d.CatchAll != f.who.Value {
			continue
		}
		d.CatchAll = f.to
		if err := state.Domains.Put(tx, d); err != nil {
			return err
		}
	}
	return nil
}
