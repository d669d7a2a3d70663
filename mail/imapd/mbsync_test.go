package imapd_test

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mailplusd/mail/model"
)

// TestMbsync keeps a Maildir and a mailbox equal with mbsync while both sides change: flags, new
// messages, removed ones. MBSYNC_MESSAGES=10000 says how many messages.
func TestMbsync(t *testing.T) {
	// covers: R6.20 R6.23
	if _, err := exec.LookPath("mbsync"); err != nil {
		t.Skip("mbsync is not installed")
	}
	count := 200
	if n, err := strconv.Atoi(os.Getenv("MBSYNC_MESSAGES")); err == nil {
		count = n
	}
	w := newWorld(t)
	text := func(i int, side string) string {
		return fmt.Sprintf("From: a%d@x.test\r\nSubject: %s %d\r\nMessage-ID: <%d.%s@x.test>\r\n\r\n%s\r\n.\r\n..\r\nFrom here\r\n", i, side, i, i, side, strings.Repeat("line ü \r\n", i%50))
	}
	for i := range count {
		w.deliver("b", text(i, "far"))
	}
	s := newSyncer(t, w)
	s.run()
	s.equal(count)
	// near: every 3rd is read, every 7th goes, new ones come
	files := s.near()
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, f.path)
	}
	slices.Sort(names)
	gone := 0
	for i, path := range names {
		switch {
		case i%7 == 0:
			gone++
			must(t, os.Remove(path))
		case i%3 == 0:
			base, flags, _ := strings.Cut(filepath.Base(path), ":2,")
			if !strings.Contains(flags, "S") {
				flags += "S"
			}
			must(t, os.Rename(path, filepath.Join(s.dir, "INBOX", "cur", base+":2,"+flags)))
		}
	}
	for i := range count / 10 {
		must(t, os.WriteFile(filepath.Join(s.dir, "INBOX", "cur", fmt.Sprintf("%d.new.host:2,F", i)), []byte(strings.ReplaceAll(text(i, "near"), "\r\n", "\n")), 0o600))
	}
	// far: others are flagged, some go, new ones come
	c := w.login("b")
	c.ok("SELECT INBOX")
	c.ok(fmt.Sprintf(`STORE %d:%d +FLAGS.SILENT (\Answered \Flagged)`, count/4, count/2))
	for i := range count / 10 {
		w.deliver("b", text(i, "later"))
	}
	s.run()
	s.run()
	s.equal(count - gone + count/10*2)
	c.ok(fmt.Sprintf(`STORE %d:%d +FLAGS.SILENT (\Deleted)`, 1, count/10))
	c.ok("NOOP")
	c.ok("EXPUNGE")
	s.run()
	s.equal(-1)
	before := s.state()
	s.run() // nothing to do
	if after := s.state(); before != after {
		t.Errorf("a run without changes has changed something:\n%s\n%s", before, after)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type syncer struct {
	t   *testing.T
	w   *world
	dir string
	rc  string
	box model.MailboxID
}

func newSyncer(t *testing.T, w *world) *syncer {
	t.Helper()
	dir := t.TempDir()
	host, port, err := net.SplitHostPort(w.addr)
	must(t, err)
	s := &syncer{t: t, w: w, dir: dir, rc: filepath.Join(dir, "rc")}
	m, err := w.store.Mailbox('b', "INBOX")
	must(t, err)
	s.box = m.ID
	// FSync no: mbsync's own clock runs while it waits for the disk, and 10,000 files take it longer than its 20 s.
	must(t, os.WriteFile(s.rc, fmt.Appendf(nil, "FSync no\n\nIMAPAccount a\nHost %s\nPort %s\nUser b\nPass secret\nSSLType None\nAuthMechs LOGIN\n\nIMAPStore far\nAccount a\n\n"+
		"MaildirStore near\nPath %s/\nInbox %s/INBOX\nSubFolders Verbatim\n\nChannel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Both\nExpunge Both\nSync All\nSyncState *\n", host, port, dir, dir), 0o600))
	return s
}

func (s *syncer) run() {
	s.t.Helper()
	out, err := exec.Command("mbsync", "-c", s.rc, "-V", "c").CombinedOutput()
	if text := strings.ReplaceAll(string(out), "*** IMAP Warning *** Password is being sent in the clear", ""); err != nil || strings.Contains(strings.ToLower(text), "warning") {
		s.t.Fatalf("mbsync: %v\n%s", err, out)
	}
}

type syncedMail struct {
	path  string
	flags string // of Maildir, sorted
	sum   [16]byte
}

// content names a message by its subject and hashes its body, line ends apart.
func content(raw []byte) (subject string, sum [16]byte) {
	raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	head, body, _ := bytes.Cut(raw, []byte("\n\n"))
	for _, l := range strings.Split(string(head), "\n") {
		if v, ok := strings.CutPrefix(l, "Subject: "); ok {
			subject = v
		}
	}
	return subject, md5.Sum(body)
}

func (s *syncer) near() map[string]syncedMail {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.dir, "INBOX", "[cn]*", "*"))
	must(s.t, err)
	out := map[string]syncedMail{}
	for _, path := range list {
		raw, err := os.ReadFile(path)
		must(s.t, err)
		subject, sum := content(raw)
		_, flags, _ := strings.Cut(filepath.Base(path), ":2,")
		out[subject] = syncedMail{path, flags, sum}
	}
	if len(out) != len(list) {
		s.t.Fatalf("%d files, %d messages", len(list), len(out))
	}
	return out
}

var maildirFlags = []struct {
	bit  model.Flags
	name string
}{{model.FlagDraft, "D"}, {model.FlagFlagged, "F"}, {model.FlagAnswered, "R"}, {model.FlagSeen, "S"}, {model.FlagDeleted, "T"}}

func (s *syncer) far() map[string]syncedMail {
	s.t.Helper()
	_, list, err := s.w.store.Snapshot(s.box)
	must(s.t, err)
	out := map[string]syncedMail{}
	for i := range list {
		b, err := s.w.store.Body(list[i].Body)
		must(s.t, err)
		raw, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		must(s.t, err)
		b.Close()
		subject, sum := content(raw)
		flags := ""
		for _, f := range maildirFlags {
			if list[i].Flags&f.bit != 0 {
				flags += f.name
			}
		}
		out[subject] = syncedMail{flags: flags, sum: sum}
	}
	if len(out) != len(list) {
		s.t.Fatalf("%d messages, %d subjects", len(list), len(out))
	}
	return out
}

// equal compares both sides; want is the number of messages, -1 any.
func (s *syncer) equal(want int) {
	s.t.Helper()
	near, far := s.near(), s.far()
	if len(near) != len(far) || want >= 0 && len(far) != want {
		s.t.Fatalf("%d near, %d far, want %d", len(near), len(far), want)
	}
	for subject, f := range far {
		n, ok := near[subject]
		if !ok || n.flags != f.flags || n.sum != f.sum {
			s.t.Errorf("%s: near %v %q, far %q, same content %v", subject, ok, n.flags, f.flags, n.sum == f.sum)
		}
	}
}

// state is everything of both sides, as text.
func (s *syncer) state() string {
	box, list, err := s.w.store.Snapshot(s.box)
	must(s.t, err)
	var b strings.Builder
	fmt.Fprint(&b, box.HighestModSeq, box.UIDNext, len(list))
	near := s.near()
	names := make([]string, 0, len(near))
	for _, n := range near {
		names = append(names, n.path)
	}
	slices.Sort(names)
	fmt.Fprint(&b, names)
	return b.String()
}
