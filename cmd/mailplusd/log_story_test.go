package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/smtp"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// logLine is a line of the daemon's log.
type logLine map[string]any

func (l logLine) text(key string) string {
	if v, ok := l[key]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

// parseLog reads a log; every line must be of the form that was asked for.
func parseLog(t *testing.T, format, log string) (out []logLine) {
	t.Helper()
	pair := regexp.MustCompile(`([a-zA-Z_0-9.-]+)=("(?:[^"\\]|\\.)*"|\S*)( |$)`)
	for _, line := range strings.Split(strings.TrimSpace(log), "\n") {
		l := logLine{}
		if format == "json" {
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Errorf("a line is no JSON object: %v: %s", err, line)
				continue
			}
		} else {
			for _, m := range pair.FindAllStringSubmatch(line, -1) {
				value := m[2]
				if strings.HasPrefix(value, `"`) {
					json.Unmarshal([]byte(value), &value)
				}
				l[m[1]] = value
			}
			if rest := pair.ReplaceAllString(line, ""); rest != "" {
				t.Errorf("%q is neither key nor value in: %s", rest, line)
			}
		}
		if l.text("time") == "" || l.text("level") == "" || l.text("msg") == "" {
			t.Errorf("a line without time, level or message: %s", line)
		}
		out = append(out, l)
	}
	return out
}

// TestStoryLogs follows one message and one client through the log, in both forms: a whole
// conversation with everything that writes to the log, at the most talkative level.
func TestStoryLogs(t *testing.T) {
	for i, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			host := fmt.Sprintf("127.0.77.%d", 20+i)
			d := freshNode(t, host, "--log-format", format, "--log-level", "trace", "--admin-tls", host+":2825", "--metrics", host+":2900")
			converse(t, d, host)
			readMetrics(t, d, host)
			d.until("DNS server", "queue", "list", "-o", "wide")
			d.stop()
			followMessage(t, parseLog(t, format, d.log.String()))
			if format == "json" {
				lastLine(t, d)
			}
		})
	}
}

// converse does one of everything: mail in and out, refusals, logins right and wrong, IMAP, and noise.
func converse(t *testing.T, d *process, host string) {
	pw := d.file("pw", "annas-long-word")
	d.ok("setup", "new", "--domain", "a.test", "--admin", "anna", "--password-file", pw, "--resolver", "127.0.0.1:9", "--yes")
	d.has("anna", "setup", "show", "--filter", "admin=anna")
	d.ok("service", "imap", "set", "--enable", "on", "--tls", "on", "--yes")
	c, err := dialSMTP(host + ":25")
	if err != nil {
		t.Fatal(err)
	}
	d.say(c, "250", "MAIL FROM:<x@y.example>")
	d.say(c, "550", "RCPT TO:<nobody@a.test>")
	d.say(c, "250", "RSET")
	if r, err := c.send("x@y.example", "anna@a.test", "Subject: followed\r\nMessage-ID: <followed@y.example>\r\n\r\n\"quoted\" \\ {\"json\":1}\r\nkey=value"); err != nil || !strings.HasPrefix(r, "250") {
		t.Fatal(r, err)
	}
	d.say(c, "221", "QUIT")
	sub, err := smtp.Dial(host + ":587")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, step := range []func() error{
		func() error { return sub.StartTLS(&tls.Config{InsecureSkipVerify: true}) },
		func() error { return sub.Auth(smtp.PlainAuth("", "anna", "annas-long-word", host)) },
		func() error { return sub.Mail("anna@a.test") },
		func() error { return sub.Rcpt("out@elsewhere.example") },
		func() error {
			w, err := sub.Data()
			if err != nil {
				return err
			}
			fmt.Fprint(w, "Subject: out\r\n\r\nx\r\n")
			return w.Close()
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	im, err := imapclient.DialStartTLS(host+":143", &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	if err := im.Login("anna", "wrong").Wait(); err == nil {
		t.Fatal("a wrong password was taken")
	}
	if err := im.Login("anna", "annas-long-word").Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := im.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if got, err := im.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{}}}).Collect(); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	d.ok("service", "pop3", "set", "--enable", "on", "--yes")
	pop, err := dialRaw(host + ":110")
	if err != nil {
		t.Fatal(err)
	}
	defer pop.c.Close()
	fmt.Fprintf(pop.c, "USER anna\r\nPASS annas-long-word\r\nRETR 1\r\nQUIT\r\n")
	if all, err := io.ReadAll(pop.r); err != nil || !strings.Contains(string(all), "key=value") {
		t.Fatalf("POP3: %v %s", err, all)
	}
	for _, port := range []string{"465", "993", "2825", "2900", "25", "143"} { // no TLS, no HTTP, no command
		noise, err := net.Dial("tcp", host+":"+port)
		if err != nil {
			t.Fatal(err)
		}
		noise.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(noise, "\x16\x03nonsense \"line\"\r\n\r\n")
		bufio.NewReader(noise).ReadString('\n')
		noise.Close()
	}
}

