package pairtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// programs are what is tested, built once.
var programs struct {
	once             sync.Once
	dir              string
	mailplusd, mpctl string
	err              error
}

func build(t testing.TB) {
	t.Helper()
	programs.once.Do(func() {
		if dir := os.Getenv("PAIRTEST_PROGRAMS"); dir != "" { // built before
			programs.mailplusd, programs.mpctl = filepath.Join(dir, "mailplusd"), filepath.Join(dir, "mpctl")
			return
		}
		if programs.dir, programs.err = os.MkdirTemp("", "mailplusd-pairtest"); programs.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-o", programs.dir+"/", "mailplusd/cmd/mailplusd", "mailplusd/cmd/mpctl")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			programs.err = fmt.Errorf("build: %w\n%s", err, out)
		}
		programs.mailplusd, programs.mpctl = filepath.Join(programs.dir, "mailplusd"), filepath.Join(programs.dir, "mpctl")
	})
	if programs.err != nil {
		t.Fatal(programs.err)
	}
}

const password = "correct-horse-9"

// site is a LAN with two nodes, perhaps a witness, and a machine with the clients, which is
// also the default gateway.
type site struct {
	t       testing.TB
	opt     siteOptions
	dir     string
	began   time.Time
	sw      *lanSwitch
	client  *machine
	a, b    *node
	witness *node
	watch   *holderWatch
	stop    chan struct{}
	wg      sync.WaitGroup
	steps   []string // what was done, for the report of a failure
}

type siteOptions struct {
	witness bool
	disks   bool   // each node has a disk of its own
	clocks  bool   // each node has a clock that can be set
	lease   string // default or short
	sharing string // of sessions; "" leaves the default
	seed    uint64
}

// node is a machine with its daemon.
type node struct {
	*machine
	s     *site
	args  []string
	cmd   *exec.Cmd
	ended chan struct{}
	log   *os.File
	data  string
	disk  *disk
	// failed says that the disk was made to fail.
	failed bool
	uptime time.Duration // of the machine when the test began, beyond this one's
	wall   int64         // where the daemon reads by how much its clock on the wall is wrong
	wrong  time.Duration // what is written there
}

func newSite(t testing.TB, o siteOptions) *site {
	t.Helper()
	needMachines(t)
	build(t)
	if o.lease == "" {
		o.lease = "short"
	}
	s := &site{t: t, opt: o, dir: t.TempDir(), began: time.Now(), stop: make(chan struct{})}
	s.sw = newSwitch(t, o.seed)
	s.client = newMachine(t, s.sw, "c", "10.99.0.1")
	s.a, s.b = s.newNode("a", "10.99.0.2"), s.newNode("b", "10.99.0.3")
	s.b.uptime = 100 * 24 * time.Hour // machines have not started at one time
	for _, n := range []*node{s.a, s.b} {
		n.args = []string{"serve", "--name", n.name, "--data", n.data, "--link", n.addr.String() + ":2826", "--admin-socket", n.socket(), "--lease", o.lease, "--cold-wait", "5s"}
	}
	if o.witness {
		s.witness = s.newNode("w", "10.99.0.4")
		s.witness.args = []string{"witness", "--data", s.witness.data, "--listen", "10.99.0.4:2827", "--name", "w", "--lease", o.lease}
	}
	s.watch = &holderWatch{site: s}
	s.sw.watch = s.watch.seen
	s.wg.Go(func() { s.watch.run(s.stop) })
	t.Cleanup(func() {
		close(s.stop)
		s.wg.Wait()
		t.Logf("what was done:\n%s", strings.Join(s.steps, "\n"))
		if t.Failed() || os.Getenv("CHAOS_KEEP") != "" {
			s.report()
		}
	})
	return s
}

func (s *site) newNode(name, addr string) *node {
	n := &node{machine: newMachine(s.t, s.sw, name, addr), s: s, data: filepath.Join(s.dir, name)}
	if strings.HasPrefix(addr, "10.99.0.") {
		n.ip("route add default via 10.99.0.1")
	}
	if s.opt.disks && name != "w" {
		n.disk = newDisk(s.t, n.data+".img", n.data)
	}
	var err error
	if n.log, err = os.Create(filepath.Join(s.dir, name+".log")); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if n.cmd != nil {
			n.cmd.Process.Signal(syscall.SIGCONT)
			n.cmd.Process.Kill()
			<-n.ended
		}
		n.log.Close()
	})
	return n
}

