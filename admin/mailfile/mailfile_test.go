package mailfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// mail is a message with what a format keeps of it.
type mail struct {
	item Item
	text string
}

func readAll(t testing.TB, s *Source) (out []mail) {
	t.Helper()
	if err := s.Read(func(it Item, r io.Reader, err error) error {
		if err != nil {
			t.Errorf("%s: %v", it.Name, err)
			return nil
		}
		b, err := io.ReadAll(r)
		out = append(out, mail{it, string(b)})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t testing.TB, target *Target, m mail) bool {
	t.Helper()
	p, err := target.Message(m.item)
	if err != nil {
		t.Fatal(err)
	}
	if p == nil {
		return false
	}
	for b := []byte(m.text); len(b) > 0; { // in pieces that cut anywhere
		n := min(len(b), 7)
		if _, err := p.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	return true
}

// messages draws mail whose lines end with CRLF and whose header has no field of an mbox's own.
func messages(t *rapid.T) []mail {
	line := rapid.SampledFrom([]string{"", "text", "From here on", "From x Mon Jan  1 00:00:00 2024", ">From x", ">>From", "From", ">", ".", "a\rb", strings.Repeat("long ", 30000), "äö"})
	names := rapid.SampledFrom([]string{"INBOX", "Work", "Work/2024", "A.B", "50% off", ".hidden", "cur", "Entwürfe", "a:b"})
	var out []mail
	for i := range rapid.IntRange(1, 6).Draw(t, "messages") {
		var b strings.Builder
		fmt.Fprintf(&b, "Subject: %d\r\nX-Long: a\r\n b\r\n", i)
		if rapid.Bool().Draw(t, "body") {
			b.WriteString("\r\n")
			for range rapid.IntRange(0, 5).Draw(t, "lines") {
				b.WriteString(line.Draw(t, "line") + "\r\n")
			}
		}
		flags := []string{}
		for _, f := range []string{`\Seen`, `\Answered`, `\Flagged`, `\Deleted`, `\Draft`, "$Forwarded", "work"} {
			if rapid.Bool().Draw(t, f) {
				flags = append(flags, f)
			}
		}
		out = append(out, mail{Item{Mailbox: names.Draw(t, "mailbox"), Flags: flags, UIDValidity: 7, UID: uint32(i + 1), Size: int64(b.Len()),
			Date: time.Unix(rapid.Int64Range(1, 2_000_000_000).Draw(t, "date"), 0)}, b.String()})
	}
	slices.SortStableFunc(out, func(a, b mail) int { return strings.Compare(a.item.Mailbox, b.item.Mailbox) })
	return out
}

func sorted(s []string) []string { s = slices.Clone(s); slices.Sort(s); return s }

// TestRoundTrip: what is written in a format comes back octet for octet, with its mailbox, flags and
// time; writing it again writes nothing, and every file is the owner's only.
func TestRoundTrip(t *testing.T) {
	for _, format := range []string{Mbox, Maildir, EML} {
		t.Run(format, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				dir, err := os.MkdirTemp(t.TempDir(), "x")
				if err != nil {
					rt.Fatal(err)
				}
				defer os.RemoveAll(dir)
				in := messages(rt)
				for round := range 2 {
					target, err := Create(dir, format)
					if err != nil {
						rt.Fatal(err)
					}
					for _, m := range in {
						if wrote := write(t, target, m); wrote != (round == 0) {
							rt.Fatalf("round %d: written %v", round, wrote)
						}
					}
					if err := target.Close(); err != nil {
						rt.Fatal(err)
					}
				}
				src, err := Open(dir, "")
				if err != nil || src.Format() != format {
					rt.Fatalf("%v: found %s, want %s", err, src.Format(), format)
				}
				out := readAll(t, src)
				if len(out) != len(in) {
					rt.Fatalf("%d messages came back, want %d", len(out), len(in))
				}
				for _, m := range in {
					i := slices.IndexFunc(out, func(o mail) bool {
						return o.text == m.text && o.item.Mailbox == m.item.Mailbox && o.item.Date.Equal(m.item.Date)
					})
					if i < 0 {
						rt.Fatalf("%s: %.200q of %v did not come back: %.300q", m.item.Mailbox, m.text, m.item.Date, fmt.Sprint(out))
					}
					if got := out[i].item.Flags; format != EML && !slices.Equal(sorted(got), sorted(known(format, m.item.Flags))) {
						rt.Fatalf("flags %v, want %v", got, m.item.Flags)
					}
					out = slices.Delete(out, i, i+1)
				}
				if err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
					if info, ierr := d.Info(); err == nil && ierr == nil && d.Type().IsRegular() && info.Mode().Perm() != 0o600 {
						return fmt.Errorf("%s has mode %v", p, info.Mode())
					}
					return err
				}); err != nil {
					rt.Fatal(err)
				}
			})
		})
	}
}

// known are the flags that a format has a place for: all.
func known(_ string, flags []string) []string { return flags }

