package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func groupRow(g *model.Group, pic *directory.Picture) api.GroupRow {
	return api.GroupRow{Name: g.Name, Description: g.Description, Users: g.Users, Groups: g.Groups, Activation: string(g.Activation), Members: len(pic.Members(g.Name))}
}

func groupIn(r state.Reader, name string) (api.GroupRow, error) {
	g, err := getGroup(r, name)
	if err != nil {
		return api.GroupRow{}, err
	}
	pic, err := directory.Draw(r, time.Now())
	if err != nil {
		return api.GroupRow{}, err
	}
	return groupRow(g, pic), nil
}

// groupChange runs fn and gives the group before and after.
func (s *Server) groupChange(ctx context.Context, c *Call, name string, fn func(*state.Tx) (newName string, err error)) (after api.GroupRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		before, berr := groupIn(tx, name)
		now, err := fn(tx)
		if err != nil {
			return err
		}
		if after, err = groupIn(tx, now); err != nil {
			return err
		}
		c.diff = nil
		if berr != nil {
			diffRows(c, nil, after)
		} else {
			diffRows(c, before, after)
		}
		return nil
	})
	return after, err
}

func (s *Server) groupAdd(ctx context.Context, c *Call, in *api.GroupAddIn) (api.GroupRow, error) {
	name := model.FoldName(in.Name)
	return s.groupChange(ctx, c, name, func(tx *state.Tx) (string, error) {
		if err := localOnly(tx, "groups"); err != nil {
			return name, err
		}
		if has, err := state.Groups.Has(tx, name); err != nil {
			return name, err
		} else if has {
			return name, exists("group", name, "mpctl group set "+name)
		}
		if err := state.Groups.Put(tx, &model.Group{Name: name, Description: in.Description, Created: time.Now().Unix()}); err != nil {
			return name, err
		}
		return name, addMembers(tx, name, in.Users, nil)
	})
}

func (s *Server) groupList(_ context.Context, _ *Call, in *api.ListIn) ([]api.GroupRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	out := []api.GroupRow{}
	for _, name := range slices.Sorted(maps.Keys(pic.Groups)) {
		if g := pic.Groups[name]; matches(in.Search, g.Name, g.Description, g.Users) {
			out = append(out, groupRow(g, pic))
		}
	}
	return out, nil
}

func (s *Server) groupShow(_ context.Context, _ *Call, in *api.GroupIn) (api.GroupRow, error) {
	return groupIn(s.mail.State, in.Name)
}

func (s *Server) groupSet(ctx context.Context, c *Call, in *api.GroupSetIn) (api.GroupRow, error) {
	return s.groupChange(ctx, c, in.Name, func(tx *state.Tx) (string, error) {
		g, err := ownGroup(tx, in.Name)
		if err != nil {
			return "", err
		}
		if in.Description != nil {
			g.Description = *in.Description
		}
		if in.Rename != nil {
			return renameGroup(tx, g, *in.Rename)
		}
		return g.Name, state.Groups.Put(tx, g)
	})
}

// renameGroup gives a group a new name wherever it is a member.
func renameGroup(tx *state.Tx, g *model.Group, to string) (string, error) {
	old := g.Name
	to = model.FoldName(to)
	if old == model.Administrators {
		return "", refused("the group administrators can't be renamed", "")
	}
	if has, err := state.Groups.Has(tx, to); err != nil {
		return "", err
	} else if has {
		return "", exists("group", to, "mpctl group list")
	}
	g.Name = to
	if err := g.Validate(); err != nil {
		return "", err
	}
	replace := func(list []string) (changed bool) {
		for i := range list {
			if list[i] == old {
				list[i], changed = to, true
			}
		}
		return changed
	}
	groups, err := state.Groups.List(tx, "")
	if err != nil {
		return "", err
	}
	for _, other := range groups {
		if other.Source == g.Source && other.Name != old && replace(other.Groups) {
			if err := state.Groups.Put(tx, other); err != nil {
				return "", err
			}
		}
	}
	if err := directory.RenameReferences(tx, g.Source, model.AliasMember{Kind: model.AliasGroup, Value: old}, to); err != nil {
		return "", err
	}
	if err := state.Groups.Delete(tx, old); err != nil {
		return "", err
	}
	return to, state.Groups.Put(tx, g)
}

func (s *Server) groupDelete(ctx context.Context, c *Call, in *api.GroupIn) (op.None, error) {
	var kept bool
	err := s.change(ctx, c, func(tx *state.Tx) error {
		before, err := groupIn(tx, in.Name)
		if err != nil {
			return err
		}
		c.diff = nil
		diffRows(c, before, nil)
		kept, err = deleteGroup(tx, in.Name)
		return err
	})
	if err == nil && kept {
		c.Warn("aliases and policies that name the group %s still do, for another account source has a group of that name", in.Name)
	}
	return op.None{}, err
}

func (s *Server) groupMemberAdd(ctx context.Context, c *Call, in *api.GroupMemberIn) (api.GroupRow, error) {
	return s.groupChange(ctx, c, in.Group, func(tx *state.Tx) (string, error) {
		return in.Group, addMembers(tx, in.Group, in.Users, in.Groups)
	})
}

func (s *Server) groupMemberDelete(ctx context.Context, c *Call, in *api.GroupMemberIn) (api.GroupRow, error) {
	return s.groupChange(ctx, c, in.Group, func(tx *state.Tx) (string, error) {
		return in.Group, removeMembers(tx, in.Group, in.Users, in.Groups)
	})
}

