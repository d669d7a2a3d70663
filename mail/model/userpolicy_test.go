package model

import (
	"strings"
	"testing"
)

func TestPolicyValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Policy)
		want   string // part of the error; empty: valid
	}{
		"as it is":       {func(*Policy) {}, ""},
		"blanks inside":  {func(p *Policy) { p.Name = "Old policy" }, ""},
		"no name":        {func(p *Policy) { p.Name = "" }, "128 octets"},
		"slash":          {func(p *Policy) { p.Name = "a/b" }, "slash"},
		"default":        {func(p *Policy) { p.Name = "Default" }, "everybody"},
		"colour":         {func(p *Policy) { p.Colour = "pink" }, "pink"},
		"auto-forward":   {func(p *Policy) { p.DisableAutoForward = "maybe" }, "maybe"},
		"many users":     {func(p *Policy) { p.Users = make([]string, MaxPolicyTargets+1) }, "make a group"},
		"just not many":  {func(p *Policy) { p.Users = make([]string, MaxPolicyTargets) }, ""},
		"forwarding off": {func(p *Policy) { p.DisableAutoForward = "on" }, ""},
	} {
		p := DefaultPolicy()
		p.Name = "p"
		c.change(p)
		err := p.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestPolicyAutoForward(t *testing.T) {
	for _, c := range []struct {
		value        string
		domain, want bool
	}{{"on", true, false}, {"on", false, false}, {"off", true, true}, {"off", false, true}, {"inherit", true, true}, {"inherit", false, false}, {"", true, true}} {
		p := Policy{DisableAutoForward: c.value}
		if got := p.AutoForward(c.domain); got != c.want {
			t.Errorf("%q where the domain says %v: %v", c.value, c.domain, got)
		}
	}
}
