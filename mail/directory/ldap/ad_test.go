package ldap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/model"

	ber "github.com/go-asn1-ber/asn1-ber"
	goldap "github.com/go-ldap/ldap/v3"
)

// TestReason: why Active Directory refuses a bind is in the text of its answer, in words of Windows and of Samba.
func TestReason(t *testing.T) {
	for text, want := range map[string]string{
		"80090308: LdapErr: DSID-0C090449, comment: AcceptSecurityContext error, data 52e, v4563": "the password is wrong",
		"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 533, v1db1": "the account is disabled",
		"comment: AcceptSecurityContext error, data 773, v1db1":                                   "the password must be changed first",
		"data 775":                 "the account is locked after too many wrong passwords",
		"data 4711":                "",
		"no data here":             "",
		"data fffffffffffffffffff": "",
		"":                         "",
	} {
		if got := reason(&goldap.Error{ResultCode: 49, Err: errors.New(text)}); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if reason(errors.New("data 533")) != "" || reason(&goldap.Error{ResultCode: 49}) != "" {
		t.Error("a reason out of nothing")
	}
}

func raw(name string, values ...string) *goldap.EntryAttribute {
	return goldap.NewEntryAttribute(name, values)
}

// TestADUser: the numbers of an account.
func TestADUser(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	ticks := func(at time.Time) string { return fmt.Sprint(at.Unix()*1e7 + 116444736000000000) }
	guid := strings.Repeat("\x01", 15) + "\xff"
	sid := "\x01\x05\x00\x00\x00\x00\x00\x05" + strings.Repeat("\x15\x00\x00\x00", 4) + "\x51\x04\x00\x00"
	for _, tc := range []struct {
		uac, expires string
		disabled     bool
	}{
		{"512", "0", false}, {"514", "0", true}, {"66048", "9223372036854775807", false}, {"66050", "", true}, {"", "", false}, {"-2147483134", "", true},
		{"512", ticks(now.Add(time.Minute)), false}, {"512", ticks(now), true}, {"512", ticks(now.Add(-time.Hour)), true}, {"512", "nonsense", false},
	} {
		x := &goldap.Entry{Attributes: []*goldap.EntryAttribute{raw("OBJECTGUID", guid), raw("objectSid", sid), raw("primaryGroupID", "513"),
			raw("userAccountControl", tc.uac), raw("accountExpires", tc.expires), raw("userPrincipalName", "Anna@AD.Example.Test")}}
		var u User
		u.ad(x, now)
		if u.Disabled != tc.disabled || u.GUID != strings.Repeat("01", 15)+"ff" || u.UPN != "anna@ad.example.test" || u.primary.number != 513 || len(u.primary.domain) != len(sid)-4 {
			t.Errorf("%+v: %+v", tc, u)
		}
	}
	for _, bad := range []string{"", "short", guid + "x"} {
		if g := guidOf(&goldap.Entry{Attributes: []*goldap.EntryAttribute{raw("objectGUID", bad)}}); g != "" {
			t.Errorf("%q is a GUID: %q", bad, g)
		}
		if _, ok := ridOf(&goldap.Entry{Attributes: []*goldap.EntryAttribute{raw("objectSid", bad)}}); ok {
			t.Errorf("%q is a SID", bad)
		}
	}
	for _, g := range []string{"", "xyz", "0102", strings.Repeat("29", 16)} { // )
		if _, err := goldap.CompileFilter("(&" + guidFilter(g) + "(a=b))"); err != nil {
			t.Errorf("%q: %v", g, err)
		}
	}
}

// FuzzRanged: whatever a server calls an attribute, the next part starts behind this one or there is none.
func FuzzRanged(f *testing.F) {
	for _, s := range []string{"member", "member;range=0-1499", "MEMBER;Range=1500-*", "member;range=0-", "member;range=-1--2", "member;range=0-99999999999999999999", "member;range", "memberUid;range=0-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		_, next := ranged(&goldap.Entry{Attributes: []*goldap.EntryAttribute{raw(name, "x")}}, "member")
		if next < 0 || next > MaxMembers {
			t.Errorf("%q goes on at %d", name, next)
		}
	})
}

// adServer is a domain that answers searches as search says; binds succeed.
func adServer(t *testing.T, search func(n int, attrs []string) []*ber.Packet) *Client {
	t.Helper()
	n := 0
	c := hostileAsked(t, func(c net.Conn, id int64, op *ber.Packet) bool {
		if op.Tag != goldap.ApplicationSearchRequest {
			c.Write(result(id, goldap.ApplicationBindResponse, 0).Bytes())
			return true
		}
		var attrs []string
		for _, a := range op.Children[len(op.Children)-1].Children {
			attrs = append(attrs, a.Data.String())
		}
		n++
		var out []byte
		for _, e := range search(n, attrs) {
			p := ber.NewSequence("")
			p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
			p.AppendChild(e)
			out = append(out, p.Bytes()...)
		}
		c.Write(append(out, result(id, goldap.ApplicationSearchResultDone, 0).Bytes()...))
		return true
	})
	uris := c.conf.URIs
	c.conf = model.DefaultAD("ad.example.test")
	c.conf.URIs, c.conf.TLS, c.conf.BindDN, c.conf.TimeoutSec = uris, model.LDAPNoTLS, "mail", 20
	c.secret = "x"
	return c
}

