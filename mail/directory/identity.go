package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// Where a directory tells who somebody is whatever his name, as Active Directory does, an account goes with
// him through a new name, and is not handed to somebody else who has got the old one.

// parked is the name of an account whose name is somebody else's now.
func parked(name, guid string) string {
	const mark = 1 + 8
	for len(name) > model.MaxUserName-mark {
		r := []rune(name)
		name = string(r[:len(r)-1])
	}
	return name + "~" + guid[:min(8, len(guid))]
}

// follow renames accounts and groups as the directory has. have is changed as they are.
func (y *syncer) follow(ctx context.Context, have map[string]*model.User, e *ldap.Entries) error {
	now := map[string]string{} // name by GUID
	for _, u := range e.Users {
		if u.GUID != "" {
			now[u.GUID] = u.Name
		}
	}
	moves, taken := map[string]string{}, map[string]bool{}
	for name := range have {
		taken[name] = true
	}
	for _, u := range e.Users {
		if old := have[u.Name]; u.GUID != "" && old != nil && old.GUID != "" && old.GUID != u.GUID && now[old.GUID] == "" {
			moves[old.Name] = parked(old.Name, old.GUID)
		}
	}
	for name, u := range have {
		if to := now[u.GUID]; u.GUID != "" && to != "" && to != name {
			moves[name] = to
		}
	}
	return inTurn(moves, taken, func(from, to string) error {
		u := have[from]
		err := y.s.Update(ctx, func(tx *state.Tx) error { return y.renameUser(tx, from, to) })
		if err != nil {
			return err
		}
		delete(have, from)
		copied := *u
		copied.Name = to
		have[to] = &copied
		y.note(from, to, u.GUID)
		return nil
	})
}

// note says what has become of a name.
func (y *syncer) note(from, to, guid string) {
	switch {
	case to == parked(from, guid):
		y.out.Renamed = append(y.out.Renamed, fmt.Sprintf("the name %s is another person's now: the account that had it keeps its mail as %s, without addresses", from, to))
	case !strings.Contains(from, "~") || !strings.Contains(to, "~"):
		y.out.Renamed = append(y.out.Renamed, fmt.Sprintf("%s is now %s, with his mail and addresses", from, to))
	}
}

// inTurn carries out renamings so that none meets a name that is still taken; two that change their names are led
// round by a third.
func inTurn(moves map[string]string, taken map[string]bool, do func(from, to string) error) error {
	step := func(from, to string) error {
		if err := do(from, to); err != nil {
			return err
		}
		delete(moves, from)
		delete(taken, from)
		taken[to] = true
		return nil
	}
	for len(moves) > 0 {
		moved := false
		for _, from := range sortedKeys(moves) {
			if to := moves[from]; !taken[to] {
				if err := step(from, to); err != nil {
					return err
				}
				moved = true
			}
		}
		if moved {
			continue
		}
		from := sortedKeys(moves)[0]
		to, round := moves[from], ""
		if _, moving := moves[to]; !moving {
			return fmt.Errorf("%s can't be renamed to %s: another account or group has the name", from, to)
		}
		for i := 0; round == "" || taken[round]; i++ {
			round = fmt.Sprintf("%s~%d", strings.ToValidUTF8(from[:min(len(from), 40)], ""), i)
		}
		if err := step(from, round); err != nil {
			return err
		}
		moves[round] = to
	}
	return nil
}

// followGroups is follow for groups. A group whose name is another's now is gone, as one that was deleted.
func (y *syncer) followGroups(ctx context.Context, have map[string]*model.Group, e *ldap.Entries) error {
	now := map[string]string{}
	for _, g := range e.Groups {
		if g.GUID != "" {
			now[g.GUID] = g.Name
		}
	}
	moves, taken := map[string]string{}, map[string]bool{}
	for name, g := range have {
		taken[name] = true
		if to := now[g.GUID]; g.GUID != "" && to != "" && to != name {
			moves[name] = to
		}
	}
	for _, to := range moves {
		if old := have[to]; old != nil && moves[to] == "" { // in the way, and shown no more
			moves[to] = parked(to, old.GUID)
		}
	}
	return inTurn(moves, taken, func(from, to string) error {
		if err := y.s.Update(ctx, func(tx *state.Tx) error { return y.renameGroup(tx, from, to) }); err != nil {
			return err
		}
		copied := *have[from]
		copied.Name = to
		delete(have, from)
		have[to] = &copied
		if !strings.Contains(from+to, "~") {
			y.out.Renamed = append(y.out.Renamed, fmt.Sprintf("the group %s is now %s", from, to))
		}
		return nil
	})
}

