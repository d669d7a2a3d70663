package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// How much one entry of a synchronisation holds: rows of users with an address in each domain that
// takes new ones, and members of groups. An entry is up to 1 MB, a row up to 2 KB.
const (
	syncUsers   = 200
	syncMembers = 10_000
	maxNotes    = 20
)

// ErrVanished says that a directory shows so few of the users it showed before that it is
// more likely broken, or the filter wrong, than that they have all left.
var ErrVanished = errors.New("the directory does not show most of its users any more")

// Synced is what a synchronisation changed.
type Synced struct {
	model.DirectoryState
	Added, Changed int
	Lost           []string // users who are disabled from now on, with what still names them
	Renamed        []string // users and groups who have another name from now on
}

// Sync makes the users and groups of a source what the directory has, some at a time. Who isn't
// there any more is disabled and keeps his mail. force: even when most are not there.
func Sync(ctx context.Context, s *state.State, source string, e *ldap.Entries, force bool, now time.Time) (*Synced, error) {
	y := &syncer{s: s, source: source, now: now, out: &Synced{}}
	have := map[string]*model.User{}
	for u, err := range state.Users.All(s, source+":") {
		if err != nil {
			return nil, err
		}
		have[u.Name] = u
	}
	if err := y.plausible(have, e, force); err != nil {
		return nil, err
	}
	if err := y.follow(ctx, have, e); err != nil {
		return nil, err
	}
	// Groups first: who has got the name that a member had before is not in them for a moment.
	if err := y.groups(ctx, e); err != nil {
		return nil, err
	}
	if err := y.users(ctx, have, e); err != nil {
		return nil, err
	}
	y.count(e)
	return y.out, nil
}

type syncer struct {
	s      *state.State
	source string
	now    time.Time
	gone   int // all who are not there
	out    *Synced
}

// plausible refuses to disable more than half of ten users or more.
func (y *syncer) plausible(have map[string]*model.User, e *ldap.Entries, force bool) error {
	shown := make(map[string]bool, len(e.Users))
	for _, u := range e.Users {
		shown[u.Name], shown[u.GUID] = true, true
	}
	were, lost := 0, 0
	for name, u := range have {
		if u.Away == model.AwayGone {
			continue
		}
		here := shown[name]
		if u.GUID != "" { // the same name in another domain is somebody else
			here = shown[u.GUID]
		}
		if were++; !here {
			lost++
		}
	}
	if !force && (were > 0 && lost == were || were >= 10 && lost > were/2) {
		return fmt.Errorf("%w: %d of %d would be disabled; nothing was changed", ErrVanished, lost, were)
	}
	return nil
}

// users stores what is new or different.
func (y *syncer) users(ctx context.Context, have map[string]*model.User, e *ldap.Entries) error {
	var fresh []ldap.User
	shown := make(map[string]bool, len(e.Users))
	for _, u := range e.Users {
		shown[u.Name] = true
		if old := have[u.Name]; old == nil || !same(old, &u) {
			fresh = append(fresh, u)
		}
	}
	domains, err := y.domains()
	if err != nil {
		return err
	}
	for part := range slices.Chunk(fresh, max(syncUsers/(1+domains), 1)) {
		var added, changed int
		if err := y.s.Update(ctx, func(tx *state.Tx) (err error) {
			added, changed, err = y.put(tx, part)
			return err
		}); err != nil {
			return err
		}
		y.out.Added += added
		y.out.Changed += changed
	}
	var lost []string
	for name, u := range have {
		if !shown[name] && u.Away != model.AwayGone {
			lost = append(lost, name)
		}
	}
	for name, u := range have {
		if !shown[name] && u.Away == model.AwayGone {
			y.gone++
		}
	}
	y.gone += len(lost)
	slices.Sort(lost)
	for part := range slices.Chunk(lost, syncUsers) {
		if err := y.s.Update(ctx, func(tx *state.Tx) error { return y.lose(tx, part) }); err != nil {
			return err
		}
	}
	return y.report(lost)
}

// domains counts those that take new users.
func (y *syncer) domains() (n int, err error) {
	for d, err := range state.Domains.All(y.s, "") {
		if err != nil {
			return 0, err
		}
		if d.AutoAdd {
			n++
		}
	}
	return n, nil
}

// same tells whether a user's row is what the directory has.
func same(old *model.User, u *ldap.User) bool {
	return old.GUID == u.GUID && old.UPN == u.UPN && old.DN == u.DN && old.DisplayName == u.Display && old.Nickname == u.Nickname && old.Away == away(u)
}

func away(u *ldap.User) string {
	if u.Disabled {
		return model.AwayDisabled
	}
	return ""
}

func (y *syncer) put(tx *state.Tx, list []ldap.User) (added, changed int, err error) {
	for _, u := range list {
		row, err := state.Users.Get(tx, model.SourceKey(y.source, u.Name))
		isNew := errors.Is(err, state.ErrNotFound)
		if err != nil && !isNew {
			return 0, 0, err
		}
		if isNew {
			id, err := tx.Next("account")
			if err != nil {
				return 0, 0, err
			}
			row = &model.User{ID: model.AccountID(id), Name: u.Name, Source: y.source, Created: y.now.Unix()}
			added++
		} else {
			changed++
		}
		row.GUID, row.UPN = u.GUID, u.UPN
		row.DN, row.DisplayName, row.Nickname, row.Away = u.DN, u.Display, u.Nickname, away(&u)
		if err := state.Users.Put(tx, row); err != nil {
			return 0, 0, err
		}
		if isNew {
			if err := autoJoin(tx, row); err != nil {
				return 0, 0, err
			}
		}
	}
	return added, changed, nil
}