func (s *site) age() time.Duration { return time.Since(s.began) }

func (s *site) note(format string, args ...any) {
	s.steps = append(s.steps, s.age().Round(time.Millisecond).String()+" "+fmt.Sprintf(format, args...))
}

// report prints what happened.
func (s *site) report() {
	s.watch.mu.Lock()
	for _, m := range s.watch.moves[max(0, len(s.watch.moves)-30):] {
		s.t.Logf("%s address at %s", m.at.Round(time.Millisecond), m.holder)
	}
	s.watch.mu.Unlock()
	for _, n := range s.nodes() {
		raw, err := os.ReadFile(n.log.Name())
		if err != nil {
			continue
		}
		lines := strings.Split(string(raw), "\n")
		var keep []string
		for _, l := range lines {
			if !quietLine.MatchString(l) {
				keep = append(keep, l)
			}
		}
		if len(keep) > 250 {
			keep = append([]string{"…"}, keep[len(keep)-250:]...)
		}
		s.t.Logf("log of %s:\n%s", n.name, strings.Join(keep, "\n"))
		if n != s.witness {
			out, err := s.mpctl(n, "ha", "show")
			s.t.Logf("mpctl ha show at %s: %v\n%s", n.name, err, out)
		}
	}
	if dir := os.Getenv("CHAOS_KEEP"); dir != "" {
		for _, n := range s.nodes() {
			if raw, err := os.ReadFile(n.log.Name()); err == nil {
				os.MkdirAll(dir, 0o755)
				os.WriteFile(filepath.Join(dir, n.name+".log"), raw, 0o644)
			}
		}
	}
}

// quietLine is what a log is full of and says nothing here.
var quietLine = regexp.MustCompile(`level=DEBUG|msg="?(mail|connection|session|accepted|message delivered)`)

func (s *site) nodes() []*node {
	if s.witness != nil {
		return []*node{s.a, s.b, s.witness}
	}
	return []*node{s.a, s.b}
}

func (s *site) other(n *node) *node {
	if n == s.a {
		return s.b
	}
	return s.a
}

func (s *site) named(name string) *node {
	if name == "a" {
		return s.a
	}
	return s.b
}

// holder waits until one node has the floating address.
func (s *site) holder() *node {
	s.t.Helper()
	var name string
	s.poll(30*time.Second, "a node holds the address", func() bool { name = s.watch.now(); return name != "" })
	return s.named(name)
}

func (s *site) poll(d time.Duration, what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("did not happen in %s: %s", d, what)
		}
	}
}

func (n *node) socket() string { return n.data + ".sock" }

// start runs the daemon of the node.
func (n *node) start() {
	n.s.t.Helper()
	cmd := n.command()
	cmd.Stdout, cmd.Stderr = n.log, n.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	n.do(func() {
		if !n.s.opt.clocks {
			err = cmd.Start()
			return
		}
		execs := 1
		if n.uptime > 0 {
			execs++
		}
		if n.wall, err = startWithClock(cmd, execs); err == nil {
			err = setWall(cmd.Process.Pid, n.wall, n.wrong)
		}
	})
	if err != nil {
		n.s.t.Fatal(err)
	}
	ended := make(chan struct{})
	n.cmd, n.ended = cmd, ended
	go func() { cmd.Wait(); close(ended) }()
	n.s.note("start %s", n.name)
}

// command is how the daemon is started on this machine.
func (n *node) command() *exec.Cmd {
	program := programs.mailplusd
	cmd := exec.Command(program, n.args...)
	if n.uptime > 0 {
		cmd = exec.Command("/proc/self/exe", append([]string{program}, n.args...)...)
		cmd.Env = append(os.Environ(), uptimeEnv+"="+fmt.Sprint(int64(n.uptime/time.Second)))
	}
	return cmd
}

func (n *node) runs() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

func (n *node) signal(sig syscall.Signal) {
	n.s.note("%s: %s", n.name, unix.SignalName(sig))
	n.cmd.Process.Signal(sig)
}

