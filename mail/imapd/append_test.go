package imapd_test

import (
	"fmt"
	"strings"
	"testing"
)

// send writes a command as it is and gives its answers.
func (c *client) send(tag, text string) []string {
	c.w.t.Helper()
	fmt.Fprintf(c.c, "%s %s\r\n", tag, text)
	return c.until(tag)
}

func lit(s string) string  { return fmt.Sprintf("{%d+}\r\n%s", len(s), s) }
func lit8(s string) string { return fmt.Sprintf("~{%d+}\r\n%s", len(s), s) }

// TestMultiAppend is RFC 3502: all messages or none.
func TestMultiAppend(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	out := c.send("m1", `APPEND Drafts (\Seen $A) "01-Feb-2024 10:00:00 +0000" `+lit(mail)+` (\Flagged) `+lit(mail+"two")+` `+lit8(mail+"\x00three"))
	if l := out[len(out)-1]; !strings.HasPrefix(l, "OK [APPENDUID ") || !strings.Contains(l, " 1:3] ") {
		t.Fatal(out)
	}
	c.ok("SELECT Drafts")
	c.answers("FETCH 1:* (FLAGS RFC822.SIZE)", fmt.Sprintf(`* 1 FETCH (FLAGS (\Seen \Recent $A) RFC822.SIZE %d)`, len(mail)), fmt.Sprintf(`* 2 FETCH (FLAGS (\Flagged \Recent) RFC822.SIZE %d)`, len(mail)+3), fmt.Sprintf(`* 3 FETCH (FLAGS (\Recent) RFC822.SIZE %d)`, len(mail)+6))
	c.gets(`INTERNALDATE "01-Feb-2024 10:00:00 +0000"`, "FETCH 1 INTERNALDATE")
	// Refused at the second or third message: the first isn't stored, and the rest is no command.
	trap := "x1 LOGOUT\r\n"
	for _, tc := range []struct{ text, want string }{
		{`APPEND Drafts ` + lit(mail) + ` (\Nope) ` + lit(trap), "BAD"},
		{`APPEND Drafts ` + lit(mail) + ` () ` + lit("") + ` ` + lit(trap), "NO [CANNOT]"},
		{`APPEND Drafts ` + lit(mail) + ` {999999999999}`, "NO [TOOBIG]"},
		{`APPEND Drafts ` + lit(mail) + ` rubbish`, "BAD"},
		{`APPEND Drafts ` + lit(mail) + lit(trap), "BAD"},
		{`APPEND Drafts "1-1-1" ` + lit(trap), "BAD"},
		{`APPEND Drafts UTF8 (` + lit8(trap) + `)`, "BAD"},
		{`APPEND Drafts CATENATE (` + lit(trap) + `)`, "BAD"},
		{`APPEND nowhere ` + lit(mail) + ` ` + lit(trap), "NO [TRYCREATE]"},
		{`APPEND &bad ` + lit(mail) + ` ` + lit(trap), "NO [CANNOT]"},
		{`APPEND ` + lit("Drafts") + ` ` + lit8(trap) + ` x`, "BAD"},
		{`APPEND ` + lit(strings.Repeat("D", 9000)) + ` ` + lit(trap), "BAD"},
		{`APPEND ` + lit8("Drafts") + ` ` + lit(trap), "NO"}, // the mailbox ~
		{`APPEND Drafts`, "BAD"}, {`APPEND`, "BAD"},
	} {
		if out := c.send("r", tc.text); len(out) != 1 || !strings.HasPrefix(out[0], tc.want) {
			t.Errorf("%.60q: %v, want %s", tc.text, out, tc.want)
		}
	}
	c.answers("STATUS Drafts (MESSAGES UIDNEXT)", `* STATUS "Drafts" (MESSAGES 3 UIDNEXT 4)`)
	if out := c.send("m2", `APPEND `+lit("Drafts")+` `+lit(mail)); !strings.HasPrefix(out[len(out)-1], "OK [APPENDUID") {
		t.Error(out)
	}
	// Synchronising literals, each with its go-ahead.
	fmt.Fprintf(c.c, "m3 APPEND Drafts {%d}\r\n", len(mail))
	for _, next := range []string{mail + fmt.Sprintf(" {%d}\r\n", len(mail)), mail + "\r\n"} {
		if l := c.line(); !strings.HasPrefix(l, "+ ") {
			t.Fatal(l)
		}
		fmt.Fprint(c.c, next)
	}
	if out := c.until("m3"); !strings.HasPrefix(out[len(out)-1], "OK [APPENDUID") || !strings.Contains(out[len(out)-1], " 5:6]") {
		t.Error(out)
	}
	if out := c.send("m4", "APPEND Sent"+strings.Repeat(" "+lit("a: b\r\n\r\n"), 1001)); !strings.HasPrefix(out[0], "NO [LIMIT]") {
		t.Error(out)
	}
	if out := c.send("m5", "APPEND Sent"+strings.Repeat(" "+lit("a: b\r\n\r\n"), 1000)); !strings.Contains(out[0], " 1:1000]") {
		t.Error(out)
	}
}

// TestAppendLarge: many large messages in one command wait in files, and too many are refused.
func TestAppendLarge(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	large := mail + strings.Repeat("0123456789abcdef", 150_000) // 2.4 MB
	if out := c.send("a", "APPEND Drafts "+lit(large+"1")+" "+lit(large+"2")+" "+lit(large+"3")); !strings.Contains(out[0], " 1:3]") {
		t.Fatal(out)
	}
	c.ok("SELECT Drafts")
	for i := 1; i <= 3; i++ {
		c.gets(fmt.Sprintf("BODY[TEXT]<%d> {4}\ndef%d", len(large)-strings.Index(mail, "\r\n\r\n")-4-3, i), fmt.Sprintf("FETCH %d BODY.PEEK[TEXT]<%d.9>", i, len(large)-strings.Index(mail, "\r\n\r\n")-4-3))
	}
}
