package pairtest

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

// Two clocks of a machine can be wrong. The one that counts from the start (CLOCK_MONOTONIC and
// CLOCK_BOOTTIME, which the lease goes by) is never the same on two machines: a time namespace makes it
// so here. The one on the wall can jump; the kernel has one for all, but a program reads it by code that
// the kernel maps into each process, the vDSO: there other code is put, that adds something.

const uptimeEnv = "MAILPLUSD_PAIRTEST_UPTIME" // seconds by which this machine has been up longer

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

// wallCode stands in for __vdso_clock_gettime, for amd64: it asks the kernel, and adds the number that lies
// behind it, at wallOffset, to the seconds of CLOCK_REALTIME.
var wallCode = [...]byte{
	0xb8, unix.SYS_CLOCK_GETTIME, 0, 0, 0, // mov eax, the call; edi is the clock, rsi where the time goes
	0x0f, 0x05, // syscall
	0x85, 0xc0, 0x75, 0x0e, // test eax, eax; jnz to ret
	0x85, 0xff, 0x75, 0x0a, // test edi, edi; jnz to ret: it is another clock
	0x48, 0x8b, 0x0d, 0x0a, 0, 0, 0, // mov rcx, [rip+10], which is wallOffset
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0xc3,       // ret
	wallOffset: 0, 0, 0, 0, 0, 0, 0, 0,
}

const wallOffset = 32

// wallEntry is where __vdso_clock_gettime begins in the vDSO, which is the same in all processes.
var wallEntry = sync.OnceValues(func() (uint64, error) {
	if runtime.GOARCH != "amd64" {
		return 0, errors.New("the code for a wrong clock is there for amd64 only")
	}
	from, to, err := vdso(os.Getpid())
	if err != nil {
		return 0, err
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	f, err := elf.NewFile(io.NewSectionReader(mem, from, to-from))
	if err != nil {
		return 0, err
	}
	symbols, err := f.DynamicSymbols()
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" && s.Size >= uint64(len(wallCode)) {
			return s.Value, nil
		}
	}
	return 0, errors.Join(errors.New("the vDSO has no __vdso_clock_gettime that is long enough"), err)
})

func vdso(pid int) (from, to int64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	for line := range strings.Lines(string(raw)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			_, err = fmt.Sscanf(line, "%x-%x", &from, &to)
			return from, to, err
		}
	}
	return 0, 0, errors.Join(errors.New("no vDSO"), err)
}

// startWithClock starts a program whose clock on the wall can be set, at where it says. execs is how often it
// becomes another program until it is what it is to be. It must run on a thread that stays.
func startWithClock(cmd *exec.Cmd, execs int) (where int64, err error) {
	entry, err := wallEntry()
	if err != nil {
		return 0, err
	}
	cmd.SysProcAttr.Ptrace = true // it stops when it has become another program
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	for {
		var ws syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
			return 0, err
		}
		if !ws.Stopped() {
			return 0, errors.New("it has ended at once")
		}
		sig := ws.StopSignal()
		if sig == syscall.SIGTRAP {
			if execs--; execs == 0 {
				break
			}
			sig = 0
		}
		if err := syscall.PtraceCont(pid, int(sig)); err != nil {
			return 0, err
		}
	}
	from, _, err := vdso(pid)
	if err == nil {
		err = poke(pid, from+int64(entry), wallCode[:])
	}
	return from + int64(entry) + wallOffset, errors.Join(err, syscall.PtraceDetach(pid))
}

// poke writes into a process, also where it can't write itself.
func poke(pid int, at int64, b []byte) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	_, err = mem.WriteAt(b, at)
	return err
}

// setWall makes the clock of a process wrong by so much.
func setWall(pid int, where int64, by time.Duration) error {
	return poke(pid, where, binary.LittleEndian.AppendUint64(nil, uint64(int64(by/time.Second))))
}

// setClock makes a node's clock wrong by so much, also after it has started anew.
func (s *site) setClock(n *node, by time.Duration) {
	s.t.Helper()
	s.note("%s: clock wrong by %s", n.name, by)
	n.wrong = by
	if n.runs() {
		if err := setWall(n.cmd.Process.Pid, n.wall, by); err != nil {
			s.t.Fatal(err)
		}
	}
}

func rightClocks(s *site) {
	s.setClock(s.a, 0)
	s.setClock(s.b, 0)
}

// clockFaults are those of a site whose nodes have clocks of their own.
var clockFaults = []fault{
	{name: "the holder's clock jumps ahead", serves: true, do: func(s *site, _ *rand.Rand) {
		h := s.holder()
		s.setClock(h, 50*time.Hour)
		s.poll(20*time.Second, "mpctl ha show says so", func() bool {
			out, err := s.mpctl(h, "ha", "show")
			return err == nil && (strings.Contains(out, "the clocks differ by 50h") || strings.Contains(out, "the clocks differ by 49h59m"))
		})
		if now := s.watch.now(); now != h.name {
			s.t.Errorf("%s held the address, and %q has it after a jump of its clock", h.name, now)
		}
	}, end: rightClocks},
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
// lost, and who takes over does so with whatever time it believes it is.
func TestClocks(t *testing.T) {
	// covers: I.72
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	if _, err := wallEntry(); err != nil {
		t.Skip(err)
	}
	t.Parallel()
	all := setting(t, "CHAOS_ALL", 0) > 0
	for _, witness := range []bool{false, true} {
		if witness && !all {
			continue
		}
		t.Run(map[bool]string{false: "Gateway", true: "Witness"}[witness], func(t *testing.T) {
			var names []string
			for i, f := range clockFaults {
				if all || i == 0 || i == 3 { // a jump ahead, and a death while the other one's clock is behind
					names = append(names, f.name)
				}
			}
			story(t, siteOptions{clocks: true, witness: witness}, false, names...)
		})
	}
}

// TestSetClock proves the tool: the time of day of a process is wrong by what was asked for, from one moment to the
// next, and the clock that counts from the start is not.
func TestSetClock(t *testing.T) {
	if tells := os.Getenv("PAIRTEST_TELL_TIME"); tells != "" {
		in := bufio.NewReader(os.Stdin)
		began := time.Now()
		for {
			if _, err := in.ReadString('\n'); err != nil {
				os.Exit(0)
			}
			fmt.Println(time.Now().Unix(), int64(time.Since(began)/time.Second))
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it writes into another process")
	}
	if _, err := wallEntry(); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestSetClock$")
	cmd.Env = append(os.Environ(), "PAIRTEST_TELL_TIME=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var where int64
	onStarter(func() { where, err = startWithClock(cmd, 1) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); cmd.Wait() }()
	r := bufio.NewReader(out)
	for _, by := range []time.Duration{0, time.Hour, -50 * time.Hour, 0} {
		if err := setWall(cmd.Process.Pid, where, by); err != nil {
			t.Fatal(err)
		}
		var there, ran int64
		before := time.Now()
		io.WriteString(in, "\n")
		line, err := r.ReadString('\n')
		if n, e := fmt.Sscan(line, &there, &ran); n != 2 {
			t.Fatalf("%q %v %v", line, err, e)
		}
		if want := before.Add(by).Unix(); there < want || there > time.Now().Add(by).Unix() {
			t.Errorf("wrong by %d s, %d are asked for", there-before.Unix(), int64(by/time.Second))
		}
		if ran > int64(time.Since(before)/time.Second)+60 {
			t.Errorf("it ran %d s", ran)
		}
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
