package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// postfix is Debian's Postfix as the other mail server: peer.example on 127.0.0.1, which relays
// what is for example.test to the daemon.
type postfix struct {
	t    *testing.T
	dir  string
	port int
	ns   string // network namespace that it runs in; empty: the test's
	near string // network namespace of who connects to it; empty: the test's
}

func startPostfix(t *testing.T, d *process) *postfix {
	t.Helper()
	p := &postfix{t: t, port: freePort(t, "127.0.0.1")}
	p.start(fmt.Sprintf("127.0.0.1:%d", p.port), fmt.Sprintf(`inet_interfaces = 127.0.0.1
inet_protocols = ipv4
virtual_mailbox_domains = peer.example
mynetworks = 127.0.0.0/8
smtp_tls_security_level = may
smtp_dns_support_level = disabled
transport_maps = inline:{ { example.test = smtp:[127.0.0.1]:%d } }
`, 2525+d.offset))
	return p
}

// start runs Postfix with a listener and parameters of its own until the test ends.
func (p *postfix) start(listen, params string) {
	t := p.t
	t.Helper()
	for _, p := range []string{"postfix", "postconf"} {
		if _, err := exec.LookPath(p); err != nil {
			if _, err := os.Stat("/usr/sbin/" + p); err != nil {
				t.Skip("postfix is not installed")
			}
			t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("postfix takes root")
	}
	dir, err := os.MkdirTemp("", "mpostfix") // its users must get in, which t.TempDir doesn't let them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p.dir = dir
	key, cert := selfSigned(t)
	master := read(t, firstThat(t, "/etc/postfix/master.cf", "/usr/share/postfix/master.cf.dist"))
	master = strings.Replace(master, "\nsmtp      inet", "\n"+listen+" inet", 1)
	master = regexp.MustCompile(`(?m)^(\S+ +(?:inet|unix|fifo|pass) +\S+ +\S+ +)y `).ReplaceAllString(master, "${1}n ") // no files of its own in the queue's directory
	for name, text := range map[string]string{
		"etc/master.cf": master, "etc/key.pem": key, "etc/cert.pem": cert,
		"etc/main.cf": fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
myhostname = mail.peer.example
mydestination =
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = inline:{ { ann@peer.example = ann/ } { ben@peer.example = ben/ } }
virtual_uid_maps = static:%[2]d
virtual_gid_maps = static:%[3]d
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
smtpd_tls_security_level = may
smtpd_tls_cert_file = %[1]s/etc/cert.pem
smtpd_tls_key_file = %[1]s/etc/key.pem
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
alias_maps =
alias_database =
soft_bounce = no
`, dir, nobody(t, "-u"), nobody(t, "-g")) + params,
	} {
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(dir, 0o755)
	for sub, owner := range map[string]string{"data": "postfix", "mail": "nobody"} {
		os.MkdirAll(filepath.Join(dir, sub), 0o755)
		if out, err := exec.Command("chown", owner, filepath.Join(dir, sub)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	os.MkdirAll(filepath.Join(dir, "spool"), 0o755)
	p.run("start")
	t.Cleanup(func() { exec.Command("postfix", "-c", dir+"/etc", "stop").Run() })
}

func (p *postfix) run(args ...string) {
	p.t.Helper()
	if out, err := in(p.ns, "postfix", append([]string{"-c", p.dir + "/etc"}, args...)...).CombinedOutput(); err != nil {
		p.t.Fatalf("postfix %v: %v\n%s\n%s", args, err, out, p.log())
	}
}

func (p *postfix) log() string { b, _ := os.ReadFile(p.dir + "/log"); return string(b) }

// quiet waits until no connection to Postfix is open: a process of Postfix that serves one goes by the
// parameters that it has begun with.
func (p *postfix) quiet() {
	p.t.Helper()
	quietIn(p.t, p.near, p.port)
}

// in is a command in a network namespace; empty: the test's.
func in(ns, name string, args ...string) *exec.Cmd {
	if ns == "" {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", ns, name}, args...)...)
}

// quiet waits until no connection to a port is open. The daemon keeps some for a moment.
func quiet(t *testing.T, port int) { t.Helper(); quietIn(t, "", port) }

func quietIn(t *testing.T, ns string, port int) {
	t.Helper()
	suffix := fmt.Sprintf(":%04X", port)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		open := false
		out, err := in(ns, "cat", "/proc/net/tcp", "/proc/net/tcp6").Output()
		if err != nil && len(out) == 0 {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(out), "\n") {
			f := strings.Fields(line)
			open = open || len(f) > 3 && strings.HasSuffix(f[2], suffix) && f[3] == "01"
		}
		if !open {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("connections to port %d stay open", port)
		}
	}
}

// set changes a parameter, in force at once.
func (p *postfix) set(param string) {
	p.t.Helper()
	p.quiet()
	if out, err := exec.Command("postconf", "-c", p.dir+"/etc", "-e", param).CombinedOutput(); err != nil {
		p.t.Fatalf("%v\n%s", err, out)
	}
	old := p.servers()
	p.run("reload")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // an old process may take one more connection
		now := p.servers()
		if !slices.ContainsFunc(old, func(pid string) bool { return slices.Contains(now, pid) }) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("processes of before the reload stay: %v of %v", now, old)
		}
	}
}

// servers are the processes that take connections.
func (p *postfix) servers() []string {
	master, _ := os.ReadFile(p.dir + "/spool/pid/master.pid")
	out, _ := exec.Command("pgrep", "-P", strings.TrimSpace(string(master)), "-x", "smtpd").Output()
	return strings.Fields(string(out))
}

// has waits until a Maildir of Postfix holds n messages and gives them.
func (p *postfix) has(user string, n int) []string {
	p.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		files, _ := filepath.Glob(filepath.Join(p.dir, "mail", user, "new", "*"))
		if len(files) == n {
			var out []string
			for _, f := range files {
				out = append(out, read(p.t, f))
			}
			return out
		}
		if time.Now().After(deadline) || len(files) > n {
			p.t.Fatalf("%s has %d messages, want %d\n%s", user, len(files), n, p.log())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func firstThat(t *testing.T, paths ...string) string {
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Skipf("none of %v is there", paths)
	return ""
}

func nobody(t *testing.T, what string) (id int) {
	out, err := exec.Command("id", what, "nobody").Output()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Sscan(string(out), &id)
	return id
}

func freePort(t *testing.T, ip string) int {
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Skipf("%s: %v", ip, err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// until repeats mpctl until its output has words.
func (d *process) until(words string, args ...string) string {
	d.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		out, errs, _ := d.mpctl(args...)
		if strings.Contains(out+errs, words) {
			return out
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("mpctl %s never says %q:\n%s%s", strings.Join(args, " "), words, out, errs)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestPostfixIsTheOtherSide sends to a real Postfix and receives from it: STARTTLS, a dead first
// MX, a refusal for now, refusals for good at RCPT and at the end of DATA, notifications of
// delivery, 8-bit text, and nothing lost or twice.
func TestPostfixIsTheOtherSide(t *testing.T) {
	// covers: I.28 I.29 I.30
	d := newDaemon(t)
	d.start()
	p := startPostfix(t, d)
	dns := resolver(t, `
peer.example. 60 IN MX 10 dead.peer.example.
peer.example. 60 IN MX 20 mail.peer.example.
dead.peer.example. 60 IN A 127.0.0.4
mail.peer.example. 60 IN A 127.0.0.1
`)
	d.ok("config", "set", "network.resolvers="+dns, fmt.Sprintf("queue.port=%d", p.port), "queue.min-backoff=1", "queue.max-backoff=2", "delivery.lan-exempt=on")
	send := func(to, extra, body string) {
		t.Helper()
		c := d.smtp(2525)
		defer c.c.Close()
		for _, cmd := range []string{"MAIL FROM:<bob@example.test> BODY=8BITMIME", "RCPT TO:<" + to + ">" + extra, "DATA"} {
			if r, err := c.cmd("%s", cmd); err != nil || r[0] > '3' {
				t.Fatalf("%s: %s %v", cmd, r, err)
			}
		}
		if r, err := c.cmd("From: bob@example.test\r\nTo: %s\r\nSubject: to postfix\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n.", to, body); err != nil || r[0] != '2' {
			t.Fatal(r, err)
		}
	}
	empty := func() { t.Helper(); d.until("[]", "queue", "list", "-o", "json") }

	send("ann@peer.example", "", "grüße\r\n..dot\r\nFrom the start")
	got := p.has("ann", 1)[0]
	if !strings.Contains(got, "grüße\n.dot\nFrom the start") || !strings.Contains(got, "with ESMTPS") || !strings.Contains(got, "Return-Path: <bob@example.test>") {
		t.Errorf("what Postfix stored:\n%s", got)
	}
	empty()
	d.has("sent", "log", "mail", "list", "--recipient", "ann@peer.example", "--everything")

	// Not now: the first attempt meets 4xx, then it goes through, once.
	p.set("smtpd_recipient_restrictions = check_recipient_access inline:{ { ben@peer.example = 450 4.7.1 greylisted } }")
	send("ben@peer.example", "", "patience")
	d.until("greylisted", "queue", "list", "-o", "json")
	p.set("smtpd_recipient_restrictions =")
	p.has("ben", 1)
	empty()

	// Never: a notification comes back with the other server's words.
	im := d.imap("bob")
	notices := func(n int, words ...string) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			box, err := im.Select("INBOX", nil).Wait()
			if err != nil {
				t.Fatal(err)
			}
			if box.NumMessages == uint32(n) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("bob has %d messages, want %d\n%s", box.NumMessages, n, d.ok("queue", "list", "-o", "json"))
			}
		}
		text := d.body(im, uint32(n))
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("notice %d lacks %q:\n%s", n, w, text)
			}
		}
	}
	send("nobody@peer.example", "", "to nobody")
	notices(1, "Action: failed", "User unknown", "nobody@peer.example")
	p.set("message_size_limit = 20000")
	send("ann@peer.example", "", strings.Repeat("too much\r\n", 4000))
	notices(2, "Action: failed", "ann@peer.example")
	p.set("message_size_limit = 10240000")
	send("ann@peer.example", " NOTIFY=SUCCESS ORCPT=rfc822;ann@peer.example", "tell me")
	p.has("ann", 2)
	empty()

	// The other way: from Postfix to here, with STARTTLS and its DSN of success.
	cmd := exec.Command("sendmail", "-C", p.dir+"/etc", "-f", "ann@peer.example", "alice@example.test", "bob@example.test", "nobody@example.test")
	cmd.Stdin = strings.NewReader("From: ann@peer.example\nTo: alice@example.test\nSubject: from postfix\n\n.hidden dot\nlast line without end")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.until("from postfix", "log", "mail", "list", "--recipient", "alice@example.test")
	bounce := p.has("ann", 3) // Postfix tells ann about nobody@example.test
	if !strings.Contains(strings.Join(bounce, ""), "nobody@example.test") {
		t.Error("Postfix sent no notification about the unknown user")
	}
	ai := d.imap("alice")
	box, err := ai.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages != 1 {
		t.Fatalf("alice has %+v %v", box, err)
	}
	if text := d.body(ai, 1); !strings.Contains(text, "\r\n.hidden dot\r\nlast line without end\r\n") || !strings.Contains(text, "ESMTPS") {
		t.Errorf("what came from Postfix:\n%s", text)
	}

	// The peer dies in between, and comes back.
	p.run("stop")
	for i := range 5 {
		send("ben@peer.example", "", fmt.Sprint("while you were away ", i))
	}
	d.until("refused", "queue", "list", "-o", "json")
	d.kill()
	d.start()
	p.run("start")
	texts := strings.Join(p.has("ben", 6), "\n")
	for i := range 5 {
		if strings.Count(texts, fmt.Sprint("while you were away ", i)) != 1 {
			t.Errorf("message %d is not there once", i)
		}
	}
	empty()
}

// body fetches a message whole.
func (d *process) body(c *imapclient.Client, n uint32) string {
	d.t.Helper()
	section := &imap.FetchItemBodySection{Peek: true}
	msgs, err := c.Fetch(imap.SeqSetNum(n), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil || len(msgs) != 1 {
		d.t.Fatalf("message %d: %v %v", n, msgs, err)
	}
	return string(msgs[0].FindBodySection(section))
}
