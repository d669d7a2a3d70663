package main

import (
	"bufio"
	"encoding/json"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestStoryWatching is what an administrator and systemd see of a running daemon: it says when it is
// ready, its log has an ID for each connection and message, the mail log comes as it happens,
// and a shell completes names of the system.
func TestStoryWatching(t *testing.T) {
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	t.Setenv("NOTIFY_SOCKET", notify.LocalAddr().String())
	d := newDaemon(t)
	d.start("--log-level", "info")
	said := func(want string) {
		t.Helper()
		notify.SetReadDeadline(time.Now().Add(30 * time.Second))
		buf := make([]byte, 256)
		if n, err := notify.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("systemd is told %q (%v), want %s", buf[:n], err, want)
		}
	}
	said("READY=1")

	if out := d.ok("__complete", "user", "show", "a"); !strings.Contains(out, "alice") || strings.Contains(out, "bob") {
		t.Errorf("users that begin with a: %s", out)
	}
	if out := d.ok("completion", "bash"); !strings.Contains(out, "__start_mpctl") {
		t.Errorf("completion of bash: %.200s", out)
	}

	trace := d.followed()
	d.stop()
	said("STOPPING=1")
	conns := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)msg=accepted .*\bconn=(\S+) .*\bid=`+regexp.QuoteMeta(trace)+` `).FindAllStringSubmatch(d.log.String(), -1) {
		conns[m[1]] = true
	}
	if len(conns) != 1 {
		t.Errorf("connections of the message %s in the log: %v\n%s", trace, conns, d.log.String())
	}
}

// followed gives the trace of a message that log follow shows while it comes.
func (d *process) followed() string {
	d.t.Helper()
	cmd := exec.Command(bins.mpctl, "--socket", filepath.Join(d.dir, "admin.sock"), "log", "follow", "-o", "jsonl", "--recipient", "bob@example.test")
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	defer func() {
		cmd.Process.Kill()
		for range lines {
		}
		cmd.Wait()
	}()
	c := d.smtp(2525)
	defer c.c.Close()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		for _, to := range []string{"alice@example.test", "bob@example.test"} {
			if r, err := c.send("x@y.example", to, "Subject: followed\r\n\r\nx"); err != nil || !strings.HasPrefix(r, "250") {
				d.t.Fatalf("%s %v", r, err)
			}
		}
		select {
		case line := <-lines:
			var row struct{ Trace, Recipient, Status string }
			if err := json.Unmarshal([]byte(line), &row); err != nil || row.Recipient != "bob@example.test" || row.Status != "received" || row.Trace == "" {
				d.t.Fatalf("log follow --recipient bob: %s %v", line, err)
			}
			return row.Trace
		case <-time.After(time.Second): // it may not have looked yet when the message came
		}
	}
	d.t.Fatal("log follow shows nothing")
	return ""
}
