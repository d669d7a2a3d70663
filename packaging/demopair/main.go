// Command demopair shows a pair at work on one machine, without root: it starts two nodes and
// a witness on loopback addresses, sends mail to the floating address without a pause, kills
// the primary, and counts at the end what was acknowledged and what is there.
//
//	demopair -bin bin -data var/demo-pair
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "directory of mailplusd and mpctl")
	data := flag.String("data", "var/demo-pair", "directory for the demo, emptied first")
	senders := flag.Int("senders", 8, "connections that send at a time")
	svg := flag.String("svg", "", "write a picture of it to this file")
	flag.Parse()
	d := &demo{bin: *bin, data: *data, acked: map[string]bool{}}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err := d.run(ctx, *senders)
	d.stop()
	if err == nil && *svg != "" {
		err = picture(*svg, d.begin, d.times, d.events)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo-pair:", err)
		os.Exit(1)
	}
}

// Addresses of the demo: two nodes, the witness, and what clients use.
const (
	hostA, hostB, hostW = "127.0.0.21", "127.0.0.22", "127.0.0.23"
	floating            = "127.0.0.20"
	smtpPort, imapPort  = "2525", "2143"
	linkPort            = "2826"
	password            = "a-demo-password-9"
)

type demo struct {
	bin, data string
	procs     map[string]*exec.Cmd

	mu      sync.Mutex
	acked   map[string]bool
	lastAck time.Time
	gap     time.Duration
	times   []time.Time
	begin   time.Time
	events  []event
}

func (d *demo) say(format string, args ...any) {
	fmt.Printf("%s  %s\n", time.Now().Format("15:04:05.0"), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context, senders int) error {
	if err := d.empty(); err != nil {
		return err
	}
	d.procs = map[string]*exec.Cmd{}
	if err := d.build(ctx); err != nil {
		return err
	}
	d.begin = time.Now()
	send, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() { d.send(send, i) })
	}
	d.watch(ctx, 5*time.Second)
	d.say("kill -9 of node a, which holds %s", floating)
	d.events = append(d.events, event{time.Now(), "kill -9 of the primary"})
	if err := d.kill("a"); err != nil {
		stop()
		return err
	}
	d.watch(ctx, 7*time.Second)
	d.say("node a is started again; it follows and becomes the secondary")
	d.events = append(d.events, event{time.Now(), "started again"})
	if err := d.node("a", hostA); err != nil {
		stop()
		return err
	}
	err := d.mpctl("b", "", "ha", "wait", "--for", "sync", "--timeout", "40")
	d.events = append(d.events, event{time.Now(), "in sync"})
	d.watch(ctx, 2*time.Second)
	stop()
	wg.Wait()
	if err != nil {
		return err
	}
	d.show("b")
	return d.count()
}

// empty makes the demo's directory anew; one that is not a demo's is left alone.
func (d *demo) empty() error {
	mark := filepath.Join(d.data, ".demo-pair")
	if _, err := os.Stat(d.data); err == nil {
		if _, err := os.Stat(mark); err != nil {
			return fmt.Errorf("%s exists and is not of an earlier demo; give another -data", d.data)
		}
		if err := os.RemoveAll(d.data); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(d.data, 0o700); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o600)
}

// build makes the pair by the commands that an administrator would type.
func (d *demo) build(ctx context.Context) error {
	for _, n := range [][2]string{{"a", hostA}, {"b", hostB}} {
		if err := d.node(n[0], n[1]); err != nil {
			return err
		}
	}
	d.say("node a on %s, node b on %s; clients will use %s", hostA, hostB, floating)
	for _, args := range [][]string{
		{"setup", "new", "--domain", "example.test", "--admin", "alice", "--interface", hostA},
		{"service", "imap", "set", "--enable", "--port", imapPort, "--tls-port", "2993"},
		{"service", "smtp", "set", "--port", smtpPort},
		{"account", "activate", "alice"},
	} {
		stdin := ""
		if args[0] == "setup" {
			args, stdin = append(args, "--password-file", "-"), password
		}
		if err := d.mpctl("a", stdin, args...); err != nil {
			return err
		}
	}
	token, err := d.output("b", "", "ha", "invite", "-o", "json")
	if err != nil {
		return err
	}
	invite := regexp.MustCompile(`"token":\s*"([^"]+)"`).FindStringSubmatch(token)
	if invite == nil {
		return fmt.Errorf("no token in %q", token)
	}
	d.say("mpctl ha create --peer %s --vip %s", hostB, floating)
	if err := d.mpctl("a", invite[1], "ha", "create", "--peer", hostB, "--vip", floating, "--invite-file", "-"); err != nil {
		return err
	}
	if err := d.mpctl("a", "", "ha", "wait", "--for", "sync", "--timeout", "60"); err != nil {
		return err
	}
	wtoken, err := d.witness(ctx)
	if err != nil {
		return err
	}
	d.say("mpctl ha witness add %s", net.JoinHostPort(hostW, linkPort))
	if err := d.mpctl("a", wtoken, "ha", "witness", "add", net.JoinHostPort(hostW, linkPort), "--invite-file", "-"); err != nil {
		return err
	}
	if err := d.mpctl("a", "", "ha", "wait", "--for", "sync", "--timeout", "60"); err != nil {
		return err
	}
	d.show("a")
	return nil
}

