package route_test

import (
	"context"
	"errors"
	"sort"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/route"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
)

func picture(t *testing.T) *directory.Picture {
	t.Helper()
	s, _ := statetest.Open(t)
	const on = model.ActivationActivate
	member := func(s string) model.AliasMember {
		m, err := model.ParseAliasMember(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	alias := func(name string, members ...string) *model.Alias {
		a := &model.Alias{Domain: "example.test", Name: name}
		for _, m := range members {
			a.Members = append(a.Members, member(m))
		}
		return a
	}
	err := s.Update(context.Background(), func(tx *state.Tx) error {
		for i, name := range []string{"anna", "ben", "cora", "root", "off"} {
			u := &model.User{ID: model.AccountID(i + 1), Name: name, Activation: on, Admin: name == "root"}
			if name == "off" {
				u.Activation = model.ActivationDeactivate
			}
			if err := state.Users.Put(tx, u); err != nil {
				return err
			}
			if err := state.DomainUsers.Put(tx, &model.DomainUser{Domain: "example.test", User: name, Locals: []string{name}}); err != nil {
				return err
			}
		}
		for _, a := range []*model.Alias{
			alias("sales", "user:anna", "group:team", "alias:more", "x@elsewhere.test"),
			alias("more", "user:ben", "alias:sales", "y@elsewhere.test", "anna@example.test"),
			alias("empty", "alias:empty2"), alias("empty2", "alias:empty"),
		} {
			if err := state.Aliases.Put(tx, a); err != nil {
				return err
			}
		}
		if err := state.Groups.Put(tx, &model.Group{Name: "team", Users: []string{"ben", "cora"}}); err != nil {
			return err
		}
		return state.Domains.Put(tx, &model.Domain{Name: "example.test", Additional: []string{"example.org"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := directory.Draw(s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func targets(r route.Resolved) string {
	var out []string
	for _, t := range r.Targets {
		if t.Account != nil {
			out = append(out, t.Account.Name)
		} else {
			out = append(out, t.Address)
		}
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func TestResolve(t *testing.T) {
	// covers: R8.23 R8.45 R8.53 R8.55 R8.56 R8.57 R8.58 R8.59 I.25 I.26 I.27 I.03
	p := picture(t)
	for _, c := range []struct {
		local, domain, want string
		err                 error
	}{
		{"anna", "example.test", "anna", nil},
		{"Anna", "EXAMPLE.test", "anna", nil},
		{"anna", "example.org", "anna", nil},
		{"anna+news", "example.test", "anna", nil},
		{"sales", "example.test", "anna ben cora x@elsewhere.test y@elsewhere.test", nil},
		{"empty", "example.test", "", route.ErrUnknown},
		{"off", "example.test", "", route.ErrUnknown},
		{"nobody", "example.test", "", route.ErrUnknown},
		{"postmaster", "example.test", "root", nil},
		{"postmaster", "", "root", nil},
		{"abuse", "example.org", "root", nil},
		{"who", "elsewhere.test", "who@elsewhere.test", nil},
		{"two words", "elsewhere.test", `"two words"@elsewhere.test`, nil},
	} {
		r, err := route.Resolve(p, c.local, c.domain)
		if !errors.Is(err, c.err) || err == nil && targets(r) != c.want {
			t.Errorf("%s@%s: %q %v, want %q %v", c.local, c.domain, targets(r), err, c.want, c.err)
		}
	}
}

func TestCatchAll(t *testing.T) {
	// covers: R8.36 R8.37
	p := picture(t)
	p.Domains["example.test"].CatchAll = "cora"
	for _, local := range []string{"nobody", "off"} {
		r, err := route.Resolve(p, local, "example.test")
		if err != nil || targets(r) != "cora" {
			t.Errorf("%s: %q %v", local, targets(r), err)
		}
	}
}
