package ldap

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mailplusd/mail/model"

	ber "github.com/go-asn1-ber/asn1-ber"
	goldap "github.com/go-ldap/ldap/v3"
	"pgregory.net/rapid"
)

// hostile is a server that answers every request as answer says; nil: not at all.
func hostile(t *testing.T, answer func(c net.Conn, id int64, request ber.Tag) bool) *Client {
	t.Helper()
	if answer == nil {
		return hostileAsked(t, nil)
	}
	return hostileAsked(t, func(c net.Conn, id int64, op *ber.Packet) bool { return answer(c, id, op.Tag) })
}

// hostileAsked is hostile with the whole request.
func hostileAsked(t *testing.T, answer func(c net.Conn, id int64, op *ber.Packet) bool) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); close(done) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if answer == nil {
					<-done
					return
				}
				for {
					p, err := ber.ReadPacket(c)
					if err != nil || len(p.Children) < 2 {
						return
					}
					id, _ := p.Children[0].Value.(int64)
					if !answer(c, id, p.Children[1]) {
						return
					}
				}
			}()
		}
	}()
	conf := model.DefaultLDAP()
	conf.URIs, conf.TLS, conf.BaseDN, conf.TimeoutSec = []string{"ldap://" + l.Addr().String()}, model.LDAPNoTLS, "dc=x", 1
	return New(conf, "")
}

func packet(id int64, tag ber.Tag, children ...*ber.Packet) *ber.Packet {
	p := ber.NewSequence("")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	for _, c := range children {
		op.AppendChild(c)
	}
	p.AppendChild(op)
	return p
}

func text(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

func result(id int64, tag ber.Tag, code int64, more ...*ber.Packet) *ber.Packet {
	return packet(id, tag, append([]*ber.Packet{ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""), text(""), text("no")}, more...)...)
}

func entry(id int64, dn string, attrs map[string]string) *ber.Packet {
	list := ber.NewSequence("")
	for k, v := range attrs {
		a := ber.NewSequence("")
		a.AppendChild(text(k))
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		set.AppendChild(text(v))
		a.AppendChild(set)
		list.AppendChild(a)
	}
	return packet(id, goldap.ApplicationSearchResultEntry, text(dn), list)
}

// TestHostileBind: no answer of a server makes a password right or wrong but those that say so.
func TestHostileBind(t *testing.T) {
	bind := func(code int64, more ...*ber.Packet) func(net.Conn, int64, ber.Tag) bool {
		return func(c net.Conn, id int64, tag ber.Tag) bool {
			if tag != goldap.ApplicationBindRequest {
				c.Write(result(id, goldap.ApplicationSearchResultDone, 0).Bytes())
				return true
			}
			c.Write(result(id, goldap.ApplicationBindResponse, code, more...).Bytes())
			return true
		}
	}
	referral := ber.Encode(ber.ClassContext, ber.TypeConstructed, 3, nil, "")
	referral.AppendChild(text("ldap://127.0.0.1:1/"))
	for _, tc := range []struct {
		name   string
		answer func(net.Conn, int64, ber.Tag) bool
		ok     bool
		down   bool
	}{
		{"right", bind(goldap.LDAPResultSuccess), true, false},
		{"wrong", bind(goldap.LDAPResultInvalidCredentials), false, false},
		{"no such user", bind(goldap.LDAPResultNoSuchObject), false, false},
		{"locked there", bind(goldap.LDAPResultUnwillingToPerform), false, false},
		{"busy", bind(goldap.LDAPResultBusy), false, true},
		{"a fault there", bind(goldap.LDAPResultOperationsError), false, true},
		{"a referral", bind(goldap.LDAPResultReferral, referral), false, true},
		{"an unknown code", bind(4711), false, true},
		{"no answer", nil, false, true},
		{"hangs up", func(net.Conn, int64, ber.Tag) bool { return false }, false, true},
		{"garbage", func(c net.Conn, _ int64, _ ber.Tag) bool {
			c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			return true
		}, false, true},
		{"a length of 2 GB", func(c net.Conn, _ int64, _ ber.Tag) bool {
			c.Write([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2, 1, 1})
			return true
		}, false, true},
		{"another's answer", func(c net.Conn, id int64, _ ber.Tag) bool {
			c.Write(result(id+1, goldap.ApplicationBindResponse, 0).Bytes())
			return true
		}, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := hostile(t, tc.answer)
			ok, err := c.CheckPassword(context.Background(), Who{DN: "uid=anna,dc=x", Name: "anna"}, []byte("secret"))
			if ok.Right != tc.ok || errors.Is(err, ErrUnavailable) != tc.down || !tc.down && err != nil {
				t.Errorf("%v %v, want %v, unavailable %v", ok, err, tc.ok, tc.down)
			}
		})
	}
}

