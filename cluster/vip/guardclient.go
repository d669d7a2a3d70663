package vip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGuard: the guard process has ended. Start another; the address is gone or goes with its lifetime.
var ErrGuard = errors.New("vip: the guard process has ended")

// Guard is the main process's side of a guard: a Driver and a Wire. Its methods may be
// called by several goroutines.
type Guard struct {
	cmd  *exec.Cmd // nil in tests
	in   io.Closer
	out  *lineWriter
	done chan struct{}

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan guardAnswer
	watch   map[netip.Addr]func(net.HardwareAddr)
	failed  error
}

var (
	_ Driver = (*Guard)(nil)
	_ Wire   = (*Guard)(nil)
)

// StartGuard starts exe with args as a guard (its main must call RunGuard) and opens the
// driver there. A process that is not root hands on its CAP_NET_ADMIN and CAP_NET_RAW, if
// it has them. The guard's stderr is this process's.
func StartGuard(ctx context.Context, kind DriverKind, ifname, exe string, args ...string) (*Guard, error) {
	cmd := exec.Command(exe, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: ambient()}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("vip: start guard: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("vip: start guard: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("vip: start guard: %w", err)
	}
	g := newGuard(in, out, cmd)
	if _, err := g.call(ctx, guardRequest{Op: opOpen, Driver: kind, Interface: ifname, PID: os.Getpid()}); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// ambient is which of the guard's two capabilities a process without root has to hand on.
func ambient() []uintptr {
	if os.Geteuid() == 0 {
		return nil
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(status), "\nCapPrm:\t")
	hex, _, _ := strings.Cut(rest, "\n")
	have, _ := strconv.ParseUint(hex, 16, 64)
	var caps []uintptr
	for _, c := range []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW} {
		if have&(1<<c) != 0 {
			caps = append(caps, c)
		}
	}
	return caps
}

func newGuard(in io.WriteCloser, out io.Reader, cmd *exec.Cmd) *Guard {
	g := &Guard{
		cmd: cmd, in: in, out: &lineWriter{w: in, limit: guardAnswerTime}, done: make(chan struct{}),
		waiting: map[uint64]chan guardAnswer{}, watch: map[netip.Addr]func(net.HardwareAddr){},
	}
	go g.read(newLines(out))
	return g
}

// read hands out answers and conflicts until the guard's stdout ends.
func (g *Guard) read(in lines) {
	defer close(g.done)
	var err error
	for {
		var a guardAnswer
		if err = in.next(&a); err != nil {
			break
		}
		if a.ID == 0 {
			g.mu.Lock()
			tell := g.watch[a.Addr]
			g.mu.Unlock()
			if tell != nil {
				tell(a.mac())
			}
			continue
		}
		g.mu.Lock()
		ch := g.waiting[a.ID]
		delete(g.waiting, a.ID)
		g.mu.Unlock()
		if ch != nil {
			ch <- a
		}
	}
	g.in.Close() // a guard that talks nonsense deletes its addresses, too
	reason := ErrGuard
	if !errors.Is(err, io.EOF) {
		reason = fmt.Errorf("%w: %w", ErrGuard, err)
	}
	if g.cmd != nil {
		if err := g.cmd.Wait(); err != nil {
			reason = fmt.Errorf("%w: %w", ErrGuard, err)
		}
	}
	g.mu.Lock()
	g.failed = reason
	g.mu.Unlock()
}

// Done is closed when the guard has ended, for whatever reason.
func (g *Guard) Done() <-chan struct{} { return g.done }

// PID is the guard's process number.
func (g *Guard) PID() int { return g.cmd.Process.Pid }