// kill ends the daemon at once; its guard is still there.
func (n *node) kill() {
	n.signal(syscall.SIGKILL)
	<-n.ended
}

// powerOff ends everything on the machine at once, without a word to anybody.
func (n *node) powerOff() {
	n.s.note("%s: power off", n.name)
	n.s.sw.both(n.name, "", way{cut: true})
	for _, pid := range children(n.cmd.Process.Pid) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	n.cmd.Process.Kill()
	<-n.ended
	n.do(func() { exec.Command("ip", "addr", "del", vip.String()+"/24", "dev", "eth0").Run() })
}

func children(pid int) (out []int) {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range names {
		raw, _ := os.ReadFile(name)
		for _, f := range strings.Fields(string(raw)) {
			var p int
			if _, err := fmt.Sscan(f, &p); err == nil {
				out = append(append(out, p), children(p)...) // a spawner, and its guards
			}
		}
	}
	return out
}

// mpctl runs a command at a node.
func (s *site) mpctl(n *node, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	var out []byte
	cmd := exec.CommandContext(ctx, programs.mpctl, append([]string{"--socket", n.socket(), "--yes"}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *site) must(n *node, args ...string) string {
	s.t.Helper()
	out, err := s.mpctl(n, args...)
	if err != nil {
		s.t.Fatalf("mpctl %s at %s: %v\n%s", strings.Join(args, " "), n.name, err, out)
	}
	return out
}

func (s *site) file(name, content string) string {
	s.t.Helper()
	p := filepath.Join(s.dir, name)
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// up starts a node and waits for its administration.
func (s *site) up(nodes ...*node) {
	s.t.Helper()
	for _, n := range nodes {
		n.start()
	}
	for _, n := range nodes {
		s.poll(60*time.Second, n.name+" has started", func() bool { _, err := s.mpctl(n, "version"); return err == nil })
	}
}

// form makes the pair: a is the first primary.
func (s *site) form() {
	s.t.Helper()
	s.up(s.a, s.b)
	s.must(s.a, "setup", "new", "--domain", "example.test", "--admin", "alice", "--password-file", s.file("pw", password+"\n"))
	s.must(s.a, "service", "imap", "set", "--enable", "--tls")
	s.must(s.a, "account", "activate", "alice")
	var invite struct{ Token string }
	if err := json.Unmarshal([]byte(s.must(s.b, "ha", "invite", "-o", "json")), &invite); err != nil {
		s.t.Fatal(err)
	}
	s.must(s.a, "ha", "create", "--peer", "10.99.0.3", "--vip", vip.String()+"/24", "--invite-file", s.file("invite", invite.Token))
	s.sync()
	if s.witness != nil {
		s.witness.start()
		s.must(s.a, "ha", "witness", "add", "10.99.0.4:2827", "--invite-file", s.file("winvite", s.witnessToken("")))
		s.sync()
	}
	if s.opt.sharing != "" {
		s.must(s.a, "ha", "set", "--sharing", s.opt.sharing)
	}
	s.note("formed, holder %s", s.holder().name)
}

// witnessToken waits for the token that the witness prints, another one than old.
func (s *site) witnessToken(old string) (token string) {
	s.t.Helper()
	s.poll(20*time.Second, "the witness's token", func() bool {
		f, err := os.Open(s.witness.log.Name())
		if err != nil {
			return false
		}
		defer f.Close()
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if w := strings.Fields(sc.Text()); len(w) > 1 && w[0] == "echo" {
				token = w[1]
			}
		}
		return token != "" && token != old
	})
	return token
}

var errNotSync = errors.New("not in sync")

// sync waits until both nodes say that they are in sync.
func (s *site) sync() {
	s.t.Helper()
	began := time.Now()
	for _, n := range []*node{s.a, s.b} {
		var out string
		var err error
		for end := time.Now().Add(90 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if out, err = s.mpctl(n, "ha", "wait", "--for", "sync", "--timeout", "20"); err == nil {
				break
			}
			if time.Now().After(end) {
				s.t.Fatalf("%v at %s: %s", errNotSync, n.name, out)
			}
			if s.opt.disks && !n.runs() { // as the service manager does
				n.start()
			}
		}
	}
	s.note("in sync after %s", time.Since(began).Round(time.Millisecond))
}
