package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/admin/api"
)

// loggedIn is a connection on which a user of dev has logged in.
func (d *process) loggedIn(user string) *smtpClient {
	d.t.Helper()
	c := d.smtp(2525)
	d.say(c, "235", "%s", plainLogin[user])
	return c
}

// sends sends a message of a user and wants a reply.
func (d *process) sends(c *smtpClient, want, from, to, text string) {
	d.t.Helper()
	if r, err := c.send(from, to, "Subject: x\r\n"+text); err != nil || !strings.HasPrefix(r, want) {
		d.t.Fatalf("%s to %s: %q %v, want %s", from, to, r, err, want)
	}
}

// usage gives what `account usage list` says about a user.
func (d *process) usage(user string, args ...string) (out api.UsageRow) {
	d.t.Helper()
	var rows []api.UsageRow
	if err := json.Unmarshal([]byte(d.ok(append([]string{"account", "usage", "list", "-o", "json"}, args...)...)), &rows); err != nil {
		d.t.Fatal(err)
	}
	for _, r := range rows {
		if r.User == user {
			return r
		}
	}
	return out
}

// decided gives value and decider of an item of `policy effective`.
func (d *process) decided(item, user string, args ...string) string {
	d.t.Helper()
	var rows []api.EffectiveRow
	if err := json.Unmarshal([]byte(d.ok(append([]string{"policy", "effective", user, "-o", "json"}, args...)...)), &rows); err != nil {
		d.t.Fatal(err)
	}
	i := slices.IndexFunc(rows, func(r api.EffectiveRow) bool { return r.Item == item })
	if i < 0 {
		return ""
	}
	return rows[i].Value + " by " + rows[i].DecidedBy
}

