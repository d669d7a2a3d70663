package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestStoryForward: mail is passed on under a sender of this server, bounces find their way back, and
// a failure is told once and to the right one.
func TestStoryForward(t *testing.T) {
	// covers: R10.76 R10.80 R5.57
	d := newDaemon(t)
	d.start()
	o := startOutside(t)
	o.use(d)
	bob := d.as("bob")
	d.fails(3, "nobody here", "user", "forward", "set", "bob", "ghost@example.test")
	d.fails(3, "own address", "user", "forward", "set", "bob", "BOB@example.test")
	d.fails(2, "no address", "user", "forward", "set", "bob", "x")
	d.fails(2, "more than 10", append(strings.Fields("user forward set bob"), strings.Fields("1@a.example 2@a.example 3@a.example 4@a.example 5@a.example 6@a.example 7@a.example 8@a.example 9@a.example 10@a.example 11@a.example")...)...)
	d.fails(7, "no forward", "user", "forward", "delete", "bob")
	if _, errs, code := d.mpctl("user", "forward", "set", "bob", "x@out.example"); code != 0 || !strings.Contains(errs, "no copy is kept") {
		t.Errorf("the risk is not told: %d %s", code, errs)
	}

	d.mail("anna@sender.example", "bob@example.test", "Subject: one\r\nMessage-ID: <1@sender.example>")
	l := o.wait(d, "x@out.example")
	local, isSRS := strings.CutSuffix(l.from, "=sender.example=anna@example.test")
	if !isSRS || !strings.HasPrefix(local, "SRS0=") || !strings.HasPrefix(l.text, "Delivered-To: bob@example.test\r\nReceived:") || strings.Contains(l.text, "Return-Path") {
		t.Errorf("%+v", l)
	}
	if n := d.messages("bob"); n != 0 {
		t.Errorf("bob has %d messages though he keeps no copy", n)
	}
	if out := d.until("sent", "log", "mail", "list", "-o", "csv"); strings.Count(out, ",received,") != 1 || strings.Count(out, ",sent,") != 1 || !strings.Contains(out, "bob@example.test") {
		t.Errorf("mail log:\n%s", out)
	}
	msg := d.file("m.eml", "Subject: t\r\nTo: bob@example.test\r\n\r\nx\r\n")
	d.has("bob forwards to x@out.example", "flow", "trace", "--message", msg, "--from", "a@sender.example", "--rcpt", "bob@example.test")
	d.has("for x@out.example from <SRS0=", "flow", "trace", "--message", msg, "--from", "a@sender.example", "--rcpt", "bob@example.test")

	// A bounce comes back to the rewritten sender. Nothing else may use it.
	c := d.smtp(2525)
	d.say(c, "250", "MAIL FROM:<who@evil.example>")
	d.say(c, "550 5.7.1", "RCPT TO:<%s>", l.from)
	d.say(c, "250", "RSET")
	d.say(c, "250", "MAIL FROM:<>")
	d.say(c, "550 5.1.1", "RCPT TO:<%s>", strings.Replace(l.from, "=anna@", "=ben@", 1))
	d.say(c, "250", "RSET")
	d.mail("", strings.ToLower(l.from), "Subject: undelivered")
	if l := o.wait(d, "anna@sender.example"); l.from != "" || !strings.Contains(l.text, "Subject: undelivered") {
		t.Errorf("%+v", l)
	}

	// The other server refuses at once: the notification goes to the original sender; when he is
	// refused, too, that is the end of it.
	o.mu.Lock()
	o.refuse["x@out.example"], o.refuse["dead@sender.example"] = true, true
	o.mu.Unlock()
	d.mail("carl@sender.example", "bob@example.test", "Subject: two")
	if l := o.wait(d, "carl@sender.example"); l.from != "" || !strings.Contains(l.text, "To: <carl@sender.example>") || !strings.Contains(l.text, "Original-Recipient: rfc822;bob@example.test") || !strings.Contains(l.text, "nobody of that name") {
		t.Errorf("%+v", l)
	}
	d.mail("dead@sender.example", "bob@example.test", "Subject: three")
	d.until("dead@sender.example", "log", "mail", "list", "--status", "bounced", "-o", "csv")
	d.drained()
	d.has("set", "delivery", "forward", "show")
	d.ok("delivery", "forward", "set", "--renew-secret")
	d.say(c, "250", "MAIL FROM:<>")
	d.say(c, "550 5.1.1", "RCPT TO:<%s>", l.from)
	o.mu.Lock()
	clear(o.refuse)
	o.mu.Unlock()

	// Off, a sender of our own, an alias, and the user himself.
	d.ok("delivery", "forward", "set", "--srs", "off")
	d.ok("user", "forward", "set", "bob", "y@out.example", "--keep-copy")
	d.mail("anna@sender.example", "bob@example.test", "Subject: four")
	if l := o.wait(d, "y@out.example"); l.from != "anna@sender.example" {
		t.Errorf("off: %+v", l)
	}
	if n := d.messages("bob"); n != 1 {
		t.Errorf("bob has %d messages, want a copy", n)
	}
	d.ok("delivery", "forward", "set", "--srs", "on")
	d.ok("domain", "alias", "add", "example.test", "friends", "z@out.example")
	d.mail("anna@sender.example", "friends@example.test", "Subject: five")
	if l := o.wait(d, "z@out.example"); !strings.HasPrefix(l.from, "SRS0=") {
		t.Errorf("alias: %+v", l)
	}
	d.ok(bob("me", "forward", "set", "w@out.example", "--keep-copy")...)
	d.has("w@out.example", bob("me", "forward", "show")...)
	d.mail("alice@example.test", "bob@example.test", "Subject: six")
	if l := o.wait(d, "w@out.example"); l.from != "alice@example.test" {
		t.Errorf("a sender of our own: %+v", l)
	}
	d.has("w@out.example", "user", "forward", "list")
	d.ok(bob("me", "forward", "delete")...)
	d.has("bob", "user", "forward", "show", "bob")
	d.mail("anna@sender.example", "bob@example.test", "Subject: seven")
	if n := d.messages("bob"); n != 3 {
		t.Errorf("bob has %d messages, want 3", n)
	}
}