func TestMboxOfOthers(t *testing.T) {
	mbox := "From MAILER-DAEMON Mon Jan  1 00:00:00 2024\nX-IMAP: 1 2\nStatus: RO\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\ndata\n\n" +
		"From ann@y.example  Tue Feb 13 08:09:10 2024\nStatus: RO\nX-Status: AF\nX-Keywords: work $Junk\nContent-Length: 5\nX-UID: 9\n folded\nSubject: one\n\nFrom here on it is text\n\nFrom there too\n>From quoted\n\n" +
		"From bob@y.example Tue Feb 13 08:09 MET 2024\r\nSubject: two\r\n\r\nCRLF\r\n\r\n" +
		"From - Tue Feb 13 08:09:10 2024 +0100\nSubject: three"
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte(mbox), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := Open(path, "")
	if err != nil || src.Format() != Mbox {
		t.Fatal(err)
	}
	out := readAll(t, src)
	want := []string{
		"Content-Length: 5\r\nSubject: one\r\n\r\nFrom here on it is text\r\n\r\nFrom there too\r\nFrom quoted\r\n",
		"Subject: two\r\n\r\nCRLF\r\n", "Subject: three\r\n",
	}
	if len(out) != 3 {
		t.Fatalf("%d messages: %+v", len(out), out)
	}
	for i := range want {
		if out[i].text != want[i] {
			t.Errorf("%q\nwant %q", out[i].text, want[i])
		}
	}
	if got := strings.Join(out[0].item.Flags, " "); got != `\Seen \Answered \Flagged work $Junk` {
		t.Errorf("flags %s", got)
	}
	if out[0].item.Date.Unix() != 1707811750 || out[2].item.Date.Unix() != 1707808150 {
		t.Errorf("%v, %v", out[0].item.Date, out[2].item.Date)
	}
}

func TestMaildirOfOthers(t *testing.T) {
	dir := t.TempDir()
	for path, text := range map[string]string{
		"cur/1.a:2,FSa": "Subject: one\n\nx\n", "new/2.a": "Subject: two\r\n\r\nx", "tmp/3.a": "Subject: half", "dovecot-keywords": "0 work\n1 home\n",
		".Sent/cur/4.a,S=10:2,S": "Subject: four\n", ".Sent/new/.keep": "",
		".Archive.Entw&APw-rfe/cur/5.a:2,T": "Subject: five\n", ".Archive.Entw&APw-rfe/new/.keep": "", "Sub/Deep/cur/6.a;2,": "Subject: six\n", "Sub/Deep/new/.keep": "",
	} {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	src, err := Open(dir, "")
	if err != nil || src.Format() != Maildir {
		t.Fatal(err)
	}
	var got []string
	for _, m := range readAll(t, src) {
		got = append(got, fmt.Sprintf("%s|%s|%s", m.item.Mailbox, strings.Join(m.item.Flags, " "), strings.ReplaceAll(m.text, "\r\n", "/")))
	}
	slices.Sort(got)
	want := []string{
		`Archive/Entwürfe|\Deleted|Subject: five/`, `Sent|\Seen|Subject: four/`, `Sub/Deep||Subject: six/`,
		`|\Flagged \Seen work|Subject: one//x/`, `||Subject: two//x`,
	}
	slices.Sort(want)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestNothingIsWrittenOver: an mbox and a message that are there stay, and one that was broken off
// is made anew.
func TestNothingIsWrittenOver(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("Work.mbox", "precious")
	put("INBOX.mbox.part", "half")
	target, err := Create(dir, Mbox)
	if err != nil {
		t.Fatal(err)
	}
	one := mail{Item{Mailbox: "INBOX", UID: 1}, "Subject: x\r\n\r\ny\r\n"}
	if !write(t, target, one) {
		t.Error("not written")
	}
	p, err := target.Message(Item{Mailbox: "INBOX", UID: 2})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(p, strings.Repeat("Subject: damaged\r\n", 10000))
	if err := p.Abort(); err != nil {
		t.Fatal(err)
	}
	if !write(t, target, mail{Item{Mailbox: "INBOX", UID: 3}, "Subject: z\r\n"}) {
		t.Error("not written behind a damaged one")
	}
	if write(t, target, mail{Item{Mailbox: "Work", UID: 1}, "Subject: x\r\n"}) {
		t.Error("written over")
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "Work.mbox")); string(b) != "precious" || strings.Join(target.Skipped(), "") != "Work" {
		t.Errorf("%q, skipped %v", b, target.Skipped())
	}
	b, err := os.ReadFile(filepath.Join(dir, "INBOX.mbox"))
	if want := "From MAILER-DAEMON Thu Jan  1 00:00:00 1970\nStatus: O\nSubject: x\n\ny\n\nFrom MAILER-DAEMON Thu Jan  1 00:00:00 1970\nStatus: O\nSubject: z\n\n"; err != nil || strings.ReplaceAll(string(b), "Mon Jan  1 00:00:00 0001", "Thu Jan  1 00:00:00 1970") != want {
		t.Errorf("%q %v", b, err)
	}
	if list, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(list) != 0 {
		t.Errorf("left behind: %v", list)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir, ""); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	if _, err := Open(filepath.Join(dir, "none"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := Create(dir, "pst"); err == nil {
		t.Error("an unknown format was taken")
	}
	file := filepath.Join(dir, "x")
	os.WriteFile(file, []byte("no mbox"), 0o600)
	src, err := Open(file, Mbox)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	if err := src.Read(func(_ Item, _ io.Reader, err error) error {
		if err != nil {
			failed++
		}
		return nil
	}); err != nil || failed != 1 {
		t.Errorf("%v, %d named", err, failed)
	}
}

func FuzzMbox(f *testing.F) {
	f.Add([]byte("From x Mon Jan  1 00:00:00 2024\nSubject: x\n\ny\n\nFrom z Mon Jan  1 00:00:00 2024\n"))
	f.Add([]byte("From \n\n\n\nFrom \nStatus"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		readMbox(bufio.NewReader(bytes.NewReader(b)), "", "f", func(_ Item, r io.Reader, err error) error {
			m, _ := io.Copy(io.Discard, r)
			n += int(m)
			return nil
		})
		if n > 3*len(b)+100 {
			t.Errorf("%d octets became %d", len(b), n)
		}
	})
}

func FuzzUTF7(f *testing.F) {
	f.Add("Entw&APw-rfe")
	f.Add("&&-&2D0-")
	f.Fuzz(func(t *testing.T, s string) { fromUTF7(s) })
}
