package main

import (
	"fmt"
	"strings"
	"testing"
)

// send hands in a message and fails unless it is taken.
func (d *process) send(from, to, text string) {
	d.t.Helper()
	c := d.smtp(2525)
	defer c.c.Close()
	if r, err := c.send(from, to, text); err != nil || r[0] != '2' {
		d.t.Fatal(r, err)
	}
}

// TestStoryHoldRules: what a rule names is held as it enters the queue, whichever way it came, goes when it is
// released, and is not held again.
func TestStoryHoldRules(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.resolvers=127.0.0.1:9", "delivery.lan-exempt=on", "queue.min-backoff=1", "queue.max-backoff=1")
	h := startSmarthost(t, false, "")
	d.ok(append([]string{"relay", "set", "--mode", "single", "--tls", "none"}, h.addr()...)...)
	d.fails(2, "say which mail", "queue", "hold-rule", "add", "r")
	d.fails(2, "nothing is compared", "queue", "hold-rule", "add", "r", "--all", "--sender", "x")
	d.fails(2, "is no size", "queue", "hold-rule", "add", "r", "--larger-than", "big")
	d.fails(2, "over already", "queue", "hold-rule", "add", "r", "--all", "--until", "2020-01-01")
	d.fails(7, "no hold rule", "queue", "hold-rule", "show", "r")
	d.ok("queue", "hold-rule", "add", "wave", "--sender", "@spam.example", "--description", "a wave of spam")
	d.ok("queue", "hold-rule", "add", "partner", "--domain", "partner.example", "--until", "8h")
	d.fails(3, "exists already", "queue", "hold-rule", "add", "wave", "--all")

	// Each way into the queue: submitted, forwarded under another sender, an automatic reply.
	d.ok("user", "forward", "set", "bob", "bob@home.example")
	d.send("bob@example.test", "ann@partner.example", "Subject: submitted\r\n\r\nx\r\n")
	d.send("x@spam.example", "bob@example.test", "Subject: forwarded\r\n\r\nx\r\n")
	d.ok("user", "autoreply", "set", "alice", "--subject", "away", "--text", d.file("away", "back soon"))
	d.send("q@partner.example", "alice@example.test", "Subject: answered\r\nTo: alice@example.test\r\n\r\nx\r\n")
	out := d.ok("queue", "list", "-o", "csv")
	for _, want := range []string{`ann@partner.example,held,0,,"held by rule ""partner"""`, `bob@home.example,held,0,,"held by rule ""wave"""`, `q@partner.example,held,0,,"held by rule ""partner"""`} {
		if !strings.Contains(out, want) {
			t.Errorf("the queue has no %s:\n%s", want, out)
		}
	}
	d.has(`held by rule "wave": a wave of spam`, "queue", "show", "2")
	d.has(`held by rule "partner"`, "flow", "trace", "--message", d.file("m", "Subject: x\r\n\r\n"), "--from", "bob@example.test", "--rcpt", "a@partner.example", "--ip", "127.0.0.1")
	d.until(`held by rule "wave"`, "log", "mail", "list", "--everything", "--recipient", "bob@home", "-o", "wide")
	d.has(`"held": 2`, "queue", "hold-rule", "show", "partner", "-o", "json")

	// Nothing else is held, and one recipient does not hold another of the same message.
	c := d.smtp(2525)
	defer c.c.Close()
	d.say(c, "250", "MAIL FROM:<bob@example.test>")
	d.say(c, "250", "RCPT TO:<a@partner.example>")
	d.say(c, "250", "RCPT TO:<b@free.example>")
	d.say(c, "354", "DATA")
	d.say(c, "250", "Subject: for two\r\n\r\nx\r\n.")
	h.wait(d, "bob@example.test > b@free.example, , clear")
	d.has("a@partner.example", "queue", "list", "--reason", `rule "partner"`, "--search", "for two", "-o", "csv")

	// Released, it goes, though the rule is still there; a failed attempt does not bring it back under the rule.
	d.ok("relay", "set", "--host", "127.0.0.1", "--port", "9")
	d.ok("queue", "release", "1")
	d.becomes("deferred", "queue", "list", "--recipient", "ann@", "-o", "csv")
	d.ok(append([]string{"relay", "set"}, h.addr()...)...)
	d.ok("queue", "resend", "--all", "--recipient", "ann@", "--yes")
	h.wait(d, "bob@example.test > ann@partner.example, , clear")
	if out := d.ok("queue", "list", "--state", "held", "-o", "name"); strings.Join(strings.Fields(out), " ") != "2 3 4" {
		t.Errorf("held are %q", out)
	}

	// What ends with the rule is the holding, not what is held.
	_, errs, code := d.mpctl("queue", "hold-rule", "delete", "partner")
	if code != 0 || !strings.Contains(errs, `2 recipients that it holds stay held: mpctl queue release --all --reason 'held by rule "partner"'`) {
		t.Errorf("delete: exit %d %s", code, errs)
	}
	d.submit("bob", "c@partner.example")
	h.wait(d, "bob@example.test > c@partner.example, , clear")
	d.ok("queue", "release", "--all", "--reason", `held by rule "partner"`, "--yes")
	h.wait(d, "bob@example.test > a@partner.example, , clear")
	d.ok("queue", "hold-rule", "set", "wave", "--enabled", "off")
	d.fails(2, "nothing is compared", "queue", "hold-rule", "set", "wave", "--all", "on")
	d.has("sender @spam.example, larger than 2048", "queue", "hold-rule", "set", "wave", "--larger-than", "2K", "-o", "csv")
	d.send("y@spam.example", "bob@example.test", "Subject: off\r\n\r\nx\r\n")
	d.until("received", "log", "mail", "list", "--subject", "off", "-o", "csv")
	if out := d.ok("queue", "list", "--state", "held", "-o", "name"); strings.TrimSpace(out) != "2" {
		t.Errorf("held are %q", out)
	}
}

