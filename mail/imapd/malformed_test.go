package imapd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailplusd/mail/imapd"
)

// commandArgs is every command with arguments that are good, one by one.
var commandArgs = map[string][][]string{
	"CAPABILITY": {{}}, "NOOP": {{}}, "CHECK": {{}}, "CLOSE": {{}}, "UNSELECT": {{}}, "EXPUNGE": {{}}, "NAMESPACE": {{}}, "IDLE": {{}}, "STARTTLS": {{}}, "LOGOUT": {{}},
	"ID": {{"NIL"}, {`("name" "x" "version" NIL)`}}, "LOGIN": {{"anna", "wrong"}}, "AUTHENTICATE": {{"PLAIN", "AGFubmEAd3Jvbmc="}}, "COMPRESS": {{"NOPE"}}, "ENABLE": {{"NOPE", "NOPE2"}},
	"SELECT": {{"INBOX", "(CONDSTORE)"}, {"INBOX", "(QRESYNC (1 1 1:2 (1 1)))"}}, "EXAMINE": {{"INBOX", "(CONDSTORE)"}},
	"CREATE": {{"made", `(USE (\Sent))`}}, "DELETE": {{"nowhere"}}, "RENAME": {{"nowhere", "elsewhere"}}, "SUBSCRIBE": {{"nowhere"}}, "UNSUBSCRIBE": {{"nowhere"}},
	"LIST": {{"(SUBSCRIBED RECURSIVEMATCH)", `""`, `(a "b*")`, "RETURN", "(CHILDREN STATUS (MESSAGES))"}}, "LSUB": {{`""`, "%"}}, "STATUS": {{"INBOX", "(MESSAGES UIDNEXT SIZE)"}},
	"APPEND": {{"Drafts", `(\Seen)`, `"01-Jan-2024 10:00:00 +0000"`, lit("text")}, {"Drafts", lit8("text")}, {"Drafts", "UTF8 (" + lit8("text") + ")"}},
	"SEARCH": {{"RETURN (MIN SAVE)", "CHARSET UTF-8", "OR", "TEXT hello", "(NOT SEEN)", "1:*"}, {"HEADER", "Subject", "x"}, {"SINCE", "1-Jan-2024"}, {"LARGER", "10"}, {"UID", "1:3"}, {"MODSEQ", `"/flags/\\seen"`, "all", "5"}, {"KEYWORD", "$a"}, {"YOUNGER", "5"}},
	"SORT":   {{"RETURN (MIN)", "(REVERSE DATE SUBJECT)", "UTF-8", "ALL"}}, "THREAD": {{"REFERENCES", "UTF-8", "ALL"}},
	"FETCH": {{"1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (Subject)]<0.5>)", "(CHANGEDSINCE 1)"}, {"1", "BINARY.PEEK[1]"}, {"1", "BODY.PEEK[1.MIME]"}, {"1", "PREVIEW (LAZY)"}},
	"STORE": {{"1:2", "(UNCHANGEDSINCE 99)", "+FLAGS.SILENT", `(\Seen $a)`}}, "COPY": {{"1:*", "Archive"}}, "MOVE": {{"1", "Archive"}},
}

// malformed is what stands in the place of an argument.
func malformed() []string {
	trap := "x1 LOGOUT\r\n"
	return []string{
		"", " ", "(", ")", "()", "(()", "((((((((", strings.Repeat("(", 1000), strings.Repeat("(", 1000) + strings.Repeat(")", 1000), "(a", "a)", `"`, `"open`, `"\`, `"\x"`, `""`, `"a"b`, "NIL", "%", "*", "\\", "\\Seen\\", "]", "[", "a[", "<1.2>", "BODY[", "BODY[1", "BODY[]<", "BODY[]<5", "BODY[0]", "BODY[1..2]",
		"{", "{}", "{5", "{-1}", "{5++}", "{1 }", "{99999999999999999999999}", "~", "~{", lit(""), lit(trap), lit8(trap), lit(trap) + lit(trap), lit("\x00\r\n"), lit(strings.Repeat(trap, 1000)),
		"\x00", "\x01\x7f", "\xff\xfe", "\xc3", "\xed\xa0\x80", "&", "&Jjo", "&2D0-", "0", "-1", "+1", "1.5", "0x1", "4294967295", "4294967296", "18446744073709551616", strings.Repeat("9", 300), "1:", ":1", "1::2", "1,", ",1", "1,,2", "*:*", "1:*:2", "$", "$,1", strings.Repeat("1,", 20000) + "1",
		strings.Repeat("x", 5000), strings.Repeat("x", 70000), strings.Repeat("a ", 2000), `"` + strings.Repeat("x", 70000), "=", "!!!", "*\t*", "a\tb", "\r", "1-Foo-2024", "99-Jan-2024", `"01-Jan-99999 10:00:00 +0000"`,
	}
}

