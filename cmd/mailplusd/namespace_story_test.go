package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"golang.org/x/sys/unix"
)

// Addresses of two machines that are joined by a wire.
const (
	ourV4, ourV6   = "10.77.0.1", "fd77::1"
	peerV4, peerV6 = "10.77.0.2", "fd77::2"
	wireDNS        = "10.77.0.3" // at the peer
)

// wired makes two network namespaces that are joined, and nothing else is near. What runs in the second
// one looks names up at wireDNS.
func wired(t *testing.T) (us, peer string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root: network namespaces")
	}
	us, peer = fmt.Sprintf("mpu%d", os.Getpid()), fmt.Sprintf("mpp%d", os.Getpid())
	conf := filepath.Join("/etc/netns", peer)
	t.Cleanup(func() {
		exec.Command("ip", "netns", "delete", us).Run()
		exec.Command("ip", "netns", "delete", peer).Run()
		os.RemoveAll(conf)
		os.Remove("/etc/netns") // if nobody else has something there
	})
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Skipf("network namespaces are not usable here: ip %s: %v\n%s", args, err, out)
		}
	}
	ip("netns add " + us)
	ip("netns add " + peer)
	ip("-n " + us + " link add eth0 type veth peer name eth0 netns " + peer)
	for ns, addrs := range map[string][]string{us: {ourV4 + "/24", ourV6 + "/64"}, peer: {peerV4 + "/24", wireDNS + "/24", peerV6 + "/64"}} {
		ip("-n " + ns + " link set lo up")
		for _, a := range addrs {
			if strings.Contains(a, ":") {
				a += " nodad" // usable at once
			}
			ip("-n " + ns + " addr add " + a + " dev eth0")
		}
		ip("-n " + ns + " link set eth0 up")
	}
	ip("-n " + us + " route add unreachable 10.77.0.99/32")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(conf, "resolv.conf"), []byte("nameserver "+wireDNS+"\noptions trust-ad edns0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return us, peer
}

// inside runs f with the network of a namespace; sockets that f opens stay there.
func inside(t *testing.T, ns string, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		there, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer there.Close()
			err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// serveIn runs `mailplusd serve` in a namespace, on the usual ports, and sets it up as example.test.
func serveIn(t *testing.T, ns string) *process {
	t.Helper()
	build(t)
	d := &process{t: t, dir: filepath.Join(t.TempDir(), "data")}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.cmd = in(ns, bins.mailplusd, "serve", "--name", "us", "--data", d.dir, "--link", "none", "--admin-socket", filepath.Join(d.dir, "admin.sock"))
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.exited = make(chan error, 1)
	go func(c *exec.Cmd, ch chan error) { ch <- c.Wait() }(d.cmd, d.exited)
	t.Cleanup(d.stop)
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(30 * time.Millisecond) {
		if _, _, code := d.mpctl("version"); code == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the administration does not answer\n%s", tail(d.log.String()))
		}
	}
	pw := d.file("pw", devPassword+"\n")
	d.ok("--yes", "setup", "new", "--domain", "example.test", "--admin", "alice", "--password-file", pw)
	d.ok("--yes", "service", "imap", "set", "--enable", "--tls", "on")
	d.ok("user", "add", "bob", "--password-file", pw)
	d.ok("account", "activate", "alice", "bob")
	return d
}