// renameGroup keeps what is ours of a group: its activation and what names it.
func (y *syncer) renameGroup(tx *state.Tx, from, to string) error {
	g, err := state.Groups.Get(tx, model.SourceKey(y.source, from))
	if err != nil {
		return err
	}
	if err := state.Groups.Delete(tx, g.Key()); err != nil {
		return err
	}
	g.Name = to
	if err := state.Groups.Put(tx, g); err != nil {
		return err
	}
	return RenameReferences(tx, y.source, model.AliasMember{Kind: model.AliasGroup, Value: from}, to)
}

// renameUser gives an account and all that is kept under its key another name.
func (y *syncer) renameUser(tx *state.Tx, from, to string) error {
	u, err := state.Users.Get(tx, model.SourceKey(y.source, from))
	if err != nil {
		return err
	}
	old := u.Key()
	if err := state.Users.Delete(tx, old); err != nil {
		return err
	}
	u.Name = to
	if err := state.Users.Put(tx, u); err != nil {
		return err
	}
	if err := MoveKept(tx, old, u.Key()); err != nil {
		return err
	}
	if err := y.renameMember(tx, old, u, to == parked(from, u.GUID)); err != nil {
		return err
	}
	tokens, err := state.Tokens.List(tx, "")
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.Source == y.source && t.User == from {
			t.User = to
			if err := state.Tokens.Put(tx, t); err != nil {
				return err
			}
		}
	}
	return RenameReferences(tx, y.source, model.AliasMember{Kind: model.AliasUser, Value: from}, to)
}

// renameMember keeps the addresses of an account that has another name, and puts the one of the new name
// first where it is free and the domain gives new users one. Those of an account whose name is somebody else's
// become free.
func (y *syncer) renameMember(tx *state.Tx, old string, u *model.User, free bool) error {
	members, err := state.DomainUsers.Find(tx, state.IndexMemberByUser, old)
	if err != nil {
		return err
	}
	if len(members) == 0 && strings.Contains(old, "~") {
		return autoJoin(tx, u) // his name was somebody else's; he is back under another
	}
	for _, m := range members {
		if err := state.DomainUsers.Delete(tx, state.DomainUsers.Key(m)); err != nil {
			return err
		}
		if free {
			continue
		}
		m.User = u.Name
		d, err := state.Domains.Get(tx, m.Domain)
		if err != nil {
			return err
		}
		local := model.FoldName(model.FormatAddress(d.Format, u))
		if d.AutoAdd && local != "" && model.ValidateLocalPart("address", local) == nil && !slices.Contains(m.Locals, local) && len(m.Locals) < model.MaxAddresses && !strings.Contains(local, "~") {
			if ok, err := unowned(tx, d.Name, local, y.source); err != nil {
				return err
			} else if ok {
				m.Locals = append([]string{local}, m.Locals...)
			}
		}
		if err := state.DomainUsers.Put(tx, m); err != nil {
			return err
		}
	}
	return nil
}

// unowned tells whether nobody of a source, and no alias, has an address.
func unowned(tx *state.Tx, domain, local, source string) (bool, error) {
	if has, err := state.Aliases.Has(tx, domain+"/"+local); has || err != nil {
		return false, err
	}
	owner, err := state.DomainUsers.Find(tx, state.IndexAddress, model.SourceKey(source, local+"@"+domain))
	return len(owner) == 0, err
}

// MoveKept gives what an account has set for itself to another key: the forward, the automatic reply and
// the second factor, each where the other has none.
func MoveKept(tx *state.Tx, from, to string) error {
	if err := moveRow(tx, state.AutoForwards, from, to, func(f *model.AutoForward) { f.User = to }); err != nil {
		return err
	}
	if err := moveRow(tx, state.AutoReplies, from, to, func(r *model.AutoReply) { r.User = to }); err != nil {
		return err
	}
	return moveRow(tx, state.SecondFactors, from, to, func(f *model.SecondFactor) { f.SealedFor, f.User = f.SealKey(), to })
}

func moveRow[T any](tx *state.Tx, t *state.Table[T], from, to string, set func(*T)) error {
	row, err := t.Get(tx, from)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if has, err := t.Has(tx, to); has || err != nil {
		return err
	}
	if err := t.Delete(tx, from); err != nil {
		return err
	}
	set(row)
	return t.Put(tx, row)
}
