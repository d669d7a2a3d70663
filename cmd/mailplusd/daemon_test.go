package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// bins are the programs under test, built once.
var bins struct {
	once             sync.Once
	mailplusd, mpctl string
	err              error
}

func build(t testing.TB) {
	t.Helper()
	bins.once.Do(func() {
		dir, err := os.MkdirTemp("", "mailplusd-test")
		if err != nil {
			bins.err = err
			return
		}
		cmd := exec.Command("go", "build", "-o", dir+"/", "mailplusd/cmd/mailplusd", "mailplusd/cmd/mpctl")
		if out, err := cmd.CombinedOutput(); err != nil {
			bins.err = fmt.Errorf("build: %w\n%s", err, out)
		}
		bins.mailplusd, bins.mpctl = filepath.Join(dir, "mailplusd"), filepath.Join(dir, "mpctl")
	})
	if bins.err != nil {
		t.Fatal(bins.err)
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if bins.mailplusd != "" {
		os.RemoveAll(filepath.Dir(bins.mailplusd))
	}
	os.Exit(code)
}

const devPassword = "correct-horse-9"

// process is a running `mailplusd dev`.
type process struct {
	t      testing.TB
	dir    string
	offset int
	cmd    *exec.Cmd
	log    logBuffer
	exited chan error
}

// logBuffer is what a process has written; it may be read meanwhile.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *logBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// freeOffset finds an offset at which all of dev's ports are free.
func freeOffset(t testing.TB) int {
	t.Helper()
next:
	for offset := 10000 + os.Getpid()%20000; offset < 60000; offset += 7 {
		for _, p := range []int{2525, 2465, 2587, 2143, 2993, 2110, 2995, 2443, 2480, 2825, 2900} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p+offset))
			if err != nil {
				continue next
			}
			l.Close()
		}
		return offset
	}
	t.Fatal("no free ports")
	return 0
}

func newDaemon(t testing.TB) *process {
	build(t)
	d := &process{t: t, dir: filepath.Join(t.TempDir(), "data"), offset: freeOffset(t)}
	t.Cleanup(func() { d.stop() })
	return d
}

func (d *process) port(p int) string { return fmt.Sprintf("127.0.0.1:%d", p+d.offset) }

// start runs the daemon and waits until it serves SMTP and IMAP.
func (d *process) start(args ...string) {
	d.t.Helper()
	d.cmd = exec.Command(bins.mailplusd, append([]string{"dev", "--data", d.dir, "--port-offset", fmt.Sprint(d.offset)}, args...)...)
	d.cmd.Env = append(os.Environ(), "MAILPLUSD_DEV_PASSWORD="+devPassword)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.exited = make(chan error, 1)
	go func(c *exec.Cmd, ch chan error) { ch <- c.Wait() }(d.cmd, d.exited)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for _, p := range []int{2525, 2143} {
		for {
			c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", d.port(p))
			if err == nil {
				c.SetReadDeadline(time.Now().Add(20 * time.Second))
				_, err = bufio.NewReader(c).ReadString('\n')
				c.Close()
			}
			if err == nil {
				break
			}
			select {
			case e := <-d.exited:
				d.t.Fatalf("the daemon ended: %v\n%s", e, d.log.String())
			case <-ctx.Done():
				d.t.Fatalf("the daemon doesn't serve port %d: %v\n%s", p, err, d.log.String())
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

// kill is kill -9.
func (d *process) kill() {
	d.cmd.Process.Kill()
	<-d.exited
	d.cmd = nil
}

// stop is SIGINT and a wait.
func (d *process) stop() {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Signal(os.Interrupt)
	select {
	case err := <-d.exited:
		if err != nil {
			d.t.Errorf("the daemon did not stop cleanly: %v\n%s", err, d.log.String())
		}
	case <-time.After(30 * time.Second):
		d.cmd.Process.Kill()
		d.t.Errorf("the daemon did not stop within 30 s\n%s", d.log.String())
	}
	d.cmd = nil
}

// mpctl runs the administration command.
func (d *process) mpctl(args ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	return d.mpctlIn("", args...)
}

func (d *process) mpctlIn(stdin string, args ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	cmd := exec.Command(bins.mpctl, append([]string{"--socket", filepath.Join(d.dir, "admin.sock")}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ee, ok := err.(*exec.ExitError); ok {
		code = ee.ExitCode()
	} else if err != nil {
		d.t.Fatal(err)
	}
	return out.String(), errs.String(), code
}

// ok is mpctl that must succeed. A check does so when it has told what it found, an error (exit 1) too:
// hardly any is content with a machine on loopback.
func (d *process) ok(args ...string) string {
	d.t.Helper()
	out, errs, code := d.mpctl(args...)
	if code == 1 && slices.Contains(args, "check") && strings.Contains(errs, "has found") {
		code = 0
	}
	if code != 0 {
		d.t.Fatalf("mpctl %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// smtpClient speaks SMTP in the plainest way.
type smtpClient struct {
	c net.Conn
	r *bufio.Reader
}

func dialSMTP(addr string) (*smtpClient, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	s := &smtpClient{c, bufio.NewReader(c)}
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := s.reply(); err != nil {
		return nil, err
	}
	_, err = s.cmd("EHLO client.example")
	return s, err
}

func (s *smtpClient) reply() (string, error) {
	var all strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return all.String(), err
		}
		all.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimRight(all.String(), "\r\n"), nil
		}
	}
}

func (s *smtpClient) cmd(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(s.c, format+"\r\n", args...); err != nil {
		return "", err
	}
	return s.reply()
}

// send delivers one message and gives the last reply.
func (s *smtpClient) send(from, to, message string) (string, error) {
	for _, c := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">", "DATA"} {
		r, err := s.cmd("%s", c)
		if err != nil || r[0] > '3' {
			return r, err
		}
	}
	return s.cmd("%s\r\n.", strings.TrimSuffix(message, "\r\n"))
}

// dialRaw connects and reads the greeting line.
func dialRaw(addr string) (*smtpClient, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(60 * time.Second))
	s := &smtpClient{c, bufio.NewReader(c)}
	_, err = s.r.ReadString('\n')
	return s, err
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
