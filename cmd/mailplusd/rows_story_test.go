package main

import (
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

// rows runs a list command and gives its rows.
func (d *process) rows(args ...string) (out []map[string]any) {
	d.t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(d.ok(append(args, "-o", "jsonl")...)), "\n") {
		if line == "" {
			continue
		}
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			d.t.Fatalf("%q: %v", line, err)
		}
		out = append(out, r)
	}
	return out
}

// wants compares some values of a row.
func wants(t *testing.T, what string, row map[string]any, want map[string]any) {
	t.Helper()
	for k, v := range want {
		if !reflect.DeepEqual(row[k], v) {
			t.Errorf("%s: %s is %v, want %v\n%v", what, k, row[k], v, row)
		}
	}
}

// during tells whether a column holds a time since start.
func during(t *testing.T, what string, value any, start time.Time) {
	t.Helper()
	at, err := time.Parse(time.RFC3339, fmt.Sprint(value))
	if err != nil || at.Before(start.Truncate(time.Second)) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("%s: %v (%v) is not between the start of the test and now", what, value, err)
	}
}

// TestStoryColumns is every column of the queue and of the mail log.
func TestStoryColumns(t *testing.T) {
	// covers: R10.48 R10.49 R10.50 R10.51 R10.64 R10.65 R10.66 R10.67 R10.68 R10.69 R10.70 R10.71 R10.72 R10.73 R10.74 R10.78
	start := time.Now()
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.resolvers=127.0.0.1:9", "delivery.lan-exempt=on")
	c := d.smtp(2525)
	for _, line := range []string{"MAIL FROM:<bob@example.test>", "RCPT TO:<alice@example.test>", "RCPT TO:<bob@example.test>", "RCPT TO:<far@late.example>"} {
		d.say(c, "250", "%s", line)
	}
	d.say(c, "354", "DATA")
	d.say(c, "250", "Subject: a subject\r\nMessage-ID: <one@example.test>\r\n\r\ntext\r\n.")
	d.becomes("deferred", "queue", "list", "-o", "csv")
	q := d.rows("queue", "list")
	if len(q) != 1 {
		t.Fatalf("%d rows in the queue", len(q))
	}
	wants(t, "queue", q[0], map[string]any{"id": "1", "sender": "bob@example.test", "recipient": "far@late.example", "state": "deferred"})
	during(t, "queue", q[0]["queued"], start)
	if !strings.Contains(fmt.Sprint(q[0]["reason"]), "DNS") {
		t.Errorf("reason: %v", q[0]["reason"])
	}
	for range 3 { // sending again is no status of its own
		d.ok("queue", "resend", "1")
		d.becomes("deferred", "queue", "list", "-o", "csv")
	}
	lines := d.rows("log", "mail", "list")
	got := map[any]map[string]any{}
	for _, l := range lines {
		got[l["recipient"]] = l
	}
	if len(lines) != 2 || len(got) != 2 {
		t.Errorf("two users have received it: %v", lines)
	}
	for _, to := range []string{"alice@example.test", "bob@example.test"} {
		wants(t, to, got[to], map[string]any{"message_id": "<one@example.test>", "sender": "bob@example.test", "subject": "a subject", "status": "received"})
		during(t, to, got[to]["time"], start)
		if size, _ := got[to]["size"].(float64); size < 60 || size > 2000 {
			t.Errorf("size: %v", got[to]["size"])
		}
	}
	for status, n := range map[string]int{"received": 2, "sent": 0, "resent": 0, "bounced": 0} {
		if l := d.rows("log", "mail", "list", "--status", status); len(l) != n {
			t.Errorf("--status %s: %d lines, want %d", status, len(l), n)
		}
	}
	d.fails(2, "is not one of received, sent, resent, bounced", "log", "mail", "list", "--status", "rejected")
}

// TestStoryAccountColumns is what the account list says of each account.
func TestStoryAccountColumns(t *testing.T) {
	// covers: R5.19 R5.22 R5.23 R5.24 R5.18
	d := newDaemon(t)
	d.start()
	d.ok("user", "add", "carol", "--password-file", d.file("pw", "long-enough-1"))
	row := func(want map[string]any) {
		t.Helper()
		for _, r := range d.rows("account", "list") {
			if r["name"] == "carol" {
				wants(t, "carol", r, want)
				return
			}
		}
		t.Error("carol is not in the list")
	}
	row(map[string]any{"setting": "", "activated": false, "status": "normal", "can_use_mail": false})
	d.ok("account", "activate", "carol")
	row(map[string]any{"setting": "activate", "activated": true, "by": "user", "status": "normal", "can_use_mail": true})
	d.ok("user", "disable", "carol")
	row(map[string]any{"setting": "activate", "activated": true, "status": "disabled", "can_use_mail": false})
	d.has("the account is disabled", "check", "login", "carol")
	d.ok("user", "enable", "carol")
	d.ok("user", "app-permission", "set", "carol", "--deny", "imap")
	if out := d.ok("check", "login", "carol"); !strings.Contains(out, "may not use imap") || strings.Contains(out, "is disabled") {
		t.Errorf("the two causes are not told apart:\n%s", out)
	}
	d.ok("account", "deactivate", "carol")
	row(map[string]any{"setting": "deactivate", "activated": false, "status": "normal", "can_use_mail": false})
	d.ok("account", "reset", "carol")
	row(map[string]any{"setting": "", "activated": false})
}

