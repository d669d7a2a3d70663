package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/directory"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func userRow(a *directory.Account) api.UserRow {
	row := api.UserRow{
		Name: a.Name, DisplayName: a.DisplayName, Enabled: !a.Off(), Admin: a.Admin,
		Activated: a.Activated, Addresses: a.Addresses, Groups: a.Groups, Nickname: a.Nickname, FTS: !a.NoFTS, Policy: a.Policy.Name, TwoFactor: a.TwoFactor, ID: uint64(a.ID), Created: stamp(a.Created),
	}
	for _, d := range a.Deny {
		row.Deny = append(row.Deny, string(d))
	}
	switch {
	case a.Away != "":
		row.Directory = a.Source + ": " + a.Away
	case a.Source != "":
		row.Directory = a.Source
	}
	return row
}

// userOut is userRow with what follows from the groups.
func userOut(pic *directory.Picture, a *directory.Account) api.UserRow {
	row := userRow(a)
	row.Admin = a.Admin || pic.AdminByGroup(a)
	return row
}

// userIn shows a user as the transaction sees him.
func userIn(r state.Reader, name string) (api.UserRow, error) {
	pic, err := directory.Draw(r, time.Now())
	if err != nil {
		return api.UserRow{}, err
	}
	a := pic.User(name)
	if a == nil {
		return api.UserRow{}, notFound("user", name, "mpctl user list")
	}
	return userOut(pic, a), nil
}

func (s *Server) userAdd(ctx context.Context, c *Call, in *api.UserAddIn) (row api.UserRow, err error) {
	if err := s.hashInput(in); err != nil {
		return row, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if _, err := addUser(tx, newUserOf(in), time.Now()); err != nil {
			return err
		}
		if in.Activate {
			if err := checkSeats(tx); err != nil {
				return err
			}
		}
		if row, err = userIn(tx, in.Name); err == nil {
			diffRows(c, nil, row)
		}
		return err
	})
	return row, err
}

func newUserOf(in *api.UserAddIn) newUser {
	return newUser{Name: in.Name, DisplayName: in.DisplayName, Nickname: in.Nickname, Hash: in.Hash, Groups: in.Groups, Admin: in.Admin, Activate: in.Activate}
}

// hashInput turns the password of a new user into a hash, or checks a given hash.
func (s *Server) hashInput(in *api.UserAddIn) (err error) {
	switch {
	case in.Password != "" && in.Hash != "":
		return op.Errorf(op.Usage, "give a password or a hash, not both")
	case in.Password != "":
		in.Hash, err = s.hashPassword(in.Name, []byte(in.Password))
	case in.Hash != "":
		err = login.ValidateHash(in.Hash)
	}
	return err
}

// bulkUserAdd is `user add --file`: a row that exists already with the same values is unchanged.
func (s *Server) bulkUserAdd(tx *state.Tx) (func(*api.UserAddIn) (bool, error), error) {
	seats, err := newSeatCount(tx)
	if err != nil {
		return nil, err
	}
	return func(in *api.UserAddIn) (bool, error) {
		if have, err := state.GetUser(tx, in.Name); err == nil {
			if have.DisplayName != in.DisplayName && in.DisplayName != "" {
				return false, exists("user", have.Name, "mpctl user set "+have.Name+" --display-name …")
			}
			return false, nil
		}
		if in.Activate {
			if err := seats.take(in.Name, false); err != nil {
				return false, err
			}
		}
		_, err := addUser(tx, newUserOf(in), time.Now())
		return true, err
	}, nil
}

func (s *Server) userList(_ context.Context, _ *Call, in *api.ListIn) ([]api.UserRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	out := []api.UserRow{}
	for _, a := range pic.Users {
		if matches(in.Search, a.Name, a.DisplayName, a.Addresses) {
			out = append(out, userOut(pic, a))
		}
	}
	return out, nil
}

func (s *Server) userShow(_ context.Context, _ *Call, in *api.UserIn) (api.UserRow, error) {
	return userIn(s.mail.State, in.Name)
}

// userChange reads, changes and stores a user and gives him before and after.
func (s *Server) userChange(ctx context.Context, c *Call, name string, fn func(*state.Tx, *model.User) error) (after api.UserRow, err error) {
	var before api.UserRow
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if before, err = userIn(tx, name); err != nil {
			return err
		}
		u, err := getUser(tx, name)
		if err != nil {
			return err
		}
		if err := fn(tx, u); err != nil {
			return err
		}
		if err := u.Validate(); err != nil && u.Source == "" {
			return err // a directory's names are as they are
		}
		if err := state.Users.Put(tx, u); err != nil {
			return err
		}
		if err := checkSeats(tx); err != nil {
			return err
		}
		if after, err = userIn(tx, name); err == nil {
			diffRows(c, before, after)
		}
		return err
	})
	return after, err
}