func (s *Server) groupMemberList(_ context.Context, _ *Call, in *api.GroupIn) ([]api.MemberRow, error) {
	g, err := getGroup(s.mail.State, in.Name)
	if err != nil {
		return nil, err
	}
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	direct := map[string]bool{}
	for _, u := range g.Users {
		direct[u] = true
	}
	out := []api.MemberRow{}
	for _, u := range pic.Members(g.Name) {
		row := api.MemberRow{User: u, Via: g.Name}
		if !direct[u] {
			for _, sub := range g.Groups {
				if pic.InGroup(u, sub) {
					row.Via = sub
				}
			}
		}
		out = append(out, row)
	}
	return out, nil
}

// getGroup reads a group or says how to find the right name.
func getGroup(r state.Reader, name string) (*model.Group, error) {
	g, err := state.GetGroup(r, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound("group", name, "mpctl group list")
	}
	return g, err
}

// ownGroup reads a group that can be changed here: those of a directory can't (I.03).
func ownGroup(r state.Reader, name string) (*model.Group, error) {
	g, err := getGroup(r, name)
	if err == nil && g.Source != "" {
		err = refused("the group "+g.Name+" is of the directory and follows it; change it there", directoryCommand(g.Source)+" sync")
	}
	return g, err
}

// localOnly refuses to make something local while accounts and groups come from a directory (R5.07).
func localOnly(r state.Reader, what string) error {
	source, err := state.Source(r)
	if err == nil && source != model.SourceLocal {
		err = refused("local "+what+" can't be made: accounts and groups come from the directory", "add it to the directory, then "+directoryCommand(source)+" sync")
	}
	return err
}

// addMembers puts users and groups into a group; those that are in it already stay.
func addMembers(tx *state.Tx, group string, users, groups []string) error {
	g, err := ownGroup(tx, group)
	if err != nil {
		return err
	}
	for _, u := range users {
		row, err := getUser(tx, u)
		if err != nil {
			return err
		}
		if !slices.Contains(g.Users, row.Name) {
			g.Users = append(g.Users, row.Name)
		}
	}
	for _, sub := range groups {
		row, err := getGroup(tx, sub)
		if err != nil {
			return err
		}
		if row.Name == g.Name {
			return refused("the group "+g.Name+" can't be its own member", "")
		}
		if !slices.Contains(g.Groups, row.Name) {
			g.Groups = append(g.Groups, row.Name)
		}
	}
	slices.Sort(g.Users)
	slices.Sort(g.Groups)
	if err := state.Groups.Put(tx, g); err != nil {
		return err
	}
	return groupSeats(tx)
}

// removeMembers takes users and groups out of a group.
func removeMembers(tx *state.Tx, group string, users, groups []string) error {
	g, err := ownGroup(tx, group)
	if err != nil {
		return err
	}
	for _, u := range users {
		i := slices.Index(g.Users, model.FoldName(u))
		if i < 0 {
			return notFound("member", u, "mpctl group member list "+g.Name)
		}
		if g.Name == model.Administrators {
			if err := keepAdmin(tx, u); err != nil {
				return err
			}
		}
		g.Users = slices.Delete(g.Users, i, i+1)
	}
	for _, sub := range groups {
		i := slices.Index(g.Groups, model.FoldName(sub))
		if i < 0 {
			return notFound("member", sub, "mpctl group member list "+g.Name)
		}
		g.Groups = slices.Delete(g.Groups, i, i+1)
	}
	if err := state.Groups.Put(tx, g); err != nil {
		return err
	}
	return checkSeats(tx)
}

// deleteGroup removes a group and its memberships elsewhere.
func deleteGroup(tx *state.Tx, name string) (kept bool, err error) {
	g, err := ownGroup(tx, name)
	if err != nil {
		return false, err
	}
	if g.Name == model.Administrators {
		return false, refused("the group administrators can't be deleted", "")
	}
	for other, err := range state.Groups.All(tx, "") {
		if err != nil {
			return false, err
		}
		if i := slices.Index(other.Groups, g.Name); i >= 0 && other.Source == g.Source {
			other.Groups = slices.Delete(other.Groups, i, i+1)
			if err := state.Groups.Put(tx, other); err != nil {
				return false, err
			}
		}
	}
	if kept, err = directory.DropReferences(tx, g.Source, model.AliasMember{Kind: model.AliasGroup, Value: g.Name}); err != nil {
		return false, err
	}
	if err := state.Groups.Delete(tx, g.Name); err != nil {
		return false, err
	}
	return kept, checkSeats(tx)
}

// checkSeats refuses a change that needs more seats than there are and more than before (R5.17).
// A shortage that was there before the change switches nobody off (A.05).
func checkSeats(tx *state.Tx) error {
	pic, err := directory.Draw(tx, time.Now())
	if err != nil || pic.Used <= pic.Seats {
		return err
	}
	before, err := directory.Draw(tx.Base(), time.Now())
	if err != nil || pic.Used <= before.Used {
		return err
	}
	return seatsRefused(before.Used, pic.Used, pic.Seats)
}

// groupSeats is checkSeats for a change in groups: cheap when no group activates anybody.
func groupSeats(tx *state.Tx) error {
	for g, err := range state.Groups.All(tx, "") { // those of other sources, too: too careful at worst
		if err != nil {
			return err
		}
		if g.Activation != model.ActivationInherit {
			return checkSeats(tx)
		}
	}
	return nil
}