// TestPostfixInNamespaces: two machines with nothing but a wire between them, mail both ways by MX on the
// ports of SMTP, with a real Postfix at the other end.
func TestPostfixInNamespaces(t *testing.T) {
	// covers: I.28 I.30
	us, peer := wired(t)
	var pc net.PacketConn
	var err error
	inside(t, peer, func() { pc, err = net.ListenPacket("udp", wireDNS+":53") })
	if err != nil {
		t.Fatal(err)
	}
	zone := fmt.Sprintf(`
example.test. 60 IN MX 10 mail.example.test.
mail.example.test. 60 IN A %[1]s
mail.example.test. 60 IN AAAA %[2]s
six.test. 60 IN MX 10 mail6.example.test.
mail6.example.test. 60 IN AAAA %[2]s
peer.example. 60 IN MX 5 nowhere.peer.example.
peer.example. 60 IN MX 10 dead.peer.example.
peer.example. 60 IN MX 20 mail.peer.example.
dead.peer.example. 60 IN A 10.77.0.99
mail.peer.example. 60 IN A %[3]s
six.example. 60 IN MX 10 mail6.peer.example.
mail6.peer.example. 60 IN AAAA %[4]s
null.example. 60 IN MX 0 .
loop.example. 60 IN MX 5 mail.example.test.
loop.example. 60 IN MX 20 mail.peer.example.
backup.example. 60 IN MX 10 mail.peer.example.
backup.example. 60 IN MX 20 mail.example.test.
alias.example. 60 IN CNAME alias.example.
`, ourV4, ourV6, peerV4, peerV6)
	replace := resolverOn(t, pc, zone, true)
	d := serveIn(t, us)
	d.ok("config", "set", "network.resolvers="+wireDNS, "queue.min-backoff=1", "queue.max-backoff=1")
	d.ok("net", "dns", "set", "--dnssec", "all")
	p := &postfix{t: t, port: 25, ns: peer, near: us}
	p.start("smtp", `inet_interfaces = all
inet_protocols = all
virtual_mailbox_domains = peer.example six.example backup.example
virtual_alias_maps = inline:{ { ann@six.example = ann@peer.example } { ann@backup.example = ann@peer.example } }
mynetworks = 127.0.0.0/8
smtp_dns_support_level = dnssec
smtp_host_lookup = dns
smtp_tls_security_level = dane
smtp_tls_loglevel = 1
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
`)
	d.submit("bob", "x@www.silence.example") // DNS that never answers: in the background of all that follows
	logged := func(to, words string) {
		t.Helper()
		d.until(words, "log", "mail", "list", "--recipient", to, "-o", "wide")
	}

	// From here: past a host without address and one that is dead, to IPv6 only, as a backup; in chunks.
	d.submit("bob", "ann@peer.example")
	if got := p.has("ann", 1)[0]; !strings.Contains(got, "with ESMTPS") || !strings.Contains(got, "[10.77.0.1]") {
		t.Errorf("by MX:\n%s", got)
	}
	logged("ann@peer.example", "mail.peer.example [10.77.0.2]")
	d.submit("bob", "ann@six.example")
	p.has("ann", 2)
	logged("ann@six.example", "mail6.peer.example [fd77::2]")
	d.submit("bob", "ann@backup.example")
	p.has("ann", 3)
	p.quiet()
	if n := regexp.MustCompile(`disconnect from .* starttls=1 .* bdat=\d`).FindAllString(p.log(), -1); len(n) == 0 {
		t.Errorf("nothing came in chunks:\n%s", p.log())
	}
	p.set("smtpd_discard_ehlo_keywords = chunking")
	d.submit("bob", "ann@peer.example")
	p.has("ann", 4)
	p.quiet()
	if !regexp.MustCompile(`disconnect from .* data=1 `).MatchString(p.log()) {
		t.Errorf("nothing came by DATA:\n%s", p.log())
	}

	// Ways that lead nowhere: bob hears why, at once.
	for to, words := range map[string]string{"x@null.example": "null MX", "x@loop.example": "loops back to this server", "x@alias.example": "no address", "x@gone.example": "does not exist"} {
		d.submit("bob", to)
		logged(to, words)
		d.until("bounced", "log", "mail", "list", "--recipient", to, "-o", "wide")
	}

	// TLS that fails: in clear, unless a policy forbids that.
	p.set("smtpd_tls_protocols = !TLSv1.2, !TLSv1.3")
	d.submit("bob", "ben@peer.example")
	if got := p.has("ben", 1)[0]; !strings.Contains(got, "with ESMTP ") && !strings.Contains(got, "with ESMTP\n") {
		t.Errorf("TLS has failed, and it came\n%s", got)
	}
	d.ok("delivery", "tls", "set", "peer.example", "--level", "require")
	d.submit("bob", "ben@peer.example")
	d.until("TLS failed", "queue", "list", "--recipient", "ben@", "-o", "json")
	p.set("smtpd_tls_protocols = ")
	p.has("ben", 2)
	logged("ben@peer.example", "required, TLS 1.3")

	// From there: Postfix finds our certificate by the TLSA records that we print, and obeys them.
	daneFromPostfix(t, d, p, zone, replace)
	d.ok("domain", "add", "six.test")
	d.ok("domain", "user", "add", "six.test", "bob", "--address", "bob")
	p.mail("bob@six.test", "by IPv6")
	d.until("fd77::2", "log", "mail", "list", "--recipient", "bob@six.test", "-o", "wide")

	out := d.ok("queue", "list", "-o", "json")
	if strings.Count(out, `"id"`) != 1 || !strings.Contains(out, "x@www.silence.example") {
		t.Errorf("queued in the end:\n%s", out)
	}
	d.until("does not answer", "queue", "list", "-o", "json")
	inside(t, us, func() { // four notifications of failure, and what has come from Postfix
		c, err := imapclient.DialTLS(ourV4+":993", &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if err := c.Login("bob", devPassword).Wait(); err != nil {
			t.Error(err)
			return
		}
		if box, err := c.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 7 {
			t.Errorf("bob has %+v %v, want 7 messages", box, err)
		}
	})
}

// mail sends a message through Postfix.
func (p *postfix) mail(to, subject string) {
	p.t.Helper()
	cmd := in(p.ns, "sendmail", "-C", p.dir+"/etc", "-f", "ann@peer.example", to)
	cmd.Stdin = strings.NewReader("From: ann@peer.example\nTo: " + to + "\nSubject: " + subject + "\n\ntext\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("%v\n%s", err, out)
	}
}

// logs waits until Postfix's log has words.
func (p *postfix) logs(words string) {
	p.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !strings.Contains(p.log(), words); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("Postfix never logs %q:\n%s", words, p.log())
		}
	}
}