// TestStoryForwardLoops: forwards that go in a circle, here and over two servers, end in a mailbox.
func TestStoryForwardLoops(t *testing.T) {
	// covers: I.31
	d := newDaemon(t)
	d.start()
	e := newDaemon(t)
	e.start()
	d.ok("user", "forward", "set", "alice", "bob@example.test")
	if _, errs, code := d.mpctl("user", "forward", "set", "bob", "alice@example.test"); code != 0 || !strings.Contains(errs, "loop") {
		t.Errorf("the circle is not told: %d %s", code, errs)
	}
	d.mail("anna@sender.example", "alice@example.test", "Subject: round")
	if a, b := d.messages("alice"), d.messages("bob"); a+b != 1 {
		t.Errorf("alice has %d, bob %d messages, want one together", a, b)
	}
	d.has("leads back to alice", "flow", "trace", "--message", d.file("m.eml", "Subject: t\r\n\r\nx\r\n"), "--rcpt", "alice@example.test", "-o", "json")

	d.ok("user", "forward", "delete", "alice")
	d.ok("domain", "add", "one.example", "--user", "bob")
	e.ok("domain", "add", "two.example", "--user", "alice")
	for _, x := range []struct {
		here, there *process
		user, to    string
	}{{d, e, "bob", "alice@two.example"}, {e, d, "alice", "bob@one.example"}} {
		x.here.ok("relay", "set", "--mode", "single", "--tls", "none", "--host", "127.0.0.1", "--port", fmt.Sprint(2525+x.there.offset))
		x.here.ok("user", "forward", "set", x.user, x.to)
	}
	before := d.messages("bob")
	d.mail("anna@sender.example", "bob@one.example", "Subject: over there and back")
	d.until("SRS0=", "log", "mail", "list", "--status", "received", "-o", "csv") // it has come back
	if n := d.messages("bob") - before; n != 1 || e.messages("alice") != 0 {
		t.Errorf("bob has %d more messages, alice over there %d", n, e.messages("alice"))
	}
	for _, x := range []*process{d, e} {
		x.drained()
	}
	if n := strings.Count(e.ok("log", "mail", "list", "--status", "received", "-o", "csv"), "alice@two.example"); n != 1 {
		t.Errorf("it went around %d times", n)
	}
}

