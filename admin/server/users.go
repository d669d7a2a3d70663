package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailplusd/mail/directory"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// newUser is what `user add` and its bulk form need.
type newUser struct {
	Name, DisplayName, Nickname string
	Hash                        string
	Groups                      []string
	Admin, Activate             bool
}

// addUser stores a user, puts him into his groups and, where a domain adds new users, gives him an address there.
func addUser(tx *state.Tx, in newUser, now time.Time) (*model.User, error) {
	name := model.FoldName(in.Name)
	if has, err := state.Users.Has(tx, name); err != nil {
		return nil, err
	} else if has {
		return nil, exists("user", name, "mpctl user set "+name)
	}
	id, err := tx.Next("account")
	if err != nil {
		return nil, err
	}
	u := &model.User{
		ID: model.AccountID(id), Name: name, DisplayName: in.DisplayName, Nickname: model.FoldName(in.Nickname),
		Hash: in.Hash, Admin: in.Admin, Created: now.Unix(),
	}
	if in.Activate {
		u.Activation = model.ActivationActivate
	}
	if err := u.Validate(); err != nil {
		return nil, err
	}
	if err := state.Users.Put(tx, u); err != nil {
		return nil, err
	}
	for _, g := range in.Groups {
		if err := addMembers(tx, g, []string{name}, nil); err != nil {
			return nil, err
		}
	}
	return u, autoAdd(tx, u)
}

// autoAdd gives a new user his address in each domain that takes new users (R8.09, R8.10).
func autoAdd(tx *state.Tx, u *model.User) error {
	for d, err := range state.Domains.All(tx, "") {
		if err != nil {
			return err
		}
		if !d.AutoAdd {
			continue
		}
		local := model.FormatAddress(d.Format, u)
		if local == "" || model.ValidateLocalPart("address", local) != nil {
			continue
		}
		if err := joinDomain(tx, d, u.Name, []string{local}, model.RoleUser); err != nil && !errors.Is(err, state.ErrExists) {
			return err
		}
	}
	return nil
}

// getUser reads a user or says how to find the right name.
func getUser(r state.Reader, name string) (*model.User, error) {
	u, err := state.Users.Get(r, model.FoldName(name))
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound("user", name, "mpctl user list")
	}
	return u, err
}

// deleteUser removes a user from the directory, his groups, domains and aliases. His
// mailboxes go only with withMail.
func deleteUser(tx *state.Tx, name string, withMail bool) (*model.User, error) {
	u, err := getUser(tx, name)
	if err != nil {
		return nil, err
	}
	if err := keepAdmin(tx, u.Name); err != nil {
		return nil, err
	}
	for g, err := range state.Groups.All(tx, "") {
		if err != nil {
			return nil, err
		}
		if i := slices.Index(g.Users, u.Name); i >= 0 {
			g.Users = slices.Delete(g.Users, i, i+1)
			if err := state.Groups.Put(tx, g); err != nil {
				return nil, err
			}
		}
	}
	members, err := state.DomainUsers.Find(tx, state.IndexMemberByUser, u.Name)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if err := state.DomainUsers.Delete(tx, m.Domain+"/"+m.User); err != nil {
			return nil, err
		}
	}
	if err := dropFromAliases(tx, model.AliasMember{Kind: model.AliasUser, Value: u.Name}); err != nil {
		return nil, err
	}
	if withMail {
		tx.Also(state.AccountDelete{Account: u.ID})
	}
	return u, state.Users.Delete(tx, u.Name)
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

// hashPassword checks and hashes a new password.
func (s *Server) hashPassword(name string, password []byte) (string, error) {
	set := s.mail.State.Current()
	if err := login.ValidatePassword(password, name, set.Login.MinPassword); err != nil {
		return "", err
	}
	return login.Hash(password)
}

// setPassword stores a new password.
func (s *Server) setPassword(ctx context.Context, c *Call, name string, password []byte) error {
	hash, err := s.hashPassword(name, password)
	if err != nil {
		return err
	}
	return s.change(ctx, c, func(tx *state.Tx) error {
		u, err := getUser(tx, name)
		if err != nil {
			return err
		}
		u.Hash = hash
		return state.Users.Put(tx, u)
	})
}
