package imapd_test

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// box gives a mailbox of an account.
func (w *world) box(user, name string) model.MailboxID {
	w.t.Helper()
	m, err := w.store.Mailbox(model.AccountID(user[0]), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return m.ID
}

var highest = regexp.MustCompile(`\[HIGHESTMODSEQ (\d+)\]`)

// opened selects a mailbox and gives its HIGHESTMODSEQ and UIDVALIDITY.
func (c *client) opened(cmd string) (modseq, validity uint64, all string) {
	c.w.t.Helper()
	all = c.ok(cmd)
	m, v := highest.FindStringSubmatch(all), regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`).FindStringSubmatch(all)
	if m == nil || v == nil {
		c.w.t.Fatalf("%s:\n%s", cmd, all)
	}
	modseq, _ = strconv.ParseUint(m[1], 10, 64)
	validity, _ = strconv.ParseUint(v[1], 10, 64)
	return modseq, validity, all
}

func TestCondstore(t *testing.T) {
	// covers: I.19
	w := newWorld(t)
	for range 4 {
		w.deliver("anna", mail)
	}
	a, b := w.login("anna"), w.login("anna")
	first, _, _ := a.opened("SELECT INBOX (CONDSTORE)")
	b.ok("SELECT INBOX")
	if out := b.ok(`STORE 2 +FLAGS (\Flagged)`); strings.Contains(out, "MODSEQ") {
		t.Errorf("a client that knows no CONDSTORE is told MODSEQ:\n%s", out)
	}
	a.gets(fmt.Sprintf(`* 2 FETCH (UID 2 FLAGS (\Flagged \Recent) MODSEQ (%d))`, first+1), "NOOP")
	a.gets(fmt.Sprintf("MODSEQ (%d)", first+1), "FETCH 2 (MODSEQ)")
	if out := a.ok(fmt.Sprintf("FETCH 1:* (FLAGS) (CHANGEDSINCE %d)", first)); strings.Count(out, "FETCH (") != 1 || !strings.Contains(out, fmt.Sprintf("* 2 FETCH (FLAGS (\\Flagged \\Recent) MODSEQ (%d))", first+1)) {
		t.Errorf("CHANGEDSINCE:\n%s", out)
	}
	// UNCHANGEDSINCE: message 2 was changed since, the others not
	out := a.ok(fmt.Sprintf(`STORE 1:3 (UNCHANGEDSINCE %d) +FLAGS.SILENT (\Seen)`, first))
	for _, want := range []string{"OK [MODIFIED 2]", fmt.Sprintf("* 1 FETCH (UID 1 MODSEQ (%d))", first+2), fmt.Sprintf("* 3 FETCH (UID 3 MODSEQ (%d))", first+2)} {
		if !strings.Contains(out, want) {
			t.Errorf("STORE lacks %q:\n%s", want, out)
		}
	}
	a.gets("OK [MODIFIED 1:3]", fmt.Sprintf(`UID STORE 1:3 (UNCHANGEDSINCE %d) FLAGS ()`, first))
	a.gets(`FETCH (FLAGS (\Flagged \Recent))`, "FETCH 2 FLAGS") // nothing was done
	a.gets("OK STORE", fmt.Sprintf(`STORE 4 (UNCHANGEDSINCE %d) +FLAGS (\Seen)`, first))
	a.gets("OK [MODIFIED 4]", `STORE 4 (UNCHANGEDSINCE 0) +FLAGS (\Draft)`)
	b.ok("NOOP")
	b.gets(fmt.Sprintf("* SEARCH 1 3 4 (MODSEQ %d)", first+3), fmt.Sprintf("SEARCH MODSEQ %d", first+2))
	b.gets(fmt.Sprintf("* SEARCH 1 3 4 (MODSEQ %d)", first+3), fmt.Sprintf(`SEARCH MODSEQ "/flags/\\draft" all %d`, first+2))
	b.gets("* SEARCH\n", "SEARCH MODSEQ 999999")
	b.gets("MODSEQ (", "STORE 1 FLAGS ()") // the search has turned it on
	for _, cmd := range []string{"FETCH 1 FLAGS (CHANGEDSINCE)", "FETCH 1 FLAGS (NOPE 1)", "STORE 1 (UNCHANGEDSINCE x) FLAGS ()", "STORE 1 () FLAGS ()", "SEARCH MODSEQ", "SEARCH MODSEQ 99999999999999999999", "SELECT INBOX (NOPE)", "UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "FETCH 1 FLAGS (VANISHED)", "SELECT INBOX (QRESYNC (1 1))"} {
		a.gets("BAD", cmd)
	}
	a.gets("FETCH", "FETCH 1 FLAGS") // the refused SELECT has closed nothing
	fresh := w.login("anna")
	fresh.gets("* ENABLED CONDSTORE\n", "ENABLE condstore nope CONDSTORE")
	fresh.gets("* ENABLED QRESYNC\n", "ENABLE QRESYNC")
}

func TestQresync(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		w.deliver("anna", mail)
	}
	c, other := w.login("anna"), w.login("anna")
	c.ok("ENABLE QRESYNC")
	modseq, validity, _ := c.opened("SELECT INBOX")
	other.ok("SELECT INBOX")
	c.ok("UNSELECT")
	other.ok(`STORE 2:4,8 +FLAGS.SILENT (\Deleted)`)
	other.ok("EXPUNGE")
	other.ok(`UID STORE 5 +FLAGS (\Flagged)`)
	w.deliver("anna", mail)

	_, _, out := c.opened(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d))", validity, modseq))
	for _, want := range []string{"* VANISHED (EARLIER) 2:4,8\n", `* 2 FETCH (UID 5 FLAGS (\Flagged) MODSEQ (`, "* 7 FETCH (UID 11 FLAGS (\\Recent) MODSEQ ("} {
		if !strings.Contains(out, want) {
			t.Errorf("SELECT lacks %q:\n%s", want, out)
		}
	}
	if n := strings.Count(out, "FETCH ("); n != 2 {
		t.Errorf("%d messages are told:\n%s", n, out)
	}
	if out := c.ok(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d 3:5))", validity, modseq)); !strings.Contains(out, "(EARLIER) 3:4\n") || strings.Count(out, "FETCH (") != 1 || !strings.Contains(out, "[CLOSED]") {
		t.Errorf("with known UIDs:\n%s", out)
	}
	if out := c.ok(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d))", validity+1, modseq)); strings.Contains(out, "VANISHED") || strings.Contains(out, "FETCH") {
		t.Errorf("of another UIDVALIDITY:\n%s", out)
	}
	c.gets("* VANISHED (EARLIER) 2:4,8\n* 2 FETCH (UID 5 FLAGS (\\Flagged) MODSEQ (", fmt.Sprintf("UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d VANISHED)", modseq))
	c.gets("* VANISHED (EARLIER) 8\n", fmt.Sprintf("UID FETCH 6:* (UID) (CHANGEDSINCE %d VANISHED)", modseq))

	// while the mailbox is selected: VANISHED instead of EXPUNGE, for what others and what we remove
	other.ok(`UID STORE 6,7 +FLAGS.SILENT (\Deleted)`)
	other.ok("EXPUNGE")
	c.gets("* VANISHED 6:7\n", "NOOP")
	c.ok(`UID STORE 9 +FLAGS.SILENT (\Deleted)`)
	now := c.ok("UID EXPUNGE 9")
	if !strings.Contains(now, "* VANISHED 9\n") || strings.Contains(now, "EXPUNGE\n") || !highest.MatchString(now) {
		t.Errorf("UID EXPUNGE:\n%s", now)
	}
	if out := c.ok("UID MOVE 10 Trash"); !strings.Contains(out, "* VANISHED 10\n") || !highest.MatchString(out) {
		t.Errorf("MOVE:\n%s", out)
	}
	c.ok(`STORE 1 +FLAGS.SILENT (\Deleted)`)
	closed := c.ok("CLOSE")
	m := highest.FindStringSubmatch(closed)
	if m == nil || strings.Contains(closed, "VANISHED") {
		t.Fatalf("CLOSE:\n%s", closed)
	}
	if out := c.ok(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %s))", validity, m[1])); strings.Contains(out, "VANISHED") {
		t.Errorf("CLOSE has told a mod-sequence before its own expunge:\n%s", out)
	}
	c.ok("UNSELECT")
	for _, bad := range []string{"(QRESYNC)", "(QRESYNC ())", "(QRESYNC (1))", "(QRESYNC (0 1))", "(QRESYNC (1 0))", "(QRESYNC (1 1 *))", "(QRESYNC (1 1 1 (1)))", "(QRESYNC (1 1 1 (1 1))", "(QRESYNC (1 1 $))"} {
		c.gets("BAD", "SELECT INBOX "+bad)
	}
	c.gets("OK", fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d (1:2 5,11)))", validity, modseq))
}

// said does a command and gives the HIGHESTMODSEQ of its answer.
func (c *client) said(cmd string) (modseq uint64) {
	c.w.t.Helper()
	out := c.ok(cmd)
	if m := highest.FindStringSubmatch(out); m != nil {
		modseq, _ = strconv.ParseUint(m[1], 10, 64)
		return modseq
	}
	c.w.t.Fatalf("%s tells no HIGHESTMODSEQ:\n%s", cmd, out)
	return 0
}

// TestNothingIsLost: whatever HIGHESTMODSEQ a client was told last, from there on it learns of
// everything that it was not told (RFC 7162 §3.2): of expunges that a command had to hold back, and of
// what others have done before CLOSE.
func TestNothingIsLost(t *testing.T) {
	// covers: I.19
	w := newWorld(t)
	for range 6 {
		w.deliver("anna", mail)
	}
	c, other := w.login("anna"), w.login("anna")
	c.ok("ENABLE QRESYNC")
	_, validity, _ := c.opened("SELECT INBOX")
	other.ok("SELECT INBOX")

	for i, cmd := range []string{"FETCH 1 FLAGS", "STORE 1 +FLAGS (work)", "SEARCH ALL", "SORT (DATE) UTF-8 ALL", "COPY 1 Trash"} {
		other.ok(fmt.Sprintf(`UID STORE %d +FLAGS.SILENT (\Deleted)`, i+2))
		other.ok("EXPUNGE")
		other.ok(fmt.Sprintf(`UID STORE 1 +FLAGS (word%d)`, i)) // a mod-sequence above that of the expunge
		modseq := c.said(cmd)
		late := w.login("anna")
		late.ok("ENABLE QRESYNC")
		if out := late.ok(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d))", validity, modseq)); !strings.Contains(out, fmt.Sprintf("* VANISHED (EARLIER) %d\n", i+2)) {
			t.Errorf("after %s UID %d is not told as gone:\n%s", cmd, i+2, out)
		}
		c.ok("NOOP")
	}
	c.ok(`STORE 1 +FLAGS.SILENT (\Deleted)`)
	w.deliver("anna", mail)
	other.ok("NOOP")
	other.ok(`UID STORE 7 +FLAGS (\Flagged)`)
	modseq := c.said("CLOSE")
	if out := c.ok(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d))", validity, modseq)); !strings.Contains(out, "* VANISHED (EARLIER) 1\n") || !strings.Contains(out, `FETCH (UID 7 FLAGS (\Flagged`) {
		t.Errorf("after CLOSE:\n%s", out)
	}
}

// TestCharsetUnderUTF8: once everything is UTF-8, a charset can only contradict (RFC 6855 §3).
func TestCharsetUnderUTF8(t *testing.T) {
	w := newWorld(t)
	w.deliver("anna", mail)
	c := w.login("anna")
	c.ok("SELECT INBOX")
	for _, cmd := range []string{"SEARCH", "UID SEARCH"} {
		c.gets("* SEARCH 1", cmd+" CHARSET UTF-8 ALL")
	}
	c.ok("ENABLE UTF8=ACCEPT")
	for _, cmd := range []string{"SEARCH", "UID SEARCH", "SEARCH RETURN (SAVE)"} {
		c.gets("BAD", cmd+" CHARSET UTF-8 ALL")
		c.gets("BAD", cmd+" CHARSET US-ASCII ALL")
	}
	c.gets("* SEARCH 1", "SEARCH SUBJECT {7+}\r\nGrüße")
	c.gets("* SORT 1", "SORT (DATE) UTF-8 ALL") // whose charset is no option (RFC 5256 §3)
}

func TestSearchReturn(t *testing.T) {
	w := newWorld(t)
	for range 9 {
		w.deliver("anna", mail)
	}
	c := w.login("anna")
	c.ok("SELECT INBOX")
	c.ok(`STORE 1 +FLAGS.SILENT (\Deleted)`)
	c.ok("EXPUNGE")
	c.ok(`STORE 2:4,7 +FLAGS.SILENT (\Seen)`)
	for _, x := range [][2]string{
		{"SEARCH RETURN (MIN MAX COUNT ALL) SEEN", `* ESEARCH (TAG "t%d") MIN 2 MAX 7 ALL 2:4,7 COUNT 4`}, {"UID SEARCH RETURN (MIN MAX) SEEN", `* ESEARCH (TAG "t%d") UID MIN 3 MAX 8`},
		{"SEARCH RETURN () UNSEEN", `* ESEARCH (TAG "t%d") ALL 1,5:6,8`}, {"SEARCH RETURN (COUNT) FLAGGED", `* ESEARCH (TAG "t%d") COUNT 0`}, {"SEARCH RETURN (MIN ALL) FLAGGED", `* ESEARCH (TAG "t%d")`},
		{"SEARCH RETURN (COUNT) CHARSET UTF-8 SUBJECT {7+}\r\nGrüße", `COUNT 8`},
	} {
		want := x[1]
		if strings.Contains(want, "%d") {
			want = fmt.Sprintf(want, c.n+1)
		}
		if out := c.ok(x[0]); strings.Split(out, "\n")[0] != want && !strings.Contains(out, "COUNT 8") {
			t.Errorf("%s:\n%s\nwant %s", x[0], out, want)
		}
	}
	// RFC 5182: $
	if out := c.ok("SEARCH RETURN (SAVE) SEEN"); strings.Contains(out, "SEARCH (") {
		t.Errorf("SAVE alone answers:\n%s", out)
	}
	c.gets("* SEARCH 2 3 4 7\n", "SEARCH $")
	c.gets("* SEARCH 3 4 5 8\n", "UID SEARCH UID $")
	c.gets("* SEARCH 1 5 6 8\n", "SEARCH NOT $")
	if out := c.ok("FETCH $ UID"); strings.Count(out, "FETCH (") != 4 {
		t.Errorf("FETCH $:\n%s", out)
	}
	c.ok("SEARCH RETURN (SAVE MIN) $")
	c.gets("* SEARCH 2\n", "SEARCH $")
	c.ok(`UID STORE $ +FLAGS.SILENT (\Deleted)`)
	c.gets("* 2 EXPUNGE", "UID EXPUNGE $")
	c.ok("FETCH $ UID") // what is gone is no error
	c.gets("BAD", "SEARCH RETURN (NOPE) ALL")
	c.ok("SEARCH RETURN (SAVE) ALL")
	c.gets("BAD", "SEARCH RETURN (SAVE) NOPE") // leaves what was saved
	c.gets("* SEARCH 1 2", "SEARCH $")
	c.gets("[BADCHARSET", "SEARCH RETURN (SAVE) CHARSET X ALL") // NO empties it
	c.gets("* SEARCH\n", "SEARCH $")
	c.ok("SEARCH RETURN (SAVE) ALL")
	c.gets("[BADCHARSET", "SORT RETURN (SAVE) (DATE) X ALL")
	c.gets("* SEARCH\n", "SEARCH $")
	c.ok("SEARCH RETURN (SAVE) ALL")
	c.ok("SELECT INBOX")
	c.gets("* SEARCH\n", "SEARCH $")
	// RFC 5032
	c.gets("* SEARCH 1 2 3 4 5 6 7\n", "SEARCH YOUNGER 3600")
	c.gets("* SEARCH\n", "SEARCH OLDER 3600")
	c.gets("BAD", "SEARCH YOUNGER 0")
}

func TestRev2(t *testing.T) {
	w := newWorld(t)
	w.deliver("anna", mail)
	c := w.login("anna")
	c.gets("IMAP4rev2", "CAPABILITY")
	c.gets("* ENABLED IMAP4rev2\n", "ENABLE IMAP4rev2")
	out := c.ok("SELECT INBOX")
	if strings.Contains(out, "RECENT") || strings.Contains(out, "UNSEEN") || !strings.Contains(out, `* LIST () "/" "INBOX"`) {
		t.Errorf("SELECT:\n%s", out)
	}
	c.gets(`* ESEARCH (TAG "t`, "SEARCH ALL")
	c.gets("FLAGS ()", "FETCH 1 FLAGS")
	w.deliver("anna", mail)
	if out := c.ok("NOOP"); strings.Contains(out, "RECENT") || !strings.Contains(out, "* 2 EXISTS") {
		t.Errorf("NOOP:\n%s", out)
	}
}

func TestRecentIsTheFirstSessions(t *testing.T) {
	w := newWorld(t)
	w.deliver("anna", mail)
	look := w.login("anna")
	look.gets("* 1 RECENT", "EXAMINE INBOX") // and takes nothing away
	a := w.login("anna")
	a.gets("* 1 RECENT", "SELECT INBOX")
	b := w.login("anna")
	b.gets("* 0 RECENT", "SELECT INBOX")
	w.deliver("anna", mail)
	b.gets("* 1 RECENT", "NOOP")                   // b is told first
	a.gets("* 1 RECENT", "NOOP")                   // the one from before
	look.gets("RECENT 0", "STATUS INBOX (RECENT)") // b and a have them
	a.gets("* SEARCH 1\n", "SEARCH RECENT")
	b.gets("* SEARCH 2\n", "SEARCH NEW")
	b.ok("UNSELECT")
	b.gets("RECENT 0", "STATUS INBOX (RECENT)") // now for good
	b.gets("* 0 RECENT", "SELECT INBOX")
	b.ok("UNSELECT")
	a.ok("UNSELECT")
	for range 3 {
		w.deliver("anna", mail)
	}
	look.gets("* 3 RECENT", "EXAMINE INBOX")
	if _, err := w.store.Expunge(context.Background(), state.Expunge{Mailbox: w.box("anna", "INBOX"), UIDs: []model.UID{2, 4}}); err != nil {
		t.Fatal(err)
	}
	look.gets("RECENT 2", "STATUS INBOX (RECENT)")
}

func TestSortAndThread(t *testing.T) {
	// covers: I.19
	w := newWorld(t)
	for _, m := range []struct{ from, subject, date, id, refs string }{
		{"Zoe <bob@x.test>", "beta", "Wed, 3 Jan 2024 10:00:00 +0000", "1", ""},
		{"Anna <zed@x.test>", "Re: alpha", "Tue, 2 Jan 2024 10:00:00 +0000", "2", "<3>"},
		{"=?utf-8?q?=C3=84nne?= <carl@x.test>", "alpha", "Mon, 1 Jan 2024 23:00:00 -0500", "3", ""},
		{"plain@x.test", "[list] Alpha (fwd)", "Thu, 4 Jan 2024 10:00:00 +0000", "4", "<3> <2>"},
		{"Bob <al@x.test>", "", "", "5", ""},
	} {
		head := "From: " + m.from + "\r\nSubject: " + m.subject + "\r\nMessage-ID: <" + m.id + ">\r\n"
		if m.date != "" {
			head += "Date: " + m.date + "\r\n"
		}
		if m.refs != "" {
			head += "References: " + m.refs + "\r\n"
		}
		w.deliver("anna", head+"\r\n"+strings.Repeat("x", 10*len(m.id+m.from))+"\r\n")
	}
	c := w.login("anna")
	c.ok("SELECT INBOX")
	c.ok(`STORE 1 +FLAGS.SILENT (\Deleted)`)
	for cmd, want := range map[string]string{
		"SORT (SUBJECT) UTF-8 ALL": "* SORT 5 2 3 4 1\n", "SORT (SUBJECT DATE) US-ASCII ALL": "* SORT 5 3 2 4 1\n", "SORT (REVERSE DATE) UTF-8 ALL": "* SORT 5 4 1 2 3\n", "SORT (FROM) UTF-8 UNDELETED": "* SORT 5 3 4 2\n",
		"SORT (DISPLAYFROM) UTF-8 ALL": "* SORT 2 3 5 4 1\n", "SORT (ARRIVAL) UTF-8 FLAGGED": "* SORT\n", "UID SORT (REVERSE SUBJECT REVERSE DATE) UTF-8 ALL": "* SORT 1 4 2 3 5\n",
		"SORT RETURN (MIN MAX COUNT ALL) (DATE) UTF-8 ALL": "MIN 3 MAX 5 ALL 3,2,1,4:5 COUNT 5\n",
		"THREAD REFERENCES UTF-8 ALL":                      "* THREAD (3 2 4)(1)(5)\n", "THREAD ORDEREDSUBJECT UTF-8 ALL": "* THREAD (3 (2)(4))(1)(5)\n", "THREAD REFERENCES UTF-8 FLAGGED": "* THREAD\n",
		"UID THREAD REFERENCES US-ASCII UNDELETED": "* THREAD (3 2 4)(5)\n",
		"SORT (DATE) KLINGON ALL":                  "NO [BADCHARSET", "SORT () UTF-8 ALL": "BAD", "SORT (REVERSE) UTF-8 ALL": "BAD", "SORT (NOPE) UTF-8 ALL": "BAD", "SORT (DATE) ALL": "BAD", "THREAD NOPE UTF-8 ALL": "BAD", "THREAD REFERENCES": "BAD",
	} {
		c.gets(want, cmd)
	}
}

// TestSeqMatch: a server that has forgotten what was expunged tells the holes between the UIDs, above the
// last pair of sequence number and UID that is still right (RFC 7162 §3.2.5.2).
func TestSeqMatch(t *testing.T) {
	// covers: I.19
	w := newWorld(t)
	for range 12 {
		w.deliver("anna", mail)
	}
	other, c := w.login("anna"), w.serve(forgetful{w.store}).login("anna")
	other.ok("SELECT INBOX")
	expunge := func(set string) {
		other.ok("UID STORE " + set + ` +FLAGS.SILENT (\Deleted)`)
		other.ok("EXPUNGE")
	}
	expunge("2") // which the client knows
	c.ok("ENABLE QRESYNC")
	modseq, validity, _ := c.opened("SELECT INBOX")
	expunge("6,9:10")
	for args, want := range map[string]string{
		"":                            "2,6,9:10",
		" 1:12":                       "2,6,9:10",
		" 3:8":                        "6",
		" (1 1)":                      "2,6,9:10", // nothing is gone up to 1
		" (2 3)":                      "6,9:10",
		" 1:12 (1,4 1,5)":             "6,9:10",
		" 1:12 (4:5 5:6)":             "6,9:10",   // 5 is right, 6 is not
		" 1:12 (1,5,8 1,6,9)":         "2,6,9:10", // 1 is right
		" 1:12 (4,7,11 5,8,12)":       "6,9:10",
		" 1:12 (4,6:7 5,7:8)":         "6,9:10",
		" 1:12 (5 7)":                 "9:10", // a client that knows of 6
		" 1:12 (99 99)":               "2,6,9:10",
		" 1:12 (1:3 1)":               "2,6,9:10", // the second has fewer
		" 7:12 (4294967295 1)":        "9:10",
		" 1:4294967295 (1,2 1,3)":     "6,9:10",
		" 1:12 (1,2,3,4,5 1,3,4,5,7)": "9:10",
	} {
		out := c.ok(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d%s))", validity, modseq, args))
		if got := strings.Count(out, "VANISHED"); got != 1 || !strings.Contains(out, "* VANISHED (EARLIER) "+want+"\n") {
			t.Errorf("%q, want %s:\n%s", args, want, out)
		}
	}
}