// TestHostileSearch: pages without an end, octets without an end, and values that nobody should print.
func TestHostileSearch(t *testing.T) {
	paging := func(cookie string) *ber.Packet {
		ctl := goldap.NewControlPaging(pageSize)
		ctl.SetCookie([]byte(cookie))
		list := ber.Encode(ber.ClassContext, ber.TypeConstructed, 0, nil, "")
		list.AppendChild(ctl.Encode())
		return list
	}
	t.Run("pages", func(t *testing.T) {
		pages := 0
		c := hostile(t, func(c net.Conn, id int64, _ ber.Tag) bool {
			p := result(id, goldap.ApplicationSearchResultDone, 0)
			p.AppendChild(paging("again"))
			pages++
			c.Write(p.Bytes())
			return true
		})
		if _, err := c.Fetch(context.Background()); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("after %d pages: %v", pages, err)
		}
	})
	t.Run("an answer that never ends", func(t *testing.T) {
		c := hostile(t, func(c net.Conn, id int64, _ ber.Tag) bool {
			one := entry(id, "uid=x,dc=x", map[string]string{"uid": strings.Repeat("x", 1<<20)}).Bytes()
			for {
				if _, err := c.Write(one); err != nil {
					return false
				}
			}
		})
		s, err := c.connect(context.Background(), maxLogin, false)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		s.extend()
		if _, err := s.Search(c.search("dc=x", "(uid=x)", "uid")); err == nil {
			t.Error("read to the end")
		}
	})
	t.Run("a caller that gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		c := hostile(t, func(net.Conn, int64, ber.Tag) bool { cancel(); return true })
		c.conf.TimeoutSec = 60
		began := time.Now()
		if _, err := c.Fetch(ctx); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		if d := time.Since(began); d > 30*time.Second {
			t.Errorf("waited for %s", d)
		}
	})
	t.Run("values", func(t *testing.T) {
		first := true
		c := hostile(t, func(c net.Conn, id int64, _ ber.Tag) bool {
			if first {
				first = false
				for dn, uid := range map[string]string{"uid=1": "anna", "uid=2": "esc\x1b[31m", "uid=3": "bad\xff", "uid=4": strings.Repeat("n", 300), "uid=5": "", "uid=6": "rtl\u202e"} {
					c.Write(entry(id, dn+",dc=x", map[string]string{"UID": uid, "displayName": "A\x1b[2J\nB\u202e" + strings.Repeat("é", 300)}).Bytes())
				}
			}
			c.Write(result(id, goldap.ApplicationSearchResultDone, 0).Bytes())
			return true
		})
		e, err := c.Fetch(context.Background())
		if err != nil || len(e.Users) != 1 || e.Left != 5 {
			t.Fatalf("%+v %v", e, err)
		}
		u := e.Users[0]
		if u.Name != "anna" || !strings.HasPrefix(u.Display, "A[2JB") || len(u.Display) > model.MaxDisplayName || !utf8.ValidString(u.Display) {
			t.Errorf("%q %q", u.Name, u.Display)
		}
	})
}

// TestFilterHoldsAnyName: whatever somebody types as his name, the filter asks for that name and
// for nothing else (RFC 4515 §3).
func TestFilterHoldsAnyName(t *testing.T) {
	c := New(model.DefaultLDAP(), "")
	rapid.Check(t, func(t *rapid.T) {
		var name string
		if rapid.Bool().Draw(t, "raw") {
			name = string(rapid.SliceOf(rapid.Byte()).Draw(t, "octets"))
		} else {
			name = rapid.StringOf(rapid.SampledFrom([]rune("*()\\|&!=~<>:, uid\x00ü"))).Draw(t, "name")
		}
		if name == "" {
			name = "x"
		}
		p, err := goldap.CompileFilter(c.userFilter(name))
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if p.Tag != goldap.FilterAnd || len(p.Children) != 2 {
			t.Fatalf("%q changes the shape of the filter", name)
		}
		eq := p.Children[1]
		if eq.Tag != goldap.FilterEqualityMatch || len(eq.Children) != 2 || eq.Children[0].Data.String() != "uid" || eq.Children[1].Data.String() != name {
			t.Fatalf("%q becomes %d with %d children", name, eq.Tag, len(eq.Children))
		}
	})
}

func TestValidate(t *testing.T) {
	good := model.DefaultLDAP()
	good.URIs, good.BaseDN = []string{"ldaps://ldap.example.com"}, "dc=example,dc=com"
	if err := Validate(&good); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*model.LDAP){
		"no server": func(l *model.LDAP) { l.URIs = nil }, "another scheme": func(l *model.LDAP) { l.URIs = []string{"http://x"} },
		"a path": func(l *model.LDAP) { l.URIs = []string{"ldap://x/dc=y??sub"} }, "no host": func(l *model.LDAP) { l.URIs = []string{"ldap://"} },
		"no base": func(l *model.LDAP) { l.BaseDN = "" }, "a base that is no DN": func(l *model.LDAP) { l.BaseDN = "dc=a,b" },
		"a filter": func(l *model.LDAP) { l.UserFilter = "(uid=*" }, "an empty filter": func(l *model.LDAP) { l.GroupFilter = "" },
		"an attribute": func(l *model.LDAP) { l.NameAttr = "uid)(x=*" }, "a CA": func(l *model.LDAP) { l.CA = "x" },
		"no password": func(l *model.LDAP) { l.BindDN = "cn=x" }, "TLS": func(l *model.LDAP) { l.TLS = "maybe" },
		"a time": func(l *model.LDAP) { l.TimeoutSec = 0 }, "a wait": func(l *model.LDAP) { l.SyncMinutes = 0 }, "a cache": func(l *model.LDAP) { l.CacheMinutes = -1 },
	} {
		bad := good
		change(&bad)
		if Validate(&bad) == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