// TestStorySMTPListeners closes, opens and moves each of the three.
func TestStorySMTPListeners(t *testing.T) {
	// covers: R6.01 R6.12 R6.13 R6.14 R6.15 R6.16 R6.17 R2.52
	d := newDaemon(t)
	d.start()
	open := func(addr string) bool {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	for name, port := range map[string]int{"smtp": 2525, "smtps": 2465, "submission": 2587} {
		d.ok("service", name, "set", "--enable", "off", "--yes")
		if open(d.port(port)) {
			t.Errorf("%s is off and open", name)
		}
		if name == "smtp" {
			d.has("SMTP is off", "check", "services")
		}
		other := freeOffset(t) + len(name) // three names, three lengths
		d.ok("service", name, "set", "--enable", "on", "--port", fmt.Sprint(other), "--yes")
		if !open(fmt.Sprintf("127.0.0.1:%d", other)) || open(d.port(port)) {
			t.Errorf("%s has not moved from %s to %d", name, d.port(port), other)
		}
	}
	d.has("enabled, mail.example.test for example.test", "check", "services")
}

// TestStoryAliasEdit changes the members of an alias, and mail follows.
func TestStoryAliasEdit(t *testing.T) {
	// covers: R8.60 R8.61 R8.62
	d := newDaemon(t)
	d.start()
	rcpt := func(want string) {
		t.Helper()
		c := d.smtp(2525)
		defer c.c.Close()
		if r, err := c.send("x@y.example", "team@example.test", "Subject: s\r\n\r\nx"); err != nil || !strings.HasPrefix(r, want) {
			t.Errorf("%q %v, want %s", r, err, want)
		}
	}
	d.ok("domain", "alias", "add", "example.test", "team", "alice")
	d.ok("domain", "alias", "set", "example.test", "team", "--add", "bob")
	rcpt("250")
	d.ok("domain", "alias", "set", "example.test", "team", "--remove", "alice")
	rcpt("250")
	for user, n := range map[string]uint32{"alice": 1, "bob": 2} {
		if box, err := d.imap(user).Select("INBOX", nil).Wait(); err != nil || box.NumMessages != n {
			t.Errorf("%s: %+v %v, want %d", user, box, err, n)
		}
	}
	d.has("team", "domain", "alias", "list", "example.test", "--search", "bob")
	if out := d.ok("domain", "alias", "list", "example.test", "--search", "alice", "-o", "name"); out != "" {
		t.Errorf("found by a member it has no more: %s", out)
	}
	d.ok("domain", "alias", "delete", "example.test", "team")
	rcpt("550 5.1.1")
}

// TestStorySizeOfAMessage: a client that doesn't announce the size is refused behind the message.
func TestStorySizeOfAMessage(t *testing.T) {
	// covers: R7.02 R7.06
	d := newDaemon(t)
	d.start()
	d.ok("delivery", "general", "set", "--max-size", "1", "--hostname", "mx.example.test")
	c := d.smtp(2525)
	line := strings.Repeat("x", 70) + "\r\n"
	if r, err := c.send("x@y.example", "bob@example.test", "Subject: large\r\n\r\n"+strings.Repeat(line, 1<<20/len(line)+100)); err != nil || !strings.HasPrefix(r, "552 5.3.4") {
		t.Errorf("%q %v", r, err)
	}
	if r, err := c.send("x@y.example", "bob@example.test", "Subject: small\r\n\r\n"+strings.Repeat(line, 1<<19/len(line))); err != nil || r[0] != '2' {
		t.Errorf("%q %v", r, err)
	}
	im := d.imap("bob")
	if box, err := im.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 1 {
		t.Fatalf("%+v %v", box, err)
	}
	raw := d.smtp(2143)
	var all strings.Builder
	for _, cmd := range []string{"a LOGIN bob " + devPassword, "b SELECT INBOX", "c FETCH 1 BODY.PEEK[HEADER]"} {
		fmt.Fprintf(raw.c, "%s\r\n", cmd)
		for l := ""; !strings.HasPrefix(l, cmd[:2]); {
			var err error
			if l, err = raw.r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			all.WriteString(l)
		}
	}
	if !strings.Contains(all.String(), "by mx.example.test") {
		t.Errorf("Received does not name the host:\n%s", all.String())
	}
}
