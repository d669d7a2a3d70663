package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// imapAt logs in at an address of the pair and opens INBOX.
func (l *lan) imapAt(ip, user string) *imapclient.Client {
	l.t.Helper()
	c, err := imapclient.DialInsecure(ip+":2143", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	if err := c.Login(user, devPassword).Wait(); err != nil {
		l.t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		l.t.Fatal(err)
	}
	return c
}

// importing is an import whose file is still being written.
type importing struct {
	cmd       *exec.Cmd
	w         io.WriteCloser
	rest      string
	out, errs bytes.Buffer
}

// startImport imports into a user's mailbox Old through a node: most of a file, which ends in the
// middle of a message.
func (n *twin) startImport(user, mbox string) *importing {
	n.t.Helper()
	pipe := filepath.Join(n.t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		n.t.Fatal(err)
	}
	im := &importing{cmd: exec.Command(bins.mpctl, "--socket", filepath.Join(n.dir, "admin.sock"), "mailbox", "import", user, "--from", pipe, "--format", "mbox", "--mailbox", "Old")}
	im.cmd.Stdout, im.cmd.Stderr = &im.out, &im.errs
	if err := im.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { im.cmd.Process.Kill() })
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	cut := len(mbox) * 9 / 10
	im.w, im.rest = w, mbox[cut:]
	io.WriteString(w, mbox[:cut])
	return im
}

// end writes the rest and gives the exit status.
func (im *importing) end() int {
	io.WriteString(im.w, im.rest) // nobody may be reading any more
	im.w.Close()
	return exitCode(im.cmd.Wait())
}

// TestStoryReadingTakenOver: the primary dies while mail is imported. The other node finds, gives back,
// imports and configures clients as if nothing had been.
func TestStoryReadingTakenOver(t *testing.T) {
	l := newLAN(t)
	a, b := l.pair()
	a.ok("--yes", "service", "imap", "set", "--tls", "on")
	a.ok("--yes", "service", "autoconfig", "set", "--enable", "on", "--port", "2443", "--http", "off")
	a.ok("--yes", "service", "fts", "set", "--enable", "on", "--cpu", "100")
	for i := range 5 {
		l.deliver(l.vip(), "bob@example.test", fmt.Sprint("letter ", i))
	}
	c := l.imapAt(a.ip, "bob")
	appendMail(t, c, "INBOX", "Résumé", "café")
	if err := c.Store(imap.SeqSetNum(2), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	a.indexed("bob", "up to date", 5) // each node has its own
	b.indexed("bob", "up to date", 5)
	config := func(when string) {
		t.Helper()
		hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 20 * time.Second}
		defer hc.CloseIdleConnections()
		resp, err := hc.Get("https://" + l.vip() + ":2443/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=bob@example.test")
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer resp.Body.Close()
		if xml, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.Contains(string(xml), "<port>2143</port>") {
			t.Errorf("%s: %d\n%s", when, resp.StatusCode, xml)
		}
	}
	config("at the primary")

	const count = 300
	mbox := ""
	for i := range count {
		mbox += fmt.Sprintf("From x Mon Jan  1 00:00:00 2024\nSubject: number %d\nMessage-ID: <%d@x>\n\nimported%03d\n%s\n", i, i, i, strings.Repeat("so much that no buffer on the way holds it\n", 75))
	}
	im := b.startImport("bob", mbox)
	old := func() int {
		n, _ := b.field("bob", "Old", "messages").(float64)
		return int(n)
	}
	b.until("the first group of the import is stored", func() bool { return old() == 200 })
	a.kill()
	b.is("solo-secondary")
	b.until("b holds the address", func() bool { return b.show().Holder == "b" })
	config("at the secondary")
	// The import goes on, or says clearly that it does not; then the group that was stored is there, and
	// nothing half.
	switch code := im.end(); {
	case code == 0 && old() != count:
		t.Errorf("%d messages, and the import says that it has all of them", old())
	case code != 0 && (im.errs.Len() == 0 || old() != 200):
		t.Errorf("exit %d, %d messages: %s%s", code, old(), im.out.String(), im.errs.String())
	}
	b.ok("mailbox", "import", "bob", "--from", b.file("old.mbox", mbox), "--mailbox", "Old")
	if got := old(); got != count {
		t.Errorf("%d messages after the command was repeated, want %d", got, count)
	}

	b.has("letter 1", "mailbox", "expunged", "bob")
	b.ok("mailbox", "restore", "bob", "--subject", "letter 1")
	b.indexed("bob", "up to date", 6+count)
	c = l.imapAt(l.vip(), "bob")
	if got := searchFor(t, c, &imap.SearchCriteria{Body: []string{"CAFE"}}); len(got) != 1 {
		t.Errorf("BODY cafe finds %v", got)
	}
	if got := searchFor(t, c, &imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "letter"}}}); len(got) != 5 {
		t.Errorf("SUBJECT letter finds %v, want five with the one that was given back", got)
	}
	if _, err := c.Select("Old", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	last := imap.UID(0)
	for _, i := range []int{0, 199, 200, 299} { // a node that has taken over gives its own UIDs, further up
		got := searchFor(t, c, &imap.SearchCriteria{Body: []string{fmt.Sprintf("imported%03d", i)}})
		if len(got) != 1 || got[0] <= last {
			t.Fatalf("BODY imported%03d finds %v, want one behind %d", i, got, last)
		}
		last = got[0]
	}
}