// TestStoryDailyLimits: a user sends until his limit, is told until when, and goes on when his count is
// cleared or his policy frees him; counts outlive a restart.
func TestStoryDailyLimits(t *testing.T) {
	// covers: R5.60 R5.61 R5.62 R5.63 R5.64 R5.65 R5.66 R5.67 R5.75 R7.28 R8.84 R8.85 R8.88 R8.89 R8.90 R8.91 I.35
	d := newDaemon(t)
	d.start()
	o := startOutside(t)
	o.use(d)
	o.refuse["dead@out.example"] = true
	d.has(`"message_mb": "off"`, "domain", "limit", "show", "example.test", "-o", "json")
	d.fails(2, "neither off nor a number up to 2047", "domain", "limit", "set", "example.test", "--message-mb", "2048")
	if got := d.decided("daily-count", "bob"); got != "off by domain example.test" {
		t.Errorf("at first: %s", got)
	}
	d.fails(2, "daily-count", "domain", "limit", "set", "example.test", "--daily-count", "few")
	d.has("3", "domain", "limit", "set", "example.test", "--daily-count", "3")
	if got := d.decided("daily-count", "bob"); got != "3 by domain example.test" {
		t.Errorf("of the domain: %s", got)
	}
	c := d.loggedIn("bob")
	const bob = "bob@example.test"
	d.say(c, "250", "MAIL FROM:<%s>", bob)
	d.say(c, "550", "RCPT TO:<nobody@example.test>") // refused before it is sent
	d.say(c, "250", "RSET")
	d.sends(c, "250", bob, "alice@example.test", "\r\nhere")
	d.sends(c, "250", bob, "dead@out.example", "\r\nto be bounced")
	d.until("bounced", "log", "mail", "list", "--status", "bounced", "-o", "csv")
	d.say(c, "250", "MAIL FROM:<%s>", bob)
	for _, to := range []string{"x@out.example", "y@out.example", "alice@example.test"} {
		d.say(c, "250", "RCPT TO:<%s>", to)
	}
	d.say(c, "354", "DATA")
	d.say(c, "250", "Subject: x\r\n\r\none message for three\r\n.")
	midnight := func() string {
		y, m, day := time.Now().Date()
		return time.Date(y, m, day+1, 0, 0, 0, 0, time.Local).Format("2006-01-02 15:04 -0700")
	}
	d.say(c, "452 4.7.1 Daily limit of 3 messages is reached; it starts anew at "+midnight(), "MAIL FROM:<%s>", bob)
	d.sends(d.loggedIn("alice"), "250", "alice@example.test", bob, "\r\nothers go on")
	if u := d.usage("bob", "--full"); u.Messages != 3 || u.Count != 3 || !u.Full || u.CountBy != "domain example.test" || u.Octets == 0 {
		t.Errorf("bob: %+v", u)
	}
	if u := d.usage("alice", "--full"); u.User != "" {
		t.Errorf("alice is full: %+v", u)
	}
	if out := d.ok("domain", "usage", "list", "example.test", "--search", "bo", "-o", "name"); strings.TrimSpace(out) != "bob" {
		t.Errorf("search: %q", out)
	}
	d.has(`"messages": 3`, "domain", "usage", "show", "example.test", "bob", "-o", "json")
	d.has("daily-limit", "flow", "trace", "--message", d.file("m.eml", "Subject: t\r\n\r\nx\r\n"), "--user", "bob", "--from", bob, "--rcpt", "alice@example.test")

	d.kill()
	d.start()
	c = d.loggedIn("bob")
	d.say(c, "452", "MAIL FROM:<%s>", bob)
	d.fails(2, "say whose", "domain", "usage", "clear", "example.test")
	d.fails(7, "no user", "account", "usage", "clear", "nobody")
	d.fails(3, "wants a confirmation", "account", "usage", "clear", "--all")
	d.has("bob", "domain", "usage", "clear", "example.test", "bob", "--dry-run")
	d.say(c, "452", "MAIL FROM:<%s>", bob)
	d.has("bob", "domain", "usage", "clear", "example.test", "bob")
	d.sends(c, "250", bob, "alice@example.test", "\r\nat once")
	if u := d.usage("bob"); u.Messages != 1 {
		t.Errorf("cleared: %+v", u)
	}
	if u := d.usage("alice"); u.Messages != 1 {
		t.Errorf("alice was cleared, too: %+v", u)
	}
	d.has("domain usage clear", "admin", "log", "list")

	// A policy of one's own counts before the domain, and 0 is no limit.
	d.ok("policy", "add", "few", "--user", "bob", "--daily-count", "1")
	d.say(c, "452 4.7.1 Daily limit of 1 messages", "MAIL FROM:<%s>", bob)
	for _, x := range [][2]string{{"0", "off by policy few"}, {"off", "off by policy few"}, {"inherit", "3 by domain example.test"}, {"2", "2 by policy few"}} {
		d.ok("policy", "set", "few", "--daily-count", x[0])
		if got := d.decided("daily-count", "bob"); got != x[1] {
			t.Errorf("%s: %s, want %s", x[0], got, x[1])
		}
	}
	d.sends(c, "250", bob, "alice@example.test", "\r\nthe second")
	d.say(c, "452", "MAIL FROM:<%s>", bob)
	d.has("2", "account", "usage", "clear", "--all", "--yes")
	d.sends(c, "250", bob, "alice@example.test", "\r\nagain")

	// Nobody is known without authentication, so nothing is counted.
	d.ok("--yes", "delivery", "auth", "set", "--enable", "off")
	if _, errs, _ := d.mpctl("policy", "set", "few", "--daily-count", "7"); !strings.Contains(errs, "no effect while SMTP authentication is off") {
		t.Errorf("no word about the limits: %s", errs)
	}
	d.has("daily limits of the policy few", "check", "config")
	if got := d.decided("daily-count", "bob"); got != "off by system" {
		t.Errorf("without authentication: %s", got)
	}
}

