package imapd_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const dovecotConf = `base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = sdbox:%[1]s/mail/%%n
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
default_vsz_limit = 0
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=mail gid=mail home=%[1]s/mail/%%n allow_all_users=yes
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Sent {
    auto = subscribe
    special_use = \Sent
  }
  mailbox Drafts {
    auto = subscribe
    special_use = \Drafts
  }
  mailbox Trash {
    auto = subscribe
    special_use = \Trash
  }
  mailbox Junk {
    auto = subscribe
    special_use = \Junk
  }
  mailbox Archive {
    auto = subscribe
    special_use = \Archive
  }
}
service imap-login {
  chroot =
  inet_listener imap {
    port = %[2]d
  }
  inet_listener imaps {
    port = 0
  }
}
service anvil {
  chroot =
}
`

// startDovecot runs Debian's Dovecot in a directory of its own and gives its address.
func startDovecot(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("dovecot")
	if err != nil {
		program = "/usr/sbin/dovecot"
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("dovecot-imapd is not installed")
	}
	if os.Getuid() != 0 {
		t.Skip("Dovecot needs root")
	}
	dir, err := os.MkdirTemp("", "dovecot-*") // its processes are of another user: t.TempDir is closed to them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	os.MkdirAll(filepath.Join(dir, "mail"), 0o777)
	os.Chmod(filepath.Join(dir, "mail"), 0o777)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, dovecotConf, dir, port), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-F", "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Skipf("Dovecot does not start: %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Skipf("Dovecot does not answer:\n%s", text)
		}
	}
}

// compared are the letters that both servers get.
var compared = []string{
	mail,
	"From: \"Müller, J\" <j@b.test>\r\nTo: undisclosed-recipients:;\r\nSubject: no date\r\n\r\nbody only\r\n",
	"From: a@b.test (A Comment)\r\nTo: A Group: one@x.test, Two <two@y.test>;, three@z.test\r\nCc: <four@z.test>\r\nSubject: groups\r\nDate: Tue, 2 Jan 2024 11:00:00 +0100\r\nMessage-ID: <3@a.test>\r\nIn-Reply-To: <1@a.test>\r\nReferences: <1@a.test>\r\n\r\ntext in groups\r\n",
	"From: x@y.test\r\nSubject: Re: groups\r\nDate: Wed, 3 Jan 2024 09:00:00 +0000\r\nMessage-ID: <4@a.test>\r\nReferences: <1@a.test> <3@a.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"b=1\"\r\n\r\nPreamble\r\n--b=1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe =\r\nan alle\r\n--b=1\r\nContent-Type: text/html; charset=\"utf-8\"\r\nContent-Language: de, en\r\nContent-Location: http://x.test/\r\n\r\n<p>hello</p>\r\n--b=1--\r\nEpilogue\r\n",
	"From: x@y.test\r\nTo: b@b.test\r\nSubject: attached\r\nDate: Thu, 4 Jan 2024 09:00:00 +0000\r\nMessage-ID: <5@a.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\nContent-Type: text/plain\r\n\r\nsee below\r\n\r\n--outer\r\nContent-Type: message/rfc822\r\nContent-Description: forwarded\r\n\r\nFrom: inner@i.test\r\nSubject: inner letter\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nContent-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n\r\ninner text\r\n--inner\r\nContent-Type: image/png; name=\"p.png\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"p.png\"; size=4\r\nContent-ID: <pic@i.test>\r\nContent-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\n\r\nAAECAw==\r\n--inner--\r\n\r\n--outer--\r\n",
	"From: z@z.test\r\nSubject: =?iso-8859-1?q?caf=E9?= =?utf-8?b?4oKs?=\r\nDate: Fri, 5 Jan 2024 23:59:59 -0800\r\nMessage-ID: <6@a.test>\r\nX-Long: one\r\n two\r\n\tthree\r\nX-Empty:\r\n\r\nFolded header above. hello again\r\n",
	"Subject: no from at all\r\nDate: Sat, 6 Jan 2024 10:00:00 +0000\r\n\r\n",
	"From: \"quoted \\\"name\\\"\" <q@q.test>\r\nSender: real@q.test\r\nReply-To: answer@q.test, second@q.test\r\nBcc: hidden@q.test\r\nTo: b@b.test\r\nSubject: \"quotes\" and \\ backslash\r\nDate: Sun, 7 Jan 2024 10:00:00 +0000\r\nMessage-ID: <8@a.test>\r\n\r\n" + strings.Repeat("a line of some length for the size\r\n", 100),
	"From: thread@t.test\r\nSubject: Fwd: hello\r\nDate: Mon, 8 Jan 2024 10:00:00 +0000\r\nMessage-ID: <9@a.test>\r\n\r\nalone\r\n",
	"From: thread@t.test\r\nSubject: Re: [list] hello (fwd)\r\nDate: Tue, 9 Jan 2024 10:00:00 +0000\r\nMessage-ID: <10@a.test>\r\nIn-Reply-To: <9@a.test>\r\n\r\nwith subject hello\r\n",
}

