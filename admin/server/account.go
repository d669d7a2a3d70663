package server

import (
	"context"
	"fmt"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) accountList(_ context.Context, _ *Call, in *api.ListIn) (out api.AccountList, err error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return out, err
	}
	out = api.AccountList{Accounts: []api.AccountRow{}, Used: pic.Used, Seats: pic.Seats, Unused: max(pic.Seats-pic.Used, 0)}
	for _, a := range pic.Users {
		if matches(in.Search, a.Name, a.DisplayName, a.Addresses) {
			out.Accounts = append(out.Accounts, api.AccountRow{
				Name: a.Name, Setting: string(a.Activation), Activated: a.Activated, By: a.Why, Status: string(a.Status()),
				CanUse: a.Usable(), Address: a.MainAddress(),
			})
		}
	}
	return out, nil
}

// accountChange runs fn and tells how the seats stand.
func (s *Server) accountChange(ctx context.Context, c *Call, fn func(*state.Tx) (int, error)) (out api.AccountChange, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		before, err := directory.Draw(tx, time.Now())
		if err != nil {
			return err
		}
		if out.Changed, err = fn(tx); err != nil {
			return err
		}
		after, err := directory.Draw(tx, time.Now())
		if err != nil {
			return err
		}
		out.Used, out.Seats = after.Used, after.Seats
		c.diff = nil
		for _, a := range after.Users {
			if b := before.User(a.Name); b != nil && (b.Activated != a.Activated || b.Activation != a.Activation) {
				c.Diff(op.FieldDiff{Field: a.Name, Old: activation(b), New: activation(a)})
			}
		}
		return nil
	})
	return out, err
}

func activation(a *directory.Account) string {
	word := "not activated"
	if a.Activated {
		word = "activated"
	}
	return fmt.Sprintf("%s by %s", word, a.Why)
}

func (s *Server) accountSet(to model.Activation) func(context.Context, *Call, *api.AccountIn) (api.AccountChange, error) {
	return func(ctx context.Context, c *Call, in *api.AccountIn) (api.AccountChange, error) {
		return s.accountChange(ctx, c, func(tx *state.Tx) (int, error) { return setActivation(tx, to, in.Names) })
	}
}

// seatCount follows the seats through a batch without drawing the directory for every row.
type seatCount struct {
	pic  *directory.Picture
	used int
}

func newSeatCount(tx *state.Tx) (*seatCount, error) {
	pic, err := directory.Draw(tx, time.Now())
	if err != nil {
		return nil, err
	}
	return &seatCount{pic, pic.Used}, nil
}

// take takes a seat for an account that doesn't have one.
func (c *seatCount) take(name string, has bool) error {
	if has {
		return nil
	}
	if c.used >= c.pic.Seats {
		return refused(fmt.Sprintf("%s needs a seat, but all %d are used", name, c.pic.Seats), "mpctl license add KEY --accept-terms")
	}
	c.used++
	return nil
}

// bulkActivation is the row by row form of account activate, deactivate and reset.
func (s *Server) bulkActivation(to model.Activation) func(*state.Tx) (func(*api.AccountNameIn) (bool, error), error) {
	return func(tx *state.Tx) (func(*api.AccountNameIn) (bool, error), error) {
		seats, err := newSeatCount(tx)
		if err != nil {
			return nil, err
		}
		return func(in *api.AccountNameIn) (bool, error) {
			u, err := getUser(tx, in.Name)
			if err != nil || u.Activation == to {
				return false, err
			}
			a := seats.pic.User(u.Name)
			has := a != nil && a.Usable()
			switch {
			case to == model.ActivationActivate && u.Status() == model.UserNormal:
				if err := seats.take(u.Name, has); err != nil {
					return false, err
				}
			case to == model.ActivationDeactivate && has:
				seats.used--
			case to == model.ActivationInherit:
				u.Activation = to
				if err := state.Users.Put(tx, u); err != nil {
					return true, err
				}
				return true, checkSeats(tx)
			}
			u.Activation = to
			return true, state.Users.Put(tx, u)
		}, nil
	}
}

func (s *Server) accountGroupList(ctx context.Context, c *Call, in *api.ListIn) ([]api.AccountGroupRow, error) {
	groups, err := s.groupList(ctx, c, in)
	if err != nil {
		return nil, err
	}
	out := []api.AccountGroupRow{}
	for _, g := range groups {
		out = append(out, api.AccountGroupRow{Name: g.Name, Setting: g.Activation, Members: g.Members})
	}
	return out, nil
}

func (s *Server) accountGroupSet(to model.Activation) func(context.Context, *Call, *api.AccountGroupIn) (api.AccountChange, error) {
	return func(ctx context.Context, c *Call, in *api.AccountGroupIn) (api.AccountChange, error) {
		return s.accountChange(ctx, c, func(tx *state.Tx) (int, error) { return setGroupActivation(tx, to, in.Names) })
	}
}

func (s *Server) accountDefaultShow(context.Context, *Call, *op.None) (api.AccountDefault, error) {
	return api.AccountDefault{ActivateAll: s.mail.State.Current().Accounts.ActivateAll}, nil
}

// accountDefaultSet refuses to activate everybody without seats for everybody (R5.31).
func (s *Server) accountDefaultSet(ctx context.Context, c *Call, in *api.AccountDefaultIn) (api.AccountChange, error) {
	return s.accountChange(ctx, c, func(tx *state.Tx) (int, error) {
		set, err := state.LoadSettings(tx)
		if err != nil || set.Accounts.ActivateAll == in.ActivateAll {
			return 0, err
		}
		set.Accounts.ActivateAll = in.ActivateAll
		if err := state.StoreSettings(tx, set); err != nil {
			return 0, err
		}
		pic, err := directory.Draw(tx, time.Now())
		if err != nil {
			return 0, err
		}
		if pic.Wanting > 0 {
			return 0, seatsRefused(pic.Used, pic.Used+pic.Wanting, pic.Seats)
		}
		return 1, nil
	})
}

// setActivation sets the tri-state of users, all or none (R5.19, R5.25).
func setActivation(tx *state.Tx, to model.Activation, names []string) (changed int, err error) {
	for _, name := range names {
		u, err := getUser(tx, name)
		if err != nil {
			return 0, err
		}
		if u.Activation == to {
			continue
		}
		u.Activation = to
		changed++
		if err := state.Users.Put(tx, u); err != nil {
			return 0, err
		}
	}
	return changed, checkSeats(tx)
}

// setGroupActivation sets the tri-state of groups, all or none (R5.27).
func setGroupActivation(tx *state.Tx, to model.Activation, names []string) (changed int, err error) {
	for _, name := range names {
		g, err := getGroup(tx, name)
		if err != nil {
			return 0, err
		}
		if g.Activation == to {
			continue
		}
		g.Activation = to
		changed++
		if err := state.Groups.Put(tx, g); err != nil {
			return 0, err
		}
	}
	return changed, checkSeats(tx)
}

func seatsRefused(used, wanted, seats int) error {
	return refused(fmt.Sprintf("%d seats are needed, but there are %d, of which %d are used: %d more needed; nothing was activated",
		wanted, seats, used, wanted-seats), "mpctl license add KEY --accept-terms")
}
