package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) userDelete(ctx context.Context, c *Call, in *api.UserDeleteIn) (op.None, error) {
	var kept bool
	err := s.change(ctx, c, func(tx *state.Tx) error {
		before, err := userIn(tx, in.Name)
		if err != nil {
			return err
		}
		c.diff = nil
		diffRows(c, before, nil)
		kept, err = deleteUser(tx, in.Name, in.DeleteMail)
		return err
	})
	if err == nil && kept {
		c.Warn("aliases, policies and blind copies that name %s still do, for another account source has a user of that name", in.Name)
	}
	return op.None{}, err
}

// deleteUser removes a user from the directory, his groups, domains and aliases. His
// mailboxes go only with withMail. kept: aliases, policies and the like still name him, for
// another source has a user of that name.
func deleteUser(tx *state.Tx, name string, withMail bool) (kept bool, err error) {
	u, err := getUser(tx, name)
	if err != nil {
		return false, err
	}
	if u.Source != "" && u.Away != model.AwayGone {
		return false, refused(u.Name+" is in the directory and would be back after the next synchronisation; delete him there first, or use mpctl user disable "+u.Name, directoryCommand(u.Source)+" sync")
	}
	if err := keepAdmin(tx, u.Name); err != nil {
		return false, err
	}
	for g, err := range state.Groups.All(tx, "") {
		if err != nil {
			return false, err
		}
		if g.Source != u.Source {
			continue
		}
		if i := slices.Index(g.Users, u.Name); i >= 0 {
			g.Users = slices.Delete(g.Users, i, i+1)
			if err := state.Groups.Put(tx, g); err != nil {
				return false, err
			}
		}
	}
	members, err := state.DomainUsers.Find(tx, state.IndexMemberByUser, u.Key())
	if err != nil {
		return false, err
	}
	for _, m := range members {
		if err := state.DomainUsers.Delete(tx, state.DomainUsers.Key(m)); err != nil {
			return false, err
		}
	}
	if kept, err = directory.DropReferences(tx, u.Source, model.AliasMember{Kind: model.AliasUser, Value: u.Name}); err != nil {
		return false, err
	}
	if err := dropPassing(tx, u); err != nil {
		return false, err
	}
	if withMail {
		if err := dropSubscriptions(tx, u.ID); err != nil {
			return false, err
		}
		tx.Also(state.AccountDelete{Account: u.ID, User: u.Name})
	}
	if err := dropFactor(tx, u.Key()); err != nil {
		return false, err
	}
	if err := dropTokens(tx, u.Key(), ""); err != nil { // they are not those of the next one of that name
		return false, err
	}
	return kept, state.Users.Delete(tx, u.Key())
}

// dropSubscriptions forgets the names that an account has subscribed without a mailbox.
func dropSubscriptions(tx *state.Tx, account model.AccountID) error {
	list, err := state.Subscriptions.List(tx, model.SubscriptionsOf(account))
	if err != nil {
		return err
	}
	for _, row := range list {
		if err := state.Subscriptions.Delete(tx, row.Key()); err != nil {
			return err
		}
	}
	return nil
}

// keepAdmin refuses to lose the last administrator (I.16).
func keepAdmin(tx *state.Tx, without string) error {
	pic, err := directory.Draw(tx, time.Now())
	if err != nil {
		return err
	}
	gone := pic.User(without)
	if gone == nil || !pic.IsAdmin(gone) {
		return nil
	}
	for _, a := range pic.Users {
		if a.Name != gone.Name && pic.IsAdmin(a) {
			return nil
		}
	}
	return refused(fmt.Sprintf("%s is the last administrator", without), "mpctl user set OTHER --admin on")
}
