package main

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// silent is a DNS server that takes questions and never answers: a delivery that asks it goes on.
func silent(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc.LocalAddr().String()
}

// becomes waits until mpctl's output has words.
func (d *process) becomes(words string, args ...string) {
	d.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		out := d.ok(args...)
		if strings.Contains(out, words) {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("mpctl %s: %q doesn't come:\n%s", strings.Join(args, " "), words, out)
		}
	}
}

// queued sends messages to other servers as bob.
func (d *process) queued(to ...string) {
	d.t.Helper()
	c := d.smtp(2525)
	for i, a := range to {
		if r, err := c.send("bob@example.test", a, fmt.Sprintf("Subject: number %d\r\n\r\n%s", i, strings.Repeat("text of a line\r\n", 1+i*100))); err != nil || r[0] != '2' {
			d.t.Fatal(r, err)
		}
	}
}

func TestStoryQueueStates(t *testing.T) {
	// covers: R10.52 R10.58
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.resolvers=127.0.0.1:9", "delivery.lan-exempt=on")
	d.queued("a@late.example")
	d.becomes("deferred", "queue", "list", "--domain", "late.example", "-o", "csv")
	d.ok("config", "set", "network.resolvers="+silent(t), "queue.concurrency=1", "queue.per-destination=1")
	d.queued("a@now.example")
	d.becomes("processing", "queue", "list", "--domain", "now.example", "-o", "csv")
	d.queued("a@next.example") // there is no room for a second attempt
	d.has("pending", "queue", "list", "--domain", "next.example", "-o", "csv")
	for state, domain := range map[string]string{"pending": "next.example", "processing": "now.example", "deferred": "late.example"} {
		out := d.ok("queue", "list", "--state", state, "-o", "jsonl")
		if strings.Count(out, "\n") != 1 || !strings.Contains(out, "a@"+domain) {
			t.Errorf("--state %s: %s, want the one to %s", state, out, domain)
		}
	}
	d.fails(2, "is not one of pending, processing, deferred, held", "queue", "list", "--state", "waiting")
}

func TestStoryQueueFilters(t *testing.T) {
	// covers: R10.54 R10.55 R10.56 R10.57 R10.58
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.resolvers=127.0.0.1:9", "delivery.lan-exempt=on")
	d.queued("a@one.example", "b@two.example", "c@three.example", "d@four.example") // 0, 1,600, 3,200 and 4,800 octets of text, and headers
	for _, domain := range []string{"one", "two", "three", "four"} {
		d.becomes("deferred", "queue", "list", "--domain", domain+".example", "-o", "csv")
	}
	d.ok("queue", "hold", "4")
	for _, c := range []struct {
		filter string
		want   string
	}{
		{"--older-than 1h", ""}, {"--newer-than 1h", "1 2 3 4"}, {"--older-than 2099-01-01", "1 2 3 4"}, {"--newer-than 3d --older-than 0s", "1 2 3 4"},
		{"--larger-than 3K", "3 4"}, {"--smaller-than 3K", "1 2"}, {"--larger-than 1K --smaller-than 4096", "2 3"}, {"--larger-than 1G", ""},
		{"--next-before 1h", "1 2 3"}, {"--next-after 1h", ""}, {"--next-after 1m --next-before 1d", "1 2 3"},
		{"--reason dns", "1 2 3 4"}, {"--reason nothing", ""}, {"--state held", "4"}, {"--sender bob --recipient b@", "2"}, {"--search number", "1 2 3 4"},
	} {
		out := d.ok(append([]string{"queue", "list", "-o", "name"}, strings.Fields(c.filter)...)...)
		if got := strings.Join(strings.Fields(out), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.filter, got, c.want)
		}
	}
	d.fails(2, "is no size", "queue", "list", "--larger-than", "big")
	d.fails(2, "is no time", "queue", "list", "--older-than", "yesterday")

	d.fails(3, "wants a confirmation", "queue", "resend", "--all", "--larger-than", "3K")
	d.fails(2, "filters choose among --all", "queue", "resend", "1", "--larger-than", "3K")
	d.has("+ recipients: 1", "queue", "resend", "--all", "--larger-than", "3K", "--dry-run") // 4 is held
	d.warns("1 recipients are held and stay so", "queue", "resend", "4")
	d.has("4\n", "queue", "list", "--state", "held", "-o", "name")
	d.ok("queue", "hold", "--all", "--larger-than", "3K", "--yes")
	d.has("3\n4\n", "queue", "list", "--state", "held", "-o", "name")
	d.ok("queue", "release", "--all", "--domain", "four.example", "--yes")
	if out := d.ok("queue", "list", "--state", "held", "-o", "name"); out != "3\n" {
		t.Errorf("held after the release of 4: %q", out)
	}

	ids := d.ok("queue", "list", "--smaller-than", "3K", "-o", "name")
	out, errs, code := d.mpctlIn(ids+"999\nx\n", "queue", "hold", "--file", "-")
	if code != 6 || strings.Count(out, "\tok") != 2 || strings.Count(out, "failed") != 2 {
		t.Errorf("hold --file: exit %d\n%s%s", code, out, errs)
	}
	d.has("1\n2\n3\n", "queue", "list", "--state", "held", "-o", "name")
	_, errs, code = d.mpctlIn(ids, "queue", "clear", "--file", "-")
	if code != 3 || !strings.Contains(errs, "confirmation") {
		t.Errorf("clear --file without --yes: exit %d %s", code, errs)
	}
	if out, errs, code = d.mpctlIn(ids+ids, "queue", "clear", "--file", "-", "--yes"); code != 0 || strings.Count(out, "unchanged") != 2 {
		t.Errorf("clear --file: exit %d\n%s%s", code, out, errs)
	}
	if out := d.ok("queue", "list", "-o", "name"); out != "3\n4\n" {
		t.Errorf("after clear: %q", out)
	}
	d.has("1 2", "admin", "log", "list", "--search", "queue clear")
	if out, errs, code = d.mpctlIn("", "queue", "hold", "--file", "-"); code != 0 {
		t.Errorf("an empty list: exit %d\n%s%s", code, out, errs)
	}
	if _, errs, code = d.mpctlIn("no,such,columns\n", "queue", "hold", "--file", "-"); code != 2 || !strings.Contains(errs, "must name the columns") {
		t.Errorf("a bad file: exit %d %s", code, errs)
	}
}

