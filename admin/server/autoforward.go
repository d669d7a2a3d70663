package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	routing "mailplusd/mail/route"
	"mailplusd/mail/state"
)

// forwardRow shows a user's forward; nil: there is none.
func (s *Server) forwardRow(user string, f *model.AutoForward) api.ForwardRow {
	row := api.ForwardRow{User: user, To: []string{}, KeepCopy: true, Allowed: true}
	if f != nil {
		row.To, row.KeepCopy, row.Changed = f.To, f.Keep, stamp(f.Changed)
	}
	if pic, err := s.mail.Directory.Now(); err == nil {
		if a := pic.User(user); a != nil {
			row.Allowed = routing.MayForward(pic, a)
		}
	}
	return row
}

// found reads a user's row by his key; nil when there is none.
func found[T any](r state.Reader, t *state.Table[T], key string) (*T, error) {
	row, err := t.Get(r, key)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	return row, err
}

func (s *Server) forwardOf(u *model.User) (api.ForwardRow, error) {
	f, err := found(s.mail.State, state.AutoForwards, u.Key())
	return s.forwardRow(u.Name, f), err
}

func (s *Server) userForwardShow(_ context.Context, _ *Call, in *api.UserIn) (api.ForwardRow, error) {
	u, err := getUser(s.mail.State, in.Name)
	if err != nil {
		return api.ForwardRow{}, err
	}
	return s.forwardOf(u)
}

func (s *Server) meForwardShow(_ context.Context, c *Call, _ *op.None) (api.ForwardRow, error) {
	a, err := s.me(c)
	if err != nil {
		return api.ForwardRow{}, err
	}
	return s.forwardOf(&a.User)
}

func (s *Server) userForwardList(_ context.Context, _ *Call, in *api.ListIn) ([]api.ForwardRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	out := []api.ForwardRow{}
	for _, user := range slices.Sorted(maps.Keys(pic.Forwards)) {
		if f := pic.Forwards[user]; matches(in.Search, user, f.To) {
			out = append(out, s.forwardRow(user, f))
		}
	}
	return out, nil
}

func (s *Server) userForwardSet(ctx context.Context, c *Call, in *api.UserForwardSetIn) (api.ForwardRow, error) {
	return s.setForward(ctx, c, in.Name, in.To, in.KeepCopy)
}

func (s *Server) meForwardSet(ctx context.Context, c *Call, in *api.MeForwardSetIn) (api.ForwardRow, error) {
	a, err := s.me(c)
	if err != nil {
		return api.ForwardRow{}, err
	}
	return s.setForward(ctx, c, a.Name, in.To, in.KeepCopy)
}

func (s *Server) setForward(ctx context.Context, c *Call, name string, to []string, keep bool) (row api.ForwardRow, err error) {
	f := &model.AutoForward{To: to, Keep: keep, Changed: time.Now().Unix()}
	if err := f.Validate(); err != nil {
		return row, err
	}
	var warnings []string
	err = s.change(ctx, c, func(tx *state.Tx) error {
		u, err := getUser(tx, name)
		if err != nil {
			return err
		}
		f.User = u.Key()
		old, err := found(tx, state.AutoForwards, f.User)
		if err != nil {
			return err
		}
		if err := state.AutoForwards.Put(tx, f); err != nil {
			return err
		}
		if warnings, err = checkForward(tx, u.Name, f); err != nil {
			return err
		}
		var before any
		if old != nil {
			before = s.forwardRow(u.Name, old)
		}
		row = s.forwardRow(u.Name, f)
		diffRows(c, before, row)
		return nil
	})
	if err != nil {
		return row, err
	}
	for _, w := range warnings {
		c.Warn("%s", w)
	}
	if !row.Allowed {
		c.Warn("a policy forbids %s to forward mail: nothing is forwarded, and the mail stays here", row.User)
	}
	return row, nil
}

