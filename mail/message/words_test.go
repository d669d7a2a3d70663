package message

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"Hello  World": "hello world", "a\r\n\tb": "a b", " x ": " x ", "RÉSUMÉ": "resume", "re\u0301sume\u0301": "resume", "Straße": "strasse", "STRASSE": "strasse",
		"ΣΊΣΥΦΟΣ": "σισυφοσ", "σίσυφος": "σισυφοσ", "ЁЛКА": "елка", "ﬁne": "fine", "ＡＢＣ": "abc", "ｶﾞ": "ガ", "カ\u3099": "ガ", "ばら": "ばら", "はら": "はら",
		"한국": "한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8": "한국", "soft\u00adhyphen": "softhyphen", "zero\u200bwidth": "zerowidth", "a\u00a0b": "a b", "İ": "i",
		"①": "1", "bad\xffoctet": "bad\ufffdoctet", "nul\x00": "nul", "हिन्दी": "हिन्दी",
	} {
		if got := Fold(in); got != want {
			t.Errorf("Fold(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestStripHTML(t *testing.T) {
	for in, want := range map[string]string{
		"<p>a</p><p>b</p>": "a b", "w<b>or</b>d": "word", "a<br>b": "a b", "<style>x</style>y": "y", "<script>if (a<b) {}</script>y": "y",
		"&eacute;&amp;&lt;b&gt;": "é&<b>", "no tags": "no tags", "a < b": "a < b", "<!-- hidden -->seen": "seen", `<img alt="a picture" src=x>`: "a picture",
		"<td>1</td><td>2</td>": "1 2", "<unclosed": "", "<style>never closed": "", "<title>T</title>x": "T x", "<noscript>n</noscript>x": "x", "</p>x": "x",
	} {
		if got := strings.Join(strings.Fields(StripHTML(in)), " "); got != want {
			t.Errorf("StripHTML(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestFileName(t *testing.T) {
	for header, want := range map[string]string{
		`Content-Disposition: attachment; filename="a b.pdf"`:                                                  "a b.pdf",
		`Content-Type: application/pdf; name=x.pdf`:                                                            "x.pdf",
		`Content-Disposition: attachment; filename*=utf-8''%E6%9C%83%E8%AD%B0.txt`:                             "會議.txt",
		`Content-Disposition: attachment; filename*=iso-8859-1'de'Gr%FC%DFe`:                                   "Grüße",
		`Content-Disposition: attachment; filename="=?utf-8?b?5pyD6K2w?="`:                                     "會議",
		`Content-Disposition: attachment; filename*0="long"; filename*1="er.txt"`:                              "longer.txt",
		`Content-Disposition: attachment; filename*0*=utf-8''%E6%9C%83; filename*1="%41.txt"`:                  "會%41.txt",
		`Content-Disposition: attachment; filename*=utf-8''bad%zz`:                                             "bad%zz",
		`Content-Disposition: inline`:                                                                          "",
		"Content-Type: text/plain; name=type.txt\r\nContent-Disposition: attachment; filename=disposition.txt": "disposition.txt",
	} {
		raw := []byte(header + "\r\n\r\nx")
		if got := Walk(raw, DefaultLimits()).Root.FileName(); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	raw := []byte("Subject: =?utf-8?q?R=C3=A9sum=C3=A9?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>Gr=FC=DFe</p>\r\n" +
		"--b\r\nContent-Type: application/pdf; name=Plan.PDF\r\nContent-Transfer-Encoding: base64\r\n\r\naGlkZGVu\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner text\r\n--b--\r\n")
	w := Walk(raw, DefaultLimits()).Root.Words(raw)
	if want := []string{" grusse ", "plan.pdf", "subject: inner", "inner text"}; !slices.Equal(w.Body, want) {
		t.Errorf("body %q, want %q", w.Body, want)
	}
	for needle, want := range map[string][2]bool{ // TEXT, BODY
		"resume": {true, false}, "subject: res": {true, false}, "grusse": {true, true}, "hidden": {false, false}, "preamble": {false, false},
		"inner text": {true, true}, "grusse plan": {false, false}, "<p>": {false, false},
	} {
		if a, b := w.AnyHas(needle), w.BodyHas(needle); a != want[0] || b != want[1] {
			t.Errorf("%q: TEXT %t, BODY %t, want %v", needle, a, b, want)
		}
	}
}

// TestSloppyText: what follows a mistake in a transfer encoding is found, too.
func TestSloppyText(t *testing.T) {
	for encoding, text := range map[string]string{
		"quoted-printable": "100% =xy sure\x01 =C3=A9t=C3=\r\n=A9 =\r\n =e9=", "base64": "MTAwJSA9eHk*gc3Vy\r\n!ZQ== IMOpdMOpIA==", "8bit": "100% =xy sure \xc3\xa9t\xc3\xa9 ", "x-unknown": "100% =xy sure \xc3\xa9t\xc3\xa9 ",
	} {
		raw := []byte("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n" + text)
		w := Walk(raw, DefaultLimits()).Root.Words(raw)
		if !w.BodyHas("100% =xy sure") || !w.BodyHas(" ete ") {
			t.Errorf("%s: %q", encoding, w.Body)
		}
	}
	raw := []byte("Content-Type: text/plain\r\n\r\n" + strings.Repeat("0123456789abcdef", maxText/16) + "behind")
	if w := Walk(raw, DefaultLimits()).Root.Words(raw); len(w.Body) != 1 || len(w.Body[0]) != maxText {
		t.Errorf("%d texts", len(w.Body))
	}
}

// FuzzWords takes any message apart: no panic, and what comes out is folded and valid.
func FuzzWords(f *testing.F) {
	f.Add("Subject: x\r\nContent-Type: text/html\r\n\r\n<p>a<style>b</style>")
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; filename*0*=utf-8''%E6; filename*1=x\r\n\r\nx\r\n--b--")
	f.Add("Content-Type: text/plain; charset=iso-2022-jp\r\nContent-Transfer-Encoding: base64\r\n\r\nGyRCJCI=")
	f.Fuzz(func(t *testing.T, raw string) {
		w := Walk([]byte(raw), DefaultLimits()).Root.Words([]byte(raw))
		for _, s := range w.Body {
			if !utf8.ValidString(s) || Fold(s) != s {
				t.Fatalf("%q is not folded", s)
			}
			if !w.BodyHas(s) || !w.AnyHas(s) {
				t.Fatalf("%q is not found in itself", s)
			}
		}
	})
}
