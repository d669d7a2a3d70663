package search

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"pgregory.net/rapid"

	"mailplusd/mail/message"
)

// vocabulary is short, so that needles often meet texts.
var vocabulary = []string{
	"report", "Report,", "reporting", "re", "port", "naïve", "NAIVE", "Straße", "strasse", "ΣΊΣΥΦΟΣ", "σίσυφος", "Ёлка", "елка", "café", "cafe\u0301",
	"會議", "開會", "會議通知", "会議", "カタカナ", "ｶﾀｶﾅ", "ばら", "はら", "한국어", "한국", "iPhone手機", "第3季Q3", "ไทยภาษา", "हिन्दी",
	"foo@example.com", "a", "I", "x-y_z", "100%", `"quoted"`, "it's", "\\back", "*", "AND", "NEAR(a b)", "body:", "^caret", "(paren)", "emoji😀face", "\u200bhidden",
	"verylongword0123456789abcdefghijklmnopqrstuvwxyz0123456789", "https://example.com/a/very/long/path/that/goes/on/and/on?query=1", "ﬁne", "①", "\ufffd",
	"GROẞ", "İSTANBUL", "ıstanbul", "oﬃce", "ＦＵＬＬ", "e\u0301\u0323", "ﾊﾟｰﾄ", "パート", "々", "你好世界", "ｱ", "가\u1100\u1161", "ǅ", "&eacute;t&#233; &#x4F1A;&amp;", "<b>bo</b>ld",
}

func words(min, max int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		list := rapid.SliceOfN(rapid.SampledFrom(vocabulary), min, max).Draw(t, "words")
		var b strings.Builder
		for i, w := range list {
			if i > 0 {
				b.WriteString(rapid.SampledFrom([]string{" ", " ", " ", "  ", "\r\n", ", ", "", "-"}).Draw(t, "between"))
			}
			b.WriteString(w)
		}
		return b.String()
	})
}

// part draws a text part with its header.
func part() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		text := words(0, 12).Draw(t, "text")
		kind := "plain"
		if rapid.Bool().Draw(t, "html") {
			kind = "html"
			text = "<html><style>hidden</style><p>" + strings.ReplaceAll(text, " ", rapid.SampledFrom([]string{" ", "<b> </b>", "&nbsp;", "<br>", "<i></i>"}).Draw(t, "markup")) + "</p></html>"
		}
		cs, octets := "utf-8", []byte(text)
		in := func(name string, e encoding.Encoding) {
			if b, err := e.NewEncoder().Bytes(octets); err == nil {
				cs, octets = name, b
			}
		}
		switch rapid.SampledFrom([]string{"utf-8", "utf-8", "big5", "gbk", "gb18030", "iso-2022-jp", "shift_jis", "euc-kr", "windows-1252"}).Draw(t, "charset") {
		case "big5":
			in("big5", traditionalchinese.Big5)
		case "gbk":
			in("gbk", simplifiedchinese.GBK)
		case "gb18030":
			in("gb18030", simplifiedchinese.GB18030)
		case "iso-2022-jp":
			in("iso-2022-jp", japanese.ISO2022JP)
		case "shift_jis":
			in("shift_jis", japanese.ShiftJIS)
		case "euc-kr":
			in("euc-kr", korean.EUCKR)
		case "windows-1252":
			in("windows-1252", charmap.Windows1252)
		}
		enc := rapid.SampledFrom([]string{"8bit", "base64", "quoted-printable"}).Draw(t, "encoding")
		switch enc {
		case "base64":
			octets = []byte(base64.StdEncoding.EncodeToString(octets))
		case "quoted-printable":
			var b bytes.Buffer
			q := quotedprintable.NewWriter(&b)
			q.Write(octets)
			q.Close()
			octets = b.Bytes()
		}
		extra := ""
		if rapid.IntRange(0, 3).Draw(t, "attached") == 0 {
			name := words(1, 2).Draw(t, "name")
			pct := percent(name)
			half := len(pct) / 6 * 3
			extra = "Content-Disposition: attachment; " + rapid.SampledFrom([]string{
				"filename*=utf-8''" + pct, "filename*0*=utf-8''" + pct[:half] + "; filename*1*=" + pct[half:], `filename="` + mime.BEncoding.Encode("utf-8", name) + `"`,
			}).Draw(t, "form of the name") + "\r\n"
		}
		return fmt.Sprintf("Content-Type: text/%s; charset=%s\r\nContent-Transfer-Encoding: %s\r\n%s\r\n%s\r\n", kind, cs, enc, extra, octets)
	})
}

func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

