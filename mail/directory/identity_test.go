package directory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/directory"
	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/model"
	"mailplusd/mail/state"

	"pgregory.net/rapid"
)

const realm = "ad.example.test"

// inDomain is a state whose accounts come from Active Directory.
func inDomain(t *testing.T) (*state.State, *directory.Directory) {
	t.Helper()
	s := bound(t)
	l := model.DefaultAD(realm)
	l.Short = "example"
	put(t, s, &l)
	if err := s.ChangeSettings(context.Background(), func(m *model.Settings) error { m.System.Source = model.SourceDomain; return nil }); err != nil {
		t.Fatal(err)
	}
	return s, directory.New(s, slog.New(slog.DiscardHandler))
}

// people are users by their GUIDs, which are one letter here.
func people(names map[string]string) *ldap.Entries {
	e := &ldap.Entries{}
	for _, guid := range slices.Sorted(maps.Keys(names)) {
		n := names[guid]
		e.Users = append(e.Users, ldap.User{Name: n, DN: "CN=" + n, GUID: strings.Repeat(guid, 32), UPN: n + "@" + realm})
	}
	return e
}

func syncDomain(t *testing.T, s *state.State, e *ldap.Entries) *directory.Synced {
	t.Helper()
	out, err := directory.Sync(context.Background(), s, model.SourceDomain, e, false, time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRenameKeepsEverything: a new name in the directory takes along the mail, addresses, and all that names the account.
func TestRenameKeepsEverything(t *testing.T) {
	// covers: R5.01 R5.05 I.06
	s, d := inDomain(t)
	syncDomain(t, s, people(map[string]string{"a": "anna", "b": "bob"}))
	id := now(t, d).User("anna").ID
	put(t, s, &model.AutoForward{User: "domain:anna", To: []string{"x@elsewhere.example"}, Keep: true}, &model.SecondFactor{User: "domain:anna", Secret: "sealed"},
		&model.Token{Name: "t", User: "anna", Source: model.SourceDomain, Hash: []byte("h")}, &model.Policy{Name: "p", Rank: 1, Users: []string{"anna", "bob"}},
		&model.AutoBCC{Domain: "example.test", Name: "b", Kind: model.BCCAll, To: model.AliasMember{Kind: model.AliasUser, Value: "anna"}},
		&model.Domain{Name: "other.test", CatchAll: "anna"}, &model.DomainUser{Domain: "other.test", User: "anna", Source: model.SourceDomain, Locals: []string{"a", "anna"}})
	out := syncDomain(t, s, people(map[string]string{"a": "anne", "b": "bob"}))
	if out.Added != 0 || len(out.Lost) != 0 || len(out.Renamed) != 1 || !strings.Contains(out.Renamed[0], "anna is now anne") {
		t.Errorf("%+v", out)
	}
	p := now(t, d)
	a := p.User("anne")
	if a == nil || a.ID != id || p.User("anna") != nil || !a.TwoFactor || a.Policy.Name != "p" {
		t.Fatalf("%+v", a)
	}
	if got := fmt.Sprint(a.Addresses); got != "[anne@example.test anna@example.test a@other.test anna@other.test]" {
		t.Errorf("addresses: %s", got)
	}
	if f := p.Forwards["anne"]; f == nil || f.User != "domain:anne" {
		t.Errorf("forward: %+v", f)
	}
	if m := p.Alias("team@example.test").Members; fmt.Sprint(m) != "[user:anne]" || p.BCC[0].To.Value != "anne" || p.Domains["other.test"].CatchAll != "anne" || fmt.Sprint(p.Policies[0].Users) != "[anne bob]" {
		t.Errorf("%v %+v %q %v", m, p.BCC[0], p.Domains["other.test"].CatchAll, p.Policies[0].Users)
	}
	if tok, err := state.Tokens.Get(s, "t"); err != nil || tok.User != "anne" {
		t.Errorf("%+v %v", tok, err)
	}
	if f, err := state.SecondFactors.Get(s, "domain:anne"); err != nil || f.SealKey() != "domain:anna" {
		t.Errorf("%+v %v", f, err)
	}
	if out := syncDomain(t, s, people(map[string]string{"a": "anne", "b": "bob"})); out.Changed+out.Added+len(out.Renamed) != 0 {
		t.Errorf("the same again changes %+v", out)
	}
}

// TestNameOfSomebodyElse: who gets the name of somebody who has left gets nothing of his.
func TestNameOfSomebodyElse(t *testing.T) {
	// covers: R5.01 R5.12
	s, d := inDomain(t)
	syncDomain(t, s, people(map[string]string{"a": "anna", "b": "bob"}))
	old := now(t, d).User("anna").ID
	syncDomain(t, s, people(map[string]string{"b": "bob"}))
	out := syncDomain(t, s, people(map[string]string{"b": "bob", "c": "anna"}))
	p := now(t, d)
	if a := p.User("anna"); a == nil || a.ID == old || a.MainAddress() != "anna@example.test" || a.Off() {
		t.Fatalf("the new anna: %+v", a)
	}
	if who := p.Login("anna@" + realm); who != p.User("anna") {
		t.Errorf("the principal name leads to %+v", who)
	}
	parked := p.User("anna~aaaaaaaa")
	if parked == nil || parked.ID != old || parked.Away != model.AwayGone || len(parked.Addresses) != 0 || p.ByID(old) != parked {
		t.Fatalf("the old one: %+v", parked)
	}
	if len(out.Renamed) != 1 || !strings.Contains(out.Renamed[0], "anna~aaaaaaaa") || fmt.Sprint(p.Alias("team@example.test").Members) != "[user:anna~aaaaaaaa]" {
		t.Errorf("%q, %v", out.Renamed, p.Alias("team@example.test").Members)
	}
	syncDomain(t, s, people(map[string]string{"a": "anja", "b": "bob", "c": "anna"})) // she is back
	if a := now(t, d).User("anja"); a == nil || a.ID != old || a.Off() || a.MainAddress() != "anja@example.test" {
		t.Errorf("%+v", a)
	}
}

// TestAnotherDomain: the same names with other GUIDs are other people. They don't push everybody out of his
// mailbox by themselves.
func TestAnotherDomain(t *testing.T) {
	s, d := inDomain(t)
	syncDomain(t, s, people(map[string]string{"a": "anna", "b": "bob"}))
	old := now(t, d).User("anna").ID
	rebuilt := people(map[string]string{"c": "anna", "d": "bob"})
	if _, err := directory.Sync(context.Background(), s, model.SourceDomain, rebuilt, false, time.Unix(1e9, 0)); !errors.Is(err, directory.ErrVanished) {
		t.Fatalf("%v, want ErrVanished", err)
	}
	if a := now(t, d).User("anna"); a.ID != old || a.MainAddress() != "anna@example.test" {
		t.Errorf("%+v", a)
	}
}

// TestRenameOfNamesakes: rules name users of every source; a local anna is still meant by them.
func TestRenameOfNamesakes(t *testing.T) {
	s, d := inDomain(t)
	put(t, s, &model.User{Name: "anna"}, &model.Policy{Name: "p", Rank: 1, Users: []string{"anna"}})
	syncDomain(t, s, people(map[string]string{"a": "anna", "b": "bob"}))
	syncDomain(t, s, people(map[string]string{"a": "anne", "b": "bob"}))
	p := now(t, d)
	if got := fmt.Sprint(p.Policies[0].Users, p.Alias("team@example.test").Members); got != "[anna anne] [user:anna user:anne]" {
		t.Error(got)
	}
}

// TestGroupRename: a group keeps its activation and what names it; another one of its old name has none.
func TestGroupRename(t *testing.T) {
	// covers: R5.05 R5.27
	s, d := inDomain(t)
	e := people(map[string]string{"a": "anna", "b": "bob"})
	e.Groups = []ldap.Group{{Name: "staff", GUID: "1111", Users: []string{"anna"}}, {Name: "domain users", GUID: "2222", Users: []string{"anna", "bob"}}}
	syncDomain(t, s, e)
	put(t, s, &model.Policy{Name: "p", Rank: 1, Groups: []string{"staff"}})
	update(t, s, func(tx *state.Tx) error {
		g, err := state.GetGroup(tx, "staff")
		if err != nil {
			return err
		}
		g.Activation = model.ActivationActivate
		return state.Groups.Put(tx, g)
	})
	if p := now(t, d); !p.User("anna").Activated || p.User("anna").Policy.Name != "p" {
		t.Fatalf("%+v", p.User("anna"))
	}
	e.Groups = []ldap.Group{{Name: "staff", GUID: "3333", Users: []string{"bob"}}, {Name: "crew", GUID: "1111", Users: []string{"anna"}}, {Name: "domain users", GUID: "2222", Users: []string{"anna", "bob"}}}
	syncDomain(t, s, e)
	p := now(t, d)
	if a, b := p.User("anna"), p.User("bob"); !a.Activated || a.Why != "group crew" || a.Policy.Name != "p" || b.Activated || b.Policy.Name == "p" {
		t.Errorf("%+v\n%+v", a, b)
	}
}

// TestRenamesInAnyOrder: whatever a domain does with names between two synchronisations, every mailbox stays with its person.
func TestRenamesInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, d := inDomain(t)
		owner := map[string]model.AccountID{} // by GUID
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"u", "v", "w", "x", "y", strings.Repeat("中", 16), "u~0"}), 5, 7, rapid.ID)
		for round := range 3 {
			pick := rapid.Permutation(names.Draw(rt, "names")).Draw(rt, "order")
			now := map[string]string{}
			for i, guid := range []string{"a", "b", "c", "d", "e"} {
				if round == 0 || rapid.IntRange(0, 4).Draw(rt, "stays") > 0 {
					now[guid] = pick[i]
				}
			}
			if _, err := directory.Sync(context.Background(), s, model.SourceDomain, people(now), true, time.Unix(1e9, 0)); err != nil {
				rt.Fatal(err)
			}
			p, err := d.Now()
			if err != nil {
				rt.Fatal(err)
			}
			for guid, name := range now {
				a := p.User(name)
				if a == nil || a.Off() || a.GUID != strings.Repeat(guid, 32) {
					rt.Fatalf("round %d: %s is %+v", round, name, a)
				}
				if id := owner[guid]; id != 0 && id != a.ID {
					rt.Fatalf("round %d: %s has the mailbox %d, not %d", round, name, a.ID, id)
				}
				owner[guid] = a.ID
			}
		}
	})
}

// TestLoginNames: each way in which people of a domain write who they are.
func TestLoginNames(t *testing.T) {
	// covers: R5.05 R2.46
	s, d := inDomain(t)
	e := people(map[string]string{"a": "anna", "b": "bob", "c": "carl", "d": "dora"})
	e.Users[1].UPN = "b.builder@corp.example" // not his name in the domain
	e.Users[2].UPN = "twice@corp.example"
	e.Users[3].UPN = "twice@corp.example"
	syncDomain(t, s, e)
	p := now(t, d)
	for name, want := range map[string]string{
		"anna": "anna", "Anna@AD.example.test": "anna", `EXAMPLE\Anna`: "anna", `ad.example.test\anna`: "anna", "anna@example.test": "anna",
		"b.builder@corp.example": "bob", "bob@ad.example.test": "bob", `OTHER\anna`: "", `\anna`: "", `EXAMPLE\`: "", "anna@corp.example": "", "twice@corp.example": "", `EXAMPLE\x\anna`: "",
	} {
		got := ""
		if a := p.Login(name); a != nil {
			got = a.Name
		}
		if got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}
