package route_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/route"

	"pgregory.net/rapid"
)

// forwards sets forwards on a picture: "anna": "ben@example.test +" keeps a copy.
func forwards(p *directory.Picture, set map[string]string) {
	p.Forwards = map[string]*model.AutoForward{}
	for user, text := range set {
		to, keep := strings.CutSuffix(text, " +")
		p.Forwards[user] = &model.AutoForward{User: user, To: strings.Fields(to), Keep: keep}
	}
}

func spread(t testing.TB, p *directory.Picture, delivered []string, rcpts ...string) *route.Way {
	t.Helper()
	var list []route.Receiver
	for i, to := range rcpts {
		local, domain, _ := model.SplitAddress(to)
		r, err := route.Resolve(p, local, domain)
		if err != nil {
			t.Fatal(to, err)
		}
		list = append(list, route.Receiver{N: i, Address: to, Resolved: r})
	}
	return route.Spread(p, list, delivered, nil)
}

func shown(w *route.Way) string {
	var out []string
	for _, l := range w.Local {
		if l.Keep {
			out = append(out, l.Account.Name)
		}
	}
	for _, r := range w.Remote {
		out = append(out, r.Address+"/"+r.Domain+"/"+strings.Join(r.Trail, ","))
	}
	return strings.Join(out, " ")
}

func TestForwards(t *testing.T) {
	// covers: R10.76 R5.57 I.31
	p := picture(t)
	for _, c := range []struct {
		name      string
		set       map[string]string
		rcpts     string
		delivered string
		want      string
		lines     string
		why       string
	}{
		{name: "none", rcpts: "anna@example.test", want: "anna", lines: "anna@example.test"},
		{name: "away", set: map[string]string{"anna": "x@out.test y@out.test"}, rcpts: "anna@example.test", want: "x@out.test/example.test/anna@example.test y@out.test/example.test/anna@example.test", lines: "anna@example.test"},
		{name: "with a copy", set: map[string]string{"anna": "x@out.test +"}, rcpts: "anna@example.test", want: "anna x@out.test/example.test/anna@example.test", lines: "anna@example.test"},
		{name: "to somebody here", set: map[string]string{"anna": "ben@example.org"}, rcpts: "anna@example.test", want: "ben", lines: "anna@example.test ben@example.org"},
		{name: "a chain", set: map[string]string{"anna": "ben@example.test", "ben": "x@out.test"}, rcpts: "anna@example.test", want: "x@out.test/example.test/anna@example.test,ben@example.test", lines: "anna@example.test ben@example.test"},
		{name: "both are named", set: map[string]string{"anna": "ben@example.test"}, rcpts: "anna@example.test ben@example.test", want: "ben", lines: "anna@example.test ben@example.test"},
		{name: "a circle of two", set: map[string]string{"anna": "ben@example.test", "ben": "anna@example.test"}, rcpts: "anna@example.test", want: "ben", lines: "anna@example.test ben@example.test", why: "leads back to anna"},
		{name: "a circle of three, from two sides", set: map[string]string{"anna": "ben@example.test", "ben": "cora@example.test", "cora": "anna@example.test"}, rcpts: "ben@example.test anna@example.test", want: "anna", lines: "ben@example.test cora@example.test anna@example.test", why: "leads back to ben"},
		{name: "to oneself and away", set: map[string]string{"anna": "anna@example.org x@out.test"}, rcpts: "anna@example.test", want: "anna x@out.test/example.test/anna@example.test", lines: "anna@example.test"},
		{name: "to nobody", set: map[string]string{"anna": "ghost@example.test"}, rcpts: "anna@example.test", want: "anna", lines: "anna@example.test", why: "no such user"},
		{name: "to one who is switched off, and away", set: map[string]string{"anna": "off@example.test x@out.test"}, rcpts: "anna@example.test", want: "anna x@out.test/example.test/anna@example.test", lines: "anna@example.test", why: "no such user"},
		{name: "seen before", set: map[string]string{"anna": "x@out.test"}, rcpts: "anna@example.test", delivered: "ANNA@Example.org", want: "anna", lines: "anna@example.test", why: "Delivered-To"},
		{name: "another was seen", set: map[string]string{"anna": "x@out.test"}, rcpts: "anna@example.test", delivered: "ben@example.test", want: "x@out.test/example.test/anna@example.test", lines: "anna@example.test"},
		{name: "to an alias here", set: map[string]string{"cora": "more@example.test"}, rcpts: "cora@example.test",
			want: "cora ben anna x@elsewhere.test/example.test/cora@example.test y@elsewhere.test/example.test/cora@example.test", lines: "cora@example.test more@example.test"},
		{name: "through an alias", set: map[string]string{"ben": "z@out.test"}, rcpts: "more@example.test",
			want: "anna cora z@out.test/example.test/ben@example.test x@elsewhere.test/example.test/ y@elsewhere.test/example.test/", lines: "more@example.test"},
		{name: "the sender's own choice", rcpts: "x@out.test", want: "x@out.test//"},
	} {
		t.Run(c.name, func(t *testing.T) {
			forwards(p, c.set)
			w := spread(t, p, strings.Fields(c.delivered), strings.Fields(c.rcpts)...)
			if got := shown(w); sorted(got) != sorted(c.want) {
				t.Errorf("it goes to\n%s, want\n%s", got, c.want)
			}
			if got := strings.Join(w.Lines, " "); got != c.lines {
				t.Errorf("lines %q, want %q", got, c.lines)
			}
			why := ""
			for _, l := range w.Local {
				why += l.Why
			}
			if (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
				t.Errorf("why: %q, want %q", why, c.why)
			}
		})
	}
}

