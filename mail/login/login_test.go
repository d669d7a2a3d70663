package login

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

type dir map[string]Credential

func (d dir) Lookup(_ context.Context, name string) (Credential, error) {
	if c, ok := d[name]; ok {
		return c, nil
	}
	return Credential{}, ErrUnknown
}

var home, away = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.9")

func setup(t *testing.T) (*Login, dir, *time.Time) {
	t.Helper()
	hash, err := Hash([]byte("right-one"))
	if err != nil {
		t.Fatal(err)
	}
	ok := Credential{AccountID: 1, Name: "anna", Hash: hash, Enabled: true, Activated: true, Supported: true}
	d := dir{"anna": ok, "off": ok, "idle": ok, "odd": ok, "nopop": ok}
	set := func(name string, f func(*Credential)) { c := d[name]; c.Name = name; f(&c); d[name] = c }
	set("off", func(c *Credential) { c.Enabled = false })
	set("idle", func(c *Credential) { c.Activated = false })
	set("odd", func(c *Credential) { c.Supported = false })
	set("nopop", func(c *Credential) { c.Denied = []Service{POP3} })
	now := time.Unix(1e9, 0)
	l := New(Options{Directory: d, Now: func() time.Time { return now },
		Policy: func() Policy {
			return Policy{MaxFailures: 3, Window: time.Minute, LockTime: 10 * time.Minute, MinPassword: 8}
		}})
	return l, d, &now
}

func try(l *Login, user, pw string, from netip.Addr, s Service) error {
	_, err := l.Authenticate(context.Background(), Attempt{Service: s, Remote: from, User: user, Password: []byte(pw)})
	return err
}

func TestAuthenticate(t *testing.T) {
	// covers: I.02 R5.16 R5.24
	l, d, _ := setup(t)
	for _, c := range []struct {
		user, pw string
		s        Service
		want     error
	}{
		{"anna", "right-one", IMAP, nil}, {"ANNA", "right-one", IMAP, nil}, {"anna", "wrong", IMAP, ErrPassword}, {"anna", "", IMAP, ErrPassword},
		{"nobody", "right-one", IMAP, ErrUnknown}, {"off", "right-one", IMAP, ErrDisabled}, {"idle", "right-one", IMAP, ErrInactive},
		{"odd", "right-one", IMAP, ErrUnsupported}, {"nopop", "right-one", POP3, ErrDenied}, {"nopop", "right-one", IMAP, nil},
		{"idle", "right-one", Admin, nil},
	} {
		if err := try(l, c.user, c.pw, home, c.s); !errors.Is(err, c.want) {
			t.Errorf("%s %s %s: %v, want %v", c.user, c.pw, c.s, err, c.want)
		}
	}
	if strings.Contains(d["anna"].Hash, "right") || !strings.HasPrefix(d["anna"].Hash, "$argon2id$") {
		t.Errorf("hash %q", d["anna"].Hash)
	}
	c := d["anna"]
	c.Hash, _ = Hash([]byte("another-1"))
	d["anna"] = c
	if err := try(l, "anna", "right-one", home, IMAP); err == nil {
		t.Error("the old password still works after a change")
	}
}

func TestLockOut(t *testing.T) {
	// covers: I.14
	l, _, now := setup(t)
	for range 3 {
		try(l, "anna", "wrong", away, IMAP)
	}
	if err := try(l, "anna", "right-one", away, IMAP); !errors.Is(err, ErrLocked) {
		t.Errorf("after 3 failures: %v", err)
	}
	if err := try(l, "anna", "right-one", home, IMAP); err != nil {
		t.Errorf("the owner at another address is locked out: %v", err)
	}
	if len(l.Locks()) != 1 {
		t.Errorf("%v", l.Locks())
	}
	*now = now.Add(11 * time.Minute)
	if err := try(l, "anna", "right-one", away, IMAP); err != nil {
		t.Errorf("after the lock: %v", err)
	}
	for range 3 {
		try(l, "anna", "wrong", away, IMAP)
	}
	if l.Unlock("anna") != 1 || try(l, "anna", "right-one", away, IMAP) != nil {
		t.Error("unlock did not help")
	}
}