// TestStoryHoldRuleExisting: a rule holds what is in the queue if that is asked for, tells of it if not, and leaves
// this server's notifications alone unless it is told.
func TestStoryHoldRuleExisting(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "network.resolvers=127.0.0.1:9", "delivery.lan-exempt=on", "queue.min-backoff=3600", "queue.max-backoff=3600")
	d.queued("a@one.example", "b@two.example", "c@one.example")
	for i := range 3 {
		d.becomes("deferred", "queue", "list", "--recipient", fmt.Sprintf("%c@", 'a'+i), "-o", "csv")
	}
	d.has("+ recipients: 2", "queue", "hold-rule", "add", "one", "--domain", "one.example", "--existing", "--dry-run")
	d.fails(7, "no hold rule", "queue", "hold-rule", "show", "one")
	_, errs, code := d.mpctl("queue", "hold-rule", "add", "two", "--domain", "two.example")
	if code != 0 || !strings.Contains(errs, "1 recipients in the queue are of that kind") {
		t.Errorf("add: exit %d %s", code, errs)
	}
	d.ok("queue", "hold", "3")
	d.has(`"held": 1`, "queue", "hold-rule", "add", "one", "--domain", "one.example", "--existing", "-o", "json") // 3 is an administrator's
	d.has(`a@one.example,held,1,,"held by rule ""one"""`, "queue", "list", "-o", "csv")
	d.has("b@two.example,deferred", "queue", "list", "-o", "csv")

	// Notifications: bob sends to nobody, from an address elsewhere.
	d.ok("queue", "hold-rule", "add", "all", "--all")
	bounce := func(local string) {
		t.Helper()
		c := d.smtp(2525)
		defer c.c.Close()
		d.say(c, "250", "MAIL FROM:<%s@elsewhere.example>", local)
		d.say(c, "250", "RCPT TO:<alice@example.test> NOTIFY=SUCCESS")
		d.say(c, "354", "DATA")
		d.say(c, "250", "Subject: told\r\n\r\nx\r\n.")
	}
	bounce("free")
	d.becomes("deferred", "queue", "list", "--recipient", "free@", "-o", "csv")
	d.ok("queue", "hold-rule", "set", "all", "--notifications", "on")
	bounce("kept")
	d.has(`held by rule ""all""`, "queue", "list", "--recipient", "kept@", "-o", "csv")
	d.kill()
	d.start()
	d.has(`held by rule ""all""`, "queue", "list", "--recipient", "kept@", "-o", "csv")
	d.has("everything", "queue", "hold-rule", "list", "-o", "csv")
}
