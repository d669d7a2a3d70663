package pairtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// needPrograms skips without the clients that a test is about.
func needPrograms(t testing.TB, names ...string) {
	t.Helper()
	if !strings.Contains(os.Getenv("PATH"), "/usr/sbin") {
		os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	}
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			t.Skipf("%s is not installed (make tools)", n)
		}
	}
}

// postfix is Debian's Postfix on the clients' machine, a server of the world that has mail for the pair:
// what it took it delivers, however often it has to try.
type postfix struct {
	s   *site
	dir string
}

const postfixAddr = "127.0.0.1:10025"

func startPostfix(s *site) *postfix {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "mpostfix") // its users must get in, which t.TempDir doesn't let them
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	p := &postfix{s: s, dir: dir}
	var master []byte
	for _, name := range []string{"/etc/postfix/master.cf", "/usr/share/postfix/master.cf.dist"} {
		if master, err = os.ReadFile(name); err == nil {
			break
		}
	}
	if err != nil {
		s.t.Skip("Postfix has no master.cf: ", err)
	}
	for name, text := range map[string]string{
		"etc/master.cf": strings.Replace(string(master), "\nsmtp      inet", "\n"+postfixAddr+" inet", 1),
		"etc/main.cf": fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
myhostname = mail.client.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_bind_address = %[2]s
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
transport_maps = inline:{ { example.test = smtp:[%[3]s]:25 } }
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
smtp_connect_timeout = 2s
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
alias_maps =
alias_database =
`, dir, s.client.addr, vip),
	} {
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	os.Chmod(dir, 0o755)
	for _, sub := range []string{"data", "spool"} {
		os.MkdirAll(filepath.Join(dir, sub), 0o755)
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	var out []byte
	s.client.do(func() { out, err = exec.Command("postfix", "-c", dir+"/etc", "start").CombinedOutput() })
	if err != nil {
		s.t.Fatalf("postfix start: %v\n%s\n%s", err, out, p.log())
	}
	s.t.Cleanup(func() { exec.Command("postfix", "-c", dir+"/etc", "stop").Run() })
	return p
}

func (p *postfix) log() string { b, _ := os.ReadFile(p.dir + "/log"); return string(b) }

// drain waits until Postfix has brought all of its mail to the pair.
func (p *postfix) drain(within time.Duration) {
	p.s.t.Helper()
	began := time.Now()
	var out []byte
	for end := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		out, _ = exec.Command("postqueue", "-c", p.dir+"/etc", "-p").CombinedOutput()
		if strings.Contains(string(out), "queue is empty") {
			break
		}
		if time.Now().After(end) {
			log := p.log()
			p.s.t.Fatalf("the queue of Postfix is not empty:\n%s\n%s", out, log[max(0, len(log)-5000):])
		}
	}
	p.s.note("the queue of Postfix was empty after %s", time.Since(began).Round(time.Millisecond))
	if log := p.log(); strings.Contains(log, "status=bounced") {
		p.s.t.Errorf("Postfix gave mail back:\n%s", regexp.MustCompile(`.*status=bounced.*`).FindString(log))
	}
}

var (
	postfixID       = regexp.MustCompile(`: (\w+): message-id=<([^@>]+)@client\.test>`)
	postfixDeferred = regexp.MustCompile(`: (\w+): to=.*status=deferred`)
)

// account notes for each message how often Postfix was left without an answer to it: it says itself that
// such a message may be sent more than once.
func (p *postfix) account(rec *record) (tried, unanswered int) {
	ids := map[string]string{}
	for l := range strings.SplitSeq(p.log(), "\n") {
		if m := postfixID.FindStringSubmatch(l); m != nil {
			ids[m[1]] = m[2]
		}
		m := postfixDeferred.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		tried++
		if !strings.Contains(l, "may be sent more than once") {
			continue
		}
		unanswered++
		if id := ids[m[1]]; id != "" {
			rec.change(id, func(s *sent) { s.again++ })
		}
	}
	return tried, unanswered
}