// item is an entry of a result, without its number.
func item(dn string, attrs map[string][]string) *ber.Packet {
	list := ber.NewSequence("")
	for k, values := range attrs {
		a := ber.NewSequence("")
		a.AppendChild(text(k))
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		for _, v := range values {
			set.AppendChild(text(v))
		}
		a.AppendChild(set)
		list.AppendChild(a)
	}
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, goldap.ApplicationSearchResultEntry, nil, "")
	op.AppendChild(text(dn))
	op.AppendChild(list)
	return op
}

// TestRangedGroup: a group of 4,000 of which the server shows 1,500 at a time, as Windows does.
func TestRangedGroup(t *testing.T) {
	const people, step = 4000, 1500
	dn := func(i int) string { return fmt.Sprintf("CN=u%04d,DC=ad,DC=example,DC=test", i) }
	members := func(from int) map[string][]string {
		to, last := from+step-1, ""
		if last = fmt.Sprint(to); to >= people-1 {
			to, last = people-1, "*"
		}
		var list []string
		for i := from; i <= to; i++ {
			list = append(list, dn(i))
		}
		return map[string][]string{fmt.Sprintf("member;range=%d-%s", from, last): list, "member": nil}
	}
	c := adServer(t, func(n int, attrs []string) (out []*ber.Packet) {
		switch {
		case n == 1:
			for i := range people {
				out = append(out, item(dn(i), map[string][]string{"sAMAccountName": {fmt.Sprintf("u%04d", i)}, "objectGUID": {fmt.Sprintf("%016d", i)}, "userAccountControl": {"512"}}))
			}
		case n == 2:
			g := members(0)
			g["sAMAccountName"], g["objectGUID"] = []string{"Everybody here"}, []string{"0123456789abcdef"}
			out = append(out, item("CN=Everybody here,DC=ad,DC=example,DC=test", g))
		default:
			var from int
			if _, err := fmt.Sscanf(attrs[0], "member;range=%d-*", &from); err != nil {
				t.Errorf("%v: %v", attrs, err)
			}
			out = append(out, item("CN=Everybody here,DC=ad,DC=example,DC=test", members(from)))
		}
		return out
	})
	e, err := c.Fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Users) != people || len(e.Groups) != 1 {
		t.Fatal(len(e.Users), e.LeftOut)
	}
	if g := e.Groups[0]; g.Name != "everybody here" || len(g.Users) != people || g.Users[people-1] != "u3999" || g.GUID == "" {
		t.Errorf("%s has %d of %d", g.Name, len(g.Users), people)
	}
}

// TestRangeWithoutEnd: a server that shows the same part again and again is read no longer than once.
func TestRangeWithoutEnd(t *testing.T) {
	for _, name := range []string{"member;range=0-9", "member;range=10-9", "member;range=10-49998"} {
		asked := 0
		c := adServer(t, func(n int, _ []string) []*ber.Packet {
			asked = n
			if n == 1 {
				return nil
			}
			at := "member;range=0-9"
			if n > 2 {
				at = name
			}
			return []*ber.Packet{item("CN=g,DC=x", map[string][]string{at: {"CN=nobody,DC=x"}, "sAMAccountName": {"g"}, "objectGUID": {"0123456789abcdef"}})}
		})
		if _, err := c.Fetch(context.Background()); err != nil || asked > 5 {
			t.Errorf("%s: asked %d times, %v", name, asked, err)
		}
	}
}

// TestADValidate: a domain is not asked without a login, and no password crosses the network in clear.
func TestADValidate(t *testing.T) {
	good := model.DefaultAD("ad.example.com")
	good.BindDN, good.Password = `EXAMPLE\mail`, "sealed"
	if err := Validate(&good); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*model.LDAP){
		"no domain": func(l *model.LDAP) { l.Realm = "" }, "a short name": func(l *model.LDAP) { l.Realm = "EXAMPLE" }, "no login": func(l *model.LDAP) { l.BindDN = "" },
		"in clear": func(l *model.LDAP) { l.TLS = model.LDAPNoTLS }, "no password": func(l *model.LDAP) { l.Password = "" }, "a base": func(l *model.LDAP) { l.BaseDN = "people" },
		"a control character": func(l *model.LDAP) { l.BindDN = "mail\x00" }, "ldap without a server": func(l *model.LDAP) { l.Source = model.SourceLDAP },
	} {
		bad := good
		change(&bad)
		if Validate(&bad) == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
