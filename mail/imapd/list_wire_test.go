package imapd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// answers compares the untagged answers of a command with what is wanted, in any order.
func (c *client) answers(cmd string, want ...string) {
	c.w.t.Helper()
	out := c.do(cmd)
	got := slices.Clone(out[:len(out)-1])
	slices.Sort(got)
	slices.Sort(want)
	if !strings.HasPrefix(out[len(out)-1], "OK") || !slices.Equal(got, want) {
		c.w.t.Errorf("%s: %s\n got %s\nwant %s", cmd, out[len(out)-1], strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// TestListExtended is RFC 5258 with RFC 5819, RFC 6154 and RFC 8438.
func TestListExtended(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	for _, cmd := range []string{"CREATE Work/Reports/2026", "CREATE Work/Letters", "CREATE Home/Old", "SUBSCRIBE Work/Reports/2026", "SUBSCRIBE Home", "DELETE Home", "UNSUBSCRIBE Junk", "CREATE Sub", "SUBSCRIBE Sub"} {
		c.ok(cmd)
	}
	w.deliver("anna", mail)
	c.answers(`LIST "" ""`, `* LIST (\Noselect) "/" ""`)
	c.answers(`LIST () "" ""`)
	c.answers(`LIST "" "Work"`, `* LIST (\HasChildren) "/" "Work"`)
	c.answers(`LIST "" "Home*"`, `* LIST (\Noselect \HasChildren) "/" "Home"`, `* LIST (\HasNoChildren) "/" "Home/Old"`)
	c.answers(`LIST "" "Home*" RETURN (CHILDREN)`, `* LIST (\NonExistent \HasChildren) "/" "Home"`, `* LIST (\HasNoChildren) "/" "Home/Old"`)
	c.answers(`LIST "Work/" "%"`, `* LIST (\HasNoChildren) "/" "Work/Letters"`, `* LIST (\HasChildren) "/" "Work/Reports"`)
	c.answers(`LIST "" (Work Sub "Work") RETURN ()`, `* LIST () "/" "Work"`, `* LIST () "/" "Sub"`)
	c.answers(`LIST "" (inbox "Se%") RETURN (SPECIAL-USE SUBSCRIBED)`, `* LIST (\Subscribed) "/" "INBOX"`, `* LIST (\Subscribed \Sent) "/" "Sent"`)
	c.answers(`LIST (SUBSCRIBED) "" "*"`, `* LIST (\Subscribed) "/" "Archive"`, `* LIST (\Subscribed) "/" "Drafts"`, `* LIST (\NonExistent \Subscribed) "/" "Home"`, `* LIST (\Subscribed) "/" "INBOX"`, `* LIST (\Subscribed) "/" "Sent"`, `* LIST (\Subscribed) "/" "Sub"`, `* LIST (\Subscribed) "/" "Trash"`, `* LIST (\Subscribed) "/" "Work/Reports/2026"`)
	c.answers(`LIST (SUBSCRIBED REMOTE) "" "Work/%"`)
	c.answers(`LIST (SUBSCRIBED RECURSIVEMATCH) "" "Work%"`, `* LIST () "/" "Work" ("CHILDINFO" ("SUBSCRIBED"))`)
	c.answers(`LIST (RECURSIVEMATCH SUBSCRIBED) "" "Work*" RETURN (CHILDREN)`, `* LIST (\HasChildren) "/" "Work" ("CHILDINFO" ("SUBSCRIBED"))`, `* LIST (\HasChildren) "/" "Work/Reports" ("CHILDINFO" ("SUBSCRIBED"))`, `* LIST (\Subscribed \HasNoChildren) "/" "Work/Reports/2026"`)
	c.answers(`LIST (SPECIAL-USE) "" "*"`, `* LIST (\Archive) "/" "Archive"`, `* LIST (\Drafts) "/" "Drafts"`, `* LIST (\Junk) "/" "Junk"`, `* LIST (\Sent) "/" "Sent"`, `* LIST (\Trash) "/" "Trash"`)
	c.answers(`LIST "" (INBOX Home Home/Old) RETURN (STATUS (MESSAGES UNSEEN))`, `* LIST () "/" "INBOX"`, `* STATUS "INBOX" (MESSAGES 1 UNSEEN 1)`, `* LIST (\NonExistent) "/" "Home"`, `* LIST () "/" "Home/Old"`, `* STATUS "Home/Old" (MESSAGES 0 UNSEEN 0)`)
	c.answers(`LSUB "" "W%"`, `* LSUB (\Noselect) "/" "Work"`)
	c.answers(`LSUB "" "W*"`, `* LSUB () "/" "Work/Reports/2026"`)
	for _, cmd := range []string{`LIST (RECURSIVEMATCH) "" "*"`, `LIST (REMOTE RECURSIVEMATCH) "" "*"`, `LIST (NOPE) "" "*"`, `LIST "" "*" RETURN (NOPE)`, `LIST "" "*" RETURN`, `LIST "" ()`, `LIST "" "*" RETURN (STATUS ())`, `LIST (SUBSCRIBED)`,
		`LIST "" (` + strings.Repeat("a ", 60) + `b)`, `LIST "" "` + strings.Repeat("*", 2000) + `"`, `LIST "` + strings.Repeat("(", 1000) + `" "`, `LIST ` + strings.Repeat("(", 1000), `LSUB (SUBSCRIBED) "" "*"`} {
		if out := c.do(cmd); !strings.HasPrefix(out[len(out)-1], "BAD") {
			t.Errorf("%.60s: %v", cmd, out)
		}
	}
	c.answers("NAMESPACE", `* NAMESPACE (("" "/")) NIL NIL`)
}

// TestCreateSpecialUse is RFC 6154 §3 and the MAILBOXID of RFC 8474.
func TestCreateSpecialUse(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	for _, tc := range [][2]string{
		{`CREATE a (USE (\All))`, "NO [USEATTR]"}, {`CREATE b (USE (\Sent \Drafts))`, "NO [USEATTR]"}, {`CREATE c (USE (\Sent))`, "NO [USEATTR]"}, {`CREATE Sent (USE (\Sent))`, "NO [ALREADYEXISTS]"},
		{`CREATE d (USE \Sent)`, "BAD"}, {`CREATE e (NOPE (\Sent))`, "BAD"}, {`CREATE f ()`, "OK"}, {`CREATE "g/"`, "OK [MAILBOXID ("}, {`CREATE "g"`, "NO [ALREADYEXISTS]"}, {`CREATE "/x"`, "NO [CANNOT]"}, {`CREATE ""`, "NO [CANNOT]"},
	} {
		cmd, want := tc[0], tc[1]
		if out := c.do(cmd); len(out) != 1 || !strings.HasPrefix(out[0], want) {
			t.Errorf("%s: %v, want %s", cmd, out, want)
		}
	}
	c.ok("DELETE Sent")
	c.ok(`CREATE Gesendet (USE (\Sent))`)
	c.answers(`LIST (SPECIAL-USE) "" "G*"`, `* LIST (\Sent) "/" "Gesendet"`)
	id := strings.TrimSuffix(strings.TrimPrefix(c.do("STATUS Gesendet (MAILBOXID)")[0], `* STATUS "Gesendet" (MAILBOXID (`), "))")
	if len(id) != 32 {
		t.Errorf("MAILBOXID %q", id)
	}
	c.ok("RENAME Gesendet Weg")
	c.answers("STATUS Weg (MAILBOXID MAILBOXID)", `* STATUS "Weg" (MAILBOXID (`+id+`))`)
	c.gets("* OK [MAILBOXID ("+id+")]", "SELECT Weg")
}

// TestBadNames: names that are neither modified UTF-7 nor UTF-8 are refused, and nothing is left of them.
func TestBadNames(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	for _, name := range []string{"&Jjo", "&", "a&b", "&AGE-", "&2D0-", "&AOk!-", "&AA-", "\xff\xfe", "\"a\x01b\"", "a*b", `"a%b"`, strings.Repeat("x", 1001), strings.Repeat("a/", 40) + "a", "a//b"} {
		for _, cmd := range []string{"CREATE ", "DELETE ", "SELECT ", "SUBSCRIBE ", "RENAME INBOX "} {
			if out := c.do(cmd + name); len(out) != 1 || !strings.HasPrefix(out[0], "NO ") && !strings.HasPrefix(out[0], "BAD ") {
				t.Errorf("%s%.40q: %v", cmd, name, out)
			}
		}
		c.do(`LIST "" ` + name)
	}
	c.answers(`LIST (SUBSCRIBED) "" "*"`, `* LIST (\Subscribed) "/" "Archive"`, `* LIST (\Subscribed) "/" "Drafts"`, `* LIST (\Subscribed) "/" "INBOX"`, `* LIST (\Subscribed) "/" "Junk"`, `* LIST (\Subscribed) "/" "Sent"`, `* LIST (\Subscribed) "/" "Trash"`)
}

// TestRenameTree: a folder with 500 below it is renamed at once, with its messages.
func TestRenameTree(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	for i := range 500 {
		fmt.Fprintf(c.c, "x CREATE old/%03d/deep\r\n", i)
	}
	for range 500 {
		c.until("x")
	}
	c.ok(fmt.Sprintf("APPEND old/250/deep {%d+}\r\n%s", len(mail), mail))
	c.ok("CREATE elsewhere/123/deep") // in the way
	c.gets("NO [ALREADYEXISTS]", "RENAME old/123 elsewhere/123")
	c.gets("NO", "RENAME old old/below")
	c.ok("RENAME old new/place")
	if out := c.do(`LIST "" "new/place/*"`); len(out) != 1001 {
		t.Errorf("%d mailboxes, want 1000", len(out)-1)
	}
	c.answers(`LIST "" "old*"`)
	c.answers("STATUS new/place/250/deep (MESSAGES)", `* STATUS "new/place/250/deep" (MESSAGES 1)`)
}

// TestRenameByTheBook is RFC 9051 §6.3.6 sentence by sentence.
func TestRenameByTheBook(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	for _, cmd := range []string{"CREATE foo/bar/baz", "CREATE blurdybloop", "CREATE gone/below", "DELETE gone"} {
		c.ok(cmd)
	}
	c.ok("RENAME blurdybloop sarasoop")
	c.answers(`LIST "" "*oop"`, `* LIST (\HasNoChildren) "/" "sarasoop"`)
	c.gets("NO [NONEXISTENT]", "RENAME nowhere somewhere") // "a mailbox name that does not exist"
	c.gets("NO [NONEXISTENT]", "RENAME gone back")         // a name above others is not a mailbox
	c.gets("NO [NONEXISTENT]", "DELETE gone")
	c.gets("NO [ALREADYEXISTS]", "RENAME sarasoop foo") // "or to a mailbox name that already exists"
	c.gets("NO [ALREADYEXISTS]", "RENAME sarasoop inbox")
	c.gets("NO [ALREADYEXISTS]", "RENAME sarasoop sarasoop")
	c.gets("NO [CANNOT]", `RENAME sarasoop ""`)
	c.gets("NO [CANNOT]", `RENAME sarasoop "a//b"`)
	c.ok("RENAME foo zowie/new") // those below come along, and what is missing above is made
	c.answers(`LIST "" "foo*"`)
	c.answers(`LIST "" "zowie*"`, `* LIST (\HasChildren) "/" "zowie"`, `* LIST (\HasChildren) "/" "zowie/new"`, `* LIST (\HasChildren) "/" "zowie/new/bar"`, `* LIST (\HasNoChildren) "/" "zowie/new/bar/baz"`)
	c.ok(`RENAME sarasoop "gone"`) // below which there is one already
	c.answers(`LIST "" "gone*"`, `* LIST (\HasChildren) "/" "gone"`, `* LIST (\HasNoChildren) "/" "gone/below"`)
	c.ok(`RENAME gone "moved/"`) // a delimiter at the end is no part of the name
	c.answers(`LIST "" "moved*"`, `* LIST (\HasChildren) "/" "moved"`, `* LIST (\HasNoChildren) "/" "moved/below"`)
	w.deliver("anna", mail)
	c.ok("RENAME INBOX old/mail") // its messages go, it stays
	c.answers("STATUS INBOX (MESSAGES)", `* STATUS "INBOX" (MESSAGES 0)`)
	c.answers("STATUS old/mail (MESSAGES)", `* STATUS "old/mail" (MESSAGES 1)`)
	c.answers(`LIST "" "INBOX*"`, `* LIST (\HasNoChildren) "/" "INBOX"`)
}

// TestSubscriptionSurvives: only the client takes a name off the list, whatever becomes of the
// mailbox (RFC 3501 §6.3.6, §6.3.9).
func TestSubscriptionSurvives(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	for _, cmd := range []string{"CREATE a/b/c", "SUBSCRIBE a/b/c", "CREATE plain", "DELETE a/b/c", "DELETE a/b", "DELETE plain"} {
		c.ok(cmd)
	}
	gone := `* LIST (\NonExistent \Subscribed) "/" "a/b/c"`
	c.answers(`LIST (SUBSCRIBED) "" "a*"`, gone)
	c.answers(`LIST "" "a*"`, `* LIST (\HasNoChildren) "/" "a"`) // what is only subscribed is no mailbox
	c.answers(`LIST "" "a*" RETURN (SUBSCRIBED)`, `* LIST () "/" "a"`)
	c.answers(`LIST (SUBSCRIBED) "" "plain"`)
	c.answers(`LSUB "" "a*"`, `* LSUB () "/" "a/b/c"`)
	c.answers(`LSUB "" "a/%"`, `* LSUB (\Noselect) "/" "a/b"`)
	c.answers(`LIST (SUBSCRIBED RECURSIVEMATCH) "" "a"`, `* LIST () "/" "a" ("CHILDINFO" ("SUBSCRIBED"))`)
	c.answers(`LIST (SUBSCRIBED) "" "a*" RETURN (STATUS (MESSAGES))`, gone)
	c.answers(`LIST (SPECIAL-USE SUBSCRIBED) "" "a*"`)
	other := w.login("bob")
	other.answers(`LIST (SUBSCRIBED) "" "a*"`)
	c.gets("NO [NONEXISTENT]", "SELECT a/b/c")
	c.ok("CREATE a/b/c") // the subscription is there again with the mailbox
	c.answers(`LIST (SUBSCRIBED) "" "a*"`, `* LIST (\Subscribed) "/" "a/b/c"`)
	c.ok("UNSUBSCRIBE a/b/c")
	c.answers(`LIST (SUBSCRIBED) "" "a*"`)
	c.ok("DELETE a/b/c")
	c.answers(`LIST (SUBSCRIBED) "" "a*"`)

	for _, cmd := range []string{"CREATE x/y", "SUBSCRIBE x/y", "DELETE x/y", "DELETE x", "UNSUBSCRIBE x/y", "UNSUBSCRIBE x/y"} {
		c.ok(cmd)
	}
	c.answers(`LSUB "" "x*"`)
	// One that is made implicitly, above another, has its name's subscription, too.
	for _, cmd := range []string{"CREATE p", "SUBSCRIBE p", "DELETE p", "CREATE p/q"} {
		c.ok(cmd)
	}
	c.answers(`LIST (SUBSCRIBED) "" "p*"`, `* LIST (\Subscribed) "/" "p"`)
	c.ok("UNSUBSCRIBE p")
	c.answers(`LSUB "" "p*"`)
}

// TestSubscriptionLimit: names without a mailbox don't grow without end.
func TestSubscriptionLimit(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	err := w.state.Update(t.Context(), func(tx *state.Tx) error {
		for n := range model.MaxSubscriptions {
			if err := state.Subscriptions.Put(tx, &model.Subscription{Account: 'a', Name: fmt.Sprint("n", n)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{"CREATE more", "SUBSCRIBE more", "DELETE more"} {
		c.ok(cmd)
	}
	c.answers(`LSUB "" "more"`)
	if names, err := w.store.Subscriptions('a'); err != nil || len(names) != model.MaxSubscriptions {
		t.Errorf("%d names, %v", len(names), err)
	}
}

// TestMailboxLimit: an account that makes mailboxes without end is told where it ends.
func TestMailboxLimit(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	deep := strings.Repeat("/x", 30)
	n := 0
	for ; n < 400; n++ { // 31 mailboxes each
		out := c.do(fmt.Sprintf("CREATE %d%s", n, deep))
		if strings.HasPrefix(out[0], "OK") {
			continue
		}
		if !strings.HasPrefix(out[0], "NO [LIMIT] an account can have 10000 mailboxes") {
			t.Errorf("after %d: %v", n*31, out)
		}
		break
	}
	if n < 320 || n > 323 {
		t.Errorf("refused after %d mailboxes", n*31)
	}
	c.ok("NOOP")
}
