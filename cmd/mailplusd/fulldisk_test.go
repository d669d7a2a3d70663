package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/sys/unix"
)

// fill leaves no room on the file system of a file, which becomes that large.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := int64(0)
	for size := int64(64 << 20); size >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, at, size); {
		case err == nil:
			at += size
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case errors.Is(err, unix.EINTR):
		default:
			t.Fatal(err)
		}
	}
}

// ended tells whether the daemon has ended by itself.
func (d *process) ended() bool {
	select {
	case err := <-d.exited:
		d.exited <- err
		return true
	default:
		return false
	}
}

// rawIMAP logs in and gives what sends a command and looks for a text among the lines of its answer.
func (d *process) rawIMAP(user string) func(cmd, want string) {
	d.t.Helper()
	c, err := net.Dial("tcp", d.port(2143))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(3 * time.Minute))
	lines := bufio.NewScanner(c)
	gets := func(cmd, want string) {
		d.t.Helper()
		fmt.Fprintf(c, "%s\r\n", cmd)
		found := false
		for tag, _, _ := strings.Cut(cmd, " "); lines.Scan(); {
			found = found || strings.Contains(lines.Text(), want)
			if strings.HasPrefix(lines.Text(), tag+" ") {
				break
			}
		}
		if !found {
			d.t.Errorf("%.40s: %s (%v), want %s", cmd, lines.Text(), lines.Err(), want)
		}
	}
	gets("a LOGIN "+user+" "+devPassword, "a OK")
	return gets
}

// TestFullDisk: the disk of a node is full to the last block. New mail is refused, in SMTP before it is sent;
// what is there can be read, flagged and deleted, the settings can be changed, and nothing ends, because space was
// set aside for the log and the state. With space again it goes on by itself. When what was set aside is
// used up, too, the daemon ends with a word, and nothing that it had confirmed is lost.
func TestFullDisk(t *testing.T) {
	disk := newBlockFS(t)
	disk.mount()
	d := newDaemon(t)
	d.dir = filepath.Join(disk.dir, "data")
	t.Cleanup(func() {
		if d.cmd != nil && !d.ended() {
			d.kill()
		}
	})
	d.start()
	d.mailbox(3)
	d.ok("config", "set", "network.resolvers="+resolver(t, ""), "queue.min-backoff=1", "queue.max-backoff=1")
	d.ok("queue", "hold-rule", "add", "pause", "--domain", "gone.test")
	d.submit("alice", "x@gone.test")
	reserve, filler := filepath.Join(d.dir, "reserve"), filepath.Join(disk.dir, "filler")
	set := func() bool { info, err := os.Stat(reserve); return err == nil && info.Size() > 0 }
	poll := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
			if d.ended() || time.Now().After(end) {
				t.Fatalf("did not happen: %s\n%s", what, d.log.String())
			}
		}
	}
	poll("space is set aside", set)
	smtp, im := d.smtp(2525), d.imap("bob")
	if _, err := im.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	flag := func(n int) error {
		op := []imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel}[n%2]
		return im.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: op, Silent: true, Flags: []imap.Flag{imap.Flag(fmt.Sprintf("flag%d", n/2%40))}}, nil).Close()
	}
	mail := func(n int) string {
		smtp.cmd("RSET")
		r, err := smtp.send("x@y.example", "bob@example.test", fmt.Sprintf("Subject: %d\r\n\r\n%s", n, strings.Repeat("text\r\n", 2000)))
		if err != nil {
			t.Fatalf("%v\n%s", err, d.log.String())
		}
		return r
	}

	fill(t, filler)
	accepted := 3
	poll("new mail is refused", func() bool {
		r := mail(accepted)
		if r[0] == '2' {
			accepted++
		}
		return strings.HasPrefix(r, "452 4.3.1")
	})
	if r, err := smtp.cmd("MAIL FROM:<x@y.example>"); err != nil || !strings.HasPrefix(r, "452 4.3.1") {
		t.Errorf("refused only after it was sent: %s %v", r, err)
	}
	text := "Subject: a draft\r\n\r\nx\r\n"
	app := im.Append("INBOX", int64(len(text)), nil)
	app.Write([]byte(text))
	app.Close()
	if _, err := app.Wait(); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("APPEND: %v", err)
	}
	// Several messages in one APPEND: all are kept or none, and the session stays in step.
	raw := d.rawIMAP("alice")
	several := "APPEND Drafts {18+}\r\nSubject: small\r\n\r\n {23+}\r\n" + text + " {23+}\r\n" + text
	raw("b "+several, "b NO ")
	raw("c STATUS Drafts (MESSAGES UIDNEXT)", `* STATUS "Drafts" (MESSAGES 0 UIDNEXT 1)`)
	// What can't be delivered can't be returned either: it waits for room.
	d.ok("queue", "release", "1")
	poll("the notification finds no room", func() bool { return strings.Contains(d.log.String(), "outcome of a delivery attempt not stored") })
	d.has("x@gone.test", "queue", "list")
	flags := 0
	poll("what was set aside is used", func() bool {
		for range 50 {
			if err := flag(flags); err != nil {
				t.Fatalf("flag %d: %v\n%s", flags, err, d.log.String())
			}
			flags++
		}
		return !set()
	})
	for range 200 {
		if err := flag(flags); err != nil {
			t.Fatalf("flag %d: %v\n%s", flags, err, d.log.String())
		}
		flags++
	}
	d.ok("user", "set", "bob", "--display-name", "Bob of the full disk")
	d.has("new mail is refused", "status")

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	poll("mail is taken again", func() bool { return mail(accepted)[0] == '2' })
	accepted++
	poll("the sender is told", func() bool { return d.messages("alice") == 1 })
	d.until("[]", "queue", "list", "-o", "json")
	raw("d "+several, "d OK [APPENDUID")
	raw("e STATUS Drafts (MESSAGES)", `* STATUS "Drafts" (MESSAGES 3)`)
	poll("space is set aside again", set)

	fill(t, filler)
	poll("what was set aside is used", func() bool { flag(flags); flags++; return !set() })
	fill(t, filler+"2")
	for end := time.Now().Add(2 * time.Minute); !d.ended(); flags++ {
		if flag(flags) != nil {
			select {
			case err := <-d.exited:
				d.exited <- err
			case <-time.After(time.Until(end)):
				t.Fatalf("it neither goes on nor ends\n%s", d.log.String())
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%d flags were stored on a full disk: nothing is proved", flags)
		}
	}
	if err := <-d.exited; err == nil || !strings.Contains(d.log.String(), "no space left on device") || strings.Contains(d.log.String(), "goroutine ") {
		t.Errorf("%v\n%s", err, d.log.String())
	}
	d.cmd = nil
	os.Remove(filler)
	os.Remove(filler + "2")
	d.start()
	if box, err := d.imap("bob").Select("INBOX", nil).Wait(); err != nil || int(box.NumMessages) != accepted {
		t.Errorf("%d messages were confirmed; %+v %v", accepted, box, err)
	}
	d.has("Bob of the full disk", "user", "show", "bob")
	if r, err := d.smtp(2525).send("x@y.example", "bob@example.test", "Subject: after\r\n\r\nx"); err != nil || r[0] != '2' {
		t.Errorf("%s %v", r, err)
	}
}
