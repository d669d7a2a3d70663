package ldap_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/directory/ldap/adtest"
	"mailplusd/mail/model"

	goldap "github.com/go-ldap/ldap/v3"
	"github.com/miekg/dns"
)

// dnsOf serves a zone on loopback until the test ends.
func dnsOf(t *testing.T, zone string) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var rrs []dns.RR
	zp := dns.NewZoneParser(strings.NewReader(zone), ".", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		rrs = append(rrs, rr)
	}
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		for _, rr := range rrs {
			if h := rr.Header(); h.Rrtype == m.Question[0].Qtype && strings.EqualFold(h.Name, m.Question[0].Name) {
				r.Answer = append(r.Answer, rr)
			}
		}
		w.WriteMsg(r)
	})}
	go srv.ActivateAndServe()
	t.Cleanup(func() { srv.Shutdown() })
	return pc.LocalAddr().String()
}

func domainOf(dc *adtest.DC) model.LDAP {
	l := model.DefaultAD(adtest.Realm)
	l.URIs, l.CA, l.BindDN, l.Password, l.TimeoutSec = []string{dc.URI()}, dc.CA, "mail", "sealed", 5
	return l
}

// userOf finds a user in what was read.
func userOf(t *testing.T, c *ldap.Client, name string) ldap.User {
	t.Helper()
	e, err := c.Fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range e.Users {
		if u.Name == name {
			return u
		}
	}
	t.Fatalf("%s is not among %d users", name, len(e.Users))
	return ldap.User{}
}

// TestSambaFetch reads users and groups of a real domain: pages, nested groups, the primary group, names with spaces.
func TestSambaFetch(t *testing.T) {
	// covers: R5.05 I.05
	dc := adtest.Start(t)
	var members []string
	for i := range 520 { // more than a page; without passwords they are made fast
		name := fmt.Sprintf("page%03d", i)
		members = append(members, adtest.DN(name))
	}
	dc.Change(func(c *goldap.Conn) error {
		for i, dn := range members {
			r := goldap.NewAddRequest(dn, nil)
			r.Attribute("objectClass", []string{"user"})
			r.Attribute("sAMAccountName", []string{fmt.Sprintf("page%03d", i)})
			if err := c.Add(r); err != nil {
				return err
			}
		}
		return nil
	})
	dc.Add("fetch-anna", nil)
	dc.Add("fetch-off", map[string]string{"userAccountControl": "514"})
	dc.Add("fetch-past", map[string]string{"accountExpires": "130000000000000000"})
	dc.Group("Fetch many", members...)
	dc.Group("fetch-outer", adtest.DN("Fetch many"), adtest.DN("fetch-anna"))
	c := ldap.New(domainOf(dc), adtest.Password)
	e, err := c.Fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	users, groups := map[string]ldap.User{}, map[string]ldap.Group{}
	for _, u := range e.Users {
		users[u.Name] = u
	}
	for _, g := range e.Groups {
		groups[g.Name] = g
	}
	if u := users["fetch-anna"]; u.Display != "The fetch-anna" || u.UPN != "fetch-anna@"+adtest.Realm || len(u.GUID) != 32 || u.Disabled || u.DN != adtest.DN("fetch-anna") {
		t.Errorf("%+v", u)
	}
	if !users["fetch-off"].Disabled || !users["fetch-past"].Disabled || users["administrator"].Disabled || users["krbtgt"].Name != "" {
		t.Errorf("who is disabled: %+v %+v", users["fetch-off"], users["fetch-past"])
	}
	for name := range users {
		if strings.HasSuffix(name, "$") {
			t.Errorf("a computer is a user: %s", name)
		}
	}
	if g := groups["fetch many"]; len(g.Users) != 520 || len(g.GUID) != 32 {
		t.Errorf("%d members, %q", len(g.Users), g.GUID)
	}
	if g := groups["fetch-outer"]; fmt.Sprint(g.Users, g.Groups) != "[fetch-anna] [fetch many]" {
		t.Errorf("%+v", g)
	}
	if g := groups["domain users"]; !slices.Contains(g.Users, "fetch-anna") || !slices.Contains(g.Users, "page519") {
		t.Errorf("primary group: %d members", len(g.Users))
	}
	if g := groups["administrators"]; !slices.Contains(g.Groups, "domain admins") || !slices.Contains(g.Users, "administrator") {
		t.Errorf("%+v", g)
	}
	if values, err := c.Ranged(context.Background(), adtest.DN("Fetch many"), "member", 500); err != nil || len(values) != 20 {
		t.Errorf("from the 500th on: %d, %v", len(values), err)
	}
	if short, err := c.Short(context.Background()); err != nil || short != strings.ToLower(adtest.Short) {
		t.Errorf("%q %v", short, err)
	}
	one := domainOf(dc)
	one.BaseDN = "OU=Domain Controllers," + adtest.Base
	if e, err = ldap.New(one, adtest.Password).Fetch(context.Background()); err != nil || len(e.Users) != 0 || len(e.Groups) < 10 {
		t.Errorf("another base: %v, %d users, %d groups", err, len(e.Users), len(e.Groups))
	}
}

