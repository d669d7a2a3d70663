package server

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"
	"mailplusd/mail/directory/ldap/ldaptest"
	"mailplusd/mail/model"
)

// TestPeerConditionsRefuse: each condition that the other node can fail, failed alone, refuses the
// pair by name and says what helps.
func TestPeerConditionsRefuse(t *testing.T) {
	// covers: R11.25 R11.15 R11.17 R11.19 R11.20 R11.21 R11.22 R11.23
	const formats = "log 1, state 1, level 1"
	own := nodeFacts{Initialised: true, State: string(pair.Single), Prefix: "192.0.2.1/24", Interface: "eth0"}
	for _, tc := range []struct {
		name   string
		facts  func(*nodeFacts)
		skew   time.Duration
		want   string // empty: taken
		remedy string
	}{
		{name: "fine"},
		{name: "fine, a clock that is a second off", skew: time.Second},
		{name: "set up", facts: func(f *nodeFacts) { f.Initialised = true }, want: "set up already", remedy: "fresh node"},
		{name: "in another pair", facts: func(f *nodeFacts) { f.State = string(pair.Paired) }, want: "or in a pair", remedy: "fresh node"},
		{name: "newer formats", facts: func(f *nodeFacts) { f.Formats = "log 9, state 9, level 9" }, want: "version 2.0 (log 9, state 9, level 9)", remedy: "same version"},
		{name: "clock ahead", skew: time.Hour, want: "clocks differ by 1h0m0s", remedy: "chrony"},
		{name: "clock behind", skew: -6 * time.Second, want: "clocks differ by 6s", remedy: "chrony"},
		{name: "another subnet", facts: func(f *nodeFacts) { f.Prefix = "198.51.100.2/24" }, want: "this node is in 192.0.2.0/24, the other in 198.51.100.0/24", remedy: "one subnet"},
		{name: "another mask", facts: func(f *nodeFacts) { f.Prefix = "192.0.2.2/25" }, want: "the other in 192.0.2.0/25", remedy: "one subnet"},
		{name: "no address", facts: func(f *nodeFacts) { f.Prefix = "" }, want: "no known subnet", remedy: "one subnet"},
		{name: "DHCP", facts: func(f *nodeFacts) { f.Problem = "192.0.2.2 comes from DHCP" }, want: "comes from DHCP", remedy: "fixed address"},
		{name: "a second factor", facts: func(f *nodeFacts) { f.TwoFactor = 2 }, want: "two-factor login is on for 2 accounts", remedy: "--2fa off"},
		{name: "keepalived", facts: func(f *nodeFacts) { f.Managers = []string{"keepalived"} }, want: "keepalived runs there", remedy: "stop it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := nodeFacts{State: string(pair.Single), Formats: formats, Prefix: "192.0.2.2/24", Interface: "eth0", Data: volume{Path: "/", Free: 1 << 40, Total: 1 << 41}}
			if tc.facts != nil {
				tc.facts(&f)
			}
			extra, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			peer := &transport.PairResult{ID: "b", Skew: tc.skew, Hello: transport.Hello{Node: "b", Version: "2.0", Extra: extra}}
			s := &Server{node: "a"}
			list := s.conditions(t.Context(), &HA{Formats: formats}, own, peer, nil, netip.AddrPort{})
			bad := 0
			for _, find := range list {
				if find.Level != "error" || find.Check == "storage" { // the volume has a test of its own
					continue
				}
				if bad++; !strings.Contains(find.Message, tc.want) || !strings.Contains(find.Remedy, tc.remedy) || find.Remedy == "" {
					t.Errorf("%+v, want %q, %q", find, tc.want, tc.remedy)
				}
			}
			if want := min(len(tc.want), 1); bad != want {
				t.Errorf("%d conditions fail, want %d: %+v", bad, want, list)
			}
		})
	}
}

// TestLogsInToDirectory: a node that is to join says whether it can log in to the directory of the accounts.
func TestLogsInToDirectory(t *testing.T) {
	// covers: R11.26
	d := ldaptest.Start(t, []string{"bob"})
	with := func(change func(*boundDirectory)) *boundDirectory {
		l := model.DefaultLDAP()
		l.URIs, l.BaseDN, l.BindDN, l.TimeoutSec = []string{d.URI}, ldaptest.Base, ldaptest.BindDN, 2
		b := &boundDirectory{LDAP: l, CA: d.CA, Secret: ldaptest.Password}
		change(b)
		raw, err := json.Marshal(b) // as it comes over the link
		if err != nil {
			t.Fatal(err)
		}
		out := &boundDirectory{}
		if err := json.Unmarshal(raw, out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, tc := range []struct {
		what string
		b    *boundDirectory
		want string
	}{
		{"local accounts", nil, ""},
		{"all is well", with(func(*boundDirectory) {}), ""},
		{"the first server is down", with(func(b *boundDirectory) { b.URIs = []string{"ldap://127.0.0.1:1", d.URI} }), ""},
		{"all are down", with(func(b *boundDirectory) { b.URIs = []string{"ldap://127.0.0.1:1"} }), "both must"},
		{"another certificate than is trusted", with(func(b *boundDirectory) { b.CA = "" }), "certificate"},
		{"another password", with(func(b *boundDirectory) { b.Secret = "wrong" }), "Invalid Credentials"},
		{"nothing to be seen", with(func(b *boundDirectory) { b.BaseDN = "dc=elsewhere" }), "dc=elsewhere"},
		{"nonsense", with(func(b *boundDirectory) { b.URIs = nil }), "uri"},
	} {
		if err := logsIn(t.Context(), tc.b); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.what, err, tc.want)
		}
	}
}