// TestEveryCommandMalformed sends every command with every argument in turn malformed, left out,
// doubled, or followed by more: one tagged answer, no fault, and a server that is in step.
func TestEveryCommandMalformed(t *testing.T) {
	w := newWorld(t)
	sent := 0
	for _, name := range imapd.CommandNames() {
		variants, ok := commandArgs[strings.TrimPrefix(name, "UID ")]
		if name == "UID EXPUNGE" {
			variants = [][]string{{"1:*"}}
		} else if !ok {
			t.Errorf("%s is not tested", name)
		}
		w.deliver("anna", mail)
		w.deliver("anna", parts)
		s := spoiler{w: w, name: name, early: name == "LOGIN" || name == "AUTHENTICATE" || name == "STARTTLS"}
		for _, args := range variants {
			s.spoil(t, args)
		}
		if s.c != nil {
			s.c.c.Close()
		}
		sent += s.sent
	}
	if sent < 8000 {
		t.Errorf("%d commands only", sent)
	}
}

// spoiler sends one command in all kinds of bad forms.
type spoiler struct {
	w     *world
	name  string
	early bool // comes before login
	c     *client
	sent  int
	last  string
}

func (s *spoiler) spoil(t *testing.T, args []string) {
	bad := malformed()
	for i := range args {
		for _, b := range bad {
			s.try(t, slices.Concat(args[:i], []string{b}, args[i+1:]))
		}
		s.try(t, args[:i])
		s.try(t, slices.Concat(args[:i+1], args[i:]))
	}
	for _, b := range bad {
		if strings.TrimSpace(b) != "" || len(args) > 0 {
			s.try(t, slices.Concat(args, []string{b}))
		}
	}
}

func (s *spoiler) try(t *testing.T, args []string) {
	if s.c == nil || s.early && s.sent%40 == 0 {
		if s.c != nil {
			s.c.c.Close()
		}
		if s.c = s.w.dial(); !s.early {
			s.c.ok("LOGIN anna secret")
			s.c.ok("SELECT INBOX")
		}
	}
	text := strings.Join(slices.Concat([]string{s.name}, args), " ")
	ok := s.c.answered(text)
	if s.sent++; ok && s.sent%10 == 0 { // too many bad ones in a row end a session
		ok = s.c.answered("NOOP")
	}
	switch s.name {
	case "SELECT", "EXAMINE", "CLOSE", "UNSELECT":
		ok = ok && s.c.answered("SELECT INBOX")
	}
	if !ok {
		t.Errorf("%.100q of %d octets (before it %.100q)", text, len(text), s.last)
		s.c = nil
	}
	s.last = text
}

// answered sends a command and tells whether one tagged answer comes, after as many requests to go on as
// it takes. What a literal announces that the text ends with is not sent.
func (c *client) answered(text string) bool {
	c.n++
	tag := fmt.Sprintf("t%d", c.n)
	if _, err := fmt.Fprintf(c.c, "%s %s\r\n", tag, text); err != nil {
		return false
	}
	for {
		l, err := c.r.ReadString('\n')
		switch {
		case err != nil, strings.Contains(l, "server fault"), strings.HasPrefix(l, "* BYE"), strings.HasPrefix(l, "x1 "):
			return false
		case strings.HasPrefix(l, "+"):
			fmt.Fprintf(c.c, "*\r\n") // a login is cancelled; a literal of that length, or the end of IDLE, follows
		case strings.HasPrefix(l, tag+" "):
			return strings.HasPrefix(l, tag+" OK") || strings.HasPrefix(l, tag+" NO") || strings.HasPrefix(l, tag+" BAD")
		}
	}
}