func TestHashes(t *testing.T) {
	// covers: I.02
	old, err := bcrypt.GenerateFromPassword([]byte("of-another-server"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := ValidateHash(string(old)); err != nil || !Compare(string(old), []byte("of-another-server")) || Compare(string(old), []byte("of-another-serve")) {
		t.Errorf("bcrypt: %v", err)
	}
	for _, bad := range []string{"", "x", "$argon2id$v=19$m=99999999,t=2,p=1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=19456,t=2,p=1$AA$AA", "$2a$31$x", "plain"} {
		if ValidateHash(bad) == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	for pw, ok := range map[string]bool{"long-enough": true, "short": false, "anna-anna": false, "tab\tinside": false} {
		if err := ValidatePassword([]byte(pw), "anna-anna", 8); (err == nil) != ok {
			t.Errorf("%q: %v", pw, err)
		}
	}
}

func TestExchange(t *testing.T) {
	check := func(u string, p []byte) error {
		if u == "anna" && string(p) == "secret" {
			return nil
		}
		return ErrPassword
	}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		mech, initial string
		lines         []string
		want          error
	}{
		{"PLAIN", b64("\x00anna\x00secret"), nil, nil}, {"plain", "", []string{b64("\x00anna\x00secret")}, nil}, {"PLAIN", b64("bob\x00anna\x00secret"), nil, ErrPassword},
		{"LOGIN", "", []string{b64("anna"), b64("secret")}, nil}, {"LOGIN", b64("anna"), []string{b64("secret")}, nil}, {"LOGIN", "", []string{"*"}, ErrCanceled},
		{"PLAIN", "!!", nil, ErrBase64}, {"LOGIN", "", []string{b64("anna"), b64("no")}, ErrPassword},
	} {
		s, err := NewSASL(c.mech, check)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		err = Exchange(s, c.initial, func(string) (string, error) {
			if i >= len(c.lines) {
				return "*", nil
			}
			i++
			return c.lines[i-1], nil
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s %q %q: %v, want %v", c.mech, c.initial, c.lines, err, c.want)
		}
	}
}

// TestPolicy: what the policy doesn't allow is refused after the password was right, and so is a
// client that is not of the local network.
func TestPolicy(t *testing.T) {
	// covers: R5.84 R5.85 R5.87 R5.88 R5.91 R5.92 R5.94 R5.95
	l, d, _ := setup(t)
	l.o.Local = func(ip netip.Addr) bool { return ip == home }
	for _, s := range []Service{IMAP, POP3} {
		other := map[Service]Service{IMAP: POP3, POP3: IMAP}[s]
		c := d["anna"]
		c.Policy, c.PolicyDenied, c.LANOnly = "strict", []Service{s}, nil
		d["anna"] = c
		for _, from := range []netip.Addr{home, away} {
			if err := try(l, "anna", "right-one", from, s); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "policy strict") {
				t.Errorf("%s off: %v", s, err)
			}
			if err := try(l, "anna", "right-one", from, other); err != nil {
				t.Errorf("%s off, %s: %v", s, other, err)
			}
		}
		if err := try(l, "anna", "wrong", home, s); !errors.Is(err, ErrPassword) {
			t.Errorf("%s off, wrong password: %v", s, err)
		}
		c.PolicyDenied, c.LANOnly = nil, []Service{s}
		d["anna"] = c
		if err := try(l, "anna", "right-one", home, s); err != nil {
			t.Errorf("%s from the local network: %v", s, err)
		}
		if err := try(l, "anna", "right-one", away, s); !errors.Is(err, ErrNotLocal) {
			t.Errorf("%s from elsewhere: %v", s, err)
		}
		if err := try(l, "anna", "right-one", away, other); err != nil {
			t.Errorf("%s local only, %s from elsewhere: %v", s, other, err)
		}
	}
	l.o.Local = nil
	c := d["anna"]
	c.LANOnly = []Service{IMAP}
	d["anna"] = c
	if err := try(l, "anna", "right-one", home, IMAP); !errors.Is(err, ErrNotLocal) {
		t.Errorf("no address is local, and yet: %v", err)
	}
}
