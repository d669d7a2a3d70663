package queue_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/remote"
)

// greylist is Debian's Postfix as a server that says "later" to everybody until it is told to relent.
type greylist struct {
	t    *testing.T
	dir  string
	port int
}

func startGreylist(t *testing.T) *greylist {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("postfix takes root")
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	master, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if _, perr := exec.LookPath("postfix"); perr != nil || err != nil {
		t.Skip("postfix is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &greylist{t: t, port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	if g.dir, err = os.MkdirTemp("", "mpostfix"); err != nil { // its users must get in, which t.TempDir doesn't let them
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(g.dir) })
	for name, text := range map[string]string{
		"etc/master.cf": regexp.MustCompile(`(?m)^smtp +inet`).ReplaceAllString(string(master), fmt.Sprintf("127.0.0.1:%d inet", g.port)),
		"etc/main.cf": fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
myhostname = mail.peer.test
mydestination = peer.test
local_recipient_maps =
local_transport = discard:
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
alias_maps =
`, g.dir),
	} {
		path := filepath.Join(g.dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(g.dir, 0o755)
	for _, sub := range []string{"data", "spool"} {
		os.MkdirAll(filepath.Join(g.dir, sub), 0o755)
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(g.dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	g.set("smtpd_recipient_restrictions = check_recipient_access inline:{ { peer.test = 450 4.7.1 greylisted for a while } }, reject_unauth_destination")
	g.run("postfix", "-c", g.dir+"/etc", "start")
	t.Cleanup(func() { exec.Command("postfix", "-c", g.dir+"/etc", "stop").Run() })
	return g
}

func (g *greylist) run(name string, args ...string) {
	g.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		log, _ := os.ReadFile(g.dir + "/log")
		g.t.Fatalf("%s %v: %v\n%s\n%s", name, args, err, out, log)
	}
}

func (g *greylist) set(param string) {
	g.t.Helper()
	g.run("postconf", "-c", g.dir+"/etc", "-e", param)
}

// TestPostfixSaysLaterForHours: a real Postfix answers 450 for hours of the queue's clock. The attempts
// get rarer, the sender is told once, in Postfix's words, and when Postfix relents it has the message once.
func TestPostfixSaysLaterForHours(t *testing.T) {
	// covers: I.28
	g := startGreylist(t)
	c := &remote.Client{Hello: func() string { return "mail.us.test" }, Port: func() int { return 25 }, UseTLS: func() bool { return true }, Resolvers: func() []string { return nil }}
	t.Cleanup(c.Close)
	b := newBench(t, c, func(s *model.Settings) { s.Queue.DelayWarnHours = 4 })
	b.q.Route = func(*model.QueueMessage, *model.QueueRcpt) *remote.Route {
		return &remote.Route{Host: "127.0.0.1", Port: g.port}
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
	g.set("smtpd_recipient_restrictions = reject_unauth_destination")
	g.run("postfix", "-c", g.dir+"/etc", "reload")
	until(t, "delivered", func() bool { b.skip(time.Hour); return len(b.rows()) == 0 })
	until(t, "Postfix has it", func() bool {
		log, _ := os.ReadFile(g.dir + "/log")
		return strings.Contains(string(log), "status=sent")
	})
	if log, _ := os.ReadFile(g.dir + "/log"); strings.Count(string(log), "status=sent") != 1 {
		t.Errorf("not delivered once:\n%s", log)
	}
	if list := notices(); len(list) != 1 {
		t.Errorf("%d notices in the end", len(list))
	}
}
