package ldap

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"mailplusd/mail/model"

	goldap "github.com/go-ldap/ldap/v3"
)

// FuzzValues: whatever a directory has in a DN or a value, it is compared without a fault and stored so that it can be
// shown.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"", "uid=anna,dc=x", "UID = Anna+cn=b , dc=x", `cn=a\,b,dc=x`, `cn=\`, "=,", "cn=#04024869", "esc\x1b[31m", "bad\xff", "rtl\u202e", strings.Repeat("n", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := goldap.ParseDN(s); err == nil && len(s) <= maxRawName && DNKey(s) != DNKey(d.String()) {
			t.Fatalf("%q differs from %q", s, d.String())
		}
		if name, ok := cleanName(s); ok && (name == "" || len(name) > 3*maxRawName || !utf8.ValidString(name) || strings.ContainsFunc(name, unprintable)) {
			t.Fatalf("%q is a name", name)
		}
		if text := cleanText(s); len(text) > model.MaxDisplayName || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			t.Fatalf("%q is a text", text)
		}
	})
}
