package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestStoryRelayDomainChecks: mail for the domains of other servers goes through the same checks as mail
// for this one's, and who is trusted passes those of the client and the sender.
func TestStoryRelayDomainChecks(t *testing.T) {
	d := newDaemon(t)
	d.start()
	branch := startSmarthost(t, false, "")
	d.ok("config", "set", fmt.Sprintf("queue.port=%d", branch.port), "network.resolvers="+resolver(t, `
branch.example. 60 IN MX 5 own.branch.example.
own.branch.example. 60 IN A 127.0.0.1
good.example. 60 IN MX 5 mail.good.example.
null.example. 60 IN MX 0 .
`))
	d.ok("relay", "domain", "add", "branch office", "branch.example")
	d.ok("delivery", "sender-policy", "set", "--reject-unknown-domain", "on")
	for _, to := range []string{"ann@branch.example", "alice@example.test"} {
		for from, want := range map[string]string{"x@good.example": "250", "x@gone.example": "550 5.1.8", "x@null.example": "550 5.7.27", "x@localhost": "550 5.1.8"} {
			c := d.smtp(2525)
			d.say(c, "250", "MAIL FROM:<%s>", from)
			d.say(c, want, "RCPT TO:<%s>", to)
			c.c.Close()
		}
		c := d.smtp(2525)
		if r, err := c.send("x@good.example", to, strings.Repeat("Received: by a.example; Thu, 26 Nov 2026 00:00:00 +0000\r\n", 150)+"Subject: round\r\n\r\nx"); err != nil || !strings.HasPrefix(r, "554 5.4.6") {
			t.Errorf("a loop to %s: %s %v", to, r, err)
		}
		c.c.Close()
	}
	d.ok("relay", "trusted", "add", "gateway", "127.0.0.1")
	c := d.smtp(2525)
	defer c.c.Close()
	if r, err := c.send("x@gone.example", "ann@branch.example", "Subject: of a friend\r\n\r\nx"); err != nil || r[0] != '2' {
		t.Fatal(r, err)
	}
	branch.wait(d, "x@gone.example > ann@branch.example, , tls")
}
