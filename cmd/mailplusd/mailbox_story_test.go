package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// field gives one column of the row of a mailbox.
func (d *process) field(user, mailbox, name string) any {
	d.t.Helper()
	for _, r := range d.rows("mailbox", "list", user) {
		if r["name"] == mailbox {
			return r[name]
		}
	}
	return nil
}

// expunge removes messages of bob's selected mailbox for good.
func expunge(t *testing.T, d *process, mailbox string, nums ...uint32) {
	t.Helper()
	im := d.imap("bob")
	if _, err := im.Select(mailbox, nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := im.Store(imap.SeqSetNum(nums...), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted, imap.FlagFlagged, "work"}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := im.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
}

// subjects lists what a user has in a mailbox.
func (d *process) subjects(user, mailbox string) (out []string) {
	d.t.Helper()
	im := d.imap(user)
	defer im.Close()
	box, err := im.Select(mailbox, nil).Wait()
	if err != nil {
		return []string{"no mailbox"}
	}
	if box.NumMessages == 0 {
		return nil
	}
	var all imap.SeqSet
	all.AddRange(1, 0)
	msgs, err := im.Fetch(all, &imap.FetchOptions{Envelope: true, Flags: true}).Collect()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, m := range msgs {
		flags := []string{}
		for _, f := range m.Flags {
			if f != `\Recent` {
				flags = append(flags, string(f))
			}
		}
		slices.Sort(flags)
		out = append(out, strings.TrimSpace(m.Envelope.Subject+" "+strings.Join(flags, " ")))
	}
	return out
}

// TestStoryGiveBack: expunged mail, a deleted mailbox and a deleted user's mail come back.
func TestStoryGiveBack(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.mailbox(5)
	expunge(t, d, "INBOX", 2, 3)
	if n := d.field("bob", "INBOX", "expunged"); n != 2.0 || d.field("bob", "INBOX", "messages") != 3.0 || d.field("bob", "INBOX", "use") != "Inbox" {
		t.Errorf("INBOX: %v expunged\n%s", n, d.ok("mailbox", "list", "bob"))
	}
	d.has("letter 2", "mailbox", "expunged", "bob")
	d.has("ann@y.example", "mailbox", "expunged", "bob", "INBOX", "--subject", "letter 3", "--from", "Ann", "--expunged-after", "1h")
	for _, none := range [][]string{{"--subject", "letter 4"}, {"--from", "bob"}, {"--expunged-before", "1h"}, {"--received-before", "2001-01-01"}, {"--id", "1-99"}} {
		if out := d.ok(append([]string{"mailbox", "expunged", "bob", "-o", "name"}, none...)...); out != "" {
			t.Errorf("%v: %s", none, out)
		}
	}
	d.fails(2, "say what to give back", "mailbox", "restore", "bob")
	d.has("1 messages", "mailbox", "restore", "bob", "--subject", "letter 2", "--dry-run")
	if n := d.field("bob", "INBOX", "expunged"); n != 2.0 {
		t.Errorf("a dry run gave mail back: %v are left", n)
	}
	d.ok("mailbox", "restore", "bob", "--subject", "letter 2")
	if got := fmt.Sprint(d.subjects("bob", "INBOX")); got != `[letter 1 letter 4 letter 5 letter 2 \Flagged work]` {
		t.Errorf("INBOX: %s", got)
	}
	id := strings.TrimSpace(d.ok("mailbox", "expunged", "bob", "-o", "name"))
	d.ok("mailbox", "restore", "bob", "--id", id, "--into", "Back/Again")
	if got := fmt.Sprint(d.subjects("bob", "Back/Again")); got != `[letter 3 \Flagged work]` {
		t.Errorf("Back/Again: %s", got)
	}

	im := d.imap("bob")
	if err := im.Delete("Back/Again").Wait(); err != nil {
		t.Fatal(err)
	}
	if d.field("bob", "Back/Again", "expunged") != 1.0 || d.field("bob", "Back/Again", "messages") != 0.0 {
		t.Errorf("%s", d.ok("mailbox", "list", "bob"))
	}
	d.ok("mailbox", "restore", "bob", "Back/Again")
	if got := fmt.Sprint(d.subjects("bob", "Back/Again")); got != `[letter 3 \Flagged work]` {
		t.Errorf("Back/Again: %s", got)
	}

	d.ok("user", "delete", "bob", "--delete-mail", "--yes")
	d.has("letter 5", "mailbox", "expunged", "bob")
	d.fails(3, "no place to go back to", "mailbox", "restore", "bob", "--all")
	d.ok("mailbox", "restore", "bob", "--all", "--into-user", "alice", "--into", "Of Bob")
	if got := len(d.subjects("alice", "Of Bob")); got != 5 {
		t.Errorf("%d messages came back to alice, want 5", got)
	}
	d.fails(7, "no user", "mailbox", "expunged", "bob") // nothing of him is left

	d.ok("config", "set", "storage.keep-expunged=0")
	im = d.imap("alice")
	if err := im.Delete("Of Bob").Wait(); err != nil {
		t.Fatal(err)
	}
	if d.field("alice", "Of Bob", "name") != nil {
		t.Error("kept though it is switched off")
	}
	d.has("mailbox restore", "admin", "log", "list")
}

// TestStoryMoveMailboxes: mail goes out into files in every format, other programs read them, and it
// comes back into another account as it was; repeating either does nothing.
func TestStoryMoveMailboxes(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.mailbox(12)
	im := d.imap("bob")
	if _, err := im.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := im.Store(imap.SeqSetNum(1, 2, 3), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen, imap.FlagAnswered, "work"}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := im.Create("Work/2024", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := im.Copy(imap.SeqSetNum(4, 5), "Work/2024").Wait(); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(d.subjects("bob", "INBOX"))
	d.seats(20)
	for i, format := range []string{"mbox", "maildir", "eml"} {
		dir := filepath.Join(t.TempDir(), format)
		d.has("12", "mailbox", "export", "bob", "--to", dir, "--format", format, "--dry-run")
		if _, err := os.Stat(dir); err == nil {
			t.Error("a dry run wrote files")
		}
		d.has("INBOX: 12 messages", "mailbox", "export", "bob", "--to", dir, "--format", format)
		again := "12 were there already"
		if out := d.ok("mailbox", "export", "bob", "--to", dir, "--format", format); !strings.Contains(out, again) {
			t.Errorf("%s again: %s", format, out)
		}
		user := fmt.Sprintf("to%d", i)
		d.ok("user", "add", user, "--password-file", d.file("pw", devPassword))
		d.ok("account", "activate", user)
		d.has("INBOX: 12 would be imported", "mailbox", "import", user, "--from", dir, "--dry-run")
		d.has("INBOX: 12 imported", "mailbox", "import", user, "--from", dir)
		d.has("INBOX: 0 imported, 0 B, 12 were there already", "mailbox", "import", user, "--from", dir)
		got := fmt.Sprint(d.subjects(user, "INBOX"))
		if format == "eml" { // has no flags
			got, want = strings.NewReplacer(` \Answered \Seen work`, "").Replace(got), strings.NewReplacer(` \Answered \Seen work`, "").Replace(want)
		}
		if got != want || len(d.subjects(user, "Work/2024")) != 2 {
			t.Errorf("%s: %s\nwant %s", format, got, want)
		}
		d.ok("mailbox", "import", user, "--from", dir, "--mailbox", "Copy of/Bob")
		if len(d.subjects(user, "Copy of/Bob/INBOX")) != 12 {
			t.Errorf("%s: %s", format, d.ok("mailbox", "list", user))
		}
	}

	// A damaged message is named, and the rest goes on.
	bad := filepath.Join(t.TempDir(), "bad")
	for name, text := range map[string]string{"1.eml": "Subject: whole\n\nx\n", "2.eml": "", "3.eml": "no header at all", "4.eml": "Subject: whole, too\n\nx\n"} {
		if err := os.MkdirAll(bad, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bad, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, errs, code := d.mpctl("mailbox", "import", "to0", "--from", bad, "--mailbox", "Bad")
	if code != 6 || !strings.Contains(out, "2 imported") || !strings.Contains(errs, "2.eml: is empty") || !strings.Contains(errs, "3.eml: is no message") || !strings.Contains(errs, "2 of 4") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	d.fails(2, "no mail in a known format", "mailbox", "import", "to0", "--from", t.TempDir())
	d.fails(7, "no mailbox", "mailbox", "export", "bob", "Nowhere", "--to", t.TempDir())
	d.has("mailbox import", "job", "list")
	d.has("mailbox export", "admin", "log", "list")
}

// TestPeersReadExports: mutt reads an exported mbox and Maildir, and what mbsync has fetched into a
// Maildir is imported.
func TestPeersReadExports(t *testing.T) {
	need(t, "mutt", "script", "mbsync")
	d := newDaemon(t)
	d.start()
	d.mailbox(7)
	dir := t.TempDir()
	d.ok("mailbox", "export", "bob", "INBOX", "--to", dir, "--format", "mbox")
	d.ok("mailbox", "export", "bob", "INBOX", "--to", dir, "--format", "maildir")
	for _, box := range []string{"INBOX.mbox", "INBOX"} {
		rc := d.file("muttrc", "set mbox_type=mbox\nset confirmappend=no\nset confirmcreate=no\nset quit=yes\nset move=no\nset delete=no\nset wait_key=no\nset folder="+dir+"\n"+
			"push \"<tag-pattern>letter<Enter><tag-prefix><copy-message>"+filepath.Join(dir, "copy-"+box)+"<Enter><quit>\"\n")
		out, code := client(t, terminal, "script", "-qec", "mutt -n -F "+rc+" -f "+filepath.Join(dir, box), "/dev/null")
		if code != 0 {
			t.Fatalf("mutt on %s: exit %d\n%s", box, code, out)
		}
		text := read(t, filepath.Join(dir, "copy-"+box))
		if n := strings.Count(text, "\nMessage-ID: <letter-"); n != 7 {
			t.Errorf("mutt found %d letters in %s\n%s", n, box, out)
		}
		if d.ok("mailbox", "import", "alice", "--from", filepath.Join(dir, "copy-"+box), "--mailbox", "mutt"+box); len(d.subjects("alice", "mutt"+box)) != 7 {
			t.Errorf("what mutt wrote was not imported: %s", d.ok("mailbox", "list", "alice"))
		}
	}
	fetched := filepath.Join(dir, "mbsync")
	if err := os.MkdirAll(fetched, 0o700); err != nil {
		t.Fatal(err)
	}
	rc := d.file("mbsyncrc", fmt.Sprintf(`IMAPAccount a
Host 127.0.0.1
Port %d
User bob
Pass %s
SSLType None

IMAPStore far
Account a

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Near
SyncState *
`, 2143+d.offset, devPassword, fetched, fetched))
	if out, code := client(t, "", "mbsync", "-c", rc, "c"); code != 0 {
		t.Fatalf("mbsync: exit %d\n%s", code, out)
	}
	d.ok("mailbox", "import", "alice", "--from", fetched, "--mailbox", "fetched")
	if got := len(d.subjects("alice", "fetched/INBOX")); got != 7 {
		t.Errorf("%d messages of mbsync's Maildir were imported, want 7\n%s", got, d.ok("mailbox", "list", "alice"))
	}
}

// TestImportSurvivesKill9: what was stored when the daemon dies is whole, and the same command
// completes it.
func TestImportSurvivesKill9(t *testing.T) {
	d := newDaemon(t)
	d.start()
	const n = 500
	text := func(i int) string {
		return fmt.Sprintf("From x Mon Jan  1 00:00:00 2024\nSubject: number %d\nMessage-ID: <%d@x>\n\n%s\n", i, i, strings.Repeat(fmt.Sprintf("line of %d\n", i), 20))
	}
	whole := ""
	for i := range n {
		whole += text(i)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bins.mpctl, "--socket", filepath.Join(d.dir, "admin.sock"), "mailbox", "import", "bob", "--from", pipe, "--format", "mbox", "--mailbox", "Old")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, whole[:len(whole)*9/10]) // in the middle of a message
	for deadline := time.Now().Add(60 * time.Second); ; {
		if m, _ := d.field("bob", "Old", "messages").(float64); m >= 400 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is stored: %s", d.ok("mailbox", "list", "bob"))
		}
	}
	d.kill()
	w.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("mpctl says that it imported everything")
	}
	d.start()
	if m := d.field("bob", "Old", "messages"); m != 400.0 {
		t.Errorf("%v messages are stored, want two groups of 200", m)
	}
	d.ok("mailbox", "import", "bob", "--from", d.file("old.mbox", whole), "--mailbox", "Old")
	im := d.imap("bob")
	if _, err := im.Select("Old", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	var all imap.SeqSet
	all.AddRange(1, 0)
	section := &imap.FetchItemBodySection{Peek: true}
	msgs, err := im.Fetch(all, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil || len(msgs) != n {
		t.Fatalf("%d messages: %v", len(msgs), err)
	}
	seen := map[string]bool{}
	for _, m := range msgs {
		seen[string(m.FindBodySection(section))] = true
	}
	for i := range n {
		_, want, _ := strings.Cut(text(i), "\n")
		if !seen[strings.ReplaceAll(strings.TrimSuffix(want, "\n"), "\n", "\r\n")] {
			t.Fatalf("message %d is not as it was", i)
		}
	}
}

// TestStoryAutoconfig: a client that knows an address only gets the settings with which it can log
// in and send.
func TestStoryAutoconfig(t *testing.T) {
	// covers: R2.47 R2.50 R2.51
	d := newDaemon(t)
	d.start()
	if c, err := net.Dial("tcp", d.port(2443)); err == nil {
		c.Close()
		t.Fatal("listening though nobody has switched it on")
	}
	d.fails(3, "wants a confirmation", "service", "autoconfig", "set", "--enable", "on")
	d.ok("service", "autoconfig", "set", "--enable", "on", "--port", fmt.Sprint(2443+d.offset), "--http-port", fmt.Sprint(2480+d.offset), "--yes")
	d.has("autoconfig", "service", "show")
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 20 * time.Second}
	fetch := func(url string) string {
		t.Helper()
		resp, err := hc.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(resp.StatusCode, " ", string(b))
	}
	xml := fetch("https://" + d.port(2443) + "/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=alice@example.test")
	var rows []map[string]any
	if err := json.Unmarshal([]byte(d.ok("me", "client-settings", "-o", "json")), &rows); err != nil || len(rows) == 0 {
		t.Fatal(err)
	}
	for _, r := range rows { // the same as a person is told
		if !strings.HasPrefix(xml, "200 ") || !strings.Contains(xml, fmt.Sprintf("<port>%v</port>", r["port"])) || !strings.Contains(xml, fmt.Sprintf("<hostname>%v</hostname>", r["server"])) {
			t.Errorf("%v is not in\n%s", r, xml)
		}
	}
	if n := strings.Count(xml, "<port>"); n != len(rows) {
		t.Errorf("%d servers, client-settings has %d", n, len(rows))
	}
	im := d.imap("alice@example.test") // the name that the client puts in
	im.Close()
	if got := fetch("https://" + d.port(2443) + "/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=x@elsewhere.example"); !strings.HasPrefix(got, "404") {
		t.Error(got)
	}
	d.has("_imaps._tcp.example.test", "domain", "dns-records", "example.test")
	d.has("autoconfig.example.test", "domain", "dns-records", "example.test")
	d.has("autodiscover.example.test", "domain", "dns-records", "example.test")
	d.has("autoconfig", "check", "ports")
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := http.NewRequest(http.MethodGet, "http://"+d.port(2480)+"/mail/config-v1.1.xml", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "autoconfig.example.test"
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if want := fmt.Sprintf("https://autoconfig.example.test:%d/mail/config-v1.1.xml", 2443+d.offset); resp.StatusCode != 302 || resp.Header.Get("Location") != want {
		t.Errorf("%d %s, want %s", resp.StatusCode, resp.Header.Get("Location"), want)
	}
	d.ok("service", "autoconfig", "set", "--enable", "off", "--yes")
	if c, err := net.Dial("tcp", d.port(2443)); err == nil {
		c.Close()
		t.Error("still listening")
	}
}
