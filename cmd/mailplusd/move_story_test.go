package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// oldServer writes what a previous mail server has left, under dir/old: ann has a SHA-512 password,
// carl one that can't be verified here, and fred none.
func oldServer(t *testing.T, dir string) string {
	t.Helper()
	old := filepath.Join(dir, "old")
	files := map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1026:100:Ann Jones,room 7:/homes/ann:/sbin/nologin\nBob:x:1027:100::/homes/bob:/bin/sh\n" +
			"carl:x:1028:100::/homes/carl:/bin/sh\ndora:{PLAIN}doras-long-word\nfred:*\n",
		"shadow": "root:$6$x$y:1::::::\nann:$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1:17000:0:99999:7:::\n" +
			"Bob:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5:1::::::\ncarl:$1$salt$qJH7.N4xYta3aEG/dfqo/0:1::::::\n",
		"aliases":                                    "# old aliases\npostmaster-old: root-old\nroot-old: ann\nsales: ann, bob,\n  partner@elsewhere.example\nrun: \"|/usr/bin/program\"\n",
		"mail/ann/Maildir/cur/1000.a.host:2,S":       "From: x@y.example\nSubject: one\n\nread already\n",
		"mail/ann/Maildir/new/1001.b.host":           "From: x@y.example\nSubject: two\n\nnew\n",
		"mail/ann/Maildir/new/1002.c.host":           "this is no message",
		"mail/ann/Maildir/.Sent/cur/1003.d.host:2,S": "From: ann@example.com\nSubject: sent\n\nx\n",
		"mail/ann/Maildir/.Sent/new/.keep":           "",
		"homes/bob/.Maildir/new/1.x.host":            "Subject: for bob\n\nx\n",
		"homes/bob/.Maildir/cur/.keep":               "",
		"mail/stranger/new/1.x.host":                 "Subject: for nobody\n\nx\n",
		"mail/stranger/cur/.keep":                    "",
	}
	for name, text := range files {
		path := filepath.Join(old, name)
		os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return old
}

type moveRow struct {
	Kind, Name, Result, Note string
	Messages, Failed         int
	There                    int `json:"there_already"`
}

// moveFrom runs the set-up and gives its report by kind and name.
func (d *process) moveFrom(code int, args ...string) map[string]moveRow {
	d.t.Helper()
	out, errs, got := d.mpctl(append([]string{"setup", "from-mailserver", "-o", "jsonl"}, args...)...)
	if got != code {
		d.t.Fatalf("exit %d, want %d\n%s%s", got, code, out, errs)
	}
	rows := map[string]moveRow{}
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var r moveRow
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			d.t.Fatalf("%q: %v", line, err)
		}
		rows[r.Kind+" "+r.Name] = r
	}
	return rows
}

