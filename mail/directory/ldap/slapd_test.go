package ldap_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/directory/ldap/ldaptest"
	"mailplusd/mail/model"

	goldap "github.com/go-ldap/ldap/v3"
)

func bindingTo(s *ldaptest.Slapd) model.LDAP {
	l := model.DefaultLDAP()
	l.URIs, l.CA, l.BaseDN, l.BindDN, l.TimeoutSec = []string{s.URI}, s.CA, ldaptest.Base, ldaptest.BindDN, 2
	l.Password = "sealed"
	return l
}

// TestSlapd asks a real directory of 5,000 users: by STARTTLS and by LDAPS, page by page.
func TestSlapd(t *testing.T) {
	// covers: I.05
	var names []string
	for i := range 5000 {
		names = append(names, fmt.Sprintf("u%04d", i))
	}
	var members []string
	for _, n := range names {
		members = append(members, ldaptest.DN(n))
	}
	s := ldaptest.Start(t, names,
		ldaptest.Group("all", members...), ldaptest.Group("few", strings.ToUpper(ldaptest.DN("u0001")), "cn=all,ou=groups,"+ldaptest.Base, "uid=nobody,"+ldaptest.Base),
		"dn: cn=posix,ou=groups,"+ldaptest.Base+"\nobjectClass: posixGroup\ncn: posix\ngidNumber: 1000\nmemberUid: U0002\nmemberUid: nobody",
		"dn: cn=two words,ou=people,"+ldaptest.Base+"\nobjectClass: inetOrgPerson\ncn: two words\nsn: x\nuid: Two Words")
	ctx := context.Background()
	for _, uri := range []string{s.URI, s.LDAPS} {
		l := bindingTo(s)
		l.URIs = []string{uri}
		c := ldap.New(l, ldaptest.Password)
		for _, p := range c.Probe(ctx) {
			if p.Err != nil || !p.TLS {
				t.Fatalf("%+v", p)
			}
		}
		for pw, want := range map[string]bool{ldaptest.Password: true, "wrong": false, "": false} {
			if ok, err := c.CheckPassword(ctx, ldap.Who{DN: ldaptest.DN("u0007"), Name: "u0007"}, []byte(pw)); ok.Right != want || err != nil {
				t.Errorf("%s, password %q: %v %v", uri, pw, ok, err)
			}
		}
		if ok, err := c.CheckPassword(ctx, c.Nobody(), []byte(ldaptest.Password)); ok.Right || err != nil {
			t.Errorf("nobody: %v %v", ok, err)
		}
	}
	c := ldap.New(bindingTo(s), ldaptest.Password)
	e, err := c.Fetch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Users) != 5001 || e.Left != 0 {
		t.Fatalf("%d users, %d left out: %q", len(e.Users), e.Left, e.LeftOut)
	}
	if u := e.Users[1]; u.Name != "u0000" || u.Display != "The u0000" || u.DN != ldaptest.DN("u0000") || u.Disabled {
		t.Errorf("%+v", u)
	}
	if u := e.Users[0]; u.Name != "two words" {
		t.Errorf("%+v", u)
	}
	if len(e.Groups) != 3 || e.Groups[0].Name != "all" || len(e.Groups[0].Users) != 5000 {
		t.Fatalf("%d groups", len(e.Groups))
	}
	if g := e.Groups[1]; fmt.Sprint(g.Users, g.Groups) != "[u0001] [all]" {
		t.Errorf("%+v", g)
	}
	if g := e.Groups[2]; fmt.Sprint(g.Users) != "[u0002]" {
		t.Errorf("%+v", g)
	}

	// Somebody moved within the tree logs in before the next synchronisation.
	s.Change(func(c *goldap.Conn) error {
		return c.ModifyDN(goldap.NewModifyDNRequest(ldaptest.DN("u0003"), "uid=u0003", true, "ou=groups,"+ldaptest.Base))
	})
	if ok, err := c.CheckPassword(ctx, ldap.Who{DN: ldaptest.DN("u0003"), Name: "u0003"}, []byte(ldaptest.Password)); !ok.Right || err != nil {
		t.Errorf("moved: %v %v", ok, err)
	}
	// Disabled by a filter of the administrator's own.
	s.Change(func(c *goldap.Conn) error {
		r := goldap.NewModifyRequest(ldaptest.DN("u0004"), nil)
		r.Replace("employeeType", []string{"left"})
		return c.Modify(r)
	})
	l := bindingTo(s)
	l.DisabledFilter = "(employeeType=left)"
	if e, err = ldap.New(l, ldaptest.Password).Fetch(ctx); err != nil {
		t.Fatal(err)
	}
	for _, u := range e.Users {
		if u.Disabled != (u.Name == "u0004") {
			t.Errorf("%s disabled: %v", u.Name, u.Disabled)
		}
	}
}

// TestSlapdFails: what goes wrong with a real directory is never a wrong password.
func TestSlapdFails(t *testing.T) {
	s := ldaptest.Start(t, []string{"anna"})
	ctx := context.Background()
	check := func(what string, l model.LDAP, secret string, want error) {
		t.Helper()
		c := ldap.New(l, secret)
		ok, err := c.CheckPassword(ctx, ldap.Who{DN: ldaptest.DN("anna"), Name: "anna"}, []byte(ldaptest.Password))
		if ok.Right != (want == nil) || !errors.Is(err, want) {
			t.Errorf("%s: %v %v", what, ok, err)
		}
	}
	check("fine", bindingTo(s), ldaptest.Password, nil)
	strange := bindingTo(s)
	strange.CA = ""
	check("a certificate that nobody knows", strange, ldaptest.Password, ldap.ErrUnavailable)
	if _, err := ldap.New(bindingTo(s), "wrong").Fetch(ctx); !errors.Is(err, ldap.ErrUnavailable) {
		t.Errorf("fetch with a wrong password: %v", err)
	}
	second := bindingTo(s)
	second.URIs = []string{"ldap://127.0.0.1:1", s.URI}
	check("the first server is down", second, ldaptest.Password, nil)
	s.Pause()
	check("hung", bindingTo(s), ldaptest.Password, ldap.ErrUnavailable)
	if _, err := ldap.New(bindingTo(s), ldaptest.Password).Fetch(ctx); !errors.Is(err, ldap.ErrUnavailable) {
		t.Errorf("fetch from a hung server: %v", err)
	}
	s.Resume()
	check("fine again", bindingTo(s), ldaptest.Password, nil)
	s.Stop()
	check("down", bindingTo(s), ldaptest.Password, ldap.ErrUnavailable)
	s.Run()
	check("up again", bindingTo(s), ldaptest.Password, nil)
}
