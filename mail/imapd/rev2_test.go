package imapd_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/imapd"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
)

// TestRev2Names: RFC 9051 has names in UTF-8, and tells when a name has given way to another.
func TestRev2Names(t *testing.T) {
	w := newWorld(t)
	old, c := w.login("anna"), w.login("anna")
	old.ok(`CREATE "&ANY-rter"`)
	c.ok("ENABLE IMAP4rev2")
	c.answers(`LIST "" "Ö*"`, `* LIST (\HasNoChildren) "/" "Örter"`)
	c.answers(`RENAME Örter "Länder"`, `* LIST () "/" "Länder" ("OLDNAME" ("Örter"))`)
	old.answers(`LIST "" "L*"`, `* LIST (\HasNoChildren) "/" "L&AOQ-nder"`)
	old.answers(`RENAME "L&AOQ-nder" Neu`) // a client that doesn't know of rev2 is told nothing
	c.ok(`CREATE "Öl/Faß"`)
	c.ok("DELETE Öl")
	c.answers(`LIST "" "Öl*"`, `* LIST (\NonExistent \HasChildren) "/" "Öl"`, `* LIST (\HasNoChildren) "/" "Öl/Faß"`)
	old.answers(`LIST "" "&ANY-l"`, `* LIST (\Noselect \HasChildren) "/" "&ANY-l"`)
	c.gets("* LIST () \"/\" \"Öl/Faß\"\n", "SELECT Öl/Faß")
	c.gets("NO [CANNOT]", "CREATE "+lit("bad\xff"))

	w.deliver("anna", mail)
	c.answers(`RENAME INBOX Alt`) // which stays
	c.answers("STATUS Alt (MESSAGES DELETED SIZE)", fmt.Sprintf(`* STATUS "Alt" (MESSAGES 1 DELETED 0 SIZE %d)`, len(mail)))
	c.answers("STATUS INBOX (MESSAGES SIZE)", `* STATUS "INBOX" (MESSAGES 0 SIZE 0)`)
	c.ok("SELECT Alt")
	old.ok("SELECT Alt")
	old.ok(`STORE 1 +FLAGS (\Deleted)`)
	c.answers("NOOP", `* 1 FETCH (UID 1 FLAGS (\Deleted))`) // always with the UID
	c.answers("STATUS Alt (DELETED)", `* STATUS "Alt" (DELETED 1)`)
	c.answers("SEARCH LARGER 4294967296", fmt.Sprintf(`* ESEARCH (TAG "t%d")`, c.n+1)) // 63 bits
	c.gets("{0}", "FETCH 1 BODY.PEEK[]<4294967296.5>")
}

// TestUTF8Accept is RFC 6855: APPEND with UTF8 and names in UTF-8, after ENABLE only.
func TestUTF8Accept(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	text := "From: Jürgen <jürgen@exämple.test>\r\nSubject: Grüße\r\n\r\nhello\r\n"
	for _, cmd := range []string{"APPEND Drafts UTF8 (" + lit8(text) + ")", `APPEND Drafts (\Seen) UTF8 (` + lit8(text) + ") UTF8 (" + lit8(text) + ")"} {
		if out := c.send("a", cmd); !strings.HasPrefix(out[0], "BAD ENABLE UTF8=ACCEPT first") {
			t.Errorf("%q", out)
		}
	}
	c.ok("ENABLE UTF8=ACCEPT")
	if out := c.send("b", `APPEND Drafts (\Seen) "01-Feb-2024 10:00:00 +0000" UTF8 (`+lit8(text)+") UTF8 ("+lit8(text+"2")+") "+lit(mail)); !strings.Contains(out[0], " 1:3] ") {
		t.Fatalf("%q", out)
	}
	for _, bad := range []string{"UTF8 (" + lit8(text), "UTF8 (" + lit(text) + ")", "UTF8 " + lit8(text), "UTF8 (" + lit8(text) + ") x"} {
		if out := c.send("c", "APPEND Drafts "+bad); !strings.HasPrefix(out[0], "BAD") {
			t.Errorf("%q: %q", bad, out)
		}
	}
	c.ok("SELECT Drafts")
	c.gets("BODY[] {"+fmt.Sprint(len(text))+"}\n"+strings.ReplaceAll(text, "\r", ""), "FETCH 1 BODY[]")
	c.answers("FETCH 1 (FLAGS INTERNALDATE)", `* 1 FETCH (FLAGS (\Seen \Recent) INTERNALDATE "01-Feb-2024 10:00:00 +0000")`)
	c.answers("SEARCH SUBJECT "+lit("grüße"), "* SEARCH 1 2 3")
	c.ok(`CREATE "Entwürfe"`)
	c.answers(`LIST "" "Entw*"`, `* LIST (\HasNoChildren) "/" "Entwürfe"`)
}

// TestAppendLimit is RFC 7889: what is announced is what is kept to.
func TestAppendLimit(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	limit := 0
	for _, word := range strings.Fields(c.ok("CAPABILITY")) {
		fmt.Sscanf(word, "APPENDLIMIT=%d", &limit)
	}
	if limit != model.DefaultSettings().Delivery.MaxSizeMB<<20 {
		t.Fatalf("APPENDLIMIT=%d", limit)
	}
	c.answers("STATUS INBOX (APPENDLIMIT)", fmt.Sprintf(`* STATUS "INBOX" (APPENDLIMIT %d)`, limit))
	c.gets("NO [TOOBIG]", fmt.Sprintf("APPEND INBOX {%d}", limit+1))
	fmt.Fprintf(c.c, "x APPEND INBOX {%d}\r\n", limit)
	if l := c.line(); !strings.HasPrefix(l, "+ ") {
		t.Errorf("APPEND of the limit: %s", l)
	}
}

// noSpace is a store whose disk is full.
type noSpace struct{ imapd.Store }

func (s noSpace) Append(_ context.Context, _ model.MailboxID, msgs []store.NewMessage) ([]state.Placed, error) {
	for _, m := range msgs {
		m.Spool.Abort()
	}
	return nil, store.ErrNoSpace
}

func TestNoSpace(t *testing.T) {
	w := newWorld(t)
	c := w.serve(noSpace{w.store}).login("anna")
	if out := c.send("a", "APPEND INBOX "+lit(mail)+" "+lit(mail)); len(out) != 1 || !strings.HasPrefix(out[0], "NO [OVERQUOTA] the disk is full") {
		t.Errorf("%q", out)
	}
	c.answers("STATUS INBOX (MESSAGES UIDNEXT)", `* STATUS "INBOX" (MESSAGES 0 UIDNEXT 1)`)
}

// TestWithin: a message of exactly that age is in both intervals (RFC 5032 §3).
func TestWithin(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	for {
		now := time.Now().UTC()
		if out := c.send("a", fmt.Sprintf("APPEND Archive \"%s\" %s", now.Add(-time.Hour).Format("02-Jan-2006 15:04:05 -0700"), lit(mail))); !strings.HasPrefix(out[len(out)-1], "OK") {
			t.Fatal(out)
		}
		c.ok("SELECT Archive")
		out := c.ok("SEARCH OLDER 3600") + c.ok("SEARCH YOUNGER 3600") + c.ok("SEARCH OLDER 3602") + c.ok("SEARCH YOUNGER 3598")
		if time.Now().Unix() == now.Unix() { // all within one second
			if strings.Count(out, "* SEARCH 1\n") != 2 || strings.Count(out, "* SEARCH\n") != 2 {
				t.Error(out)
			}
			return
		}
		c.ok(`STORE 1 +FLAGS (\Deleted)`)
		c.ok("CLOSE")
	}
}