// TestStoryLimitsAtOnce: many connections at once don't get past the limit.
func TestStoryLimitsAtOnce(t *testing.T) {
	// covers: I.35 R8.86 R8.87 R5.68 R5.70 R5.73
	d := newDaemon(t)
	d.start()
	d.ok("domain", "limit", "set", "example.test", "--daily-count", "5")
	var wg sync.WaitGroup
	var mu sync.Mutex
	replies := map[string]int{}
	var ready []*smtpClient
	for range 12 {
		c := d.loggedIn("bob")
		d.say(c, "250", "MAIL FROM:<bob@example.test>")
		d.say(c, "250", "RCPT TO:<alice@example.test>")
		d.say(c, "354", "DATA")
		ready = append(ready, c)
	}
	for _, c := range ready {
		wg.Go(func() {
			r, err := c.cmd("Subject: x\r\n\r\nx\r\n.")
			mu.Lock()
			defer mu.Unlock()
			replies[fmt.Sprint(r[:min(len(r), 9)], err)]++
		})
	}
	wg.Wait()
	if replies["250 2.0.0<nil>"] != 5 || replies["452 4.7.1<nil>"] != 7 {
		t.Errorf("%v, want 5 and 7", replies)
	}
	if n := d.messages("alice"); n != 5 || d.usage("bob").Messages != 5 {
		t.Errorf("alice has %d messages, bob has sent %d", n, d.usage("bob").Messages)
	}

	// Traffic: told at MAIL when the client says how much it is, else at the end.
	d.ok("account", "usage", "clear", "bob")
	d.ok("domain", "limit", "set", "example.test", "--daily-count", "off", "--daily-mb", "1")
	c := d.loggedIn("bob")
	d.say(c, "552 5.3.4 The message has", "MAIL FROM:<bob@example.test> SIZE=1048577")
	most := "\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 10_000)
	d.sends(c, "250", "bob@example.test", "alice@example.test", most)
	d.say(c, "452 4.7.1 Daily limit of 1 MB has 0.3", "MAIL FROM:<bob@example.test> SIZE=700000")
	d.sends(c, "452 4.7.1 Daily limit of 1 MB has 0.3", "bob@example.test", "alice@example.test", most)
	d.sends(c, "250", "bob@example.test", "alice@example.test", "\r\nwhat fits")
	if got := d.decided("daily-mb", "bob"); got != "1 by domain example.test" {
		t.Errorf("%s", got)
	}
}

// TestStoryLoginEnds: an open connection sends nothing more once its account is disabled, deactivated, denied or gone.
func TestStoryLoginEnds(t *testing.T) {
	d := newDaemon(t)
	d.start()
	c := d.loggedIn("bob")
	for _, by := range []struct{ end, again []string }{
		{[]string{"user", "disable", "bob"}, []string{"user", "enable", "bob"}},
		{[]string{"account", "deactivate", "bob"}, []string{"account", "activate", "bob"}},
		{[]string{"user", "app-permission", "set", "bob", "--deny", "smtp"}, []string{"user", "app-permission", "set", "bob", "--allow", "all"}},
	} {
		d.say(c, "250", "MAIL FROM:<bob@example.test>")
		d.say(c, "250", "RSET")
		d.ok(by.end...)
		d.say(c, "530 5.7.0 This account may not send mail any more", "MAIL FROM:<bob@example.test>")
		d.ok(by.again...)
	}
	d.sends(c, "250", "bob@example.test", "alice@example.test", "\r\nagain")
	_, cert := selfSigned(t)
	d.ok("token", "add", "phone", "--user", "bob", "--cert", d.file("bob.pem", cert))
	d.ok("user", "delete", "bob", "--yes")
	if out := d.ok("token", "list"); strings.Contains(out, "phone") {
		t.Errorf("the next bob has his certificate: %s", out)
	}
	d.say(c, "530 5.7.0", "MAIL FROM:<bob@example.test>")
}

