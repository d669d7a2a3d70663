package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"mailplusd/admin/api"
	"mailplusd/admin/auth"
	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// keptAlone are the operations that change no setting. Whoever adds one here says why R11.61
// does not mean it.
var keptAlone = map[string]string{
	"ha invite": "refused by its own conditions", "ha create": "refused by its own conditions", "ha switchover": "refused by its own conditions",
	"ha remove": "the way out that the manual names", "ha recover": "refused by its own conditions",
	"job cancel": "this node's work", "storage verify": "this node's work", "storage compact": "this node's work", "fts reindex": "this node's work",
	"me forward set": "the user's own", "me forward delete": "the user's own", "me autoreply set": "the user's own", "me autoreply delete": "the user's own",
	"cert renew":          "what comes of an order is no setting",
	"account usage clear": "what was sent is no setting",
	"domain usage clear":  "what was sent is no setting",
	"login lock clear":    "counters in memory", "delivery tls report send": "mail", "delivery block delete": "counters in memory",
	"mail send": "mail", "mailbox restore": "mail", "mailbox export": "mail", "mailbox import": "mail", "me passwd": "the user's own",
	"me 2fa enable": "the user's own", "me 2fa confirm": "the user's own", "me 2fa disable": "the user's own", "login session add": "the user's own",
	"queue resend": "mail", "queue hold": "mail", "queue release": "mail", "queue clear": "mail", "queue delete": "mail",
}

