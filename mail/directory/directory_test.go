package directory_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
)

func update(t *testing.T, s *state.State, fn func(*state.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, s *state.State, rows ...any) {
	t.Helper()
	update(t, s, func(tx *state.Tx) error {
		for _, r := range rows {
			var err error
			switch r := r.(type) {
			case *model.User:
				if r.ID == 0 {
					n, nerr := tx.Next("account")
					if nerr != nil {
						return nerr
					}
					r.ID = model.AccountID(n)
				}
				err = state.Users.Put(tx, r)
			case *model.Group:
				err = state.Groups.Put(tx, r)
			case *model.Domain:
				err = state.Domains.Put(tx, r)
			case *model.DomainUser:
				err = state.DomainUsers.Put(tx, r)
			case *model.Alias:
				err = state.Aliases.Put(tx, r)
			case *model.License:
				err = state.Licenses.Put(tx, r)
			case *model.LDAP:
				err = state.Directories.Put(tx, r)
			case *model.Policy:
				err = state.Policies.Put(tx, r)
			case *model.AutoBCC:
				err = state.AutoBCCs.Put(tx, r)
			case *model.AutoForward:
				err = state.AutoForwards.Put(tx, r)
			case *model.SecondFactor:
				err = state.SecondFactors.Put(tx, r)
			case *model.Token:
				err = state.Tokens.Put(tx, r)
			default:
				err = fmt.Errorf("put knows no %T", r)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func now(t *testing.T, d *directory.Directory) *directory.Picture {
	t.Helper()
	p, err := d.Now()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestActivationOrder(t *testing.T) {
	// covers: R5.20 R5.27 R5.28 R5.29 R5.30
	s, _ := statetest.Open(t)
	d := directory.New(s, slog.New(slog.DiscardHandler))
	const on, off = model.ActivationActivate, model.ActivationDeactivate
	put(t, s,
		&model.User{Name: "neither"}, &model.User{Name: "byuser", Activation: on}, &model.User{Name: "useroff", Activation: off},
		&model.User{Name: "bygroup"}, &model.User{Name: "nested"}, &model.User{Name: "conflict"}, &model.User{Name: "disabled", Disabled: true},
		&model.Group{Name: "on", Users: []string{"bygroup", "useroff", "conflict"}, Groups: []string{"inner"}, Activation: on},
		&model.Group{Name: "inner", Users: []string{"nested"}, Groups: []string{"on"}}, // a loop, on purpose
		&model.Group{Name: "zoff", Users: []string{"conflict", "byuser"}, Activation: off},
	)
	check := func(all bool) {
		p := now(t, d)
		for name, want := range map[string]bool{
			"neither": all, "byuser": true, "useroff": false, "bygroup": true, "nested": true, "conflict": false, "disabled": false,
		} {
			if got := p.User(name).Activated; got != want {
				t.Errorf("default %v: %s activated is %v by %s, want %v", all, name, got, p.User(name).Why, want)
			}
		}
	}
	check(false)
	if got := now(t, d).Used; got != 3 {
		t.Errorf("%d seats used, want 3", got)
	}
	if err := s.ChangeSettings(context.Background(), func(m *model.Settings) error { m.Accounts.ActivateAll = true; return nil }); err != nil {
		t.Fatal(err)
	}
	check(true)
}

func TestPictureFollowsEveryChange(t *testing.T) {
	s, _ := statetest.Open(t)
	d := directory.New(s, slog.New(slog.DiscardHandler))
	for i := range 20 {
		put(t, s, &model.User{Name: fmt.Sprintf("u%d", i)})
		if now(t, d).User(fmt.Sprintf("u%d", i)) == nil {
			t.Fatalf("u%d is not there right after it was stored", i)
		}
	}
}

func TestLoginByNameAndAddress(t *testing.T) {
	// covers: R2.46
	s, _ := statetest.Open(t)
	d := directory.New(s, slog.New(slog.DiscardHandler))
	put(t, s, &model.User{Name: "anna"}, &model.Domain{Name: "example.test", Additional: []string{"example.org"}},
		&model.DomainUser{Domain: "example.test", User: "anna", Locals: []string{"anna", "a.meyer"}})
	p := now(t, d)
	for _, login := range []string{"anna", "ANNA", "anna@example.test", "A.Meyer@example.test", "anna@example.org"} {
		if a := p.Login(login); a == nil || a.Name != "anna" {
			t.Errorf("%s finds %v", login, a)
		}
	}
	if a := p.Login("anna@elsewhere.test"); a != nil {
		t.Errorf("a foreign domain finds %s", a.Name)
	}
}

func TestSeats(t *testing.T) {
	// covers: R2.38 R4.03 R4.04
	s, _ := statetest.Open(t)
	d := directory.New(s, slog.New(slog.DiscardHandler))
	put(t, s, &model.User{Name: "a", Activation: model.ActivationActivate}, &model.User{Name: "b", Activation: model.ActivationDeactivate})
	if p := now(t, d); p.Seats != 5 || p.Used != 1 {
		t.Fatalf("%d of %d", p.Used, p.Seats)
	}
	put(t, s, &model.License{Serial: "x", Quantity: 20}, &model.License{Serial: "old", Quantity: 5, Expires: 1})
	if p := now(t, d); p.Seats != 25 {
		t.Fatalf("%d seats", p.Seats)
	}
}
