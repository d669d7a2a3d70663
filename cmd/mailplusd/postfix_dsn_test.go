package main

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
)

// nth waits until a mailbox has n messages and gives the last one.
func (d *process) nth(im *imapclient.Client, n uint32) string {
	d.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		box, err := im.Select("INBOX", nil).Wait()
		if err != nil {
			d.t.Fatal(err)
		}
		if box.NumMessages == n {
			return d.body(im, n)
		}
		if time.Now().After(deadline) || box.NumMessages > n {
			d.t.Fatalf("%d messages, want %d\n%s", box.NumMessages, n, d.ok("queue", "list", "-o", "json"))
		}
	}
}

// TestPostfixNotifications: what the sender asks to be told of he is told, whichever side has to: delivery,
// delay and failure, from Postfix and to it.
func TestPostfixNotifications(t *testing.T) {
	// covers: I.28
	d := newDaemon(t)
	d.start()
	p := startPostfix(t, d)
	dns := resolver(t, peerZone+"example.test. 60 IN MX 0 mail.example.test.\n")
	d.ok("config", "set", "network.resolvers="+dns, fmt.Sprintf("queue.port=%d", p.port), "queue.min-backoff=1", "queue.max-backoff=1", "delivery.lan-exempt=on")
	im := d.imap("bob")
	send := func(from, params, to string) {
		t.Helper()
		c := d.smtp(2525)
		defer c.c.Close()
		for _, cmd := range []string{"MAIL FROM:<" + from + ">" + params, "RCPT TO:" + to, "DATA"} {
			if r, err := c.cmd("%s", cmd); err != nil || r[0] > '3' {
				t.Fatalf("%s: %s %v", cmd, r, err)
			}
		}
		if r, err := c.cmd("From: %s\r\nSubject: ask\r\n\r\nthe whole text\r\n.", from); err != nil || r[0] != '2' {
			t.Fatal(r, err)
		}
	}
	has := func(text string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("the notification lacks %q:\n%s", w, text)
			}
		}
	}

	// Postfix tells of delivery, with what was asked for passed on.
	send("bob@example.test", " RET=HDRS ENVID=envelope+2B7", "<ann@peer.example> NOTIFY=SUCCESS ORCPT=rfc822;first+2Btag@peer.example")
	has(d.nth(im, 1), "Action: delivered", "Original-Envelope-Id: envelope+7", "first+tag@peer.example", "ann@peer.example", "Reporting-MTA: dns; mail.peer.example")
	p.has("ann", 1)

	// Postfix tells of a delay: what is for slow@ goes to a server that does not answer.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	host, port, _ := net.SplitHostPort(dead)
	for _, set := range []string{"delay_warning_time=1s", "virtual_mailbox_maps=inline:{ { ann@peer.example = ann/ } { slow@peer.example = slow/ } }", "minimal_backoff_time=1s", "maximal_backoff_time=2s", "queue_run_delay=1s",
		fmt.Sprintf("transport_maps=inline:{ { example.test = smtp:[127.0.0.1]:%d } { slow@peer.example = smtp:[%s]:%s } }", 2525+d.offset, host, port)} {
		p.set(set)
	}
	send("bob@example.test", "", "<slow@peer.example> NOTIFY=DELAY")
	has(d.nth(im, 2), "Action: delayed", "slow@peer.example", "Will-Retry-Until: ")
	p.set("delay_warning_time=0h")

	// Nobody is told who does not want to be, and all of the message comes back where that is wanted.
	send("bob@example.test", "", "<nobody@peer.example> NOTIFY=NEVER")
	d.until("bounced", "log", "mail", "list", "--recipient", "nobody@peer.example", "-o", "wide")
	send("bob@example.test", " RET=FULL", "<no-one@peer.example>")
	has(d.nth(im, 3), "Action: failed", "no-one@peer.example", "Content-Type: message/rfc822", "the whole text")
	send("bob@example.test", " RET=HDRS", "<no-one@peer.example>")
	if text := d.nth(im, 4); strings.Contains(text, "the whole text") || !strings.Contains(text, "text/rfc822-headers") {
		t.Errorf("asked for the header only:\n%s", text)
	}

	// The other way round: this server tells a sender at Postfix that the mail is in the mailbox, once for
	// those who asked, and says nothing about who did not.
	mail := func(notify string, to ...string) {
		t.Helper()
		cmd := exec.Command("sendmail", append([]string{"-C", p.dir + "/etc", "-f", "ann@peer.example", "-N", notify, "-V", "from-postfix"}, to...)...)
		cmd.Stdin = strings.NewReader("From: ann@peer.example\nSubject: tell me\n\ntext\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	d.ok("domain", "alias", "add", "example.test", "both", "alice@example.test", "bob@example.test")
	mail("success,failure", "both@example.test")
	got := p.has("ann", 2)
	text := got[0] + got[1]
	has(text, "Action: delivered\n", "Final-Recipient: rfc822; both@example.test\n", "Original-Envelope-Id: from-postfix\n", "Reporting-MTA: dns; mail.example.test\n", "Content-Type: text/rfc822-headers", "Subject: tell me\n", "Return-Path: <>")
	if strings.Count(text, "Action: ") != 1 {
		t.Errorf("told more than once:\n%s", text)
	}
	mail("failure", "alice@example.test")
	mail("success", "alice@example.test")
	p.has("ann", 3)
	if n := d.messages("alice"); n != 3 {
		t.Errorf("alice has %d messages, want 3", n)
	}
	d.until("[]", "queue", "list", "-o", "json")
	p.has("ann", 3)
}
