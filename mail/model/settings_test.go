package model

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestEverySettingIsDescribed: what mpctl config show prints comes from the tags alone.
func TestEverySettingIsDescribed(t *testing.T) {
	seen := map[string]bool{}
	def := DefaultSettings()
	for _, k := range SettingKeys() {
		if k.Help == "" || seen[k.Name] || strings.ToLower(k.Name) != k.Name {
			t.Errorf("%s: no help, twice there, or not in lower case", k.Name)
		}
		seen[k.Name] = true
		if k.Type == "int" && !k.ReadOnly && k.Min == 0 && k.Max == 0 {
			t.Errorf("%s has no bounds", k.Name)
		}
		v, err := def.Get(k.Name)
		if err != nil {
			t.Error(err)
		}
		if !k.ReadOnly && v != "" {
			if err := def.Set(k.Name, v); err != nil {
				t.Errorf("the default %q is refused: %v", v, err)
			}
		}
	}
	if err := def.Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}

// legal draws a value that a setting takes.
func legal(t *rapid.T, k SettingKey) string {
	switch {
	case k.Type == "bool":
		return rapid.SampledFrom([]string{"on", "off"}).Draw(t, k.Name)
	case k.Type == "int":
		return fmt.Sprint(rapid.IntRange(k.Min, k.Max).Draw(t, k.Name))
	case len(k.Enum) > 0:
		return rapid.SampledFrom(k.Enum).Draw(t, k.Name)
	case k.Type == "list":
		return strings.Join(rapid.SliceOfN(rapid.StringMatching(`[a-z0-9./]{1,8}`), 0, 3).Draw(t, k.Name), ",")
	}
	return rapid.StringMatching(`[a-z0-9.-]{0,12}`).Draw(t, k.Name)
}

// covers: I.82
func TestValuesRebuildSettings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := DefaultSettings()
		for _, k := range SettingKeys() {
			if !k.ReadOnly && rapid.Bool().Draw(t, "change") {
				if err := s.Set(k.Name, legal(t, k)); err != nil {
					t.Fatal(err)
				}
			}
		}
		again := DefaultSettings()
		for name, v := range s.Values() {
			if err := again.Set(name, v); err != nil {
				t.Fatal(err)
			}
		}
		if d := DiffSettings(&s, &again); len(d) > 0 {
			t.Fatalf("lost on the way: %v", d)
		}
	})
}

func TestSetRefusesWhatIsOutside(t *testing.T) {
	for _, k := range SettingKeys() {
		var bad []string
		switch {
		case k.ReadOnly:
		case k.Type == "bool":
			bad = []string{"maybe", "", "2"}
		case k.Type == "int":
			bad = []string{fmt.Sprint(k.Min - 1), fmt.Sprint(k.Max + 1), "x", "", "99999999999999999999"}
		case len(k.Enum) > 0:
			bad = []string{"nonsense", strings.ToUpper(k.Enum[0])}
		}
		for _, v := range bad {
			s := DefaultSettings()
			var fe *FieldError
			if err := s.Set(k.Name, v); !errors.As(err, &fe) || fe.Field != k.Name {
				t.Errorf("%s = %q: %v", k.Name, v, err)
			}
			if def := DefaultSettings(); len(DiffSettings(&def, &s)) > 0 {
				t.Errorf("%s = %q was refused but changed something", k.Name, v)
			}
		}
	}
}

func TestSecretsAreMaskedInDiffs(t *testing.T) {
	a, b := DefaultSettings(), DefaultSettings()
	b.System.IssuerKey = "very secret"
	if got := fmt.Sprint(DiffSettings(&a, &b)); strings.Contains(got, "very secret") || !strings.Contains(got, "issuer-key") {
		t.Error(got)
	}
}

// covers: R6.18
func TestRulesBetweenSettings(t *testing.T) {
	for _, tc := range []struct{ set, value, want string }{
		{"service.smtp.port", "465", "465 is the port of both smtp and smtps"},
		{"service.imap.tls-port", "25", "25 is the port of both"},
		{"queue.min-backoff", "86400", "longer than max-backoff"},
		{"network.lan", "10.0.0.0/33", "no network"},
		{"network.lan", "hello", "no network"}, {"relay.mode", "single", "needs the relay host"}, {"relay.host", "a_b", "neither a host name"}, {"relay.host", "a_b.example.com", "underscore"}, {"relay.auth", "on", "account and password"}, {"delivery.postmasters", "nobody", "no address"},
		{"network.resolvers", "ns.example.com", "no address"},
		{"network.public-address", "here", "no IP address"},
		{"delivery.banner", "mail.example.com\r\n250 ok", "printable"},
		{"delivery.banner", "hello there", "first word"},
		{"system.hostname", "mail", "no dot"},
		{"system.hostname", "ma_il.example.com", "underscore"},
		{"system.domain", "10.1.2.3", "IP address"},
	} {
		s := DefaultSettings()
		s.Services.SMTP.Enabled, s.Services.SMTPS.Enabled, s.Services.IMAP.Enabled, s.Services.IMAP.TLS = true, true, true, true
		err := s.Set(tc.set, tc.value)
		if err == nil {
			err = s.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s = %q: %v, want %q", tc.set, tc.value, err, tc.want)
		}
	}
}
