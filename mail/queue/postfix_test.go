package queue_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/mail/certs"
	"mailplusd/mail/model"
	"mailplusd/mail/remote"
)

// postfix is Debian's Postfix as the other server. Whoever is written to there has a mailbox.
type postfix struct {
	t     *testing.T
	dir   string
	ports map[string]int // of its services, by name
}

// startPostfix runs Postfix until the test ends: a service for each name, with parameters of its own as
// options of master.cf (-o name=value, or -o { name = value }). Files are in $dir/etc; what there is for
// master.cf and main.cf comes behind what is there.
func startPostfix(t *testing.T, services map[string]string, files map[string]string) *postfix {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("postfix takes root")
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	raw, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if _, perr := exec.LookPath("postfix"); perr != nil || err != nil {
		t.Skip("postfix is not installed")
	}
	p := &postfix{t: t, ports: map[string]int{}}
	master := regexp.MustCompile(`(?m)^smtp +inet.*$`).ReplaceAllString(string(raw), "")
	master = regexp.MustCompile(`(?m)^(\S+ +(?:unix|fifo|pass) +\S+ +\S+ +)y `).ReplaceAllString(master, "${1}n ") // no files of its own in the queue's directory
	var held []net.Listener                                                                                        // until each service has a port, so that none is given twice
	for name, options := range services {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held, p.ports[name] = append(held, l), l.Addr().(*net.TCPAddr).Port
		master += fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd %s\n", p.ports[name], options)
	}
	for _, l := range held {
		l.Close()
	}
	if p.dir, err = os.MkdirTemp("", "mpostfix"); err != nil { // its users must get in, which t.TempDir doesn't let them
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(p.dir, "etc", name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text+files[name], "$dir", p.dir)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("master.cf", master)
	write("main.cf", `compatibility_level = 3.6
queue_directory = $dir/spool
data_directory = $dir/data
myhostname = mail.peer.test
mydestination =
virtual_mailbox_domains = static:all
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_relay_restrictions =
smtpd_recipient_restrictions = reject_unauth_destination
smtpd_client_connection_count_limit = 0
maillog_file = $dir/log
maillog_file_prefixes = $dir
alias_maps =
alias_database =
`)
	for name := range files {
		if name != "master.cf" && name != "main.cf" {
			write(name, "")
		}
	}
	os.Chmod(p.dir, 0o755)
	for sub, owner := range map[string]string{"data": "postfix", "spool": "root", "mail": "nobody"} {
		os.MkdirAll(filepath.Join(p.dir, sub), 0o755)
		p.run("chown", owner, filepath.Join(p.dir, sub))
	}
	p.run("postfix", "-c", p.dir+"/etc", "start")
	t.Cleanup(func() { exec.Command("postfix", "-c", p.dir+"/etc", "stop").Run() })
	return p
}

func (p *postfix) log() string { b, _ := os.ReadFile(p.dir + "/log"); return string(b) }

func (p *postfix) run(name string, args ...string) {
	p.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s %v: %v\n%s\n%s", name, args, err, out, p.log())
	}
}

// has waits until n messages have come, of which none is on its way any more, and gives them by recipient.
func (p *postfix) has(n int) map[string][]string {
	p.t.Helper()
	var files []string
	until(p.t, fmt.Sprintf("Postfix has %d messages", n), func() bool {
		files, _ = filepath.Glob(p.dir + "/mail/all/new/*")
		return len(files) >= n
	})
	if sent := strings.Count(p.log(), "status=sent"); len(files) != n || sent > n {
		p.t.Errorf("Postfix has %d messages and has delivered %d, want %d", len(files), sent, n)
	}
	got := map[string][]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			p.t.Fatal(err)
		}
		to := regexp.MustCompile(`(?m)^Delivered-To: (.*)$`).FindSubmatch(b)
		if to == nil {
			p.t.Fatalf("to whom?\n%s", b)
		}
		got[string(to[1])] = append(got[string(to[1])], string(b))
	}
	return got
}

// keyPair gives a server's key and certificate, which signs itself.
func keyPair(t *testing.T) (key, cert string) {
	t.Helper()
	c, err := certs.SelfSigned("mail.peer.test", []string{"mail.peer.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return string(c.KeyPEM), string(c.CertPEM)
}

func newClient(t *testing.T) *remote.Client {
	c := &remote.Client{
		Hello: func() string { return "mail.us.test" }, Port: func() int { return 25 }, UseTLS: func() bool { return true }, Resolvers: func() []string { return nil },
	}
	t.Cleanup(c.Close)
	return c
}

// TestPostfixSaysLaterForHours: a real Postfix answers 450 for hours of the queue's clock. The attempts
// get rarer, the sender is told once, in Postfix's words, and when Postfix relents it has the message once.
func TestPostfixSaysLaterForHours(t *testing.T) {
	// covers: I.28
	p := startPostfix(t, map[string]string{"smtp": "-o { smtpd_recipient_restrictions = check_recipient_access inline:{ { peer.test = 450 4.7.1 greylisted for a while } }, reject_unauth_destination }", "open": ""}, nil)
	var port atomic.Int32
	port.Store(int32(p.ports["smtp"]))
	c := newClient(t)
	b := newBench(t, c, func(s *model.Settings) { s.Queue.DelayWarnHours = 4 })
	b.q.Route = func(*model.QueueMessage, *model.QueueRcpt) *remote.Route {
		return &remote.Route{Host: "127.0.0.1", Port: int(port.Load())}
	}
	b.add("me@us.test", model.QueueRcpt{Address: "ann@peer.test", ORcpt: "rfc822;first@us.test"})
	b.run()
	notices := func() []string { b.mu.Lock(); defer b.mu.Unlock(); return append([]string(nil), b.notices...) }
	attempts := func() uint32 {
		if list := b.rows(); len(list) == 1 {
			return list[0].Attempts
		}
		return 0
	}
	for tries := uint32(1); b.time().Sub(b.now) < 9*time.Hour; tries++ {
		until(t, "the next attempt", func() bool { return attempts() >= tries })
		if told := len(notices()) > 0; told && b.time().Sub(b.now) < 4*time.Hour {
			t.Fatalf("told after %s", b.time().Sub(b.now))
		}
		next := time.Unix(0, b.rows()[0].Next)
		b.skip(next.Sub(b.time()) + time.Millisecond)
	}
	if n := attempts(); n < 6 || n > 12 { // 5, 10, 20, 40, 80 and 160 minutes, and 4 hours, with a little disorder
		t.Errorf("%d attempts in 9 hours", n)
	}
	list := notices()
	if len(list) != 1 {
		t.Fatalf("%d notices:\n%s", len(list), strings.Join(list, "\n"))
	}
	for _, want := range []string{"Action: delayed\r\n", "Status: 4.7.1\r\n", "Diagnostic-Code: smtp; 450 4.7.1 <ann@peer.test>: Recipient address rejected: greylisted for a while\r\n", "Original-Recipient: rfc822;first@us.test\r\n", "Remote-MTA: dns; 127.0.0.1\r\n"} {
		if !strings.Contains(list[0], want) {
			t.Errorf("the notice lacks %q:\n%s", want, list[0])
		}
	}
	port.Store(int32(p.ports["open"]))
	b.drain()
	p.has(1)
	if list := notices(); len(list) != 1 {
		t.Errorf("%d notices in the end", len(list))
	}
}
