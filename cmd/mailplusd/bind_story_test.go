package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// bindRoot is a root zone as BIND signs it, with all that is below peer.example. Of plain.example it says that it is
// not signed, of bogus.example that another key signs it.
func bindRoot(tlsa string) string {
	zone := fmt.Sprintf(`
. IN SOA ns. hostmaster. 1 3600 600 86400 60
. IN NS ns.
ns. IN A 127.0.0.1
plain.example. IN NS ns.
bogus.example. IN NS ns.
mail.example.test. IN A %[1]s
peer.example. IN MX 10 mail.peer.example.
mail.peer.example. IN A %[2]s
_25._tcp.mail.peer.example. IN TLSA 3 1 1 %[3]s
wrong.peer.example. IN MX 10 mail.wrong.peer.example.
early.peer.example. IN MX 10 mail.wrong.peer.example.
other.peer.example. IN MX 10 mail.wrong.peer.example.
mail.wrong.peer.example. IN A %[2]s
_25._tcp.mail.wrong.peer.example. IN TLSA 3 1 1 %[4]s
broken.peer.example. IN MX 10 mail.broken.peer.example.
mail.broken.peer.example. IN A %[2]s
_25._tcp.mail.broken.peer.example. IN TLSA 3 1 1 %[5]s
dead.peer.example. IN MX 5 nowhere.peer.example.
dead.peer.example. IN MX 10 down.peer.example.
dead.peer.example. IN MX 20 mail.peer.example.
down.peer.example. IN A 10.77.0.99
six.peer.example. IN MX 10 mail6.peer.example.
mail6.peer.example. IN AAAA %[6]s
null.peer.example. IN MX 0 .
loop.peer.example. IN MX 5 mail.example.test.
loop.peer.example. IN MX 20 mail.peer.example.
backup.peer.example. IN MX 10 mail.peer.example.
backup.peer.example. IN MX 20 mail.example.test.
alias.peer.example. IN CNAME alias2.peer.example.
alias2.peer.example. IN CNAME alias.peer.example.
many.peer.example. IN MX 1 mail.peer.example.
`, ourV4, peerV4, tlsa, strings.Repeat("00", 32), strings.Repeat("ab", 32), peerV6)
	var b strings.Builder
	b.WriteString(zone)
	for i := range 1000 {
		fmt.Fprintf(&b, "many.peer.example. IN MX %d h%d.peer.example.\n", 10+i, i)
	}
	return b.String()
}

const childZone = `@ IN SOA ns. hostmaster. 1 3600 600 86400 60
@ IN NS ns.
@ IN MX 10 mail
mail IN A ` + peerV4 + `
_25._tcp.mail IN TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000
`

