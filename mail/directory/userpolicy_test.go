package directory_test

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"

	"pgregory.net/rapid"
)

func putPolicies(t *testing.T, s *state.State, list ...*model.Policy) {
	t.Helper()
	update(t, s, func(tx *state.Tx) error {
		for _, p := range list {
			if err := state.Policies.Put(tx, p); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestPolicyOfUser(t *testing.T) {
	// covers: R5.35 R5.36 R5.39 R5.40 R5.44 R5.49 R5.50 R5.54
	s, _ := statetest.Open(t)
	d := directory.New(s, slog.New(slog.DiscardHandler))
	put(t, s, &model.User{Name: "admin"}, &model.User{Name: "carol"}, &model.User{Name: "dave"}, &model.User{Name: "erin"},
		&model.Group{Name: "staff", Users: []string{"carol"}, Groups: []string{"interns"}}, &model.Group{Name: "interns", Users: []string{"dave"}})
	counts := func(user, policy, via string) {
		t.Helper()
		a := now(t, d).User(user)
		if a.Policy.Name != policy || a.PolicyVia != via {
			t.Errorf("%s: policy %s by %s, want %s by %s", user, a.Policy.Name, a.PolicyVia, policy, via)
		}
	}
	counts("admin", "default", "default")
	if p := now(t, d).Policy("admin"); !p.IMAP || p.IMAPLANOnly || !p.POP3 || p.POP3LANOnly || !p.FTS || p.DisableAutoForward != model.PolicyInherit {
		t.Errorf("default policy: %+v", p)
	}
	old := &model.Policy{Name: "Old policy", Rank: 1, Users: []string{"admin"}, Groups: []string{"interns"}, IMAP: true}
	fresh := &model.Policy{Name: "New policy", Rank: 2, Users: []string{"admin", "dave"}, Groups: []string{"staff"}, POP3: true}
	putPolicies(t, s, old, fresh)
	counts("admin", "Old policy", "user")
	counts("dave", "Old policy", "group interns")
	counts("carol", "New policy", "group staff")
	counts("erin", "default", "default")
	if p := now(t, d).Policy("admin"); !p.IMAP || p.POP3 {
		t.Errorf("fields of two policies are mixed: %+v", p)
	}
	old.Rank = 3
	putPolicies(t, s, old)
	counts("admin", "New policy", "user")
	counts("dave", "New policy", "user")
	if got := now(t, d).Policy("nobody"); !got.IsDefault() {
		t.Errorf("somebody unknown has the policy %s", got.Name)
	}
	if last := now(t, d).Policies; !last[len(last)-1].IsDefault() {
		t.Error("the default policy is not the last one")
	}
}

// TestPolicyModel holds the directory against the rule said in another way: of all policies, the one
// with the lowest rank that names the user or a group which has him as a direct or nested member.
func TestPolicyModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s, _ := statetest.Open(t)
		d := directory.New(s, slog.New(slog.DiscardHandler))
		users, groups := []string{"u0", "u1", "u2", "u3"}, []string{"g0", "g1", "g2"}
		some := func(of []string, what string) []string {
			out := rapid.SliceOfDistinct(rapid.SampledFrom(of), rapid.ID[string]).Draw(r, what)
			slices.Sort(out)
			return out
		}
		byGroup := map[string]*model.Group{}
		var rows []any
		for _, u := range users {
			rows = append(rows, &model.User{Name: u})
		}
		for _, g := range groups {
			byGroup[g] = &model.Group{Name: g, Users: some(users, "users of "+g), Groups: some(groups, "groups of "+g)}
			rows = append(rows, byGroup[g])
		}
		put(t, s, rows...)
		var list []*model.Policy
		ranks := rapid.Permutation([]int{1, 2, 3}).Draw(r, "ranks")
		for i, rank := range ranks {
			list = append(list, &model.Policy{Name: fmt.Sprint("p", i), Rank: rank, Users: some(users, "targets"), Groups: some(groups, "target groups")})
		}
		putPolicies(t, s, list...)
		var in func(u, g string, deep int) bool
		in = func(u, g string, deep int) bool {
			if deep == 0 {
				return false
			}
			return slices.Contains(byGroup[g].Users, u) || slices.ContainsFunc(byGroup[g].Groups, func(sub string) bool { return in(u, sub, deep-1) })
		}
		for _, u := range users {
			want, best := model.DefaultPolicyName, 99
			for _, p := range list {
				names := slices.Contains(p.Users, u) || slices.ContainsFunc(p.Groups, func(g string) bool { return in(u, g, len(groups)) })
				if names && p.Rank < best {
					want, best = p.Name, p.Rank
				}
			}
			if got := now(t, d).Policy(u).Name; got != want {
				r.Fatalf("%s: %s, want %s", u, got, want)
			}
		}
	})
}
