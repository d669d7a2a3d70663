package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// TestOfflineimap syncs all mailboxes with offlineimap, twice, and then what was changed at either side.
func TestOfflineimap(t *testing.T) {
	// covers: R2.48 R6.23
	need(t, "offlineimap")
	d := newDaemon(t)
	d.start()
	d.mailbox(12)
	dir := t.TempDir()
	rc := d.file("offlineimaprc", fmt.Sprintf(`[general]
accounts = a
metadata = %[1]s/meta
ui = basic
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = %[1]s/mail
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = %[2]d
remoteuser = bob
remotepass = %[3]s
ssl = no
starttls = no
auth_mechanisms = PLAIN
`, dir, 2143+d.offset, devPassword))
	sync := func() {
		t.Helper()
		out, code := client(t, "", "offlineimap", "-c", rc, "-o")
		if code != 0 || strings.Contains(out, "ERROR") {
			t.Fatalf("offlineimap: exit %d\n%s", code, out)
		}
	}
	files := func(box string) []string {
		l, _ := filepath.Glob(filepath.Join(dir, "mail", box, "[nc]*", "*"))
		return l
	}
	sync()
	if n := len(files("INBOX")); n != 12 {
		t.Fatalf("%d letters came", n)
	}
	for _, box := range []string{"Sent", "Drafts", "Trash", "Junk", "Archive"} {
		if _, err := os.Stat(filepath.Join(dir, "mail", box, "cur")); err != nil {
			t.Error(err)
		}
	}
	before := files("INBOX")
	sync()
	if after := files("INBOX"); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("the second run changed something:\n%v\n%v", before, after)
	}
	// A flag from there, a letter from here, one removed here.
	im := d.imap("bob")
	if _, err := im.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := im.Store(imap.SeqSetNum(3), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range before {
		if strings.Contains(read(t, f), "Subject: letter 7\n") {
			os.Remove(f)
		}
	}
	os.WriteFile(filepath.Join(dir, "mail", "Archive", "cur", "1.new.host:2,S"), []byte("Subject: filed here\nMessage-ID: <filed@here>\n\nbody\n"), 0o600)
	sync()
	if n := strings.Count(strings.Join(files("INBOX"), "\n"), ":2,F"); n != 1 {
		t.Errorf("%d letters are flagged here", n)
	}
	if box, err := im.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 11 {
		t.Errorf("INBOX: %+v %v", box, err)
	}
	if box, err := im.Select("Archive", nil).Wait(); err != nil || box.NumMessages != 1 {
		t.Errorf("Archive: %+v %v", box, err)
	}
}

// TestGetmail fetches by IMAP and POP3, in clear and over TLS, as a user who isn't root: getmail refuses that.
func TestGetmail(t *testing.T) {
	// covers: R2.48 R6.20 R6.23 R6.24
	need(t, "getmail")
	d := newDaemon(t)
	d.start()
	d.mailbox(9)
	for _, tc := range []struct {
		kind string
		port int
		more string
	}{
		{"SimpleIMAPRetriever", 2143, ""}, {"SimpleIMAPSSLRetriever", 2993, ""}, {"SimplePOP3Retriever", 2110, ""}, {"SimplePOP3SSLRetriever", 2995, ""},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "getmail-*") // open to another user
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			for _, sub := range []string{"", "box", "box/cur", "box/new", "box/tmp"} {
				os.MkdirAll(filepath.Join(dir, sub), 0o700)
				if os.Getuid() == 0 {
					os.Chown(filepath.Join(dir, sub), 65534, 65534)
				}
			}
			rc := fmt.Sprintf("[retriever]\ntype = %s\nserver = 127.0.0.1\nport = %d\nusername = bob\npassword = %s\n%s[destination]\ntype = Maildir\npath = %s/box/\n[options]\nread_all = false\n", tc.kind, tc.port+d.offset, devPassword, tc.more, dir)
			if err := os.WriteFile(filepath.Join(dir, "rc"), []byte(rc), 0o644); err != nil {
				t.Fatal(err)
			}
			for round, want := range []string{"9 messages (", "0 messages ("} { // UIDL and UID tell what was fetched before
				cmd := exec.Command("getmail", "--getmaildir", dir, "--rcfile", "rc")
				cmd.Env = append(os.Environ(), "HOME="+dir)
				if os.Getuid() == 0 {
					cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
				}
				timer := time.AfterFunc(90*time.Second, func() { cmd.Process.Kill() })
				out, err := cmd.CombinedOutput()
				timer.Stop()
				if err != nil || !strings.Contains(string(out), want) {
					t.Fatalf("round %d: %v\n%s", round+1, err, out)
				}
			}
			l, _ := filepath.Glob(filepath.Join(dir, "box", "new", "*"))
			dots := 0
			for _, f := range l {
				dots += strings.Count(read(t, f), "\n..dots\n") + strings.Count(read(t, f), "\n.dots\n")
			}
			if len(l) != 9 || dots != 9 {
				t.Errorf("%d letters, %d with their dot", len(l), dots)
			}
		})
	}
}
