package model

import (
	"strings"
	"testing"
)

func check(t *testing.T, f func(string) error, good, bad []string) {
	t.Helper()
	for _, s := range good {
		if err := f(s); err != nil {
			t.Errorf("%q is refused: %v", s, err)
		}
	}
	for _, s := range bad {
		if f(s) == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

// covers: I.04
func TestUserNames(t *testing.T) {
	check(t, ValidateUserName,
		[]string{"a", "carol", "carol.smith", "o'brien", "王小明", "x+y", strings.Repeat("a", 64)},
		[]string{"", " ", "a b", "a@b", "a/b", `a\b`, `a"b`, "a..b", ".a", "a.", "-a", "a\x00", "a\tb", strings.Repeat("a", 65), "\xff"})
}

func TestLocalParts(t *testing.T) {
	check(t, func(s string) error { return ValidateLocalPart("name", s) },
		[]string{"a", "sales", "a.b", "über", "x-y_z+1"},
		[]string{"", "a b", ".a", "a.", "a..b", "a@b", "<a>", strings.Repeat("a", 65), "a\r\n"})
}

func TestDomainNames(t *testing.T) {
	check(t, func(s string) error { return ValidateDomainName("domain", s) },
		[]string{"example.com", "xn--bcher-kva.example", "_dmarc.example.com", "a.b.c.d.example", strings.Repeat("a", 63) + ".example"},
		[]string{"", "example", ".example.com", "example..com", "example.com.", "-a.example", "a-.example", "Example.com", "bücher.example",
			strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 130) + "example", "192.0.2.1", "2001:db8::1", "a b.example"})
}

func TestMailboxNames(t *testing.T) {
	check(t, ValidateMailboxName,
		[]string{"INBOX", "Archive/2026", "寄件備份", "a&b", "x y"},
		[]string{"", "/a", "a/", "a//b", "a*", "a%", "a\nb", "\xff", strings.Repeat("a", 10000), strings.Repeat("a/", 100) + "a"})
	for in, want := range map[string]string{"inbox": "INBOX", "InBoX/a": "INBOX/a", "inboxes": "inboxes", "a/inbox": "a/inbox"} {
		if got := CanonicalMailboxName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestAddressFormats(t *testing.T) {
	check(t, ValidateFormat,
		[]string{"", "<a>", "<m>", "<3a>", "<m>.<a>", "x-<12a>"},
		[]string{"<", "<a", "<b>", "<>", "<0x1a>", "<123a>", "<g>.<s>", "<1m>"})
	u := &User{Name: "caroline", Nickname: "Caro"}
	for format, want := range map[string]string{"": "caroline", "<a>": "caroline", "<m>": "caro", "<3a>": "car", "<m>.<2a>": "caro.ca", "x-<20a>": "x-caroline"} {
		if got := FormatAddress(format, u); got != want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
	if got := FormatAddress("<m>", &User{Name: "bob"}); got != "" {
		t.Errorf("no nickname: %q", got)
	}
}

func TestAliasMembers(t *testing.T) {
	for in, want := range map[string]string{
		"user:Carol": "user:carol", "GROUP:staff": "group:staff", "alias:all": "alias:all", " X@Example.COM. ": "X@example.com", "user:x@y.example": "user:x@y.example",
	} {
		m, err := ParseAliasMember(in)
		if err != nil || m.String() != want {
			t.Errorf("%q: %q %v, want %q", in, m, err, want)
		}
	}
	for _, in := range []string{"", "carol", "user:", "x@", "@example.com", "x@localhost", "x@a b.example"} {
		if m, err := ParseAliasMember(in); err == nil {
			t.Errorf("%q is taken as %v", in, m)
		}
	}
	self := Alias{Name: "all", Members: []AliasMember{{Kind: AliasAlias, Value: "all"}}}
	if self.Validate() == nil {
		t.Error("an alias of itself is taken")
	}
	if (&Alias{Name: "none"}).Validate() == nil {
		t.Error("an alias without recipients is taken")
	}
}
