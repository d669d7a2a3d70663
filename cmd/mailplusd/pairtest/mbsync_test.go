package pairtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// mirror is mbsync, over openssl's client as the certificate is of the test's making, with a copy of two mailboxes: it pulls what comes into INBOX, and brings what is
// written here into Sync.
type mirror struct {
	c      *clients
	dir    string
	n      int
	ran    int // runs that went through, and those that didn't
	failed int
	last   string
}

const pushed = "Sync" // mailbox that mbsync fills

func (c *clients) mirror() *mirror {
	s := c.s
	m := &mirror{c: c, dir: s.t.TempDir()}
	var wg sync.WaitGroup
	var err error
	s.client.run(&wg, func() {
		var i *imapConn
		if i, err = dialIMAP(vip.String(), "alice"); err != nil {
			return
		}
		defer i.c.Close()
		if _, _, err = i.cmd("CREATE " + pushed); err != nil {
			return
		}
		var validity uint32
		if validity, err = i.selectBox(pushed); err == nil {
			c.rec.saw("client", pushed, validity)
		}
	})
	wg.Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "rc"), fmt.Appendf(nil, `IMAPAccount a
Tunnel "openssl s_client -quiet -no_ign_eof -connect %s:993"
User alice
Pass %s
AuthMechs LOGIN
Timeout 10

IMAPStore far
Account a

MaildirStore near
Path %[3]s/
Inbox %[3]s/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns INBOX %[4]s
Create Near
SyncState *
`, vip, password, m.dir, pushed), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return m
}

// write puts a message into the local copy; it counts as promised when a run of mbsync has gone through.
func (m *mirror) write() {
	m.n++
	id := fmt.Sprintf("m-%06d", m.n)
	m.c.rec.sending(id, pushed)
	m.c.rec.change(id, func(s *sent) { s.relayed = true })
	dir := filepath.Join(m.dir, pushed)
	for _, sub := range []string{"cur", "new", "tmp"} {
		os.MkdirAll(filepath.Join(dir, sub), 0o700)
	}
	tmp := filepath.Join(dir, "tmp", id)
	if os.WriteFile(tmp, []byte(strings.ReplaceAll(message(id), "\r\n", "\n")), 0o600) == nil {
		os.Rename(tmp, filepath.Join(dir, "new", fmt.Sprintf("%d.%s.client", time.Now().Unix(), id)))
	}
}

// sync runs mbsync once.
func (m *mirror) sync() error {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "mbsync", "-c", filepath.Join(m.dir, "rc"), "-V", "c")
	cmd.Env = append(os.Environ(), "HOME="+m.dir)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // its tunnel may outlive it
	var err error
	m.c.s.client.do(func() { err = cmd.Start() })
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		m.last = fmt.Sprintf("%v at %s\n%s", err, m.c.s.age().Round(time.Millisecond), &out)
		m.failed++
		return err
	}
	m.ran++
	return nil
}

func (m *mirror) loop() {
	for !m.c.done() {
		for range 3 {
			m.write()
		}
		if m.sync() != nil {
			m.c.rest(100 * time.Millisecond)
		}
	}
}

// settle syncs until all that was written here is with the pair.
func (m *mirror) settle() {
	t := m.c.s.t
	t.Helper()
	for end := time.Now().Add(60 * time.Second); m.sync() != nil; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("mbsync, after %d runs that went through and %d that didn't: %s", m.ran, m.failed, m.last)
		}
	}
	for i := range m.n {
		m.c.rec.acked(fmt.Sprintf("m-%06d", i+1))
	}
}

// has lists the subjects of a local copy.
func (m *mirror) has(box string) (ids []string) {
	files, _ := filepath.Glob(filepath.Join(m.dir, box, "*", "*"))
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && !strings.HasPrefix(filepath.Base(f), ".") {
			if found := idHeader.FindStringSubmatch(string(raw)); found != nil {
				ids = append(ids, found[1])
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// compare holds the local copy against what a node has.
func (m *mirror) compare(boxes map[string][]stored) {
	t := m.c.s.t
	t.Helper()
	for _, box := range []string{"INBOX", pushed} {
		var there []string
		for _, s := range boxes[box] {
			there = append(there, s.id)
		}
		slices.Sort(there)
		here := m.has(box)
		if !slices.Equal(here, there) {
			t.Errorf("mbsync's copy of %s has %d messages, the pair %d: only here %v, only there %v", box, len(here), len(there), without(here, there), without(there, here))
		}
		t.Logf("mbsync: %s has %d messages on both sides", box, len(here))
	}
	t.Logf("mbsync: %d runs went through, %d were broken off", m.ran, m.failed)
}

// without gives what a has more of than b, at most ten.
func without(a, b []string) (out []string) {
	n := map[string]int{}
	for _, s := range b {
		n[s]++
	}
	for _, s := range a {
		if n[s]--; n[s] < 0 && len(out) < 10 {
			out = append(out, s)
		}
	}
	return out
}
