package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/transport"
)

// stranger is a peer of the test's own making: it says of itself what it is told to.
func (l *lan) stranger(host string, facts map[string]any, paired func() error) *transport.Transport {
	l.t.Helper()
	dir := filepath.Join(l.dir, "stranger"+host)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		l.t.Fatal(err)
	}
	identity, err := transport.LoadIdentity(dir)
	if err != nil {
		l.t.Fatal(err)
	}
	tr, err := transport.Open(transport.Options{ID: "stranger", Identity: identity, Listen: l.prefix + host + ":2826"})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { tr.Close() })
	extra, err := json.Marshal(facts)
	if err != nil {
		l.t.Fatal(err)
	}
	conf := transport.Pairing{
		Hello: func() transport.Hello {
			return transport.Hello{Node: "stranger", Number: -1, Version: "9.9", Extra: extra}
		},
		Paired: func(context.Context, transport.PairResult) error { return paired() },
	}
	tr.AcceptPairing(conf)
	return tr
}

// TestStoryPeerRefused: peers that must not become part of a pair. Each is refused with what helps, and
// afterwards this node is what it was, and can be made a pair with another.
func TestStoryPeerRefused(t *testing.T) {
	// covers: R11.17 R11.19
	l := newLAN(t)
	a, b := l.node("a", 2), l.node("b", 3)
	a.run()
	b.run()
	a.setUp()
	before := a.ok("config", "export")
	_, before, _ = strings.Cut(before, "\n") // the first line tells the time
	same := func(what string) {
		t.Helper()
		_, now, _ := strings.Cut(a.ok("config", "export"), "\n")
		if now != before {
			t.Errorf("%s: settings have changed:\n%s\n%s", what, before, now)
		}
		if v := a.show(); v.State != "single" || len(v.Addresses) > 0 || len(v.Nodes) > 1 {
			t.Errorf("%s: %+v", what, v)
		}
		a.has("in no pair", "ha", "show")
	}
	own := `log 1, state 1, level 1`
	for i, tc := range []struct {
		name   string
		facts  map[string]any
		paired error
		ttl    time.Duration
		code   int
		want   []string
	}{
		{"newer formats", map[string]any{"state": "single", "formats": "log 99, state 99, level 99"}, nil, time.Hour, 3, []string{"version (stranger)", "log 99"}},
		{"set up", map[string]any{"state": "single", "initialised": true, "formats": own}, nil, time.Hour, 3, []string{"set up already"}},
		{"in another pair", map[string]any{"state": "pair", "formats": own}, errors.New("this node is part of a pair already"), time.Hour, 3, []string{"part of a pair already", "mpctl ha precheck"}},
		{"a token that has expired", map[string]any{"state": "single"}, nil, time.Nanosecond, 4, []string{"the token has expired or was used", "mpctl ha invite"}},
	} {
		tr := l.stranger(fmt.Sprint(20+i), tc.facts, func() error { return tc.paired })
		token, err := tr.Invite(tc.ttl)
		if err != nil {
			t.Fatal(err)
		}
		_, errs, code := a.mpctl("ha", "create", "--peer", tr.Addr().String(), "--vip", l.vip(), "--invite-file", a.file("stranger", token), "--yes")
		for _, w := range tc.want {
			if !strings.Contains(errs, w) {
				t.Errorf("%s: %q is missing in\n%s", tc.name, w, errs)
			}
		}
		if code != tc.code {
			t.Errorf("%s: exit %d, want %d\n%s", tc.name, code, tc.code, errs)
		}
		same(tc.name)
	}
	// A token is good once: its pair was refused, and nobody else can use it.
	tr := l.stranger("30", map[string]any{"state": "single", "formats": "log 99"}, func() error { return nil })
	token, err := tr.Invite(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"ha", "create", "--peer", tr.Addr().String(), "--vip", l.vip(), "--invite-file", a.file("stranger", token), "--yes"}
	a.fails(3, "log 99", args...)
	a.fails(4, "the token has expired or was used", args...)
	same("a used token")
	// Nobody listens there.
	a.fails(5, "open port 2826", "ha", "create", "--peer", l.prefix+"77", "--vip", l.vip(), "--invite-file", a.file("stranger", token), "--yes")
	same("nobody there")
	a.create(b)
	a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	b.is("pair")
}
