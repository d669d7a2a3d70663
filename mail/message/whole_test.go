package message

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestMetaHasAgreesWithHeader: where the ENVELOPE says that it knows, the header says the same.
func TestMetaHasAgreesWithHeader(t *testing.T) {
	names := append(slices.Clone(envelopeNames[:]), "X-Other", "subject")
	values := []string{"", " ", "hello", "Hello  World", "<1@a.test>", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "a@b.test", "Anna <a@b.test>", "<a@b.test>", "\"Anna\" <a@b.test>, \"Bob\" <bob@c.test>", "=?utf-8?q?J=C3=BCrgen_M=C3=BCller?= <jm@b.test>,\r\n Anna <a@b.test>", "\"Doe, J.\" <j@d.test>, Anna <a@b.test>, x@y.test", "\"a \\\"b\\\" \\\\ c\" <q@b.test>", "a@b.test (Anna)", "friends: a@b.test, b@b.test;", "a@b.test,c@b.test", "Anna Bob a@b.test", "a@b.test, ,", "\"=?utf-8?q?J=C3=BCrgen?=\" <jm@b.test>", "\"q r\"@b.test", "\"x\\\"y\"", "caf\xe9", "é", "NIL", strings.Repeat("long ", 300), "nul\x00nul", "Mon, 1 Jan 2024 10:00:00 +0000"}
	needles := []string{"", "hello", "world", "hello world", "1@a", "grusse", "b.test", "anna", "y\"", "anna <a@", "\"anna\"", "muller <jm@b.test>, anna", "doe, j.\" <", "b\\\" \\", "<a@b.test>", ", ", "(anna)", "friends", "nil", "long long", "nulnul", "jan", "cafe", "\uFFFD", "zzz"}
	known, listed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		for range rapid.IntRange(0, 6).Draw(t, "fields") {
			b.WriteString(rapid.SampledFrom(names).Draw(t, "name") + ": " + rapid.SampledFrom(values).Draw(t, "value") + "\r\n")
		}
		raw := []byte(b.String() + "\r\ntext\r\n")
		m := Summarize(nil, raw, DefaultLimits())
		back, err := DecodeMeta(EncodeMeta(nil, &m))
		if err != nil || back.Whole != m.Whole {
			t.Fatalf("%+v comes back as %+v, %v", m, back, err)
		}
		h := ParseHeader(raw)
		for _, name := range names {
			for _, needle := range needles {
				has, ok := back.Has(name, Fold(needle))
				if !ok {
					continue
				}
				known++
				if has && addressBits(slices.Index(envelopeNames[:], name)) > 0 {
					listed++
				}
				if want := FieldHas(&h, name, Fold(needle)); has != want {
					t.Fatalf("%s has %q: %v, the header says %v:\n%s", name, needle, has, want, raw)
				}
			}
		}
	})
	if known == 0 || listed == 0 {
		t.Error("the ENVELOPE never knew anything")
	}
}

// TestMetaWhole: which fields the ENVELOPE knows all about.
func TestMetaWhole(t *testing.T) {
	for header, want := range map[string]string{
		"":                             "Date Subject From Sender Reply-To To Cc Bcc In-Reply-To Message-ID",
		"Subject: a\r\nSubject: b\r\n": "Date From Sender Reply-To To Cc Bcc In-Reply-To Message-ID",
		"From: a@b\r\nMessage-ID: <1>": "Date Subject Sender Reply-To To Cc Bcc In-Reply-To Message-ID",
		"Subject: a\x00\r\n":           "Date From Sender Reply-To To Cc Bcc In-Reply-To Message-ID",
	} {
		m := Summarize(nil, []byte(header+"\r\n\r\n"), DefaultLimits())
		var got []string
		for i, name := range envelopeNames {
			if m.Whole&(1<<i) != 0 {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", header, got, want)
		}
	}
	old := Meta{Envelope: []byte("(NIL)"), NoReferences: true}
	if back, err := DecodeMeta(EncodeMeta(nil, &old)); err != nil || back.Whole != 0 || !back.NoReferences {
		t.Errorf("a Meta of an older version: %+v, %v", back, err)
	}
	if _, known := old.Has("Subject", ""); known {
		t.Error("a Meta of an older version knows about its fields")
	}
}