// TestSambaPassword: what a real domain says to passwords of accounts in each state, by STARTTLS and by LDAPS.
func TestSambaPassword(t *testing.T) {
	// covers: R5.05 R5.18 I.05
	dc := adtest.Start(t)
	for _, n := range []string{"pw-fine", "pw-off", "pw-past", "pw-must", "pw-lock"} {
		dc.Add(n, nil)
	}
	dc.Set("pw-off", "userAccountControl", "514")
	dc.Set("pw-past", "accountExpires", "130000000000000000")
	dc.Set("pw-must", "pwdLastSet", "0")
	ctx := context.Background()
	for _, uri := range []string{dc.URI(), dc.LDAPS()} {
		l := domainOf(dc)
		l.URIs = []string{uri}
		c := ldap.New(l, adtest.Password)
		if p := c.Probe(ctx); len(p) != 1 || p[0].Err != nil || !p[0].TLS {
			t.Fatalf("%+v", p)
		}
		u := userOf(t, c, "pw-fine")
		for pw, want := range map[string]string{adtest.Password: "", "wrong": "the password is wrong"} {
			if v, err := c.CheckPassword(ctx, ldap.Who{DN: u.DN, Name: u.Name, GUID: u.GUID}, []byte(pw)); err != nil || v.Right != (want == "") || v.Why != want {
				t.Errorf("%s, %q: %+v %v", uri, pw, v, err)
			}
		}
	}
	c := ldap.New(domainOf(dc), adtest.Password)
	for range 3 {
		u := userOf(t, c, "pw-lock")
		c.CheckPassword(ctx, ldap.Who{DN: u.DN, Name: u.Name, GUID: u.GUID}, []byte("guessed"))
	}
	for name, want := range map[string]string{"pw-off": "the account is disabled", "pw-past": "the account has expired", "pw-must": "the password must be changed first", "pw-lock": "the account is locked after too many wrong passwords"} {
		u := userOf(t, c, name)
		who := ldap.Who{DN: u.DN, Name: u.Name, GUID: u.GUID}
		v, err := c.CheckPassword(ctx, who, []byte(adtest.Password))
		if err != nil || v.Right || v.Why != want {
			t.Errorf("%s: %+v %v", name, v, err)
		}
		if why, err := c.State(ctx, who); err != nil || !slices.Contains(why, want) {
			t.Errorf("state of %s: %q %v", name, why, err)
		}
	}
	if v, err := c.CheckPassword(ctx, c.Nobody(), []byte(adtest.Password)); err != nil || v.Right {
		t.Errorf("nobody: %+v %v", v, err)
	}
	u := userOf(t, c, "pw-fine")
	if why, err := c.State(ctx, ldap.Who{GUID: u.GUID}); err != nil || len(why) != 0 {
		t.Errorf("state of pw-fine: %q %v", why, err)
	}
	if _, err := ldap.New(domainOf(dc), "wrong").Fetch(ctx); !errors.Is(err, ldap.ErrUnavailable) || !strings.Contains(err.Error(), "the password is wrong") {
		t.Errorf("the binding's own password: %v", err)
	}
}

// TestSambaIdentity: he is who he was under another name and at another place; who has got his old name is not.
func TestSambaIdentity(t *testing.T) {
	// covers: R5.05 R5.01
	dc := adtest.Start(t)
	dc.Add("id-anna", nil)
	c := ldap.New(domainOf(dc), adtest.Password)
	ctx := context.Background()
	u := userOf(t, c, "id-anna")
	who := ldap.Who{DN: u.DN, Name: u.Name, GUID: u.GUID}
	dc.Rename("id-anna", "id-anne")
	if v, err := c.CheckPassword(ctx, who, []byte(adtest.Password)); err != nil || !v.Right {
		t.Errorf("renamed: %+v %v", v, err)
	}
	if now := userOf(t, c, "id-anne"); now.GUID != u.GUID {
		t.Errorf("another GUID: %+v", now)
	}
	dc.Add("id-anna", nil) // somebody else
	dc.SetPassword("id-anna", "Another-Word-7")
	if v, err := c.CheckPassword(ctx, who, []byte("Another-Word-7")); err != nil || v.Right {
		t.Errorf("another person comes in: %+v %v", v, err)
	}
	dc.Delete("id-anne")
	if v, err := c.CheckPassword(ctx, who, []byte(adtest.Password)); err != nil || v.Right || !strings.Contains(v.Why, "no such user") {
		t.Errorf("deleted: %+v %v", v, err)
	}
}

// TestSambaDNS: DNS names the controllers; one that is down is passed over, and not asked first again.
func TestSambaDNS(t *testing.T) {
	dc := adtest.Start(t)
	server := dnsOf(t, dc.Zone())
	l := domainOf(dc)
	l.URIs = nil
	ctx := context.Background()
	for _, tls := range []string{model.LDAPStartTLS, model.LDAPS} {
		l.TLS = tls
		c := ldap.New(l, adtest.Password)
		c.Resolvers = func() []string { return []string{server} }
		uris, err := c.Servers(ctx)
		if err != nil || len(uris) != 2 || !strings.Contains(uris[0], "gone."+adtest.Realm) || strings.HasPrefix(uris[1], "ldaps://") != (tls == model.LDAPS) {
			t.Fatalf("%q %v", uris, err)
		}
		if _, err := c.Fetch(ctx); err != nil {
			t.Errorf("%s: %v", tls, err)
		}
		if last := c.Last(); !strings.Contains(last, adtest.Host) {
			t.Errorf("answered last: %q", last)
		}
	}
	c := ldap.New(l, adtest.Password)
	c.Resolvers = func() []string { return []string{dnsOf(t, "")} }
	began := time.Now()
	if _, err := c.Fetch(ctx); !errors.Is(err, ldap.ErrUnavailable) || !strings.Contains(err.Error(), "_ldap._tcp.dc._msdcs."+adtest.Realm) {
		t.Errorf("no controller in DNS: %v", err)
	}
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("waited for %s", d)
	}
}