// autoJoin gives a new user his address in each domain that takes new users (R8.09, R8.10), where
// nobody has it.
func autoJoin(tx *state.Tx, u *model.User) error {
	if model.ValidateUserName(u.Name) != nil {
		return nil
	}
	for d, err := range state.Domains.All(tx, "") {
		if err != nil {
			return err
		}
		local := model.FoldName(model.FormatAddress(d.Format, u))
		if !d.AutoAdd || local == "" || model.ValidateLocalPart("address", local) != nil {
			continue
		}
		if has, err := state.Aliases.Has(tx, d.Name+"/"+local); err != nil {
			return err
		} else if has {
			continue
		}
		m := &model.DomainUser{Domain: d.Name, User: u.Name, Source: u.Source, Role: model.RoleUser, Locals: []string{local}}
		if err := state.DomainUsers.Put(tx, m); err != nil && !errors.Is(err, state.ErrExists) {
			return err
		}
	}
	return nil
}

func (y *syncer) lose(tx *state.Tx, names []string) error {
	for _, name := range names {
		row, err := state.Users.Get(tx, model.SourceKey(y.source, name))
		if err != nil {
			return err
		}
		row.Away = model.AwayGone
		if err := state.Users.Put(tx, row); err != nil {
			return err
		}
	}
	return nil
}

// report says which aliases name users that are gone (I.06).
func (y *syncer) report(lost []string) error {
	if len(lost) == 0 {
		return nil
	}
	named := map[string][]string{}
	for a, err := range state.Aliases.All(y.s, "") {
		if err != nil {
			return err
		}
		for _, m := range a.Members {
			if m.Kind == model.AliasUser {
				named[m.Value] = append(named[m.Value], a.Name+"@"+a.Domain)
			}
		}
	}
	for _, name := range lost {
		line := name + " is not in the directory any more: disabled, his mail stays"
		if in := named[name]; len(in) > 0 {
			line += fmt.Sprintf("; still a member of %v", in)
		}
		y.out.Lost = append(y.out.Lost, line)
	}
	return nil
}

// groups stores the directory's groups; our activation of a group stays as long as it is there.
func (y *syncer) groups(ctx context.Context, e *ldap.Entries) error {
	have := map[string]*model.Group{}
	for g, err := range state.Groups.All(y.s, y.source+":") {
		if err != nil {
			return err
		}
		have[g.Name] = g
	}
	if err := y.followGroups(ctx, have, e); err != nil {
		return err
	}
	var batch []model.Group
	size := 0
	flush := func() error {
		list := batch
		batch, size = nil, 0
		if len(list) == 0 {
			return nil
		}
		return y.s.Update(ctx, func(tx *state.Tx) error { return y.putGroups(tx, list) })
	}
	for _, g := range e.Groups {
		old := have[g.Name]
		delete(have, g.Name)
		if old != nil && old.GUID == g.GUID && old.Description == g.Description && slices.Equal(old.Users, g.Users) && slices.Equal(old.Groups, g.Groups) {
			continue
		}
		n := len(g.Users) + len(g.Groups) + 20
		if size+n > syncMembers {
			if err := flush(); err != nil {
				return err
			}
		}
		batch = append(batch, model.Group{Name: g.Name, Description: g.Description, Users: g.Users, Groups: g.Groups, Source: y.source, GUID: g.GUID, Created: y.now.Unix()})
		size += n
	}
	if err := flush(); err != nil {
		return err
	}
	for part := range slices.Chunk(sortedKeys(have), syncUsers) {
		if err := y.s.Update(ctx, func(tx *state.Tx) error {
			for _, name := range part {
				if err := state.Groups.Delete(tx, model.SourceKey(y.source, name)); err != nil && !errors.Is(err, state.ErrNotFound) {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (y *syncer) putGroups(tx *state.Tx, list []model.Group) error {
	for _, g := range list {
		old, err := state.Groups.Get(tx, g.Key())
		if err == nil {
			if old.GUID == "" || old.GUID == g.GUID { // another group of that name starts anew
				g.Activation, g.Created = old.Activation, old.Created
			}
		} else if !errors.Is(err, state.ErrNotFound) {
			return err
		}
		if err := state.Groups.Put(tx, &g); err != nil {
			return err
		}
	}
	return nil
}

// count fills in the figures of the state.
func (y *syncer) count(e *ldap.Entries) {
	st := &y.out.DirectoryState
	*st = model.DirectoryState{
		Source: y.source, Done: y.now.Unix(), Tried: y.now.Unix(), Users: len(e.Users), Groups: len(e.Groups), LeftOut: e.Left,
		Notes: slices.Concat(e.LeftOut, y.out.Renamed, y.out.Lost),
	}
	st.Notes = st.Notes[:min(len(st.Notes), maxNotes)]
	for _, u := range e.Users {
		switch {
		case model.ValidateUserName(u.Name) != nil:
			st.Unsupported++
		case u.Disabled:
			st.Disabled++
		}
	}
	st.Gone = y.gone
}
