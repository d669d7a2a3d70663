package message

import (
	"bytes"
	"testing"
)

// FuzzEnvelope: what appendEnvelope writes can be taken apart again, whatever the header was.
func FuzzEnvelope(f *testing.F) {
	f.Add("Subject: a \"b\" \\c\r\nFrom: x <y@z>, g: a@b;\r\nTo: \xff\xfe <\"q\"@r>\r\nMessage-ID: <1@2>\r\n\r\n")
	f.Fuzz(func(t *testing.T, raw string) {
		h := ParseHeader([]byte(raw))
		env := appendEnvelope(nil, &h)
		fields, ok := SplitEnvelope(env)
		if !ok {
			t.Fatalf("%q can't be split", env)
		}
		if want := string(bytes.ReplaceAll([]byte(h.Get("Subject")), []byte{0}, nil)); NString(fields[EnvSubject]) != want {
			t.Fatalf("subject %q, want %q", NString(fields[EnvSubject]), want)
		}
		if got, want := len(EnvelopeAddresses(fields[EnvTo], 0)), len(ParseAddresses(h.Get("To"))); got != want {
			t.Fatalf("%d addresses, want %d in %s", got, want, fields[EnvTo])
		}
		SplitEnvelope([]byte(raw))
	})
}

func TestReferences(t *testing.T) {
	m := Summarize(nil, []byte("References: <a@b>\r\n <c@d> junk <\"e\"@f> <>\r\nMessage-ID: <m@n>\r\n\r\n"), DefaultLimits())
	if string(m.References) != "a@b c@d e@f" {
		t.Errorf("%q", m.References)
	}
	back, err := DecodeMeta(EncodeMeta(nil, &m))
	if err != nil || back.NoReferences || string(back.References) != "a@b c@d e@f" {
		t.Errorf("%+v %v", back, err)
	}
	m.NoReferences = true // as a version before wrote it
	if back, err = DecodeMeta(EncodeMeta(nil, &m)); err != nil || !back.NoReferences || len(back.References) != 0 {
		t.Errorf("%+v %v", back, err)
	}
}