// daneFromPostfix: Postfix with smtp_dane verifies this server by the records of domain dns-records, and
// sends nothing when they are of another key; check dns tells of that.
func daneFromPostfix(t *testing.T, d *process, p *postfix, zone string, replace func(string)) {
	t.Helper()
	tlsa := func() string {
		t.Helper()
		rows := d.ok("domain", "dns-records", "example.test", "--tlsa", "-o", "csv")
		m := regexp.MustCompile(`TLSA,(_25\._tcp\.mail\.example\.test),(3 1 1 [0-9a-f]{64}),`).FindAllStringSubmatch(rows, -1)
		if len(m) != 1 {
			t.Fatalf("one TLSA record is wanted:\n%s", rows)
		}
		return m[0][1] + ". 0 IN TLSA " + m[0][2] + "\n"
	}
	first := tlsa()
	replace(zone + first)
	p.mail("bob@example.test", "to a key that is known")
	p.logs("Verified TLS connection established to mail.example.test[") // by whichever family
	d.until("to a key that is known", "log", "mail", "list", "--recipient", "bob@example.test", "-o", "json")
	d.has("the TLSA records are those of the certificate that is served", "check", "dns")

	d.ok("cert", "renew", "default") // another key, and the old record
	d.has("matches none of the TLSA records: mail from servers that obey DANE does not come", "check", "dns")
	p.mail("bob@example.test", "to another key")
	p.logs("num=65:no matching DANE TLSA records")
	p.logs("status=deferred (Server certificate not ")
	replace(zone + tlsa())
	p.run("flush")
	d.until("to another key", "log", "mail", "list", "--recipient", "bob@example.test", "-o", "json")
	if tlsa() == first {
		t.Error("the record of the new key is that of the old one")
	}
}
