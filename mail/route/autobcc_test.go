package route_test

import (
	"strings"
	"testing"

	"mailplusd/mail/model"
	"mailplusd/mail/route"
)

func TestBlindCopies(t *testing.T) {
	// covers: R8.67 R8.68 R8.69 R8.70 R8.71 I.44
	p := picture(t)
	p.Domains["other.test"] = &model.Domain{Name: "other.test"}
	rule := func(domain, name, kind, match string, to model.AliasMember) {
		b := &model.AutoBCC{Domain: domain, Name: name, Kind: kind, Match: match, To: to}
		if err := b.Validate(); err != nil {
			t.Fatal(err)
		}
		p.BCC = append(p.BCC, b)
	}
	address := func(s string) model.AliasMember { return model.AliasMember{Kind: model.AliasExternal, Value: s} }
	rule("example.test", "one", model.BCCSender, "Anna@Example.test", address("one@out.test"))
	rule("example.test", "part", model.BCCSender, "partner", address("part@out.test"))
	rule("example.test", "domain", model.BCCRecipient, "@example.org", address("domain@out.test"))
	rule("example.test", "to", model.BCCRecipient, "ben@example.test", model.AliasMember{Kind: model.AliasUser, Value: "cora"})
	rule("example.test", "all", model.BCCAll, "", model.AliasMember{Kind: model.AliasAlias, Value: "more"})
	rule("other.test", "others", model.BCCSender, "@example.test", address("other@out.test"))
	rule("example.test", "nobody", model.BCCSender, "broken@example.test", model.AliasMember{Kind: model.AliasUser, Value: "ghost"})
	for _, c := range []struct {
		from, rcpts string
		own         bool
		want        string
	}{
		{"anna@example.test", "x@far.test", false, "one@out.test more@example.test"},
		{"joanna@example.test", "x@far.test", false, "more@example.test"}, // a whole address is no part of another
		{"a@partner.example", "cora@example.test", false, "part@out.test more@example.test"},
		{"a@partner.example", "x@far.test", false, ""}, // none of this domain's business
		{"x@far.test", "anna@EXAMPLE.org", false, "domain@out.test more@example.test"},
		{"x@far.test", "ben@example.test cora@example.test", false, "cora@example.test more@example.test"},
		{"", "ben@example.test", true, "cora@example.test"}, // the system's own: not for all messages
		{"", "ben@example.test", false, "cora@example.test more@example.test"},
		{"anna@example.test", "b@other.test", false, "one@out.test more@example.test other@out.test"},
		{"broken@example.test", "x@far.test", false, "more@example.test !"},
	} {
		copies, problems := route.BlindCopies(p, c.from, strings.Fields(c.rcpts), c.own)
		var got []string
		for _, r := range copies {
			got = append(got, r.Address)
		}
		if len(problems) > 0 {
			got = append(got, "!")
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s to %s: %q, want %q", c.from, c.rcpts, got, c.want)
		}
	}
	// A copy is nobody's reply to send, goes out in the domain's name, and is there once.
	copies, _ := route.BlindCopies(p, "anna@example.test", []string{"ben@example.test"}, false)
	ben, err := route.Resolve(p, "ben", "example.test")
	if err != nil {
		t.Fatal(err)
	}
	w := route.Spread(p, append([]route.Receiver{{Address: "ben@example.test", Resolved: ben}}, copies...), nil, nil)
	names := map[string]bool{}
	for _, l := range w.Local {
		if names[l.Account.Name] || l.Asked != (l.Account.Name == "ben") {
			t.Errorf("%+v", l)
		}
		names[l.Account.Name] = true
	}
	if len(names) != 3 || w.Remote[0].Domain != "example.test" || w.Remote[0].N != -1 {
		t.Errorf("%v %+v", names, w.Remote)
	}
}