// TestStoryMoveFromMailServer: accounts with their passwords, aliases and mail of a previous server; twice does nothing more.
func TestStoryMoveFromMailServer(t *testing.T) {
	// covers: R2.27
	d := freshNode(t, "127.0.77.2")
	old := oldServer(t, t.TempDir())
	d.fails(3, "confirmation", "setup", "from-mailserver", "--source", old, "--domain", "example.com")
	d.fails(2, "not in the password list", "setup", "from-mailserver", "--source", old, "--domain", "example.com", "--admin", "zoe", "--yes")
	d.has("no", "setup", "show")

	would := d.moveFrom(6, "--source", old, "--domain", "example.com", "--admin", "ann", "--dry-run")
	if r := would["mailbox ann/INBOX"]; r.Messages != 2 || r.Failed != 1 {
		t.Errorf("a dry run says %+v of %+v", r, would)
	}
	d.has("no", "setup", "show")
	d.fails(3, "not set up", "user", "list")

	rows := d.moveFrom(6, "--source", old, "--domain", "example.com", "--admin", "ann", "--yes")
	for name, want := range map[string]string{
		"set-up example.com": "moved", "account ann": "moved", "account Bob": "moved", "account carl": "moved", "account dora": "moved", "account fred": "moved",
		"alias sales": "moved", "alias root-old": "moved", "alias postmaster-old": "moved", "alias run": "failed",
		"mailbox ann/INBOX": "moved", "mailbox ann/Sent": "moved", "mailbox bob/INBOX": "moved",
		"message " + old + "/mail/ann/Maildir/new/1002.c.host": "failed", "orphan " + old + "/mail/stranger": "left",
	} {
		if rows[name].Result != want {
			t.Errorf("%s: %+v, want %s", name, rows[name], want)
		}
	}
	if len(rows) != 15 {
		t.Errorf("%d rows: %+v", len(rows), rows)
	}
	for name, words := range map[string]string{"account carl": "mpctl user passwd carl", "account fred": "mpctl user passwd fred", "account ann": ""} {
		if !strings.Contains(rows[name].Note, words) || words == "" && rows[name].Note != "" {
			t.Errorf("%s: %q", name, rows[name].Note)
		}
	}
	login := func(user, password, words string) {
		t.Helper()
		out, _, _ := d.mpctl("check", "login", user, "--password-file", d.file("pw-"+user, password))
		if !strings.Contains(out, words) {
			t.Errorf("%s logs in with %q: %s, want %q", user, password, out, words)
		}
	}
	login("ann", "Hello world!", "password is right")
	login("bob", "Hello world!", "password is right")
	login("dora", "doras-long-word", "password is right")
	login("ann", "Hello world", "wrong")
	d.has("Ann Jones", "user", "show", "ann", "-o", "json")
	d.has("partner@elsewhere.example", "domain", "alias", "show", "example.com", "sales")
	d.has("seats: 5, used: 5", "account", "list")
	d.has("setup from-mailserver", "admin", "log", "list")
	d.has("setup from-mailserver", "job", "list")
	if out := d.ok("admin", "log", "list", "-o", "json"); strings.Contains(out, "svn8UoSV") || strings.Contains(out, "doras-long-word") {
		t.Error("a password is in the admin log")
	}
	for box, n := range map[string]int{"INBOX": 2, "Sent": 1} {
		if got := d.field("ann", box, "messages"); got != float64(n) {
			t.Errorf("ann has %v messages in %s, want %d", got, box, n)
		}
	}
	if got := d.field("ann", "INBOX", "unseen"); got != 1.0 {
		t.Errorf("%v are unseen", got)
	}

	// Again, with a new message and another password in between: only the message moves.
	d.ok("user", "passwd", "ann", "--password-file", d.file("new", "a-newer-word-1"))
	if err := os.WriteFile(old+"/mail/ann/Maildir/new/2000.z.host", []byte("Subject: late\n\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := d.moveFrom(6, "--source", old, "--domain", "example.com", "--admin", "ann", "--yes")
	if again["account ann"].Result != "exists" || again["alias sales"].Result != "exists" || again["mailbox ann/INBOX"].Messages != 1 || again["mailbox ann/INBOX"].There != 2 {
		t.Errorf("again: %+v", again)
	}
	login("ann", "a-newer-word-1", "password is right")
	if got := d.field("ann", "INBOX", "messages"); got != 3.0 {
		t.Errorf("ann has %v messages", got)
	}
	d.fails(3, "set up already", "setup", "from-mailserver", "--source", old, "--domain", "other.com", "--yes")

	d.stop()

	// Nothing is stored when a list can't be read.
	fresh := freshNode(t, "127.0.77.3")
	bad := oldServer(t, t.TempDir())
	for file, text := range map[string]string{"passwd": "ann\n", "aliases": "no colon\n"} {
		path := filepath.Join(bad, file)
		keep := read(t, path)
		os.WriteFile(path, []byte(keep+text), 0o600)
		fresh.fails(2, fmt.Sprintf("line %d", strings.Count(keep, "\n")+1), "setup", "from-mailserver", "--source", bad, "--domain", "example.com", "--admin", "ann", "--yes")
		os.WriteFile(path, []byte(keep), 0o600)
	}
	fresh.has("no", "setup", "show")
}
