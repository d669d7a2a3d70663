package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// need skips when a client is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// terminal instead of an input: the client is left waiting for keys.
const terminal = "\x00terminal"

// client runs a mail client with a time limit and a home of its own.
func client(t *testing.T, stdin string, name string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(name, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "MAILRC=/dev/null", "TERM=xterm", "LC_ALL=C.UTF-8", "LINES=40", "COLUMNS=120")
	if stdin == terminal {
		w, err := cmd.StdinPipe() // open until the client ends: script passes an end of input on
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
	} else {
		cmd.Stdin = strings.NewReader(stdin)
	}
	timer := time.AfterFunc(90*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	if _, exit := err.(*exec.ExitError); err != nil && !exit {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// mailbox fills bob's INBOX.
func (d *process) mailbox(n int) {
	d.t.Helper()
	c := d.smtp(2525)
	defer c.c.Close()
	for i := range n {
		msg := fmt.Sprintf("From: Ann <ann@y.example>\r\nTo: bob@example.test\r\nSubject: letter %d\r\nDate: Mon, 23 Nov 2026 10:00:%02d +0000\r\nMessage-ID: <letter-%d@y.example>\r\n\r\n..dots\r\nFrom here on text\r\n%s", i+1, i%60, i+1, strings.Repeat("line\r\n", i))
		if r, err := c.send("ann@y.example", "bob@example.test", msg); err != nil || !strings.HasPrefix(r, "250") {
			d.t.Fatal(r, err)
		}
	}
}

// TestMutt reads, flags, copies to a new mailbox and deletes with mutt, and writes a mail with it.
func TestMutt(t *testing.T) {
	// covers: R2.48 R6.23
	need(t, "mutt", "script")
	d := newDaemon(t)
	d.start()
	d.mailbox(6)
	rc := d.file("muttrc", fmt.Sprintf(`set imap_user=bob
set imap_pass=%q
set ssl_starttls=no
set ssl_force_tls=no
set folder="imap://127.0.0.1:%d/"
set spoolfile="imap://127.0.0.1:%d/INBOX"
set mbox_type=Maildir
set confirmappend=no
set confirmcreate=no
set delete=yes
set move=no
set quit=yes
set pager_stop
set wait_key=no
set header_cache=
set record="=Sent"
set from="bob@example.test"
set use_from=yes
set smtp_url="smtp://127.0.0.1:%d/"
`, devPassword, 2143+d.offset, 2143+d.offset, 2525+d.offset))
	// Open the second letter, flag it, copy it to a new mailbox, delete the third, quit.
	keys := `<jump>2<Enter><display-message><exit><flag-message><copy-message>=Kept<Enter><jump>3<Enter><delete-message><sync-mailbox><quit>`
	script := d.file("muttscript", read(t, rc)+"push \""+keys+"\"\n")
	out, code := client(t, terminal, "script", "-qec", "mutt -n -F "+script, "/dev/null")
	if code != 0 {
		t.Fatalf("mutt: exit %d\n%s", code, out)
	}
	im := d.imap("bob")
	box, err := im.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages != 5 {
		t.Fatalf("INBOX has %+v, %v, want 5 messages\n%s", box, err, out)
	}
	msgs, err := im.Fetch(imap.SeqSetNum(2), &imap.FetchOptions{Flags: true, Envelope: true}).Collect()
	if err != nil || len(msgs) != 1 || msgs[0].Envelope.Subject != "letter 2" || !strings.Contains(fmt.Sprint(msgs[0].Flags), `\Flagged`) || !strings.Contains(fmt.Sprint(msgs[0].Flags), `\Seen`) {
		t.Errorf("the second letter: %+v %v", msgs, err)
	}
	kept, err := im.Select("Kept", nil).Wait()
	if err != nil || kept.NumMessages != 1 {
		t.Errorf("Kept: %+v %v", kept, err)
	}
	// Write a mail: it goes out by SMTP and a copy into Sent.
	if out, code := client(t, "a letter from mutt\n", "mutt", "-n", "-F", rc, "-s", "from mutt", "alice@example.test"); code != 0 {
		t.Fatalf("mutt did not send: exit %d\n%s", code, out)
	}
	sent, err := im.Select("Sent", nil).Wait()
	if err != nil || sent.NumMessages != 1 {
		t.Errorf("Sent: %+v %v", sent, err)
	}
	d.has("from mutt", "log", "mail", "list")
}

// TestSNail lists a mailbox and sends with Debian's mailx.
func TestSNail(t *testing.T) {
	// covers: R2.48
	need(t, "s-nail")
	d := newDaemon(t)
	d.start()
	d.mailbox(7)
	out, code := client(t, "from *\nx\n", "s-nail", "-Sv15-compat", "-n", "-f", fmt.Sprintf("imap://bob:%s@127.0.0.1:%d/INBOX", devPassword, 2143+d.offset))
	if code != 0 || !strings.Contains(out, "7 messages 7 new") || !strings.Contains(out, "letter 7") {
		t.Errorf("s-nail: exit %d\n%s", code, out)
	}
	out, code = client(t, "p 1\nx\n", "s-nail", "-Sv15-compat", "-n", "-f", fmt.Sprintf("pop3://bob:%s@127.0.0.1:%d/", devPassword, 2110+d.offset))
	if code != 0 || !strings.Contains(out, "\n.dots") {
		t.Errorf("s-nail by POP3: exit %d\n%s", code, out)
	}
	out, code = client(t, "written with s-nail\n", "s-nail", "-Sv15-compat", "-n", "-Smta="+fmt.Sprintf("smtp://127.0.0.1:%d", 2525+d.offset), "-Ssmtp-auth=none", "-Shostname=client.example", "-r", "me@y.example", "-s", "from s-nail", "alice@example.test")
	if code != 0 {
		t.Errorf("s-nail did not send: exit %d\n%s", code, out)
	}
	d.has("from s-nail", "log", "mail", "list")
}

// TestFetchmail fetches everything by IMAP and by POP3, in clear and over TLS.
func TestFetchmail(t *testing.T) {
	// covers: R2.48 R6.20 R6.23 I.20
	need(t, "fetchmail")
	d := newDaemon(t)
	d.start()
	d.mailbox(9)
	for _, tc := range []struct {
		name, proto, ssl string
		port             int
	}{
		{"IMAP", "IMAP", "sslproto ''", 2143}, {"IMAPS", "IMAP", "ssl no sslcertck", 2993},
		{"POP3", "POP3", "sslproto ''", 2110}, {"POP3S", "POP3", "ssl no sslcertck", 2995}, {"STLS", "POP3", "sslproto 'TLS1.2+' no sslcertck", 2110},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			box := filepath.Join(dir, "box")
			rc := filepath.Join(dir, "rc")
			text := fmt.Sprintf("poll 127.0.0.1 service %d protocol %s auth password user 'bob' password '%s' keep fetchall %s mda 'cat >> %s'\n", tc.port+d.offset, tc.proto, devPassword, tc.ssl, box)
			if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			out, code := client(t, "", "fetchmail", "-f", rc, "--invisible", "--idfile", filepath.Join(dir, "ids"), "--pidfile", filepath.Join(dir, "pid"))
			if code != 0 {
				t.Fatalf("fetchmail: exit %d\n%s", code, out)
			}
			if got := read(t, box); strings.Count(got, "Message-ID: <letter-") != 9 || strings.Count(got, "\n.dots\n") != 9 {
				t.Errorf("%d letters came, %d with their dot\n%s", strings.Count(got, "Message-ID: <letter-"), strings.Count(got, "\n.dots\n"), out)
			}
		})
	}
}

// TestThunderbird lets Thunderbird make its account, list, flag, read, make a mailbox and copy on the
// server. It finds Sent, Drafts, Trash, Junk and Archive by itself. It is large, so the test
// tools don't install it: apt-get install thunderbird xvfb.
func TestThunderbird(t *testing.T) {
	// covers: R2.48 R6.23 I.17
	need(t, "thunderbird", "xvfb-run", "python3")
	d := newDaemon(t)
	d.start()
	d.mailbox(6)
	out, code := client(t, "", "python3", "testdata/thunderbird.py", fmt.Sprint(2143+d.offset), "bob", devPassword, "6")
	if strings.Contains(out, "does not open its Marionette port") {
		t.Skip("Thunderbird does not start here")
	}
	want := `{"subjects": ["letter 1", "letter 2", "letter 3", "letter 4", "letter 5", "letter 6"], "special": {"Sent": "Sent", "Drafts": "Drafts", "Trash": "Trash", "Junk": "Junk", "Archive": "Archive"}}`
	if code != 0 || strings.TrimSpace(out) != want {
		t.Fatalf("exit %d\n%s\nwant %s", code, out, want)
	}
	im := d.imap("bob")
	if _, err := im.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	msgs, err := im.Fetch(imap.SeqSetNum(1, 2), &imap.FetchOptions{Flags: true}).Collect()
	if err != nil || len(msgs) != 2 || !strings.Contains(fmt.Sprint(msgs[0].Flags), `\Flagged`) || !strings.Contains(fmt.Sprint(msgs[1].Flags), `\Seen`) {
		t.Errorf("flags: %+v %v", msgs, err)
	}
	if box, err := im.Select("From Thunderbird", nil).Wait(); err != nil || box.NumMessages != 1 {
		t.Errorf("the new mailbox: %+v %v", box, err)
	}
}
