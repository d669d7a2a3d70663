package server

import (
	"errors"
	"slices"
	"time"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// getGroup reads a group or says how to find the right name.
func getGroup(r state.Reader, name string) (*model.Group, error) {
	g, err := state.Groups.Get(r, model.FoldName(name))
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound("group", name, "mpctl group list")
	}
	return g, err
}

// addMembers puts users and groups into a group; those that are in it already stay.
func addMembers(tx *state.Tx, group string, users, groups []string) error {
	g, err := getGroup(tx, group)
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
	g, err := getGroup(tx, group)
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
func deleteGroup(tx *state.Tx, name string) error {
	g, err := getGroup(tx, name)
	if err != nil {
		return err
	}
	if g.Name == model.Administrators {
		return refused("the group administrators can't be deleted", "")
	}
	for other, err := range state.Groups.All(tx, "") {
		if err != nil {
			return err
		}
		if i := slices.Index(other.Groups, g.Name); i >= 0 {
			other.Groups = slices.Delete(other.Groups, i, i+1)
			if err := state.Groups.Put(tx, other); err != nil {
				return err
			}
		}
	}
	if err := dropFromAliases(tx, model.AliasMember{Kind: model.AliasGroup, Value: g.Name}); err != nil {
		return err
	}
	if err := state.Groups.Delete(tx, g.Name); err != nil {
		return err
	}
	return checkSeats(tx)
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
	for g, err := range state.Groups.All(tx, "") {
		if err != nil {
			return err
		}
		if g.Activation != model.ActivationInherit {
			return checkSeats(tx)
		}
	}
	return nil
}