func sorted(s string) string {
	words := strings.Fields(s)
	slices.Sort(words)
	return strings.Join(words, " ")
}

// TestForwardLimit: what forwards would add beyond the limit is kept.
func TestForwardLimit(t *testing.T) {
	p := picture(t)
	var to []string
	for i := range 1001 {
		to = append(to, fmt.Sprintf("x%d@out.test", i))
	}
	forwards(p, map[string]string{"anna": strings.Join(to, " ")})
	w := spread(t, p, nil, "anna@example.test")
	if len(w.Remote) != 1000 || !w.Local[0].Keep {
		t.Errorf("%d copies elsewhere, kept: %v", len(w.Remote), w.Local[0].Keep)
	}
}

// TestForwardsLoseNothing: whatever people forward to, each recipient's mail is kept somewhere or
// goes to another server, and nobody gets it twice.
func TestForwardsLoseNothing(t *testing.T) {
	p := picture(t)
	names := []string{"anna", "ben", "cora", "root"}
	targets := []string{"anna@example.test", "ben@example.test", "cora@example.org", "root@example.test", "sales@example.test", "off@example.test", "ghost@example.test", "x@out.test"}
	rapid.Check(t, func(rt *rapid.T) {
		set := map[string]string{}
		for _, n := range names {
			to := rapid.SliceOfNDistinct(rapid.SampledFrom(targets), 0, 3, rapid.ID[string]).Draw(rt, n)
			if len(to) == 0 {
				continue
			}
			set[n] = strings.Join(to, " ")
			if rapid.IntRange(0, 4).Draw(rt, "keep") == 0 {
				set[n] += " +"
			}
		}
		forwards(p, set)
		delivered := rapid.SliceOfN(rapid.SampledFrom(targets[:4]), 0, 2).Draw(rt, "delivered")
		rcpts := rapid.SliceOfNDistinct(rapid.SampledFrom(targets[:5]), 1, 4, rapid.ID[string]).Draw(rt, "rcpts")
		w := spread(t, p, delivered, rcpts...)
		kept, seen := map[string]bool{}, map[string]bool{}
		for _, l := range w.Local {
			if seen[l.Account.Name] {
				rt.Fatalf("%s twice", l.Account.Name)
			}
			seen[l.Account.Name], kept[l.Account.Name] = true, l.Keep
		}
		for _, r := range w.Remote {
			if seen[r.Address] {
				rt.Fatalf("%s twice", r.Address)
			}
			seen[r.Address] = true
		}
		// Follow an account's forward by hand: it must end at a kept copy or an address elsewhere.
		var arrives func(name string, path []string) bool
		arrives = func(name string, path []string) bool {
			if kept[name] {
				return true
			}
			if p.Forwards[name] == nil || slices.Contains(path, name) {
				return false
			}
			for _, to := range p.Forwards[name].To {
				local, domain, _ := model.SplitAddress(to)
				r, err := route.Resolve(p, local, domain)
				if err != nil {
					return false // whoever forwards to nobody must keep it
				}
				for _, x := range r.Targets {
					if x.Account == nil && !seen[x.Address] || x.Account != nil && (!seen[x.Account.Name] || !arrives(x.Account.Name, append(path, name))) {
						return false
					}
				}
			}
			return true
		}
		for name := range kept {
			if !arrives(name, nil) {
				rt.Fatalf("mail of %s is lost: forwards %v, delivered %v, recipients %v, result %s", name, set, delivered, rcpts, shown(w))
			}
		}
	})
}