// TestAloneRefusesSettings asks for every operation on a secondary that serves alone.
func TestAloneRefusesSettings(t *testing.T) {
	// covers: R11.61
	s := testNode(t, "b", nil)
	s.bindAll()
	ctx := context.Background()
	for _, e := range []state.EpochStart{
		{Epoch: 1, Owner: "a", Phase: state.PhasePair, SettingsOwner: "a"},
		{Epoch: 2, Owner: "b", Node: 1, Forced: true, Phase: state.PhaseSolo},
	} {
		if err := s.mail.State.Do(ctx, []state.Operation{e}); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range api.All {
		_, kept := keptAlone[o.Name()]
		if kept != o.Spec().Alone {
			t.Errorf("%q: allowed alone is declared %v, and listed here %v", o.Name(), o.Spec().Alone, kept)
		}
		if o.Spec().Effect == op.Read || o.Spec().Alone {
			if err := s.settingsOpen(o); err != nil {
				t.Errorf("%q is refused: %v", o.Name(), err)
			}
			continue
		}
		paths := []string{op.Path(o)}
		if o.Spec().Bulk {
			paths = append(paths, op.BulkPath(o))
		}
		if o.Spec().Upload {
			paths = []string{op.UploadPath(o)}
		}
		for _, path := range paths {
			r := httptest.NewRequestWithContext(context.WithValue(ctx, connKey{}, nodeConn{}), http.MethodPost, path, strings.NewReader("{}"))
			r.Header.Set(headerActor, `{"Name":"root","Admin":true}`)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if body := w.Body.String(); w.Code != http.StatusConflict || !strings.Contains(body, "settings can't be changed here: a,") || !strings.Contains(body, "mpctl ha remove a --dead") {
				t.Errorf("%s: %d %s", path, w.Code, body)
			}
		}
	}
	// The state machine refuses by itself, too, but not the user's own password.
	if err := s.change(ctx, &Call{}, func(tx *state.Tx) error { return state.Groups.Put(tx, &model.Group{Name: "g"}) }); err == nil {
		t.Error("a group was added behind the door")
	}
}

func TestOwnPasswordAlone(t *testing.T) {
	// covers: R11.61
	s := testNode(t, "b", nil)
	ctx := context.Background()
	c := &Call{Actor: auth.Actor{Name: "bob", User: "bob"}, Op: api.MePasswd}
	if err := s.mail.State.Update(ctx, func(tx *state.Tx) error {
		return state.Users.Put(tx, &model.User{ID: 1, Name: "bob", Hash: "old"})
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.mail.State.Do(ctx, []state.Operation{state.EpochStart{Epoch: 2, Owner: "b", Node: 1, Phase: state.PhaseSolo, SettingsOwner: "a"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.setPassword(ctx, c, "bob", []byte("a-longer-word-3"), true); err != nil {
		t.Errorf("own password: %v", err)
	}
	if err := s.setPassword(ctx, c, "bob", []byte("a-longer-word-4"), false); err == nil {
		t.Error("an administrator changed a password while settings are read-only")
	}
}

// TestSetRefuses: what ha set must not take on.
func TestSetRefuses(t *testing.T) {
	// covers: R11.46 R11.31
	text := func(s string) *string { return &s }
	words := func(s ...string) *[]string { return &s }
	own := nodeFacts{Prefix: "192.0.2.1/24", Interface: "eth0"}
	for _, tc := range []struct {
		name string
		in   api.HASetIn
		want string // empty: taken
	}{
		{"another subnet", api.HASetIn{VIP: text("198.51.100.9/24")}, "not in the subnet of a"},
		{"too small a mask", api.HASetIn{Netmask: text("255.255.255.252")}, "not in the subnet of a"},
		{"a node's own address", api.HASetIn{VIP: text("192.0.2.2")}, "own address of b"},
		{"the network's name", api.HASetIn{VIP: text("192.0.2.0/24")}, "name of the network"},
		{"broadcast", api.HASetIn{VIP: text("192.0.2.255/24")}, "broadcast"},
		{"no address", api.HASetIn{VIP: text("mail")}, "no address"},
		{"no mask", api.HASetIn{Netmask: text("255.0.255.0")}, "neither a mask"},
		{"no length", api.HASetIn{Netmask: text("33")}, "neither a mask"},
		{"witness without one", api.HASetIn{Arbiter: text("witness")}, "there is no witness"},
		{"weight of nobody", api.HASetIn{Weights: words("c=4")}, "no node of this pair"},
		{"weight of words", api.HASetIn{Weights: words("a=x")}, "NODE=NUMBER"},
		{"target", api.HASetIn{Targets: words("gw")}, "no IP address"},
		{"another address", api.HASetIn{VIP: text("192.0.2.11")}, ""},
		{"a larger mask", api.HASetIn{Netmask: text("23")}, ""},
		{"both", api.HASetIn{VIP: text("192.0.2.12"), Netmask: text("255.255.0.0")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &model.Pair{Cluster: "c", LeaseMS: model.DefaultLeaseMS, Arbiter: model.Arbiter{Mode: model.ArbiterGateway}, Sharing: model.Sharing{Mode: model.SharingBalanced},
				VIPs: []model.VIP{{Prefix: netip.MustParsePrefix("192.0.2.9/24"), Interface: "eth0"}},
				Nodes: []model.PairNode{
					{ID: "a", Addrs: []string{"192.0.2.1:2826"}, Key: make([]byte, 32), Role: model.RolePrimary},
					{ID: "b", Number: 1, Addrs: []string{"192.0.2.2:2826"}, Key: append(make([]byte, 31), 1), Role: model.RoleSecondary},
				}}
			s := &Server{}
			err := s.applyHASet(&HA{}, p, own, &tc.in)
			if err == nil {
				err = p.Validate()
			}
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestConditionsRefuse: each condition for a pair, failed alone, refuses it by name.
func TestConditionsRefuse(t *testing.T) {
	// covers: R11.15 R11.18 R11.20 R11.22 R11.23 R11.24
	good := nodeFacts{Initialised: true, State: string(pair.Single), Prefix: "192.0.2.1/24", Interface: "eth0"}
	for _, tc := range []struct {
		name string
		bad  func(*nodeFacts)
		want string
	}{
		{"fine", func(*nodeFacts) {}, ""},
		{"not set up", func(f *nodeFacts) { f.Initialised = false }, "initialised"},
		{"paired", func(f *nodeFacts) { f.State = string(pair.Solo) }, "part of a pair already"},
		{"DHCP", func(f *nodeFacts) { f.Problem = "192.0.2.1 comes from DHCP" }, "comes from DHCP"},
		{"PPPoE", func(f *nodeFacts) { f.Problem = "ppp0 is a PPPoE interface" }, "PPPoE"},
		{"keepalived", func(f *nodeFacts) { f.Managers = []string{"keepalived"} }, "keepalived runs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := good
			tc.bad(&f)
			s := &Server{node: "a"}
			err := worst(s.conditions(context.Background(), &HA{}, f, nil, nil, netip.AddrPort{}))
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestVolume: a secondary whose volume is too small is refused, with both sizes, before anything is done.
func TestVolume(t *testing.T) {
	// covers: R11.37
	own := nodeFacts{Initialised: true, State: string(pair.Single), Prefix: "192.0.2.1/24", Mail: 40 << 30}
	for free, want := range map[int64]string{
		50<<30 + 64<<20: "",
		49 << 30:        "storage (b): 40 GB of mail need 50 GB free, and there is /srv: 49 GB free of 100 GB (data directory /srv/mail)",
	} {
		extra, err := json.Marshal(nodeFacts{State: string(pair.Single), Prefix: "192.0.2.2/24", Data: volume{Path: "/srv", Dir: "/srv/mail", Free: free, Total: 100 << 30}})
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{node: "a"}
		peer := &transport.PairResult{ID: "b", Hello: transport.Hello{Extra: extra}}
		err = worst(s.conditions(context.Background(), &HA{}, own, peer, nil, netip.AddrPort{}))
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%d free: %v, want %q", free, err, want)
		}
	}
	dir := t.TempDir()
	list := volumes(dir)
	if list[0].Dir != dir || list[0].Total <= 0 || list[0].Free > list[0].Total || !strings.HasPrefix(dir, list[0].Path) {
		t.Errorf("%+v", list)
	}
	if got := unescape(`/a\040b\\`); got != `/a b\\` {
		t.Errorf("%q", got)
	}
}
