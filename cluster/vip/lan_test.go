package vip

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests in namespaces: a bridge in one, and machines with an interface eth0 each in
// others. Each namespace belongs to a process that dies with the test, so nothing is left
// whatever happens to the test. Nothing has a name outside.

// starter runs functions on one thread that lives as long as the test, so that a namespace
// entered there is left again, and children that die with their parent's thread don't die early.
var starter = sync.OnceValue(func() chan func() {
	ch := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range ch {
			f()
		}
	}()
	return ch
})

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces and raw sockets")
	}
}

// process is a child whose lines of output are kept.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	mu    sync.Mutex
	cond  *sync.Cond
	lines []string
	ended bool
}

// start runs this test binary in a role. flags may ask for a new namespace.
func start(t *testing.T, role string, flags uintptr, args ...string) *process {
	t.Helper()
	p := &process{t: t}
	p.cond = sync.NewCond(&p.mu)
	p.cmd = exec.Command("/proc/self/exe", append([]string{"-test.run=^$"}, args...)...)
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: flags}
	if role == "node" && len(args) > 0 && args[0] == "nobody" {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		p.cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}
	}
	p.in, _ = p.cmd.StdinPipe()
	out, _ := p.cmd.StdoutPipe()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := bufio.NewScanner(out)
		for s.Scan() {
			p.mu.Lock()
			p.lines = append(p.lines, s.Text())
			p.mu.Unlock()
			p.cond.Broadcast()
		}
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.cond.Broadcast()
	}()
	t.Cleanup(func() {
		p.in.Close()
		p.cmd.Process.Signal(syscall.SIGCONT)
		p.cmd.Process.Kill()
		<-done
		p.cmd.Wait()
	})
	return p
}

// wait gives the first line from number "from" on that has the prefix, and the number after it.
func (p *process) wait(from int, prefix string) (string, int) {
	p.t.Helper()
	late := time.AfterFunc(30*time.Second, func() {
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.cond.Broadcast()
	})
	defer late.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for ; from < len(p.lines); from++ {
			if strings.HasPrefix(p.lines[from], prefix) {
				return p.lines[from], from + 1
			}
		}
		if p.ended {
			p.t.Fatalf("no line %q in %q", prefix, p.lines)
		}
		p.cond.Wait()
	}
}

func (p *process) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// tell gives an order and its answer, "done" or "error …".
func (p *process) tell(o order) string {
	p.t.Helper()
	from := p.count()
	if err := json.NewEncoder(p.in).Encode(o); err != nil {
		p.t.Fatal(err)
	}
	for {
		line, next := p.wait(from, "")
		if line == "done" || strings.HasPrefix(line, "error") {
			return line
		}
		from = next
	}
}

func (p *process) must(o order) {
	p.t.Helper()
	if got := p.tell(o); got != "done" {
		p.t.Fatalf("%s: %s", o.Do, got)
	}
}

// machine is a network namespace with the interface eth0.
type machine struct {
	t   *testing.T
	pid int
	mac net.HardwareAddr
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	var p *process
	m := &machine{t: t}
	run(func() { p = start(t, "anchor", unix.CLONE_NEWNET) })
	p.wait(0, "ready")
	m.pid = p.cmd.Process.Pid
	m.ip("link set lo up")
	return m
}

func run(f func()) {
	done := make(chan struct{})
	starter() <- func() { defer close(done); f() }
	<-done
}

// do runs f with this machine's network; what f opens or starts stays there.
func (m *machine) do(f func()) {
	m.t.Helper()
	var err error
	run(func() {
		var home, there *os.File
		if home, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return
		}
		defer home.Close()
		if there, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid)); err != nil {
			return
		}
		defer there.Close()
		if err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		defer func() {
			if e := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); e != nil {
				panic(e) // the tests that follow would run in the wrong place
			}
		}()
		f()
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// ip runs the command of that name there.
func (m *machine) ip(format string, args ...any) {
	m.t.Helper()
	if err := m.try(format, args...); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) try(format string, args ...any) (err error) {
	line := fmt.Sprintf(format, args...)
	m.do(func() {
		out, e := exec.Command("ip", strings.Fields(line)...).CombinedOutput()
		if e != nil {
			err = fmt.Errorf("ip %s: %s (%w)", line, out, e)
		}
	})
	return err
}

// node starts the main process of a node there.
func (m *machine) node(name, vip string) *process {
	m.t.Helper()
	var p *process
	m.do(func() { p = start(m.t, "node", 0, name, vip) })
	p.wait(0, "ready")
	return p
}

// has says whether the machine has the address, as the kernel sees it.
func (m *machine) has(addr string) (ok bool) {
	m.t.Helper()
	var err error
	m.do(func() { _, ok, err = Owner(netip.MustParseAddr(addr)) })
	if err != nil {
		m.t.Fatal(err)
	}
	return ok
}

// lan is a bridge with machines 10.99.0.N/24 and fd99::N/64.
func lan(t *testing.T, n int) []*machine {
	t.Helper()
	needRoot(t)
	sw := newMachine(t)
	sw.ip("link add br0 type bridge")
	sw.ip("link set br0 up")
	var all []*machine
	for i := 1; i <= n; i++ {
		m := newMachine(t)
		sw.ip("link add p%d type veth peer name eth0 netns %d", i, m.pid)
		sw.ip("link set p%d master br0", i)
		sw.ip("link set p%d up", i)
		m.ip("addr add 10.99.0.%d/24 dev eth0", i)
		m.ip("addr add fd99::%d/64 dev eth0 nodad", i)
		m.ip("link set eth0 up")
		m.do(func() {
			if ifi, err := net.InterfaceByName("eth0"); err == nil {
				m.mac = ifi.HardwareAddr
			}
		})
		all = append(all, m)
	}
	return all
}

// poll waits until ok holds.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// own runs f in a namespace of its own that vanishes with it. f must stay in its goroutine.
func own(t *testing.T, f func()) {
	t.Helper()
	needRoot(t)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := errors.New("test ended early")
		defer func() { done <- err }()
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			f()
		}
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