// call sends a request and waits for the answer, 3 s at most.
func (g *Guard) call(ctx context.Context, r guardRequest) (guardAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, guardAnswerTime)
	defer cancel()
	ch := make(chan guardAnswer, 1)
	g.mu.Lock()
	g.last++
	r.ID = g.last
	g.waiting[r.ID] = ch
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.waiting, r.ID)
		g.mu.Unlock()
	}()
	if err := r.validate(); err != nil {
		return guardAnswer{}, err
	}
	if err := g.out.put(r); err != nil {
		g.in.Close() // half a line may be in the pipe: the guard ends, and deletes
		return guardAnswer{}, fmt.Errorf("%w: %w", ErrGuard, err)
	}
	select {
	case a := <-ch:
		return a, a.err()
	case <-ctx.Done():
		return guardAnswer{}, fmt.Errorf("vip: guard: %s: %w", r.Op, ctx.Err())
	case <-g.done:
		g.mu.Lock()
		defer g.mu.Unlock()
		return guardAnswer{}, g.failed
	}
}

func (g *Guard) simple(ctx context.Context, op guardOp, addr netip.Addr, end time.Duration) error {
	_, err := g.call(ctx, guardRequest{Op: op, Addrs: []netip.Addr{addr}, End: end})
	return err
}

// Add implements Driver.
func (g *Guard) Add(ctx context.Context, addr netip.Addr, end time.Duration) error {
	return g.simple(ctx, opAdd, addr, end)
}

// Renew implements Driver.
func (g *Guard) Renew(ctx context.Context, addr netip.Addr, end time.Duration) error {
	return g.simple(ctx, opRenew, addr, end)
}

// Delete implements Driver.
func (g *Guard) Delete(ctx context.Context, addr netip.Addr) error {
	return g.simple(ctx, opDelete, addr, 0)
}

// Has implements Driver.
func (g *Guard) Has(ctx context.Context, addr netip.Addr) (bool, error) {
	a, err := g.call(ctx, guardRequest{Op: opHas, Addrs: []netip.Addr{addr}})
	return a.Yes, err
}

// Clean implements Driver.
func (g *Guard) Clean(ctx context.Context, addrs ...netip.Addr) error {
	_, err := g.call(ctx, guardRequest{Op: opClean, Addrs: addrs})
	return err
}

// Probe implements Wire.
func (g *Guard) Probe(ctx context.Context, addr netip.Addr) (net.HardwareAddr, error) {
	return g.ask(ctx, opProbe, addr)
}

// Ask is Link.Ask in the guard.
func (g *Guard) Ask(ctx context.Context, addr netip.Addr) (net.HardwareAddr, error) {
	return g.ask(ctx, opAsk, addr)
}

func (g *Guard) ask(ctx context.Context, op guardOp, addr netip.Addr) (net.HardwareAddr, error) {
	a, err := g.call(ctx, guardRequest{Op: op, Addrs: []netip.Addr{addr}})
	if err != nil {
		return nil, err
	}
	return a.mac(), nil
}

// Announce implements Wire. The guard refuses (ErrExpired) when it doesn't hold the address.
func (g *Guard) Announce(ctx context.Context, addr netip.Addr) error {
	return g.simple(ctx, opAnnounce, addr, 0)
}

// Watch implements Wire. There is one watcher for an address.
func (g *Guard) Watch(addr netip.Addr, conflict func(net.HardwareAddr)) (stop func(), err error) {
	addr = addr.Unmap()
	g.mu.Lock()
	g.watch[addr] = conflict
	g.mu.Unlock()
	if err := g.simple(context.Background(), opWatch, addr, 0); err != nil {
		return nil, err
	}
	return func() {
		g.mu.Lock()
		delete(g.watch, addr)
		g.mu.Unlock()
		g.simple(context.Background(), opUnwatch, addr, 0)
	}, nil
}

// Farewell leaves what the guard hands to GuardHooks.Farewell if this process dies without
// Close; nil takes it back. At most 8 KiB.
func (g *Guard) Farewell(ctx context.Context, data []byte) error {
	_, err := g.call(ctx, guardRequest{Op: opFarewell, Data: data})
	return err
}

// Close ends the guard, which deletes its addresses first, and waits for that.
func (g *Guard) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), guardAnswerTime)
	defer cancel()
	_, err := g.call(ctx, guardRequest{Op: opClose})
	g.in.Close()
	select {
	case <-g.done:
	case <-ctx.Done():
		if g.cmd != nil {
			g.cmd.Process.Kill()
		}
		<-g.done
	}
	if errors.Is(err, ErrGuard) {
		return nil // it had ended before
	}
	return err
}