// TestQueueActionIsInTheAdminLog: what the queue has lost and the line that says who did it are one
// entry, so a crash right behind the answer loses neither.
func TestQueueActionIsInTheAdminLog(t *testing.T) {
	// covers: I.13
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.resolvers=127.0.0.1:9", "delivery.lan-exempt=on")
	for i := range 3 {
		d.queued(fmt.Sprintf("a%d@one.example", i))
		d.ok("queue", "clear", "--all", "--recipient", fmt.Sprintf("a%d@", i), "--yes")
		d.kill()
		d.start()
		if out := d.ok("admin", "log", "list", "--search", "queue clear", "-o", "jsonl"); strings.Count(out, "\n") != i+1 {
			t.Errorf("round %d:\n%s", i, out)
		}
	}
}

// TestTwoCommandsAtOnce changes the same objects from many commands at the same time: each is done
// whole or refused, none is lost.
func TestTwoCommandsAtOnce(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.ok("group", "add", "staff")
	d.ok("domain", "add", "example.org")
	const n = 12
	type result struct {
		out string
		err error
	}
	results := make(chan result, 2*n)
	run := func(args ...string) {
		cmd := exec.Command(bins.mpctl, append([]string{"--socket", d.dir + "/admin.sock"}, args...)...)
		out, err := cmd.CombinedOutput()
		results <- result{fmt.Sprint(args, " ", string(out)), err}
	}
	for i := range n {
		d.ok("user", "add", fmt.Sprintf("u%d", i))
	}
	for i := range n { // each adds a member to one row of each
		go run("group", "member", "add", "staff", fmt.Sprintf("u%d", i))
		go run("domain", "user", "add", "example.org", "alice", "--address", fmt.Sprintf("a%d", i))
	}
	failed := 0
	for range 2 * n {
		if r := <-results; r.err != nil {
			if !strings.Contains(r.out, "exists already") && !strings.Contains(r.out, "at the same time") {
				t.Errorf("%v: %s", r.err, r.out)
			}
			failed++
		}
	}
	d.has(fmt.Sprintf(`"members": %d`, n), "group", "show", "staff", "-o", "json")
	if failed != n-1 { // one of the twelve could give alice her addresses of the domain
		t.Errorf("%d were refused, want %d", failed, n-1)
	}
	for range n {
		go run("user", "delete", "u0", "--yes")
	}
	gone := 0
	for range n {
		switch r := <-results; {
		case r.err == nil:
			gone++
		case !strings.Contains(r.out, "no user"):
			t.Errorf("%v: %s", r.err, r.out)
		}
	}
	if gone != 1 {
		t.Errorf("%d commands have deleted the same user", gone)
	}
}
