package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestStoryOneObjectAtOnce: commands that change the same object at the same time each do the whole of
// what they say, or say that they did not.
func TestStoryOneObjectAtOnce(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.ok("domain", "alias", "add", "example.test", "team", "alice")
	const n = 12
	codes := make([]int, n)
	said := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, said[i], codes[i] = d.mpctl("domain", "alias", "set", "example.test", "team", "--add", fmt.Sprintf("m%02d@elsewhere.example", i))
		})
	}
	wg.Wait()
	after := d.ok("domain", "alias", "show", "example.test", "team", "-o", "json")
	for i, code := range codes {
		there := strings.Contains(after, fmt.Sprintf("m%02d@elsewhere.example", i))
		if code != 0 && code != 3 || there != (code == 0) {
			t.Errorf("member %d: exit %d (%s), there: %v", i, code, said[i], there)
		}
	}
	if !slices.Contains(codes, 0) {
		t.Error("nobody got through")
	}

	// One name for two: exactly one has it, and one deletion of many does it.
	var add, del [n]int
	for i := range n {
		wg.Go(func() { _, _, add[i] = d.mpctl("user", "add", "carol") })
	}
	wg.Wait()
	for i := range n {
		wg.Go(func() { _, _, del[i] = d.mpctl("user", "delete", "carol", "--yes") })
	}
	wg.Wait()
	count := func(codes [n]int, code int) (out int) {
		for _, c := range codes {
			if c == code {
				out++
			}
		}
		return out
	}
	if count(add, 0) != 1 || count(add, 3) != n-1 {
		t.Errorf("adding: exits %v", add)
	}
	if count(del, 0) != 1 || count(del, 7) != n-1 {
		t.Errorf("deleting: exits %v", del)
	}
	if out := d.ok("admin", "log", "list", "--limit", "1000", "-o", "csv"); strings.Count(out, "user add,carol") != n {
		t.Errorf("not every call is in the admin log:\n%s", out)
	}
}

// TestStoryHugeMessagesAnnounced: a gigabyte is refused when it is announced, not when it has come.
func TestStoryHugeMessagesAnnounced(t *testing.T) {
	d := newDaemon(t)
	d.start()
	c := d.smtp(2525)
	d.say(c, "552 5.3.4", "MAIL FROM:<x@y.example> SIZE=1073741824")
	d.say(c, "5", "MAIL FROM:<x@y.example> SIZE=99999999999999999999999")
	d.say(c, "250", "MAIL FROM:<x@y.example>")
	d.say(c, "250", "RCPT TO:<bob@example.test>")
	fmt.Fprintf(c.c, "BDAT 1073741824 LAST\r\n")
	if r, err := c.reply(); err != nil || !strings.HasPrefix(r, "552 5.3.4") {
		t.Errorf("a gigabyte by BDAT: %q %v", r, err)
	}
	c = d.smtp(2525)
	if r, err := c.send("x@y.example", "bob@example.test", "Subject: next\r\n\r\nx"); err != nil || r[0] != '2' {
		t.Errorf("the next client: %q %v", r, err)
	}
}

// TestSlowMetrics: whoever sends an octet now and then is ended at the metrics address, too, and others are
// served all the while. For the listeners of mail see TestSlowLoris, for the admin plane TestSlowClients.
func TestSlowMetrics(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the listener's real time limits")
	}
	d := newDaemon(t)
	d.start()
	var wg sync.WaitGroup
	for name, slow := range map[string]struct{ start, drip string }{
		"head":   {"", "GET /metrics HTTP/1.1\r\nX: "},
		"body":   {"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "x"},
		"no end": {"GET /metrics HTTP/1.1\r\nHost: x\r\n", "A: b\r\n"},
	} {
		wg.Go(func() {
			c, err := net.Dial("tcp", d.port(2900))
			if err != nil {
				t.Error(name, err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(90 * time.Second))
			gone := make(chan error, 1)
			go func() { _, err := io.Copy(io.Discard, c); gone <- err }()
			io.WriteString(c, slow.start)
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-tick.C:
					io.WriteString(c, string(slow.drip[min(i, len(slow.drip)-1)]))
				case err := <-gone:
					if ne, ok := err.(net.Error); ok && ne.Timeout() {
						t.Errorf("%s: still open", name)
					}
					return
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	for served := 0; ; served++ {
		d.ok("status")
		select {
		case <-ended:
			t.Logf("%d calls meanwhile", served)
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestBadInputTable: docs/design/bad-input.md names a test for each kind of bad input; the tests are there.
func TestBadInputTable(t *testing.T) {
	have := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../..", func(p string, e os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, "_test.go") {
			for _, m := range declared.FindAllStringSubmatch(read(t, p), -1) {
				have[m[1]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(read(t, "../../docs/design/bad-input.md"), -1)
	if len(names) < 20 {
		t.Errorf("only %d tests are named", len(names))
	}
	for _, m := range names {
		if !have[m[1]] {
			t.Errorf("%s is named, but there is no such test", m[1])
		}
	}
}
