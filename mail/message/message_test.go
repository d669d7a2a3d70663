package message

import (
	"strings"
	"testing"
)

func TestParseMailbox(t *testing.T) {
	for _, c := range []struct {
		in   string
		utf8 bool
		want string // "" : refused
	}{
		{"a@b.test", false, "a@b.test"}, {"A.b+c@B.TEST", false, "A.b+c@b.test"}, {`"a b"@c.test`, false, `"a b"@c.test`},
		{`"a@b"@c.test`, false, `"a@b"@c.test`}, {`"plain"@c.test`, false, "plain@c.test"}, {`"q\"x"@c.test`, false, `"q\"x"@c.test`},
		{"a@[192.0.2.1]", false, "a@[192.0.2.1]"}, {"a@[IPv6:2001:DB8::1]", false, "a@[IPv6:2001:db8::1]"},
		{"ü@c.test", true, "ü@c.test"}, {"a@bücher.test", true, "a@xn--bcher-kva.test"}, {"a@localhost", false, "a@localhost"},
		{"ü@c.test", false, ""}, {"", false, ""}, {"a", false, ""}, {"@b", false, ""}, {"a@", false, ""}, {".a@b.test", false, ""},
		{"a.@b.test", false, ""}, {"a..b@c.test", false, ""}, {"a b@c.test", false, ""}, {`""@c.test`, false, ""}, {`"a@c.test`, false, ""},
		{`"a"b@c.test`, false, ""}, {"a@b..test", false, ""}, {"a@-b.test", false, ""}, {"a@b-.test", false, ""}, {"a@b,c;d\"e", false, ""},
		{"a@[300.1.1.1]", false, ""}, {"a@[192.0.2.1", false, ""}, {"a@[IPv6:zz]", false, ""}, {"a@b\x00.test", false, ""}, {"a\r\n@b.test", false, ""},
		{strings.Repeat("a", 65) + "@b.test", false, ""}, {"a@" + strings.Repeat("b", 64) + ".test", false, ""}, {"a@b@c.test", false, ""},
		{"a<b@c.test", false, ""}, {"a@b.test>", false, ""}, {"a@b .test", false, ""}, {"\xff@b.test", true, ""},
	} {
		a, err := ParseMailbox(c.in, c.utf8)
		if (err == nil) != (c.want != "") || err == nil && a.String() != c.want {
			t.Errorf("%q: %q %v, want %q", c.in, a, err, c.want)
		}
	}
}

const nested = "From: \"A \\\"q\\\" B\" <a@b.test>\r\nTo: friends: x@y.test, Z <z@w.test>;, q@r.test\r\nSubject: =?utf-8?q?h=C3=A9?=\r\n" +
	"Date: Mon, 1 Jan 2024 10:00:00 +0100\r\nMessage-ID: <1@b.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=x\"\r\n\r\n" +
	"preamble\r\n--=x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\r\nworld\r\n--=x\r\nContent-Type: message/rfc822\r\n\r\n" +
	"Subject: inner\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n--y\r\n\r\none\r\n--y\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+\r\n--y--\r\n" +
	"--=x\r\nContent-Type: image/png; name=a.png\r\nContent-Disposition: attachment; filename=\"a b.png\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--=x--\r\nepilogue\r\n"

func TestWireForms(t *testing.T) {
	m := Summarize([]byte("Return-Path: <a@b.test>\r\n"), []byte(nested), DefaultLimits())
	wantEnv := `("Mon, 1 Jan 2024 10:00:00 +0100" "=?utf-8?q?h=C3=A9?=" (("A \"q\" B" NIL "a" "b.test")) (("A \"q\" B" NIL "a" "b.test")) (("A \"q\" B" NIL "a" "b.test"))` +
		` ((NIL NIL "friends" NIL)(NIL NIL "x" "y.test")("Z" NIL "z" "w.test")(NIL NIL NIL NIL)(NIL NIL "q" "r.test")) NIL NIL NIL "<1@b.test>")`
	if string(m.Envelope) != wantEnv {
		t.Errorf("ENVELOPE\n got %s\nwant %s", m.Envelope, wantEnv)
	}
	wantBS := `(("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "7BIT" 12 1 NIL NIL NIL NIL)` +
		`("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 157 (NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL) (("TEXT" "PLAIN" NIL NIL NIL "7BIT" 3 0 NIL NIL NIL NIL)` +
		`("TEXT" "HTML" NIL NIL NIL "BASE64" 4 0 NIL NIL NIL NIL) "ALTERNATIVE" ("BOUNDARY" "y") NIL NIL NIL) 11 NIL NIL NIL NIL)` +
		`("IMAGE" "PNG" ("NAME" "a.png") NIL NIL "BASE64" 4 NIL ("ATTACHMENT" ("FILENAME" "a b.png")) NIL NIL) "MIXED" ("BOUNDARY" "=x") NIL NIL NIL)`
	if string(m.BodyStructure) != wantBS {
		t.Errorf("BODYSTRUCTURE\n got %s\nwant %s", m.BodyStructure, wantBS)
	}
	back, err := DecodeMeta(EncodeMeta(nil, &m))
	if err != nil || string(back.Envelope) != wantEnv || back.HeaderSize != m.HeaderSize {
		t.Errorf("%+v %v", back, err)
	}
}