// compareScript is what both are asked, in this order.
func compareScript() []string {
	var s []string
	add := func(cmds ...string) { s = append(s, cmds...) }
	add("NAMESPACE", `LIST "" ""`, `LIST "" "*"`, `LIST "" "%"`, "CREATE Work", "CREATE Work/Reports", "CREATE Work/Reports/Old", "CREATE Work/Letters", `CREATE "with space"`, `CREATE "&Jjo-!"`, "CREATE Work/Letters", "CREATE inbox", "SUBSCRIBE Work/Letters", "SUBSCRIBE INBOX",
		`LIST "" "Work*"`, `LIST "Work/" "%"`, `LIST "" "Work/%/%"`, `LIST "" "*e*"`, `LIST "" "wORK"`, `LIST "" iNbOx`, `LIST "" (Work "with%")`, `LIST "" "*" RETURN (SUBSCRIBED)`, `LIST "" "%" RETURN (CHILDREN SUBSCRIBED)`, `LIST (SUBSCRIBED) "" "*"`, `LIST (SUBSCRIBED) "" "W%"`,
		`LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"`, `LIST (SPECIAL-USE) "" "*"`, `LIST "" "%" RETURN (SPECIAL-USE)`, `LIST "" "Work/*" RETURN (STATUS (MESSAGES UIDNEXT))`, `LIST (RECURSIVEMATCH) "" "*"`, `LIST (NOPE) "" "*"`, `LSUB "" "*"`, `LSUB "" "Work/%"`, `LSUB "" "W%"`,
		"RENAME Work/Letters Work/Post", `LIST "" "Work/*"`, "RENAME Work/Nothing x", `RENAME Work/Post "with space"`, "RENAME Work Office", `LIST "" "Office*"`, "DELETE Office/Reports", `LIST "" "Office*"`, "DELETE nowhere", "DELETE INBOX", "UNSUBSCRIBE INBOX", "SUBSCRIBE INBOX", `CREATE "x/"`, `LIST "" x`,
		"STATUS INBOX (MESSAGES UIDNEXT UNSEEN)", "STATUS INBOX (SIZE)", "STATUS nowhere (MESSAGES)", "STATUS INBOX ()", "STATUS INBOX (NOPE)", "STATUS INBOX MESSAGES", "EXAMINE nowhere", "SELECT", "EXAMINE INBOX", "STORE 1 +FLAGS (\\Seen)", "FETCH 1 BODY[TEXT]", "UID EXPUNGE 1:*", "CLOSE", "CHECK", "SELECT INBOX")
	for _, item := range []string{"FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "(UID FLAGS RFC822.SIZE)", "ALL", "FAST", "FULL", "RFC822.HEADER", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BODY.PEEK[]", "BODY.PEEK[1]", "BODY.PEEK[1.MIME]", "BODY.PEEK[]<5.20>", "BODY.PEEK[TEXT]<3.4>", "BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]", "BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT FROM DATE MESSAGE-ID)]"} {
		add("FETCH 1:* " + item)
	}
	for _, part := range []string{"1", "2", "1.MIME", "2.MIME", "2.HEADER", "2.TEXT", "2.1", "2.2", "2.2.MIME", "2.1.MIME", "2.HEADER.FIELDS (SUBJECT)", "3", "2.3", "1.1", "2.2.1"} {
		add("FETCH 5 BODY.PEEK["+part+"]", "UID FETCH 4 BODY.PEEK["+part+"]")
	}
	for _, part := range []string{"1", "2", "2.2", "2.1"} {
		add("FETCH 4:5 BINARY.PEEK["+part+"]", "FETCH 5 BINARY.SIZE["+part+"]")
	}
	add("FETCH 4 BINARY.PEEK[1]<2.5>", "FETCH 1 BODY[HEADER", "FETCH 1 NOPE", "FETCH 1 ()", "FETCH 0 FLAGS", "FETCH 99 FLAGS", "UID FETCH 99 FLAGS", "UID FETCH 99:* FLAGS", "FETCH 3:1 UID", "FETCH *:2 UID", "FETCH 1,3,5:6 UID", "FETCH 1 BODY.PEEK", "FETCH 2 BODY[]", "FETCH 3 RFC822", "FETCH 3 RFC822.TEXT", "UID FETCH 1:* (FLAGS)")
	for _, key := range []string{"ALL", "SEEN", "UNSEEN", "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "UNFLAGGED", "NOT SEEN", "1:3", "2,4,6:*", "UID 1:2", "UID 90:99", "FROM b.test", "FROM \"Anna\"", "TO b@b.test", "CC four", "BCC hidden", "SUBJECT re", "SUBJECT GROUPS", "SUBJECT caf\u00e9", "TEXT hello", "BODY hello", "BODY inner", "TEXT \"inner letter\"", "HEADER X-Long two", "HEADER X-Empty \"\"", "HEADER Nothing \"\"", "HEADER Message-ID 4@a", "BEFORE 1-Feb-2024", "SINCE 1-Feb-2024", "ON 1-Jan-2024", "SENTBEFORE 3-Jan-2024", "SENTON 3-Jan-2024", "SENTSINCE 5-Jan-2024", "LARGER 1000", "SMALLER 200", "OR SEEN FLAGGED", "OR (SEEN FROM x) NOT (TO b)", "NOT NOT SEEN", "(SEEN) (UNSEEN)", "KEYWORD $Label", "UNKEYWORD $Label", "CHARSET UTF-8 TEXT alle", "CHARSET US-ASCII ALL", "CHARSET KLINGON ALL", "NOPE", "FROM", "(SEEN", "()", "1:", "0", "BEFORE yesterday", "LARGER x", "OLDER 1", "YOUNGER 1"} {
		add("SEARCH " + key)
	}
	for _, key := range []string{"RETURN (MIN MAX COUNT) ALL", "RETURN () SEEN", "RETURN (ALL) 2:4", "RETURN (COUNT) UNSEEN", "RETURN (MIN) DELETED", "RETURN (SAVE) 1:3", "$", "RETURN (COUNT) $", "RETURN (NOPE) ALL"} {
		add("SEARCH "+key, "UID SEARCH "+key)
	}
	for _, key := range []string{"ARRIVAL", "DATE", "SUBJECT", "FROM", "TO", "CC", "SIZE", "REVERSE DATE", "REVERSE SIZE ARRIVAL", "SUBJECT REVERSE DATE"} {
		add("SORT ("+key+") UTF-8 ALL", "UID SORT ("+key+") US-ASCII NOT SUBJECT groups")
	}
	add("SORT (NOPE) UTF-8 ALL", "SORT (DATE) ALL", "SORT () UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "UID THREAD REFERENCES UTF-8 SINCE 1-Jan-2000", "THREAD ORDEREDSUBJECT UTF-8 ALL", "THREAD NOPE UTF-8 ALL", "SORT RETURN (COUNT MIN MAX) (DATE) UTF-8 ALL")
	add(`STORE 1 +FLAGS (\Flagged)`, `STORE 1:3 FLAGS (\Seen $Label)`, `STORE 2 -FLAGS ($Label)`, `STORE 2 -FLAGS.SILENT (\Seen)`, `STORE 3 +FLAGS.SILENT \Draft`, `UID STORE 4 +FLAGS (\Answered)`, `STORE 99 FLAGS ()`, `STORE 1 FLAGS (\Nope)`, `STORE 1 NOPE ()`, `STORE 1 +FLAGS`, `UID STORE 99 +FLAGS (\Seen)`, "FETCH 1:* FLAGS", "SEARCH KEYWORD $Label", "SEARCH UNKEYWORD $label", "SEARCH DRAFT",
		"COPY 1:3 Archive", "COPY 1 nowhere", "COPY 99 Archive", "UID COPY 99 Archive", "UID COPY 4:5 Archive", "STATUS Archive (MESSAGES UIDNEXT UNSEEN)", "MOVE 9 Trash", "UID MOVE 8 Trash", "FETCH 1:* UID", "MOVE 99 Trash", "STATUS Trash (MESSAGES)", `STORE 2,4 +FLAGS.SILENT (\Deleted)`, "UID EXPUNGE 2", "UID EXPUNGE 1,3", "EXPUNGE", "EXPUNGE", "FETCH 1:* (UID FLAGS)", "UNSELECT", "FETCH 1 FLAGS", "SELECT Archive",
		"FETCH 1:* (UID FLAGS INTERNALDATE)", `STORE 1:* +FLAGS (\Deleted)`, "CLOSE", "STATUS Archive (MESSAGES)", "EXAMINE Trash", "FETCH 1:* FLAGS", "UNSELECT",
		"ENABLE CONDSTORE", "SELECT INBOX", `STORE 1 (UNCHANGEDSINCE 1) +FLAGS.SILENT (\Flagged)`, "FETCH 1 (FLAGS MODSEQ)", "FETCH 1:* (FLAGS) (CHANGEDSINCE 1)", "SEARCH MODSEQ 1", `STORE 2 +FLAGS (\Flagged)`, `STORE 2 +FLAGS.SILENT (\Answered)`, "STATUS INBOX (HIGHESTMODSEQ)", "ENABLE NOPE", "ENABLE",
		"NOOP", "NOOP x", "CAPABILITY x", "LOGIN a b", "AUTHENTICATE PLAIN", "STARTTLS", "IDLE x", "NOPE", "UID", "UID NOPE", "UID EXPUNGE", "APPEND INBOX", `APPEND nowhere {3+}`+"\r\nabc", `APPEND INBOX (\Seen {3+}`+"\r\nabc", "ID NIL", `ID ("a")`, "ID", "COMPRESS NOPE")
	return s
}
