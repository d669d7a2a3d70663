package imapparse

import (
	"strings"
	"testing"
)

func TestFetchItems(t *testing.T) {
	for in, want := range map[string]string{
		"ALL": "FLAGS INTERNALDATE RFC822.SIZE ENVELOPE", "(UID FLAGS)": "UID FLAGS", "BODY": "BODY", "body[]": "BODY[]", "BODY.PEEK[1.2.MIME]": "BODY[1.2.MIME]",
		"(BODY.PEEK[HEADER.FIELDS (Subject \"From\")] UID)": "BODY[HEADER.FIELDS (SUBJECT FROM)] UID", "BODY[TEXT]<0.10>": "BODY[TEXT]", "RFC822.HEADER": "RFC822.HEADER",
		`BODY[HEADER.FIELDS ("a)b" "c\"d" e]f)]`: `BODY[HEADER.FIELDS ("A)B" "C\"D" E]F)]`, "BODY[]<4294967296.5000000000>": "BODY[]", "BODY[]<9223372036854775808.1>": "",
		"": "", "()": "", "BODY[": "", "BODY[]<1.0>": "", "BODY[0]": "", "BODY[1.]": "", "BODY[MIME]": "", "NOPE": "", "(UID": "", "BODY[HEADER.FIELDS ()]": "", "BODY.PEEK": "",
	} {
		items, err := New(in, nil).Fetch()
		var got []string
		for _, it := range items {
			got = append(got, it.Label)
		}
		if (err == nil) != (want != "") || err == nil && strings.Join(got, " ") != want {
			t.Errorf("%q: %v %v, want %q", in, got, err, want)
		}
	}
}

func TestSearchKeys(t *testing.T) {
	good := []string{"ALL", "UNSEEN SINCE 1-Feb-2024", `FROM "a b" NOT (SEEN OR TO x CC y)`, "1:*,5 UID 3", "CHARSET UTF-8 TEXT x", "HEADER X-A b", "LARGER 10", "SMALLER 5000000000"}
	bad := []string{"", "NOPE", "FROM", "SINCE x", "(", "()", "OR SEEN", "0", "1:", "NOT", "SEEN  SEEN", "LARGER 9223372036854775808", strings.Repeat("(", 1000), strings.Repeat("NOT ", 1000) + "ALL"}
	for _, s := range good {
		if _, _, err := New(s, nil).Search(); err != nil {
			t.Errorf("%.40q: %v", s, err)
		}
	}
	for _, s := range bad {
		if _, _, err := New(s, nil).Search(); err == nil {
			t.Errorf("%.40q was accepted", s)
		}
	}
}

func FuzzParser(f *testing.F) {
	f.Add("(BODY[HEADER.FIELDS (a)]<0.1> UID)", []byte("x"))
	f.Add("OR NOT SEEN (TO \x000\x00 1:*)", []byte("lit"))
	f.Fuzz(func(t *testing.T, s string, lit []byte) {
		lits := [][]byte{lit}
		New(s, lits).Fetch()
		New(s, lits).Search()
		New(s, lits).Flags()
		New(s, lits).Set()
		p := New(s, lits)
		p.AString()
		p.ListMailbox()
		p.DateTime()
	})
}