func (d *demo) start(name string, args ...string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(d.data, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(d.bin, "mailplusd"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d.procs[name] = cmd
	return cmd, nil
}

func (d *demo) socket(name string) string { return filepath.Join(d.data, name+".sock") }

func (d *demo) node(name, host string) error {
	os.Remove(d.socket(name))
	_, err := d.start(name, "serve", "--name", name, "--data", filepath.Join(d.data, name), "--bind", host,
		"--link", net.JoinHostPort(host, linkPort), "--admin-socket", d.socket(name), "--vip-driver", "loopback", "--lease", "short")
	if err != nil {
		return err
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := d.output(name, "", "version"); err == nil {
			return nil
		}
	}
	return fmt.Errorf("node %s does not answer; see %s.log in %s", name, name, d.data)
}

func (d *demo) witness(ctx context.Context) (token string, err error) {
	if _, err := d.start("witness", "witness", "--data", filepath.Join(d.data, "witness"), "--listen", net.JoinHostPort(hostW, linkPort), "--lease", "short"); err != nil {
		return "", err
	}
	re := regexp.MustCompile(`echo (\S+) \|`)
	for ctx.Err() == nil {
		raw, err := os.ReadFile(filepath.Join(d.data, "witness.log"))
		if err != nil {
			return "", err
		}
		if m := re.FindSubmatch(raw); m != nil {
			return string(m[1]), nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return "", ctx.Err()
}

func (d *demo) command(name, stdin string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(d.bin, "mpctl"), append([]string{"--socket", d.socket(name), "--yes"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin + "\n")
	return cmd
}

func (d *demo) output(name, stdin string, args ...string) (string, error) {
	out, err := d.command(name, stdin, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("mpctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (d *demo) mpctl(name, stdin string, args ...string) error {
	_, err := d.output(name, stdin, args...)
	return err
}

func (d *demo) show(name string) {
	if out, err := d.output(name, "", "ha", "show"); err == nil {
		fmt.Println(strings.TrimRight(out, "\n"))
	}
}

func (d *demo) kill(name string) error {
	cmd := d.procs[name]
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	cmd.Wait()
	return nil
}

func (d *demo) stop() {
	for _, cmd := range d.procs {
		cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, cmd := range d.procs {
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill()
		}
	}
}

// send delivers one message after the other to the floating address.
func (d *demo) send(ctx context.Context, who int) {
	for k := 0; ctx.Err() == nil; k++ {
		id := fmt.Sprintf("demo-%d-%d@demo.example", who, k)
		if err := deliver(id); err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		d.mu.Lock()
		now := time.Now()
		if !d.lastAck.IsZero() {
			d.gap = max(d.gap, now.Sub(d.lastAck))
		}
		d.lastAck = now
		d.acked[id] = true
		d.times = append(d.times, now)
		d.mu.Unlock()
	}
}

// deliver sends one message; nil: it was answered with 250.
func deliver(id string) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(floating, smtpPort), 500*time.Millisecond)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	c, err := smtp.NewClient(conn, floating)
	if err != nil {
		return err
	}
	if err := errors.Join(c.Mail("sender@elsewhere.example"), c.Rcpt("alice@example.test")); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "From: sender@elsewhere.example\r\nTo: alice@example.test\r\nSubject: demo\r\nMessage-ID: <%s>\r\n\r\nMail of the demo.\r\n", id)
	if err := w.Close(); err != nil {
		return err
	}
	c.Quit()
	return nil
}

// watch shows the counter for a while.
func (d *demo) watch(ctx context.Context, long time.Duration) {
	for end := time.Now().Add(long); time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(min(time.Second, time.Until(end)))
		d.mu.Lock()
		n, ago, gap := len(d.acked), time.Since(d.lastAck), d.gap
		d.mu.Unlock()
		d.say("%6d acknowledged, the last one %4.0f ms ago, longest gap %4.0f ms", n, ago.Seconds()*1000, gap.Seconds()*1000)
	}
}

// count compares what was acknowledged with what is in the mailbox, on both nodes.
func (d *demo) count() error {
	lost, twice, found := 0, 0, 0
	for _, host := range []string{hostB, hostA} {
		there, err := mailbox(host)
		if err != nil {
			return fmt.Errorf("reading the mailbox on %s: %w", host, err)
		}
		found = 0
		for id := range d.acked {
			switch n := there[id]; {
			case n == 0:
				lost++
			case n > 1:
				twice++
				fallthrough
			default:
				found++
			}
		}
	}
	fmt.Printf("%d acknowledged, %d found, %d lost, %d twice, longest gap %.1f s\n", len(d.acked), found, lost, twice, d.gap.Seconds())
	if lost > 0 || twice > 0 || len(d.acked) == 0 {
		return errors.New("the pair did not keep its promise")
	}
	return nil
}

// mailbox counts the messages of INBOX by Message-ID.
func mailbox(host string) (map[string]int, error) {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, imapPort), 2*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReaderSize(conn, 64<<10)
	there := map[string]int{}
	re := regexp.MustCompile(`(?i)<(demo-[^>]+)>`)
	for i, cmd := range []string{"LOGIN alice " + password, "SELECT INBOX", "UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])", "LOGOUT"} {
		tag := fmt.Sprintf("t%d", i)
		fmt.Fprintf(conn, "%s %s\r\n", tag, cmd)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return nil, err
			}
			if m := re.FindStringSubmatch(line); m != nil {
				there[m[1]]++
			}
			if rest, ok := strings.CutPrefix(line, tag+" "); ok {
				if !strings.HasPrefix(rest, "OK") {
					return nil, fmt.Errorf("%s: %s", strings.Fields(cmd)[0], strings.TrimSpace(rest))
				}
				break
			}
		}
	}
	return there, nil
}
