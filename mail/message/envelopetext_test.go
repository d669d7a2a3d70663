package message

import "testing"

func TestReadEnvelope(t *testing.T) {
	for _, c := range []struct {
		raw  string
		want EnvelopeText
	}{
		{"From: =?utf-8?q?Ann_=C3=84?= <ann@y.example>\r\nTo: b@z.example\r\nSubject: =?utf-8?q?a_=22b=22?= \\ c\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@y.example>\r\nIn-Reply-To: <0@y.example>\r\n\r\nx",
			EnvelopeText{"Mon, 1 Jan 2024 00:00:00 +0000", `a "b" \ c`, "Ann Ä <ann@y.example>", "<1@y.example>"}},
		{"From: team: a@b.example, c@d.example;\r\nSubject: ümläut\r\n\r\n", EnvelopeText{"", "ümläut", "a@b.example", ""}},
		{"\r\nno header", EnvelopeText{}},
		{"Subject: \"quoted\" (and) {3}\r\n\r\n", EnvelopeText{Subject: `"quoted" (and) {3}`}},
	} {
		m := Summarize(nil, []byte(c.raw), DefaultLimits())
		if got := ReadEnvelope(m.Envelope); got != c.want {
			t.Errorf("%q: %+v, want %+v", c.raw, got, c.want)
		}
	}
}

func FuzzReadEnvelope(f *testing.F) {
	f.Add([]byte(`("d" "s" (("n" NIL "l" "h")) NIL NIL NIL NIL NIL "r" "<i>")`))
	f.Add([]byte("({3}\r\nabc {9}\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) { ReadEnvelope(b) })
}