// TestStoryAutoReply: people are answered once, by an answer that nothing answers.
func TestStoryAutoReply(t *testing.T) {
	// covers: I.33 R10.80
	d := newDaemon(t)
	d.start()
	o := startOutside(t)
	o.use(d)
	bob := d.as("bob")
	text := d.file("away.txt", "Ich bin weg.\nÀ bientôt\n")
	d.fails(2, "no text yet", "user", "autoreply", "set", "bob")
	d.fails(2, "over already", "user", "autoreply", "set", "bob", "--text", text, "--until", "2020-01-01")
	d.fails(2, "not after", "user", "autoreply", "set", "bob", "--text", text, "--from", "2031-01-02", "--until", "2031-01-01")
	d.ok(bob("me", "autoreply", "set", "--text", text, "--from", "2031-01-01")...)
	d.mail("early@sender.example", "bob@example.test", "To: bob@example.test\r\nSubject: too early")
	d.ok(bob("me", "autoreply", "set", "--from", "", "--until", "2040-12-31")...)
	d.has("yes", bob("me", "autoreply", "show")...)

	ask := func(from, headers string) {
		t.Helper()
		d.mail(from, "bob@example.test", headers+"\r\nSubject: lunch?\r\nMessage-ID: <q@sender.example>")
	}
	ask("anna@sender.example", "From: Anna <anna@sender.example>\r\nReply-To: else@sender.example\r\nTo: Bob <Bob@example.test>")
	l := o.wait(d, "anna@sender.example")
	for _, want := range []string{"From: <bob@example.test>\r\n", "To: <anna@sender.example>\r\n", "Subject: Auto: lunch?\r\n", "In-Reply-To: <q@sender.example>\r\n", "References: <q@sender.example>\r\n", "Auto-Submitted: auto-replied\r\n", "Ich bin weg.\r\n=C3=80 bient=C3=B4t"} {
		if !strings.Contains(l.text, want) {
			t.Errorf("%q is missing in\n%s", want, l.text)
		}
	}
	if l.from != "" {
		t.Errorf("the reply has the sender %s", l.from)
	}
	d.has("reply of bob to ann@y.example", "flow", "trace", "--message", d.file("m.eml", "To: bob@example.test\r\nSubject: t\r\n\r\nx\r\n"), "--from", "ann@y.example", "--rcpt", "bob@example.test")
	d.has("no reply: Precedence: bulk", "flow", "trace", "--message", d.file("b.eml", "To: bob@example.test\r\nPrecedence: bulk\r\n\r\nx\r\n"), "--from", "ann@y.example", "--rcpt", "bob@example.test")

	d.kill()
	d.start()
	ask("anna@sender.example", "To: bob@example.test")
	ask("list-bounces@sender.example", "To: bob@example.test")
	ask("carl@sender.example", "To: bob@example.test\r\nList-Id: <l.sender.example>")
	ask("carl@sender.example", "To: bob@example.test\r\nAuto-Submitted: auto-generated")
	ask("carl@sender.example", "To: everybody@elsewhere.example")
	ask("bob@example.test", "To: bob@example.test")
	ask("", "To: bob@example.test")
	ask("last@sender.example", "Cc: bob@example.test")
	o.wait(d, "last@sender.example")
	d.drained()
	if all := o.all(); len(all) != 2 {
		t.Errorf("replies: %+v", all)
	}
	ask("alice@example.test", "To: bob@example.test")
	if out := d.until("alice@example.test,Auto: lunch?", "log", "mail", "list", "--status", "received", "-o", "csv"); d.messages("alice") != 1 {
		t.Errorf("alice's reply:\n%s", out)
	}
	d.ok("user", "autoreply", "set", "bob", "--subject", "Still away")
	ask("anna@sender.example", "To: bob@example.test") // the text is new
	for n, deadline := 0, time.Now().Add(30*time.Second); n < 2; n = o.count("anna@sender.example") {
		if time.Now().After(deadline) {
			t.Fatalf("the new text does not reach anna: %+v", o.all())
		}
		time.Sleep(20 * time.Millisecond)
	}
	d.has("bob", "user", "autoreply", "list")
	d.ok("user", "autoreply", "delete", "bob")
	d.fails(7, "no automatic reply", "user", "autoreply", "delete", "bob")
	ask("new@sender.example", "To: bob@example.test")
	d.ok("user", "forward", "set", "bob", "mark@out.example") // what comes behind it in the queue
	ask("anna@sender.example", "To: bob@example.test")
	o.wait(d, "mark@out.example")
	if n := o.count("new@sender.example"); n != 0 {
		t.Error("answered though there is no reply any more")
	}
}