// TestPostfixBehindBIND: a real Postfix is found through a real BIND that checks signatures, with zones that another
// BIND has signed. TLSA records count where the server is believed and the zone is signed, and there alone; what is
// signed wrongly, loops, or gets no answer waits with the reason; and each way of MX that leads somewhere is gone.
func TestPostfixBehindBIND(t *testing.T) {
	// covers: I.28 I.30
	b := newBIND(t)
	us, peer := wired(t)
	p := &postfix{t: t, port: 25, ns: peer, near: us}
	p.start("smtp", `inet_interfaces = all
inet_protocols = all
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:ann/
mynetworks = 127.0.0.0/8
`)
	root, _ := b.key("root.keys", ".")
	b.key("bogus.keys", "bogus.example")
	_, ds := b.key("another.keys", "bogus.example")
	b.sign("root.keys", ".", "root", bindRoot(spki(t, read(t, p.dir+"/etc/cert.pem")))+ds+"\n")
	b.sign("bogus.keys", "bogus.example", "bogus", childZone)
	b.write("plain", "$TTL 60\n"+childZone)
	signed := read(t, filepath.Join(b.dir, "root.signed")) // a record is changed behind the back of its signature
	if b.write("root.signed", strings.ReplaceAll(signed, "ABABABABAB", "CDCDCDCDCD")); !strings.Contains(signed, "ABABABABAB") {
		t.Fatal("the record is not where it was thought to be")
	}
	b.serve(peer, "auth", "listen-on port 5300 { 127.0.0.1; "+peerV4+"; }; recursion no; dnssec-validation no", `zone "." { type primary; file "root.signed"; };
zone "plain.example" { type primary; file "plain"; };
zone "bogus.example" { type primary; file "bogus.signed"; };
`)
	var silent net.PacketConn // takes questions and never answers
	var err error
	inside(t, peer, func() { silent, err = net.ListenPacket("udp", "127.0.0.1:5399") })
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	b.serve(peer, "checks", "listen-on { "+wireDNS+"; }; recursion yes; allow-query { any; }; allow-recursion { any; }; forward only; forwarders { 127.0.0.1 port 5300; }; dnssec-validation yes",
		"trust-anchors { \".\" static-key "+root+"; };\nzone \"silence.example\" { type forward; forward only; forwarders { 127.0.0.1 port 5399; }; };\n")

	d := serveIn(t, us)
	d.ok("config", "set", "network.resolvers="+wireDNS, "queue.min-backoff=1", "queue.max-backoff=1")
	d.submit("bob", "x@silence.example") // in the background of all that follows
	sent := 0
	arrives := func(to, how string) {
		t.Helper()
		d.until(how, "log", "mail", "list", "--recipient", to, "--status", "sent", "-o", "wide")
		sent++
	}
	waits := func(to, why string) {
		t.Helper()
		d.until(why, "queue", "list", "--recipient", to, "-o", "json")
	}

	// Who is believed: no server on another machine by default, and nobody who only repeats what is in a zone.
	d.has("is off: no DNS server on this host that could validate", "check", "dns")
	d.submit("bob", "x@early.peer.example")
	arrives("x@early.peer.example", "opportunistic, TLS 1.3")
	d.ok("net", "dns", "set", "--dnssec", "all", "--preferred", peerV4+":5300")
	d.has("DNS server "+peerV4+":5300 does not check DNSSEC", "check", "dns")
	d.submit("bob", "x@other.peer.example")
	arrives("x@other.peer.example", "opportunistic, TLS 1.3")
	d.ok("net", "dns", "set", "--preferred", wireDNS)
	d.has("checks DNSSEC", "check", "dns")

	for _, to := range []string{"x@wrong.peer.example", "x@broken.peer.example", "x@bogus.example", "x@alias.peer.example"} {
		d.submit("bob", to)
	}
	for _, domain := range []string{"peer.example", "dead.peer.example", "backup.peer.example", "many.peer.example"} {
		d.submit("bob", "x@"+domain)
		arrives("x@"+domain, "DANE, TLS 1.3")
	}
	for _, domain := range []string{"plain.example", "six.peer.example"} {
		d.submit("bob", "x@"+domain)
		arrives("x@"+domain, "opportunistic, TLS 1.3")
	}
	d.has("mail6.peer.example ["+peerV6+"]", "log", "mail", "list", "--recipient", "x@six.peer.example", "-o", "wide")
	waits("x@wrong.peer.example", "matches none of the TLSA records; demanded by the TLSA records of mail.wrong.peer.example; to send all the same: mpctl delivery tls set wrong.peer.example --level may")
	waits("x@broken.peer.example", "the TLSA records of mail.broken.peer.example can't be looked up, and without them nothing may be sent there: DNS server "+wireDNS+":53 answers SERVFAIL for _25._tcp.mail.broken.peer.example")
	waits("x@bogus.example", "DNS server "+wireDNS+":53 answers SERVFAIL for bogus.example")
	waits("x@alias.peer.example", "answers SERVFAIL for alias.peer.example")
	for to, words := range map[string]string{"x@null.peer.example": "null MX", "x@loop.peer.example": "loops back to this server", "x@gone.example": "does not exist"} {
		d.submit("bob", to)
		d.until(words, "log", "mail", "list", "--recipient", to, "--status", "bounced", "-o", "wide")
	}
	waits("x@silence.example", "does not answer for silence.example")

	// The administrator's word counts more than a record that is wrong.
	d.ok("delivery", "tls", "set", "wrong.peer.example", "--level", "may")
	d.ok("queue", "resend", "--all", "--yes")
	arrives("x@wrong.peer.example", "opportunistic, TLS 1.3")
	p.has("ann", sent)
	if out := d.ok("queue", "list", "-o", "json"); strings.Count(out, `"id"`) != 4 {
		t.Errorf("not the four that can't be sent wait in the end:\n%s", out)
	}
}