// checkForward refuses addresses here that nobody has, and tells what will not be done as it is set.
func checkForward(tx *state.Tx, user string, f *model.AutoForward) (warnings []string, err error) {
	pic, err := directory.Draw(tx, time.Now())
	if err != nil {
		return nil, err
	}
	a := pic.User(user)
	for _, to := range f.To {
		local, domain, _ := model.SplitAddress(to)
		r, err := routing.Resolve(pic, local, domain)
		switch {
		case err != nil:
			return nil, refused("nobody here has the address "+to, "mpctl domain user list "+domain)
		case len(f.To) == 1 && len(r.Targets) == 1 && r.Targets[0].Account == a:
			return nil, refused(to+" is "+user+"'s own address", "mpctl user forward delete "+user)
		}
	}
	way := routing.Spread(pic, []routing.Receiver{{Address: a.MainAddress(), Resolved: routing.Resolved{Targets: []routing.Target{{Account: a, Address: a.MainAddress()}}, Local: true}}}, nil, nil)
	for _, l := range way.Local {
		if l.Why != "" {
			warnings = append(warnings, "mail of "+l.Account.Name+" is kept: "+l.Why)
		}
	}
	if a.MainAddress() == "" {
		warnings = append(warnings, user+" has no address, so bounces of forwarded mail go to the original sender directly")
	}
	if !f.Keep && len(way.Remote) > 0 {
		warnings = append(warnings, "no copy is kept here: what the other server refuses or loses is gone; --keep-copy keeps one")
	}
	return warnings, nil
}

func (s *Server) userForwardDelete(ctx context.Context, c *Call, in *api.UserIn) (op.None, error) {
	return s.deleteForward(ctx, c, in.Name, "mpctl user forward show "+in.Name)
}

func (s *Server) meForwardDelete(ctx context.Context, c *Call, _ *op.None) (op.None, error) {
	a, err := s.me(c)
	if err != nil {
		return op.None{}, err
	}
	return s.deleteForward(ctx, c, a.Name, "mpctl me forward show")
}

func (s *Server) deleteForward(ctx context.Context, c *Call, name, show string) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		u, err := getUser(tx, name)
		if err != nil {
			return err
		}
		f, err := found(tx, state.AutoForwards, u.Key())
		if err != nil {
			return err
		}
		if f == nil {
			return notFound("forward of", u.Name, show)
		}
		diffRows(c, s.forwardRow(u.Name, f), nil)
		return state.AutoForwards.Delete(tx, f.User)
	})
}

// renewSecret is what makes a secret that a node has no key of.
const renewSecret = "mpctl delivery forward set --renew-secret"

func (s *Server) passingOut(set *model.Settings) api.PassingOut {
	out := api.PassingOut{SRS: set.Delivery.SRS, Secret: "set"}
	if set.Delivery.SRSSecret == "" {
		out.Secret = "not made yet"
	} else if _, err := s.mail.Vault.Unseal(mail.SRSSecret, set.Delivery.SRSSecret); err != nil {
		out.Secret = "not readable on this node"
	}
	return out
}

func (s *Server) deliveryForwardShow(_ context.Context, c *Call, _ *op.None) (api.PassingOut, error) {
	out := s.passingOut(s.mail.State.Current())
	if out.SRS && out.Secret != "set" {
		c.Warn("senders are not rewritten: the secret is %s; %s makes one", out.Secret, renewSecret)
	}
	return out, nil
}

func (s *Server) deliveryForwardSet(ctx context.Context, c *Call, in *api.PassingSetIn) (out api.PassingOut, err error) {
	sealed := ""
	if in.Renew {
		if sealed, err = mail.NewSRSSecret(s.mail.Vault); err != nil {
			return out, err
		}
	}
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		assign(&set.Delivery.SRS, in.SRS)
		if sealed != "" {
			set.Delivery.SRSSecret = sealed
		}
		out = s.passingOut(set)
		return nil
	})
	if err == nil && !out.SRS {
		c.Warn("forwarded mail keeps its sender: servers that check SPF may refuse it, as this server is not one of the sender's")
	}
	return out, err
}

// dropPassing takes out what a user who is deleted has set.
func dropPassing(tx *state.Tx, u *model.User) error {
	for _, drop := range []func() error{
		func() error { return state.AutoForwards.Delete(tx, u.Key()) },
		func() error { return state.AutoReplies.Delete(tx, u.Key()) },
	} {
		if err := drop(); err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
	}
	return nil
}

// dropFromBCC deletes the rules of a domain (empty: of all) whose copies go to somebody who goes.
func dropFromBCC(tx *state.Tx, domain string, to model.AliasMember) error {
	prefix := domain
	if domain != "" {
		prefix += "/"
	}
	rules, err := state.AutoBCCs.List(tx, prefix)
	if err != nil {
		return err
	}
	for _, b := range rules {
		if b.To.Kind == to.Kind && strings.EqualFold(b.To.Value, to.Value) {
			if err := state.AutoBCCs.Delete(tx, b.Domain+"/"+b.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
