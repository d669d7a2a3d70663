package imapd

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestMatch holds the wildcards against a regular expression.
func TestMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.RuneFrom([]rune("ab/%*")), 0, 12, -1).Draw(t, "pattern")
		name := rapid.StringOfN(rapid.RuneFrom([]rune("ab/")), 0, 12, -1).Draw(t, "name")
		expr := "^" + strings.NewReplacer("*", ".*", "%", "[^/]*").Replace(pattern) + "$"
		if want := regexp.MustCompile(expr).MatchString(name); match(pattern, name) != want {
			t.Fatalf("%q %q: %v", pattern, name, !want)
		}
	})
}

// TestMatchIsFast: a pattern that makes a naive matcher try everything ends.
func TestMatchIsFast(t *testing.T) {
	pattern, name := strings.Repeat("*a%", 300)+"b", strings.Repeat("a/a", 330)
	for range 1000 {
		if match(pattern, name) {
			t.Fatal("matched")
		}
	}
}

func FuzzUTF7(f *testing.F) {
	for _, s := range []string{"&Jjo-", "&-", "&", "a&AGE-", "&2D3,3w-", "\xff", "&AOk"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := decodeUTF7(s)
		if err != nil {
			return
		}
		if again, err := decodeUTF7(encodeUTF7(name)); err != nil || again != name {
			t.Fatalf("%q is %q, written and read again %q %v", s, name, again, err)
		}
	})
}