// TestStoryAutoBCC: rules of a domain copy its mail without a trace for sender and recipients.
func TestStoryAutoBCC(t *testing.T) {
	// covers: R8.67 R8.68 R8.69 R8.70 R8.71 R8.72 R8.73 R10.80
	d := newDaemon(t)
	d.start()
	o := startOutside(t)
	o.use(d)
	rule := func(args ...string) []string { return append([]string{"domain", "autobcc"}, args...) }
	d.fails(2, "say which addresses", rule("add", "example.test", "r", "--kind", "sender", "--to", "bob")...)
	d.fails(2, "compares nothing", rule("add", "example.test", "r", "--kind", "all", "--match", "x", "--to", "bob")...)
	d.fails(7, "no user", rule("add", "example.test", "r", "--kind", "all", "--to", "ghost")...)
	d.fails(2, "kind", rule("add", "example.test", "r", "--to", "bob")...)
	d.ok(rule("add", "example.test", "by sender", "--kind", "sender", "--match", "@partner.example", "--to", "archive@out.example")...)
	d.fails(3, "exists already", rule("add", "example.test", "by sender", "--kind", "all", "--to", "bob")...)
	d.ok(rule("add", "example.test", "to alice", "--kind", "recipient", "--match", "alice@example.test", "--to", "user:bob")...)
	d.has("archive@out.example", rule("list", "example.test")...)

	d.mail("x@partner.example", "alice@example.test", "Subject: to alice from a partner")
	l := o.wait(d, "archive@out.example")
	if !strings.HasPrefix(l.from, "SRS0=") || strings.Contains(l.text, "archive") || strings.Contains(l.text, "Delivered-To") {
		t.Errorf("%+v", l)
	}
	if a, b := d.messages("alice"), d.messages("bob"); a != 1 || b != 1 {
		t.Errorf("alice has %d, bob %d", a, b)
	}
	if out := d.until("sent", "log", "mail", "list", "-o", "csv"); strings.Count(out, ",received,") != 2 || strings.Count(out, ",sent,") != 1 {
		t.Errorf("mail log:\n%s", out)
	}
	d.mail("y@else.example", "bob@example.test", "Subject: nobody's rule")
	d.has("blind copy to bob@example.test", "flow", "trace", "--message", d.file("m.eml", "Subject: t\r\n\r\nx\r\n"), "--rcpt", "alice@example.test")

	// Nobody hears of a copy that is refused.
	o.mu.Lock()
	o.refuse["archive@out.example"] = true
	o.mu.Unlock()
	d.mail("z@partner.example", "bob@example.test", "Subject: refused copy")
	d.until("archive@out.example", "log", "mail", "list", "--status", "bounced", "-o", "csv")
	d.drained()
	if n := o.count("z@partner.example"); n != 0 {
		t.Error("the sender was told of a blind copy")
	}

	// All messages, but not the system's own; through an alias; edited and deleted.
	d.ok("domain", "alias", "add", "example.test", "journal", "alice")
	d.ok(rule("set", "example.test", "by sender", "--kind", "all", "--to", "alias:journal", "--rename", "everything")...)
	d.ok(rule("delete", "example.test", "to alice")...)
	d.fails(7, "no auto-BCC rule", rule("delete", "example.test", "to alice")...)
	before := d.messages("alice")
	d.mail("y@else.example", "bob@example.test", "Subject: copied")
	d.ok("mail", "send", "--from", "alice@example.test", "--to", "bob@example.test", "--subject", "the system's own")
	if n := d.messages("alice") - before; n != 1 {
		t.Errorf("alice has %d more, want one", n)
	}
	d.ok("domain", "alias", "set", "example.test", "journal", "--rename", "register")
	d.has("alias:register", rule("list", "example.test")...)
	d.ok("domain", "alias", "delete", "example.test", "register")
	if out := d.ok(rule("list", "example.test", "-o", "name")...); out != "" {
		t.Errorf("a rule leads to an alias that is gone: %s", out)
	}
}

// TestStoryPassingInPair: what one node has passed on and answered, the other knows when it takes over.
func TestStoryPassingInPair(t *testing.T) {
	// covers: I.33 I.81
	l := newLAN(t)
	a, b := l.pair()
	o := startOutside(t)
	o.use(a.process)
	send := func(n *twin, from, to, header string) {
		t.Helper()
		c, err := dialSMTP(n.ip + ":2525")
		if err != nil {
			t.Fatal(err)
		}
		defer c.c.Close()
		if r, err := c.send(from, to, header+"\r\n\r\ntext"); err != nil || !strings.HasPrefix(r, "250") {
			t.Fatalf("%s to %s at %s: %q %v", from, to, n.name, r, err)
		}
	}
	b.ok("user", "forward", "set", "bob", "x@out.example")
	a.ok("user", "autoreply", "set", "alice", "--text", a.file("away.txt", "away"))
	send(b, "anna@sender.example", "bob@example.test", "Subject: at the second node")
	fwd := o.wait(a.process, "x@out.example")
	send(a, "anna@sender.example", "alice@example.test", "To: alice@example.test")
	o.wait(a.process, "anna@sender.example")
	send(b, "anna@sender.example", "alice@example.test", "To: alice@example.test")
	a.kill()
	b.is("solo-secondary")
	b.fails(3, "serves alone", "user", "forward", "set", "bob", "y@out.example")
	send(b, "anna@sender.example", "alice@example.test", "To: alice@example.test")
	send(b, "carl@sender.example", "alice@example.test", "To: alice@example.test")
	o.wait(b.process, "carl@sender.example")
	b.drained()
	if n := o.count("anna@sender.example"); n != 1 {
		t.Errorf("anna was answered %d times", n)
	}
	send(b, "", fwd.from, "Subject: bounced later")
	b.drained()
	if all := o.all(); o.count("anna@sender.example") != 2 || !strings.Contains(all[len(all)-1].text, "Subject: bounced later") {
		t.Errorf("the bounce does not reach anna: %+v", all)
	}
	if n := b.inbox("alice"); n != 4 {
		t.Errorf("alice has %d messages", n)
	}
}
