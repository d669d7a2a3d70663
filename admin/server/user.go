package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"mailplusd/admin/api"
	"mailplusd/mail/directory"
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
			return refused("the names of "+u.Name+" are the directory's; change them there", directoryCommand(u.Source)+" sync")
		}
		if u.Away != "" && in.Enabled != nil && *in.Enabled {
			return refused(u.Name+" is disabled by the directory ("+u.Away+"); enable him there", directoryCommand(u.Source)+" sync")
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
