package server

import (
	"context"
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
		Name: a.Name, DisplayName: a.DisplayName, Enabled: !a.Disabled, Admin: a.Admin || slices.Contains(a.Groups, model.Administrators),
		Activated: a.Activated, Addresses: a.Addresses, Groups: a.Groups, Nickname: a.Nickname, ID: uint64(a.ID), Created: stamp(a.Created),
	}
	for _, d := range a.Deny {
		row.Deny = append(row.Deny, string(d))
	}
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
	return userRow(a), nil
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
		if have, err := state.Users.Get(tx, model.FoldName(in.Name)); err == nil {
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
			out = append(out, userRow(a))
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
		if err := u.Validate(); err != nil {
			return err
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
				if g, err := state.Groups.Get(tx, model.Administrators); err == nil && slices.Contains(g.Users, u.Name) {
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
	return op.None{}, s.setPassword(ctx, c, in.Name, []byte(in.Password))
}
