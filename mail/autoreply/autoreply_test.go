package autoreply

import (
	"bytes"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mailplusd/mail/directory"
	"mailplusd/mail/flow"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
)

func envelope(t testing.TB, from, raw string) *flow.Envelope {
	t.Helper()
	set := model.DefaultSettings()
	set.System.Hostname = "mail.example.test"
	e := &flow.Envelope{ID: "id", Direction: flow.In, Settings: &set, Facts: flow.Inspect([]byte(raw), &set), At: time.Unix(1_800_000_000, 0)}
	if from != "" {
		var err error
		if e.From, err = message.ParseMailbox(from, true); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// TestSilence: RFC 3834 §2 and what others send.
func TestSilence(t *testing.T) {
	// covers: I.33
	for _, c := range []struct {
		from, header string
		silent       bool
	}{
		{"anna@y.example", "", false},
		{"anna@y.example", "Auto-Submitted: no\r\n", false},
		{"anna@y.example", "Auto-Submitted: no (really)\r\n", true}, // a comment is rare; silence is safe
		{"anna@y.example", "Precedence: first-class\r\nX-Mailer: x\r\n", false},
		{"anna@y.example", "Content-Type: multipart/mixed; boundary=b\r\n", false},
		{"", "", true},
		{"anna@y.example", "Auto-Submitted: auto-generated\r\n", true},
		{"anna@y.example", "Auto-Submitted:  Auto-Replied; x=y\r\n", true},
		{"anna@y.example", "Precedence: Bulk\r\n", true}, {"anna@y.example", "Precedence: list\r\n", true}, {"anna@y.example", "precedence: junk\r\n", true},
		{"anna@y.example", "List-Id: <l.y.example>\r\n", true}, {"anna@y.example", "List-Unsubscribe: <mailto:x@y>\r\n", true}, {"anna@y.example", "LIST-POST: <x>\r\n", true},
		{"anna@y.example", "X-Auto-Response-Suppress: DR, OOF\r\n", true}, {"anna@y.example", "X-Auto-Response-Suppress: DR\r\n", false},
		{"anna@y.example", "Content-Type: multipart/report; boundary=b\r\n", true},
		{"owner-list@y.example", "", true}, {"list-request@y.example", "", true}, {"mailer-daemon@y.example", "", true}, {"MAILER-DAEMON@y.example", "", true},
		{"noreply@y.example", "", true}, {"no-reply@y.example", "", true}, {"do-not-reply+17@y.example", "", true}, {"billing-noreply@y.example", "", true},
		{"bounce+abc=def@y.example", "", true}, {"list-bounces@y.example", "", true}, {"root@y.example", "", true}, {"listserv@y.example", "", true},
		{"nora@y.example", "", false}, {"rootbeer@y.example", "", false}, {"abuser@y.example", "", false}, {"reply@y.example", "", false},
	} {
		e := envelope(t, c.from, c.header+"Subject: x\r\n\r\nx\r\n")
		if why := Silence(e); (why != "") != c.silent {
			t.Errorf("%s %q: %q", c.from, c.header, why)
		}
	}
	e := envelope(t, "anna@y.example", "Subject: x\r\n\r\n")
	for _, change := range []func(){func() { e.Direction = flow.Own }, func() { e.Use = model.UseJunk }} {
		copied := *e
		if change(); Silence(e) == "" {
			t.Errorf("%+v is answered", e)
		}
		*e = copied
	}
}

func TestSender(t *testing.T) {
	a := func(s string) message.Address {
		m, err := message.ParseMailbox(s, true)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	r, again := &model.AutoReply{Since: 1}, &model.AutoReply{Since: 2}
	want := Sender(a("anna@y.example"), r)
	for _, same := range []string{"ANNA@Y.example", "prvs=0123abcd=anna@y.example", "SRS0=hash=2W=y.example=anna@f.example", "SRS1=hash=f.example==other=3X=y.example=anna@g.example"} {
		if !bytes.Equal(Sender(a(same), r), want) {
			t.Errorf("%s is another sender", same)
		}
	}
	for _, other := range []string{"ben@y.example", "anna@z.example", "anna+tag@y.example"} {
		if bytes.Equal(Sender(a(other), r), want) {
			t.Errorf("%s is the same sender", other)
		}
	}
	if bytes.Equal(Sender(a("anna@y.example"), again), want) {
		t.Error("a reply that is set anew is the old one")
	}
}

// parse reads a reply as the mail of a stranger.
func parse(t testing.TB, raw []byte) (*mail.Message, string) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	b, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return m, string(b)
}

func TestBuild(t *testing.T) {
	e := envelope(t, "anna@y.example", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <m2@y.example>\r\nReferences: <m0@y.example>\r\n <m1@y.example>\r\n\r\nx\r\n")
	acc := &directory.Account{User: model.User{Name: "bob", DisplayName: `Bob "the" Builder`}, Addresses: []string{"bob@example.test"}}
	r := &model.AutoReply{Text: "I am away.\nWrite to 明 instead, " + strings.Repeat("long ", 100)}
	raw := Build(e, acc, r, "abc", e.At)
	m, body := parse(t, raw)
	subject, err := (&mime.WordDecoder{}).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != "Auto: Grüße" {
		t.Errorf("subject %q %v", subject, err)
	}
	for name, want := range map[string]string{
		"To": "<anna@y.example>", "From": `"Bob \"the\" Builder" <bob@example.test>`, "In-Reply-To": "<m2@y.example>", "References": "<m0@y.example> <m1@y.example> <m2@y.example>",
		"Auto-Submitted": "auto-replied", "Message-Id": "<abc@mail.example.test>",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if body != strings.ReplaceAll(r.Text, "\n", "\r\n")+"\r\n" {
		t.Errorf("text:\n%s", body)
	}
	for _, line := range strings.Split(string(raw), "\r\n") {
		if len(line) > 78 || strings.ContainsFunc(line, func(c rune) bool { return c >= 0x80 }) {
			t.Errorf("line %q", line)
		}
	}
	if Silence(envelope(t, "bob@example.test", string(raw))) == "" {
		t.Error("a reply would be replied to")
	}
	r.Subject = "Away"
	if m, _ := parse(t, Build(e, acc, r, "abc", e.At)); m.Header.Get("Subject") != "Away" {
		t.Errorf("subject %q", m.Header.Get("Subject"))
	}
	many := envelope(t, "anna@y.example", "Message-ID: <last@y.example>\r\nReferences: "+strings.Repeat("<some@y.example> ", 500)+"\r\n\r\n")
	if m, _ := parse(t, Build(many, acc, r, "abc", e.At)); len(strings.Fields(m.Header.Get("References"))) != maxReferences || !strings.HasSuffix(m.Header.Get("References"), "<last@y.example>") {
		t.Errorf("references %q", m.Header.Get("References"))
	}
}

// FuzzBuild: nothing that a stranger writes breaks out of its header field.
func FuzzBuild(f *testing.F) {
	f.Add("Subject: x\r\n y\r\nMessage-ID: <a@b>\r\nReferences: <c@d> <e\r\n f>\r\n\r\n", "Bob", "text", "")
	f.Add("Subject: =?utf-8?b?DQpCY2M6IHhAeQ==?=\r\nMessage-ID: <a\r\n\tb@c>\r\n\r\n", "B\xc3\xb6b", "a\n.\nb", "s")
	f.Fuzz(func(t *testing.T, raw, name, text, subject string) {
		r := &model.AutoReply{Text: text, Subject: subject}
		u := model.User{Name: "bob", DisplayName: name}
		if r.Validate() != nil || u.Validate() != nil || !utf8.ValidString(name) {
			return
		}
		e := envelope(t, "anna@y.example", raw)
		Silence(e)
		acc := &directory.Account{User: u, Addresses: []string{"bob@example.test"}}
		out := Build(e, acc, r, "abc", e.At)
		m, body := parse(t, out)
		for field := range m.Header {
			switch field {
			case "From", "To", "Subject", "Date", "Message-Id", "In-Reply-To", "References", "Auto-Submitted", "X-Auto-Response-Suppress", "Mime-Version", "Content-Type", "Content-Transfer-Encoding":
			default:
				t.Errorf("a field %s\n%s", field, out)
			}
		}
		if bytes.ContainsFunc(out, func(c rune) bool { return c >= 0x80 }) || strings.Contains(strings.ReplaceAll(string(out), "\r\n", ""), "\n") {
			t.Errorf("octets that no header has:\n%q", out)
		}
		if strings.TrimRight(strings.ReplaceAll(body, "\r\n", "\n"), "\n") != strings.TrimRight(r.Text, "\n") {
			t.Errorf("text %q became %q", r.Text, body)
		}
	})
}