func TestSections(t *testing.T) {
	root := Walk([]byte(nested), DefaultLimits()).Root
	for _, c := range []struct {
		path []int
		what string
		want string
	}{
		{[]int{1}, "", "hello\r\nworld"}, {[]int{2, 1}, "", "one"}, {[]int{2, 2}, "", "PGI+"}, {[]int{2}, "HEADER", "Subject: inner\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n"},
		{[]int{3}, "", "AAAA"}, {[]int{1}, "MIME", "Content-Type: text/plain; charset=utf-8\r\n\r\n"},
	} {
		got, ok := Section([]byte(nested), root, c.path, c.what)
		if !ok || string(got) != c.want {
			t.Errorf("%v %s: %q %v", c.path, c.what, got, ok)
		}
	}
	for _, path := range [][]int{{4}, {1, 2}, {2, 3}, {0}} {
		if _, ok := Section([]byte(nested), root, path, ""); ok {
			t.Errorf("%v exists", path)
		}
	}
	// A message that is nothing but a letter: that is its part 1.
	letter := []byte("Subject: outer\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ntext\r\n")
	root = Walk(letter, DefaultLimits()).Root
	for _, c := range []struct {
		path []int
		what string
		want string
	}{
		{[]int{1}, "", "Subject: inner\r\n\r\ntext\r\n"}, {[]int{1}, "HEADER", "Subject: inner\r\n\r\n"}, {[]int{1}, "TEXT", "text\r\n"}, {[]int{1, 1}, "", "text\r\n"},
		{nil, "HEADER", "Subject: outer\r\nContent-Type: message/rfc822\r\n\r\n"}, {[]int{2}, "", ""}, {[]int{1, 2}, "", ""},
	} {
		if got, ok := Section(letter, root, c.path, c.what); string(got) != c.want || ok != (c.want != "") {
			t.Errorf("%v %s: %q %v", c.path, c.what, got, ok)
		}
	}
	got := HeaderFields([]byte("A: 1\r\nB: 2\r\n 3\r\nC: 4\r\n\r\n"), []string{"b"}, false)
	if string(got) != "B: 2\r\n 3\r\n\r\n" {
		t.Errorf("%q", got)
	}
}

func TestLimits(t *testing.T) {
	lim := Limits{MaxHeaderBytes: 1000, MaxParts: 5, MaxDepth: 3}
	var deep strings.Builder
	for range 20 {
		deep.WriteString("Content-Type: message/rfc822\r\n\r\n")
	}
	many := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 50) + "--b--\r\n"
	for name, raw := range map[string]string{"depth": deep.String(), "parts": many, "header": "X: " + strings.Repeat("y", 2000) + "\r\n\r\n"} {
		if tr := Walk([]byte(raw), lim); tr.Limit == "" || tr.Parts > 6 || tr.Depth > 4 {
			t.Errorf("%s: %+v", name, tr)
		}
	}
}

func FuzzWalk(f *testing.F) {
	f.Add([]byte(nested))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tr := Walk(raw, Limits{MaxHeaderBytes: 4096, MaxParts: 50, MaxDepth: 10})
		var check func(p *Part)
		check = func(p *Part) {
			if p.HeaderStart < 0 || p.HeaderStart > p.BodyStart || p.BodyStart > p.End || p.End > len(raw) {
				t.Fatalf("out of order: %d %d %d of %d", p.HeaderStart, p.BodyStart, p.End, len(raw))
			}
			for _, c := range p.Parts {
				check(c)
			}
			if p.Message != nil {
				check(p.Message)
			}
		}
		check(tr.Root)
		m := Summarize(nil, raw, DefaultLimits())
		if _, err := DecodeMeta(EncodeMeta(nil, &m)); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzMailbox(f *testing.F) {
	f.Add(`"a b"@c.test`)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseMailbox(s, true)
		if err != nil {
			return
		}
		b, err := ParseMailbox(a.String(), true)
		if err == nil && a != b {
			t.Fatalf("%q: %v, and again %v", s, a, b)
		}
	})
}

func BenchmarkSummarize(b *testing.B) {
	raw := []byte(nested + strings.Repeat("line of text\r\n", 300))
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		Summarize(nil, raw, DefaultLimits())
	}
}
