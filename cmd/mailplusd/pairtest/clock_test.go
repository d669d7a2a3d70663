package pairtest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two clocks of a machine can be wrong. The one that counts from the start (CLOCK_MONOTONIC and
// CLOCK_BOOTTIME, which the lease goes by) is never the same on two machines: a time namespace makes it
// so here. The one on the wall can jump; the kernel has one for all, so that the program is built with a
// package time whose Now adds what a file says.

const (
	uptimeEnv = "MAILPLUSD_PAIRTEST_UPTIME" // seconds by which this machine has been up longer
	clockEnv  = "MAILPLUSD_PAIRTEST_CLOCK"  // file with the seconds by which the clock is wrong
)

// init makes a process with uptimeEnv into the program that its arguments name, in a time namespace. It runs
// on the main thread, whose namespace /proc/self shows.
func init() {
	seconds := os.Getenv(uptimeEnv)
	if seconds == "" {
		return
	}
	runtime.LockOSThread()
	os.Unsetenv(uptimeEnv)
	err := unix.Unshare(unix.CLONE_NEWTIME)
	if err == nil {
		err = os.WriteFile("/proc/self/timens_offsets", []byte("monotonic "+seconds+" 0\nboottime "+seconds+" 0\n"), 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no clock of its own for this node:", err)
	}
	fmt.Fprintln(os.Stderr, unix.Exec(os.Args[1], os.Args[1:], os.Environ())) // which enters the namespace
	os.Exit(1)
}

// clockPrograms are the programs with clocks that can be set.
var clockPrograms struct {
	once      sync.Once
	mailplusd string
	err       error
}

const jumpSource = `package time

import (
	"sync/atomic"
	"syscall"
)

var jumpRead, jumpBy atomic.Int64

// jump is by how many seconds the clock is wrong: what the file says, looked at each 20 ms.
func jump() int64 {
	now := runtimeNano()
	last := jumpRead.Load()
	if last != 0 && now-last < 20e6 || !jumpRead.CompareAndSwap(last, now) {
		return jumpBy.Load()
	}
	name, ok := syscall.Getenv("` + clockEnv + `")
	if !ok {
		return 0
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return jumpBy.Load()
	}
	var buf [32]byte
	n, _ := syscall.Read(fd, buf[:])
	syscall.Close(fd)
	v, sign := int64(0), int64(1)
	for _, c := range buf[:max(n, 0)] {
		switch {
		case c == '-':
			sign = -1
		case '0' <= c && c <= '9':
			v = 10*v + int64(c-'0')
		}
	}
	jumpBy.Store(sign * v)
	return sign * v
}
`

// buildClocks builds the daemon anew, with everything that it is made of: a minute or two.
func buildClocks(t testing.TB) {
	t.Helper()
	clockPrograms.once.Do(func() {
		clockPrograms.err = func() error {
			root, err := exec.Command("go", "env", "GOROOT").Output()
			if err != nil {
				return err
			}
			name := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
			src, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
			if strings.Count(string(src), now) != 1 {
				return fmt.Errorf("time.Now of %s is another one than this test knows", runtime.Version())
			}
			dir := filepath.Join(filepath.Dir(programs.mailplusd), "clock")
			files := map[string]string{
				"time.go": strings.Replace(string(src), now, now+"\tsec += jump()\n", 1),
				"jump.go": jumpSource,
			}
			overlay := map[string]map[string]string{"Replace": {
				name: filepath.Join(dir, "time.go"), filepath.Join(filepath.Dir(name), "jump.go"): filepath.Join(dir, "jump.go"),
			}}
			raw, err := json.Marshal(overlay)
			if err != nil {
				return err
			}
			files["overlay.json"] = string(raw)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			for f, text := range files {
				if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o644); err != nil {
					return err
				}
			}
			clockPrograms.mailplusd = filepath.Join(dir, "mailplusd")
			cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", clockPrograms.mailplusd, "mailplusd/cmd/mailplusd")
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("build: %w\n%s", err, out)
			}
			return nil
		}()
	})
	if clockPrograms.err != nil {
		t.Fatal(clockPrograms.err)
	}
}

// setClock makes a node's clock wrong by so much.
func (s *site) setClock(n *node, by time.Duration) {
	s.t.Helper()
	s.note("%s: clock wrong by %s", n.name, by)
	if err := os.WriteFile(n.clock+".new", fmt.Append(nil, int64(by/time.Second)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(n.clock+".new", n.clock); err != nil {
		s.t.Fatal(err)
	}
}

func rightClocks(s *site) {
	s.setClock(s.a, 0)
	s.setClock(s.b, 0)
}

// clockFaults are those of a site whose nodes have clocks of their own.
var clockFaults = []fault{
	{name: "the holder's clock jumps ahead", serves: true, do: func(s *site, _ *rand.Rand) { s.setClock(s.holder(), 50*time.Hour) }, end: rightClocks},
	{name: "the holder's clock jumps back", serves: true, do: func(s *site, _ *rand.Rand) { s.setClock(s.holder(), -50*time.Hour) }, end: rightClocks},
	{name: "the secondary's clock jumps ahead", serves: true, do: func(s *site, _ *rand.Rand) { s.setClock(s.other(s.holder()), 50*time.Hour) }, end: rightClocks},
	{name: "the holder dies, the other's clock is wrong", serves: true, do: func(s *site, _ *rand.Rand) {
		s.setClock(s.other(s.holder()), -time.Hour)
		s.holder().kill()
	}, end: func(s *site) { restart(s); rightClocks(s) }},
	{name: "the clocks jump all the time", do: func(s *site, r *rand.Rand) {
		for range 10 {
			s.setClock([]*node{s.a, s.b}[r.IntN(2)], time.Duration(r.IntN(200)-100)*time.Minute)
			time.Sleep(300 * time.Millisecond) // what the fault is, not a wait for an event
		}
	}, end: rightClocks},
}

// TestClocks: clocks on the wall jump and nothing happens: nobody loses the address for it, nothing is
// lost. It needs programs of its own, so that it is left out of ordinary runs.
func TestClocks(t *testing.T) {
	if setting(t, "CHAOS_ALL", 0) == 0 {
		t.Skip("builds everything anew, with clocks that can be set: make chaos, or CHAOS_ALL=1")
	}
	t.Parallel()
	for _, witness := range []bool{false, true} {
		t.Run(map[bool]string{false: "Gateway", true: "Witness"}[witness], func(t *testing.T) {
			var names []string
			for _, f := range clockFaults {
				names = append(names, f.name)
			}
			story(t, siteOptions{clocks: true, witness: witness}, false, names...)
		})
	}
}

// TestUptimes proves the tool: the clocks by which the nodes keep the lease have nothing in common.
func TestUptimes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: time namespaces")
	}
	if _, err := os.Stat("/proc/self/timens_offsets"); err != nil {
		t.Skip("needs time namespaces: ", err)
	}
	cmd := exec.Command("/proc/self/exe", "/bin/cat", "/proc/uptime")
	cmd.Env = append(os.Environ(), uptimeEnv+"=8640000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out []byte
	var err error
	onStarter(func() { out, err = cmd.CombinedOutput() })
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	var there float64
	fmt.Sscan(string(out), &there)
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	if ahead := there - float64(ts.Sec); ahead < 8640000-60 || ahead > 8640000+60 {
		t.Errorf("up %s there, %d s here: no clock of its own", strings.Fields(string(out))[0], ts.Sec)
	}
}