// TestStorySendingRules: sizes of messages and attachments, and who may write to whom and forward.
func TestStorySendingRules(t *testing.T) {
	// covers: R5.56 R5.58 R5.76 R5.77 R5.78 R5.79 R5.80 R5.81 R5.82 R5.83 R8.80 R8.81 R8.82 R8.83 I.32 I.36
	d := newDaemon(t)
	d.start()
	o := startOutside(t)
	o.use(d)
	const bob, alice = "bob@example.test", "alice@example.test"
	file := func(kb int) string {
		return "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat(strings.Repeat("QUJD", 18)+"\r\n", kb*1024/54)
	}
	c, from := d.loggedIn("bob"), d.smtp(2525)
	if got := d.decided("attachment-mb", "bob"); got != "10 by system" {
		t.Errorf("at first: %s", got)
	}
	d.ok("domain", "limit", "set", "example.test", "--attachment-mb", "1", "--message-mb", "3")
	d.sends(c, "250", bob, alice, file(1000))
	d.sends(c, "552 5.3.4 An attachment has 1.0", bob, alice, file(1030))
	d.sends(from, "552 5.3.4 An attachment has 1.0", "x@out.example", bob, file(1030))
	d.ok("policy", "add", "large", "--user", "bob", "--attachment-mb", "off")
	d.sends(c, "250", bob, alice, file(1030))
	d.sends(from, "552 5.3.4", "x@out.example", bob, file(1030)) // the default policy's value counts for what comes in
	d.say(c, "552 5.3.4 Message is larger than 3 MB", "MAIL FROM:<%s> SIZE=3145729", bob)
	d.sends(c, "552 5.3.4 Message is larger than 3 MB", bob, alice, file(2400))
	d.sends(from, "250", "x@out.example", bob, "\r\n"+strings.Repeat(strings.Repeat("x", 70)+"\r\n", 45_000)) // the system's limit holds
	if _, errs, _ := d.mpctl("domain", "limit", "set", "example.test", "--message-mb", "30"); !strings.Contains(errs, "limited to 10 MB by the system") {
		t.Errorf("no word about the system's limit: %s", errs)
	}
	if got := d.decided("message-mb", "bob"); got != "10 by system" {
		t.Errorf("%s", got)
	}

	d.fails(3, "can't be changed", "policy", "set", "default", "--internal-only", "on")
	d.ok("policy", "set", "large", "--internal-only", "on")
	d.say(c, "250", "MAIL FROM:<%s>", bob)
	d.say(c, "550 5.7.1 You may write to addresses of this server's domains only", "RCPT TO:<x@out.example>")
	d.say(c, "250", "RCPT TO:<%s>", alice)
	d.say(c, "250", "RSET")
	d.ok("policy", "set", "large", "--internal-only", "off")
	d.sends(c, "250", bob, "x@out.example", "\r\nout")

	// Forwards: the domain decides for those whose policy leaves it to it, and they count.
	d.ok("domain", "limit", "set", "example.test", "--disable-auto-forward", "on", "--attachment-mb", "off")
	if got := d.decided("disable-auto-forward", "bob"); got != "on by domain example.test" {
		t.Errorf("%s", got)
	}
	if _, errs, _ := d.mpctl("user", "forward", "set", "bob", "f@out.example"); !strings.Contains(errs, "may not forward mail") {
		t.Errorf("no word about the domain: %s", errs)
	}
	had := d.messages("bob")
	d.mail("x@out.example", bob, "Subject: kept")
	d.ok("policy", "set", "large", "--disable-auto-forward", "off", "--daily-count", "2")
	d.ok("account", "usage", "clear", "bob")
	d.mail("x@out.example", bob, "Subject: one")
	o.wait(d, "f@out.example")
	d.sends(c, "250", bob, alice, "\r\nthe second")
	d.mail("x@out.example", bob, "Subject: kept, too")
	if n := d.messages("bob"); n != had+2 {
		t.Errorf("bob has %d messages, want %d", n, had+2)
	}
	d.drained()
	if n := o.count("f@out.example"); n != 1 {
		t.Errorf("%d were forwarded", n)
	}
}

// TestStoryUsageInPair: both nodes count together, and what was counted outlives the node that did it.
func TestStoryUsageInPair(t *testing.T) {
	// covers: I.35
	l := newLAN(t)
	a, b := l.pair()
	a.ok("policy", "add", "four", "--user", "bob", "--daily-count", "4")
	send := func(ip, want string) {
		t.Helper()
		c, err := dialSMTP(ip + ":2525")
		if err != nil {
			t.Fatal(err)
		}
		defer c.c.Close()
		if r, err := c.cmd("%s", plainLogin["bob"]); err != nil || !strings.HasPrefix(r, "235") {
			t.Fatal(r, err)
		}
		if r, _ := c.send("bob@example.test", "alice@example.test", "Subject: x\r\n\r\nx"); !strings.HasPrefix(r, want) {
			t.Fatalf("at %s: %q, want %s", ip, r, want)
		}
	}
	for _, ip := range []string{a.ip, b.ip, l.vip()} {
		send(ip, "250")
	}
	for _, n := range []*twin{a, b} {
		if u := n.usage("bob"); u.Messages != 3 || u.Count != 4 {
			t.Errorf("%s: %+v", n.name, u)
		}
	}
	a.kill()
	b.is("solo-secondary")
	b.until("b holds the address", func() bool { return b.show().Holder == "b" })
	send(l.vip(), "250")
	send(l.vip(), "452")
	b.has("bob", "account", "usage", "clear", "bob") // no setting: allowed while b serves alone
	send(l.vip(), "250")
	a.run()
	a.is("pair")
	if u := a.usage("bob"); u.Messages != 1 {
		t.Errorf("a, that is back: %+v", u)
	}
	send(a.ip, "250")
	if u := b.usage("bob"); u.Messages != 2 {
		t.Errorf("b: %+v", u)
	}
}