func (s *Server) userSet(ctx context.Context, c *Call, in *api.UserSetIn) (api.UserRow, error) {
	return s.userChange(ctx, c, in.Name, func(tx *state.Tx, u *model.User) error {
		if u.Source != "" && (in.DisplayName != nil || in.Nickname != nil) {
			return refused("the names of "+u.Name+" are the directory's; change them there", "mpctl directory ldap sync")
		}
		if u.Away != "" && in.Enabled != nil && *in.Enabled {
			return refused(u.Name+" is disabled by the directory ("+u.Away+"); enable him there", "mpctl directory ldap sync")
		}
		if in.DisplayName != nil {
			u.DisplayName = *in.DisplayName
		}
		if in.Nickname != nil {
			u.Nickname = model.FoldName(*in.Nickname)
		}
		if len(in.Deny) > 0 {
			u.Deny = nil
			for _, d := range in.Deny {
				if d != "none" {
					u.Deny = append(u.Deny, model.MailService(d))
				}
			}
		}
		if in.TwoFactor != nil {
			if *in.TwoFactor {
				return refused("nobody can turn the second factor of another on: the secret is his", "as "+u.Name+": mpctl me 2fa enable")
			}
			if err := dropFactor(tx, u.Key()); err != nil {
				return err
			}
		}
		if in.FTS != nil {
			u.NoFTS = !*in.FTS
		}
		if in.Enabled != nil && u.Disabled == *in.Enabled {
			if u.Disabled = !*in.Enabled; u.Disabled {
				if err := keepAdmin(tx, u.Name); err != nil {
					return err
				}
			}
		}
		if in.Admin != nil {
			if !*in.Admin {
				if err := keepAdmin(tx, u.Name); err != nil {
					return err
				}
				if g, err := state.Groups.Get(tx, model.Administrators); err == nil && u.Source == "" && slices.Contains(g.Users, u.Name) {
					return refused(u.Name+" administers as a member of the group administrators", "mpctl group member delete administrators "+u.Name)
				}
			}
			u.Admin = *in.Admin
		}
		return nil
	})
}

func (s *Server) userEnable(on bool) func(context.Context, *Call, *api.UserIn) (api.UserRow, error) {
	return func(ctx context.Context, c *Call, in *api.UserIn) (api.UserRow, error) {
		return s.userSet(ctx, c, &api.UserSetIn{Name: in.Name, Enabled: &on})
	}
}

func (s *Server) userDelete(ctx context.Context, c *Call, in *api.UserDeleteIn) (op.None, error) {
	err := s.change(ctx, c, func(tx *state.Tx) error {
		before, err := userIn(tx, in.Name)
		if err != nil {
			return err
		}
		c.diff = nil
		diffRows(c, before, nil)
		_, err = deleteUser(tx, in.Name, in.DeleteMail)
		return err
	})
	return op.None{}, err
}

func (s *Server) userPasswd(ctx context.Context, c *Call, in *api.UserPasswdIn) (op.None, error) {
	if c.DryRun {
		_, err := s.hashPassword(in.Name, []byte(in.Password))
		return op.None{}, err
	}
	return op.None{}, s.setPassword(ctx, c, in.Name, []byte(in.Password), false)
}

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
	if err := localOnly(tx, "users"); err != nil {
		return nil, err
	}
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
	u, err := state.GetUser(r, name)
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
	if u.Source != "" && u.Away != model.AwayGone {
		return nil, refused(u.Name+" is in the directory and would be back after the next synchronisation; delete him there first, or use mpctl user disable "+u.Name, "mpctl directory ldap sync")
	}
	if err := keepAdmin(tx, u.Name); err != nil {
		return nil, err
	}
	for g, err := range state.Groups.All(tx, "") {
		if err != nil {
			return nil, err
		}
		if g.Source != u.Source {
			continue
		}
		if i := slices.Index(g.Users, u.Name); i >= 0 {
			g.Users = slices.Delete(g.Users, i, i+1)
			if err := state.Groups.Put(tx, g); err != nil {
				return nil, err
			}
		}
	}
	members, err := state.DomainUsers.Find(tx, state.IndexMemberByUser, u.Key())
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if err := state.DomainUsers.Delete(tx, state.DomainUsers.Key(m)); err != nil {
			return nil, err
		}
	}
	if err := dropFromAliases(tx, model.AliasMember{Kind: model.AliasUser, Value: u.Name}); err != nil {
		return nil, err
	}
	if err := dropFromPolicies(tx, u.Name, "", ""); err != nil {
		return nil, err
	}
	if err := dropPassing(tx, u); err != nil {
		return nil, err
	}
	if withMail {
		if err := dropSubscriptions(tx, u.ID); err != nil {
			return nil, err
		}
		tx.Also(state.AccountDelete{Account: u.ID, User: u.Name})
	}
	if err := dropFactor(tx, u.Key()); err != nil {
		return nil, err
	}
	return u, state.Users.Delete(tx, u.Key())
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

// hashPassword checks and hashes a new password.
func (s *Server) hashPassword(name string, password []byte) (string, error) {
	set := s.mail.State.Current()
	if err := login.ValidatePassword(password, name, set.Login.MinPassword); err != nil {
		return "", err
	}
	return login.Hash(password)
}

// setPassword stores a new password. own: the user himself changes it, which no state of the pair forbids.
func (s *Server) setPassword(ctx context.Context, c *Call, name string, password []byte, own bool) error {
	hash, err := s.hashPassword(name, password)
	if err != nil {
		return err
	}
	return s.change(ctx, c, func(tx *state.Tx) error {
		u, err := getUser(tx, name)
		if err != nil {
			return err
		}
		if u.Source != "" {
			return refused("the password of "+u.Name+" is the directory's; change it there", "ldappasswd, or whatever the directory offers")
		}
		if own {
			tx.Own()
		}
		u.Hash = hash
		return state.Users.Put(tx, u)
	})
}