func mailGen() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		head := func(label string) string {
			v := strings.NewReplacer("\r\n", " ").Replace(words(0, 4).Draw(t, label))
			if rapid.Bool().Draw(t, "encoded") {
				return mime.BEncoding.Encode("utf-8", v)
			}
			return v
		}
		h := fmt.Sprintf("From: %s <a@b.example>\r\nTo: %s\r\nCc: %s\r\nBcc: %s\r\nSubject: %s\r\nX-Note: %s\r\nMIME-Version: 1.0\r\n",
			head("from"), head("to"), head("cc"), head("bcc"), head("subject"), head("note"))
		parts := rapid.SliceOfN(part(), 1, 3).Draw(t, "parts")
		if len(parts) == 1 {
			return h + parts[0]
		}
		return h + "Content-Type: multipart/mixed; boundary=bound\r\n\r\n--bound\r\n" + strings.Join(parts, "\r\n--bound\r\n") + "\r\n--bound--\r\n"
	})
}

// needle draws a piece of a text, in other case now and then, or words.
func needle(texts []string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := words(1, 2).Draw(t, "words")
		if rapid.Bool().Draw(t, "piece") {
			raw := []byte(rapid.SampledFrom(texts).Draw(t, "from"))
			w := message.Walk(raw, message.DefaultLimits()).Root.Words(raw)
			if len(w.Body) > 0 {
				r := []rune(rapid.SampledFrom(w.Body).Draw(t, "body"))
				from := rapid.IntRange(0, len(r)-1).Draw(t, "at")
				s = string(r[from:min(len(r), from+rapid.IntRange(1, 12).Draw(t, "length"))])
			}
		}
		if rapid.IntRange(0, 4).Draw(t, "case") == 0 {
			s = strings.ToUpper(s)
		}
		return s
	})
}

// TestIndexAgreesWithScan holds the index against reading every message.
//
// covers: R7.15, R7.18
func TestIndexAgreesWithScan(t *testing.T) {
	sure, round := 0, 0
	with, without := newWorld(t, Config{On: true, CJK: true}), newWorld(t, Config{On: true})
	rapid.Check(t, func(rt *rapid.T) {
		w := with
		if rapid.IntRange(0, 3).Draw(rt, "cjk") == 0 {
			w = without
		}
		round++
		box := fmt.Sprint("Box ", round)
		if _, err := w.store.Create(context.Background(), alice, box, ""); err != nil {
			rt.Fatal(err)
		}
		texts := rapid.SliceOfN(mailGen(), 1, 8).Draw(rt, "mail")
		w.add(box, texts...)
		w.settled()
		for _, n := range rapid.SliceOfN(needle(texts), 1, 6).Draw(rt, "needles") {
			w.ix.maxWords = rapid.SampledFrom([]int{maxWords, 0}).Draw(rt, "words") // with 0 the sequences tell everything
			sure += w.agree(box, n, asks[0], asks[1], rapid.SampledFrom(asks[2:]).Draw(rt, "key"))
		}
	})
	if sure < 500 {
		t.Errorf("the index was sure of %d answers only", sure)
	}
}

// TestFoldTwice: what is folded stays as it is.
func TestFoldTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.OneOf(words(1, 6), rapid.String()).Draw(rt, "text")
		f := message.Fold(s)
		if g := message.Fold(f); g != f {
			rt.Fatalf("%q folds to %q and then to %q", s, f, g)
		}
	})
}

// FuzzTokens takes apart whatever comes: no panic, and every token is one that the table takes whole.
func FuzzTokens(f *testing.F) {
	for _, s := range vocabulary {
		f.Add("Subject: " + s + "\r\n\r\n<p>" + s + "</p>")
	}
	f.Fuzz(func(t *testing.T, raw string) {
		w := message.Walk([]byte(raw), message.DefaultLimits()).Root.Words([]byte(raw))
		tok := tokensOf(&w, true)
		for col := range tok.sets {
			for s := range tok.sets[col] {
				if strings.ContainsAny(s, " \t\r\n\x00") || len(s) > wordOctets+1 {
					t.Fatalf("token %q of %q", s, raw)
				}
			}
		}
		for _, p := range pieces(message.Fold(raw)) {
			if p.text == "" || strings.Contains(p.text, " ") {
				t.Fatalf("piece %q of %q", p.text, raw)
			}
		}
	})
}

// TestLongNeedle: a text of more words than are looked for in sequences is found by looking into the
// messages that have the first of them.
func TestLongNeedle(t *testing.T) {
	w := newWorld(t, Config{On: true})
	list := make([]string, 3*maxPieces)
	for i := range list {
		list[i] = fmt.Sprint("w", i)
	}
	text := func(change int) string {
		out := slices.Clone(list)
		if change >= 0 {
			out[change] = "other"
		}
		return strings.Join(out, " ")
	}
	w.add("INBOX", mail("whole", text(-1)), mail("late", text(2*maxPieces)), mail("early", text(10)), mail("short", strings.Join(list[:maxPieces], " ")), mail("none", "w1 w0"))
	w.settled()
	sure := 0
	for _, n := range []int{maxPieces - 1, maxPieces, maxPieces + 1, 2 * maxPieces, len(list)} {
		for _, from := range []int{0, 1, 11} {
			sure += w.agree("INBOX", strings.Join(list[from:min(from+n, len(list))], " "), asks[0], asks[1])
		}
	}
	if sure < 60 {
		t.Errorf("the index was sure of %d answers only", sure)
	}
}
