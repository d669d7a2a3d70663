package pairtest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Machines are network namespaces, each belonging to a process that dies with the test, so that
// nothing is left whatever happens to the test. Each has one interface, a TAP device whose other
// end is a port of the switch in switch_test.go.

const anchorEnv = "MAILPLUSD_PAIRTEST_ANCHOR"

func TestMain(m *testing.M) {
	if os.Getenv(anchorEnv) != "" { // a machine's process: it keeps the namespace
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(0)
	}
	code := m.Run()
	if programs.dir != "" {
		os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

// starter runs functions on one thread that lives as long as the tests, so that children that
// are to die with their parent's thread don't die early.
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

func onStarter(f func()) {
	done := make(chan struct{})
	starter() <- func() { defer close(done); f() }
	<-done
}

func needMachines(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Skip("needs TAP devices: ", err)
	}
	f.Close()
}

// machine is a namespace with the interface eth0.
type machine struct {
	t    testing.TB
	name string
	addr netip.Addr
	mac  net.HardwareAddr
	pid  int
	port *port
}

// newMachine makes a machine with an address in 10.99.0.0/24 and plugs it into the switch.
func newMachine(t testing.TB, sw *lanSwitch, name, addr string) *machine {
	t.Helper()
	m := &machine{t: t, name: name, addr: netip.MustParseAddr(addr)}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), anchorEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: unix.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	onStarter(func() { err = cmd.Start() })
	if err != nil {
		t.Skip("needs network namespaces: ", err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	m.pid = cmd.Process.Pid
	m.do(func() { m.port, err = sw.plug(name) })
	if err != nil {
		t.Skip("needs TAP devices in namespaces: ", err)
	}
	m.ip("link set lo up")
	m.ip("addr add %s/24 dev eth0", addr)
	m.ip("link set eth0 up")
	m.do(func() {
		var ifi *net.Interface
		if ifi, err = net.InterfaceByName("eth0"); err == nil {
			m.mac = ifi.HardwareAddr
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// enter brings the calling thread into the machine's namespace and gives the way back.
func (m *machine) enter() (back func() error, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
	if err != nil {
		return nil, errors.Join(err, home.Close())
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, errors.Join(err, home.Close())
	}
	return func() error {
		defer home.Close()
		return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
	}, nil
}

// do runs f with this machine's network; sockets that f opens and programs that it starts stay there.
func (m *machine) do(f func()) {
	m.t.Helper()
	var err error
	onStarter(func() {
		var back func() error
		if back, err = m.enter(); err != nil {
			return
		}
		f()
		if e := back(); e != nil {
			panic(e) // what follows would run in the wrong place
		}
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// run does f in a goroutine whose sockets belong to this machine.
func (m *machine) run(wg *sync.WaitGroup, f func()) {
	wg.Add(1)
	entered := make(chan error, 1)
	go func() {
		defer wg.Done()
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		_, err := m.enter()
		entered <- err
		if err == nil {
			f()
		}
	}()
	if err := <-entered; err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) ip(format string, args ...any) {
	m.t.Helper()
	line := fmt.Sprintf(format, args...)
	var out []byte
	var err error
	m.do(func() { out, err = exec.Command("ip", strings.Fields(line)...).CombinedOutput() })
	if err != nil {
		m.t.Fatalf("%s: ip %s: %v %s", m.name, line, err, out)
	}
}
