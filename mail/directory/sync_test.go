package directory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/directory"
	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
)

// bound is a state whose accounts come from LDAP.
func bound(t *testing.T) *state.State {
	t.Helper()
	s, _ := statetest.Open(t)
	put(t, s, &model.Domain{Name: "example.test", AutoAdd: true, Format: "<a>"}, &model.License{Serial: "x", Quantity: 5000},
		&model.Alias{Domain: "example.test", Name: "team", Members: []model.AliasMember{{Kind: model.AliasUser, Value: "anna"}}})
	if err := s.ChangeSettings(context.Background(), func(m *model.Settings) error { m.System.Source = model.SourceLDAP; return nil }); err != nil {
		t.Fatal(err)
	}
	return s
}

func entries(names ...string) *ldap.Entries {
	e := &ldap.Entries{}
	for _, n := range names {
		e.Users = append(e.Users, ldap.User{Name: n, DN: "uid=" + n + ",dc=x", Display: "The " + n})
	}
	return e
}

func syncNow(t *testing.T, s *state.State, e *ldap.Entries, force bool) *directory.Synced {
	t.Helper()
	out, err := directory.Sync(context.Background(), s, model.SourceLDAP, e, force, time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSyncFollows: users and groups come, change, go and come back.
func TestSyncFollows(t *testing.T) {
	// covers: R5.01 R5.23 I.03 I.04 I.06
	s := bound(t)
	d := directory.New(s, slog.New(slog.DiscardHandler))
	put(t, s, &model.User{Name: "anna", DisplayName: "local"}, &model.User{Name: "zoe"})
	e := entries("anna", "bob", "odd name", "carl/x", "team")
	e.Groups = []ldap.Group{{Name: "staff", Users: []string{"anna", "bob"}}, {Name: "all", Groups: []string{"staff"}}}
	if out := syncNow(t, s, e, false); out.Added != 5 || out.Users != 5 || out.Unsupported != 2 || out.Groups != 2 {
		t.Errorf("%+v", out)
	}
	p := now(t, d)
	anna := p.User("anna")
	if anna == nil || anna.DisplayName != "The anna" || anna.MainAddress() != "anna@example.test" || fmt.Sprint(anna.Groups) != "[all staff]" || p.User("zoe") != nil {
		t.Fatalf("%+v", anna)
	}
	for name, want := range map[string]model.UserStatus{"anna": model.UserNormal, "odd name": model.UserUnsupported, "carl/x": model.UserUnsupported} {
		if got := p.User(name).Status(); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
	if u := p.User("odd name"); len(u.Addresses) > 0 || u.Usable() {
		t.Errorf("%+v", u)
	}
	if u := p.User("team"); len(u.Addresses) > 0 {
		t.Errorf("an alias's address went to a new user: %v", u.Addresses)
	}
	if out := syncNow(t, s, e, false); out.Added+out.Changed+len(out.Lost) != 0 {
		t.Errorf("the same again changes %+v", out)
	}
	update(t, s, func(tx *state.Tx) error { // what is ours stays through a synchronisation
		u, err := state.GetUser(tx, "anna")
		if err != nil {
			return err
		}
		u.Activation, u.Admin = model.ActivationActivate, true
		g, err := state.GetGroup(tx, "staff")
		if err != nil {
			return err
		}
		g.Activation = model.ActivationActivate
		return errors.Join(state.Users.Put(tx, u), state.Groups.Put(tx, g))
	})
	if now(t, d).Used != 2 {
		t.Errorf("%d seats", now(t, d).Used)
	}
	e = entries("bob", "carl/x", "odd name", "team")
	e.Users[0].Disabled = true
	e.Groups = []ldap.Group{{Name: "staff", Users: []string{"bob"}, Description: "new"}}
	out := syncNow(t, s, e, false)
	if len(out.Lost) != 1 || !strings.Contains(out.Lost[0], "anna") || !strings.Contains(out.Lost[0], "team@example.test") || out.Gone != 1 || out.Disabled != 1 {
		t.Errorf("%+v", out)
	}
	p = now(t, d)
	if a := p.User("anna"); a.Status() != model.UserDisabled || a.Away != model.AwayGone || a.ID != anna.ID || p.IsAdmin(a) {
		t.Errorf("%+v", a)
	}
	if b := p.User("bob"); b.Status() != model.UserDisabled || b.Away != model.AwayDisabled {
		t.Errorf("%+v", b)
	}
	if p.Groups["all"] != nil || p.Groups["staff"].Description != "new" || p.Groups["staff"].Activation != model.ActivationActivate || p.Used != 0 {
		t.Errorf("%+v, %d seats", p.Groups, p.Used)
	}
	syncNow(t, s, entries("anna", "bob", "carl/x", "odd name", "team"), false)
	if a := now(t, d).User("anna"); !a.Usable() || a.ID != anna.ID || a.MainAddress() != "anna@example.test" || !a.Admin {
		t.Errorf("back again: %+v", a)
	}
	if l, err := state.Users.Get(s, "anna"); err != nil || l.DisplayName != "local" || l.Away != "" {
		t.Errorf("the local account: %+v %v", l, err)
	}
}

// TestSyncOfThousands takes more users than one entry holds, and refuses to lose most of them.
func TestSyncOfThousands(t *testing.T) {
	s := bound(t)
	d := directory.New(s, slog.New(slog.DiscardHandler))
	var names []string
	for i := range 3000 {
		names = append(names, fmt.Sprintf("u%04d", i))
	}
	e := entries(names...)
	e.Groups = []ldap.Group{{Name: "all", Users: names}}
	syncNow(t, s, e, false)
	p := now(t, d)
	if len(p.Users) != 3000 || len(p.Members("all")) != 3000 || p.User("u2999").MainAddress() != "u2999@example.test" {
		t.Fatalf("%d users", len(p.Users))
	}
	for _, few := range []int{0, 1, 1499} {
		if _, err := directory.Sync(context.Background(), s, model.SourceLDAP, entries(names[:few]...), false, time.Now()); !errors.Is(err, directory.ErrVanished) {
			t.Errorf("%d of 3000 left: %v", few, err)
		}
	}
	if n := len(disabled(now(t, d))); n != 0 {
		t.Errorf("%d users were disabled by a refused synchronisation", n)
	}
	if out := syncNow(t, s, entries(names[:1499]...), true); len(out.Lost) != 1501 || len(disabled(now(t, d))) != 1501 {
		t.Errorf("%d lost", len(out.Lost))
	}
}

func disabled(p *directory.Picture) (out []string) {
	for _, a := range p.Users {
		if a.Status() == model.UserDisabled {
			out = append(out, a.Name)
		}
	}
	return out
}

// TestSourcesNeverMix: accounts, groups and addresses of two sources with the same names.
func TestSourcesNeverMix(t *testing.T) {
	// covers: R5.07 R5.12 R4.07 I.07
	s := bound(t)
	d := directory.New(s, slog.New(slog.DiscardHandler))
	const on = model.ActivationActivate
	put(t, s, &model.User{Name: "anna", Activation: on}, &model.User{Name: "zoe", Activation: on}, &model.Group{Name: "staff", Users: []string{"anna", "zoe"}},
		&model.DomainUser{Domain: "example.test", User: "anna", Locals: []string{"anna", "boss"}})
	e := entries("anna", "bob")
	e.Groups = []ldap.Group{{Name: "staff", Users: []string{"bob"}}}
	syncNow(t, s, e, false)
	see := func(source string, used int, names, staff, boss string) {
		t.Helper()
		if err := s.ChangeSettings(context.Background(), func(m *model.Settings) error { m.System.Source = source; return nil }); err != nil {
			t.Fatal(err)
		}
		p := now(t, d)
		var have []string
		for _, a := range p.Users {
			have = append(have, a.Name)
		}
		owner := ""
		if a := p.Address("boss@example.test"); a != nil {
			owner = a.Name
		}
		if got := strings.Join(have, " "); got != names || strings.Join(p.Members("staff"), " ") != staff || p.Used != used || owner != boss {
			t.Errorf("%s: users %s, staff %v, %d seats, boss is %q", source, got, p.Members("staff"), p.Used, owner)
		}
	}
	see("ldap", 0, "anna bob", "bob", "")
	ldapAnna := now(t, d).User("anna").ID
	see("local", 2, "anna zoe", "anna zoe", "anna")
	if id := now(t, d).User("anna").ID; id == ldapAnna {
		t.Error("both annas have one mailbox")
	}
	see("ldap", 0, "anna bob", "bob", "")
	if id := now(t, d).User("anna").ID; id != ldapAnna {
		t.Error("anna of the directory has another mailbox after switching there and back")
	}
}