// followMessage finds the message's lines by its one ID, and its client's lines by theirs.
func followMessage(t *testing.T, lines []logLine) {
	t.Helper()
	find := func(msg string, ok func(logLine) bool) logLine {
		t.Helper()
		for _, l := range lines {
			if l.text("msg") == msg && ok(l) {
				return l
			}
		}
		t.Fatalf("no line %q", msg)
		return nil
	}
	accepted := find("accepted", func(l logLine) bool { return strings.Contains(l.text("message_id"), "followed@y.example") })
	conn := accepted.text("conn")
	said := map[string]bool{}
	for _, l := range lines {
		switch l.text("msg") {
		case "wire", "accepted", "refused", "login", "login failed", "smtp session", "message not received":
			if l.text("conn") == "" && l.text("listener") != "local" {
				t.Errorf("a line of a client without its ID: %v", l)
			}
		}
		if l.text("conn") == conn {
			for _, words := range []string{"MAIL FROM", "nobody@a.test", "DATA", "QUIT"} {
				if strings.Contains(l.text("text"), words) {
					said[words] = true
				}
			}
			said[l.text("msg")] = true
		} else if strings.Contains(l.text("text"), "x@y.example") {
			t.Errorf("a line of the conversation under another ID: %v", l)
		}
	}
	for _, want := range []string{"MAIL FROM", "nobody@a.test", "DATA", "QUIT", "refused", "accepted"} {
		if !said[want] {
			t.Errorf("%q is not among the lines of connection %s", want, conn)
		}
	}
	if id := accepted.text("id"); id == "" {
		t.Error("the message has no ID")
	}
	out := find("delivery", func(l logLine) bool { return l.text("to") == "out@elsewhere.example" })
	find("accepted", func(l logLine) bool { return l.text("id") == out.text("id") && l.text("from") == "anna@a.test" })
	failed := find("login failed", func(l logLine) bool { return l.text("user") == "anna" })
	find("login", func(l logLine) bool { return l.text("conn") == failed.text("conn") })
	find("admin", func(l logLine) bool { return l.text("op") == "setup new" })
	for _, l := range lines {
		for _, v := range l {
			if text := fmt.Sprint(v); strings.Contains(text, "annas-long-word") || strings.Contains(text, "key=value") {
				t.Errorf("a password or a message in the log: %v", l)
			}
		}
	}
}

// lastLine: what ends a daemon is a line of the log, too.
func lastLine(t *testing.T, d *process) {
	var log logBuffer
	cmd := exec.Command(bins.mailplusd, "serve", "--data", "/dev/null/x", "--link", "none", "--admin-socket", d.dir+"/none.sock", "--log-format", "json")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Run(); err == nil {
		t.Fatal("it runs on no directory")
	}
	lines := parseLog(t, "json", log.String())
	if end := lines[len(lines)-1]; end.text("level") != "ERROR" || !strings.Contains(end.text("err"), "/dev/null") {
		t.Errorf("the last line is %v", end)
	}
}

// readMetrics reads /metrics as Prometheus does and compares it with the table of the guide.
func readMetrics(t *testing.T, d *process, host string) {
	hold, err := dialSMTP(host + ":25")
	if err != nil {
		t.Fatal(err)
	}
	defer hold.c.Close()
	resp, err := http.Get("http://" + host + ":2900/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	page := read(t, "../../docs/guide/install.md")
	for name := range families {
		if strings.HasPrefix(name, "mailplusd_") && !strings.Contains(page, "`"+name) {
			t.Errorf("docs/guide/install.md does not say what %s is", name)
		}
	}
	for _, m := range regexp.MustCompile("`(mailplusd_[a-z_]+)").FindAllStringSubmatch(page, -1) {
		if f := families[m[1]]; f == nil && m[1] != "mailplusd_certificate_order_failures" && !strings.HasPrefix(m[1], "mailplusd_shared") {
			t.Errorf("docs/guide/install.md tells of %s, which is not there", m[1])
		}
	}
	value := func(name, label string) float64 {
		for _, m := range families[name].GetMetric() {
			if label == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == label }) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		t.Errorf("no %s of %q", name, label)
		return 0
	}
	if got := value("mailplusd_connections", "smtp"); got != 1 {
		t.Errorf("connections: %v, one is held", got)
	}
	if got := value("mailplusd_body_appends_total", ""); got < 2 {
		t.Errorf("bodies: %v, two messages came", got)
	}
	if got := value("mailplusd_leader", ""); got != 1 {
		t.Errorf("leader: %v", got)
	}
	health, err := http.Get("http://" + host + ":2900/healthz")
	if err != nil || health.StatusCode != http.StatusOK {
		t.Errorf("healthz: %v %v", health, err)
	} else {
		health.Body.Close()
	}
}

// TestStoryStop: a daemon that is told to stop finishes the message that is coming in, says goodbye to
// who waits, takes nobody new, and has the message after the next start.
func TestStoryStop(t *testing.T) {
	d := newDaemon(t)
	d.start()
	busy, idle := d.smtp(2525), d.smtp(2525)
	for _, line := range []string{"MAIL FROM:<x@y.example>", "RCPT TO:<bob@example.test>"} {
		d.say(busy, "250", "%s", line)
	}
	d.say(busy, "354", "DATA")
	fmt.Fprint(busy.c, "Subject: on its way\r\n\r\nthe first half\r\n")
	d.cmd.Process.Signal(syscall.SIGTERM)
	if r, err := idle.reply(); err != nil || !strings.HasPrefix(r, "421") {
		t.Errorf("who waits hears %q %v", r, err)
	}
	if c, err := net.DialTimeout("tcp", d.port(2525), time.Second); err == nil {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if line, _ := bufio.NewReader(c).ReadString('\n'); strings.HasPrefix(line, "220") {
			t.Errorf("a new client is greeted: %s", line)
		}
		c.Close()
	}
	d.say(busy, "250", "the second half\r\n.")
	select {
	case err := <-d.exited:
		if err != nil {
			t.Errorf("the end: %v\n%s", err, d.log.String())
		}
		d.cmd = nil
	case <-time.After(30 * time.Second):
		t.Fatalf("it does not end\n%s", d.log.String())
	}
	d.start()
	if n := d.messages("bob"); n != 1 {
		t.Errorf("%d messages after the restart, one was answered with 250", n)
	}
}
