package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// nextProgram builds the daemon of the version to come: it knows one feature level more.
var nextProgram = sync.OnceValues(func() (string, error) {
	file := filepath.Join(filepath.Dir(bins.mailplusd), "mailplusd-next")
	out, err := exec.Command("go", "build", "-tags", "nextlevel", "-o", file, "mailplusd/cmd/mailplusd").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build: %w\n%s", err, out)
	}
	return file, err
})

// TestStoryRollingUpgrade: a pair of two versions, one node upgraded after the other while mail comes in.
func TestStoryRollingUpgrade(t *testing.T) {
	l := newLAN(t)
	a, b := l.pair()
	next, err := nextProgram()
	if err != nil {
		t.Fatal(err)
	}
	var sent, failed atomic.Int64
	stop := make(chan struct{})
	var mail sync.WaitGroup
	mail.Go(func() { // a sender that repeats what was not acknowledged
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if c, err := dialSMTP(l.vip() + ":2525"); err == nil {
				r, err := c.send("x@y.example", "bob@example.test", fmt.Sprintf("Subject: %d\r\nMessage-ID: <%d@y.example>\r\n\r\nx", n, n))
				c.c.Close()
				if err == nil && strings.HasPrefix(r, "250") {
					sent.Add(1)
					continue
				}
			}
			failed.Add(1)
			time.Sleep(20 * time.Millisecond) // nobody holds the address at the moment
		}
	})
	upgrade := func(n, other *twin) {
		t.Helper()
		n.stop()
		other.until("it serves alone", func() bool { return strings.HasPrefix(other.show().State, "solo") })
		n.program = next
		n.run()
		other.ok("ha", "wait", "--for", "sync", "--timeout", "60")
		n.is("pair")
	}
	before := sent.Load()
	upgrade(b, a)
	// Two versions in one pair: both serve, each may be the primary, and neither writes what the older can't read.
	a.has("level 2", "ha", "upgrade")
	a.has("level 1", "ha", "upgrade")
	b.fails(3, "formats are raised when both run the new program", "ha", "upgrade", "--finish")
	a.fails(3, "formats are raised when both run the new program", "ha", "upgrade", "--finish")
	a.ok("ha", "switchover", "b")
	a.until("b holds the address", func() bool { return a.show().Holder == "b" })
	b.ok("config", "set", "delivery.max-hops=41")
	a.has("41", "config", "get", "delivery.max-hops")
	upgrade(a, b)
	if got := b.ok("ha", "upgrade", "-o", "json"); strings.Count(got, `"level":"1"`)+strings.Count(got, `"level": "1"`) != 2 {
		t.Errorf("the level was raised by itself: %s", got)
	}
	b.has("level", "ha", "upgrade", "--finish", "--dry-run")
	b.ok("ha", "upgrade", "--finish")
	a.until("level 2 is in force on both", func() bool {
		got := a.ok("ha", "upgrade", "-o", "json")
		return strings.Count(got, `"level":"2"`)+strings.Count(got, `"level": "2"`) == 2
	})
	close(stop)
	mail.Wait()
	if sent.Load() == before {
		t.Error("no mail came in during the upgrade")
	}
	for _, n := range []*twin{a, b} {
		if got := int64(n.inbox("bob")); got < sent.Load() || got > sent.Load()+failed.Load() {
			t.Errorf("%d messages at %s, acknowledged %d, not acknowledged %d", got, n.name, sent.Load(), failed.Load())
		}
	}
	t.Logf("%d messages acknowledged, %d attempts failed", sent.Load(), failed.Load())
	// There is no way back for one node: the older program says why and touches nothing.
	a.stop()
	out, err := exec.Command(bins.mailplusd, "serve", "--name", "a", "--data", a.dir, "--bind", a.ip, "--link", a.ip+":2826",
		"--admin-socket", filepath.Join(a.dir, "admin.sock"), "--vip-driver", "loopback", "--lease", "short").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "feature level 2, this program knows 1") || !strings.Contains(string(out), "start the newer mailplusd") {
		t.Errorf("the older program on data of level 2: %v\n%s", err, tail(string(out)))
	}
	a.run()
	b.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	// Nor is an older one taken in.
	b.ok("ha", "remove", "a", "--confirm=a")
	c := l.node("c", 4)
	c.run()
	b.fails(3, "install the same version on both", "ha", "create", "--peer", c.ip, "--vip", l.vip(), "--invite-file", c.invite(), "--yes")
}
