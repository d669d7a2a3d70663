package vip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"mailplusd/cluster/lease"

	"golang.org/x/sys/unix"
)

// DriverKind names a Driver.
type DriverKind string

// The drivers a guard can open.
const (
	KindNetlink  DriverKind = "netlink"
	KindLoopback DriverKind = "loopback"
)

// OpenDriver opens the driver and the wire of a kind. ifname is for Netlink only.
func OpenDriver(kind DriverKind, ifname string) (Driver, Wire, error) {
	switch kind {
	case KindLoopback:
		return OpenLoopback(), Silent{}, nil
	case KindNetlink:
		d, err := OpenNetlink(ifname)
		if err != nil {
			return nil, nil, err
		}
		w, err := OpenLink(ifname)
		if err != nil {
			return nil, nil, errors.Join(err, d.Close())
		}
		return d, w, nil
	}
	return nil, nil, fmt.Errorf("vip: no driver %q", kind)
}

// GuardHooks are what the program does for a guard.
type GuardHooks struct {
	// Farewell is called when the main process has died and its addresses have been deleted, with
	// what Guard.Farewell left; not after Guard.Close, and not if a deletion failed. ctx ends after 3 s.
	Farewell func(ctx context.Context, data []byte)
	Logger   *slog.Logger // nil: slog.Default; must not write to the guard's stdout
	open     func(DriverKind, string) (Driver, Wire, error)
	gone     time.Duration // tests: instead of goneTime
}

// guard is the child process.
type guard struct {
	hooks    GuardHooks
	out      *lineWriter
	driver   Driver
	wire     Wire
	held     map[netip.Addr]time.Duration // until when each may be announced
	watched  map[netip.Addr]func()
	farewell []byte
	closed   bool
	main     int // pidfd of the main process; -1: unknown

	ctx    context.Context
	probes sync.WaitGroup
	slots  chan struct{}
}

// RunGuard is the whole life of the guard process: it does what comes by stdin until that
// ends, deletes what it holds, and returns. Signals that a terminal or a service manager
// sends to the whole group are ignored: the main process decides when it is over, and its
// end is enough. Nothing else may write to stdout.
func RunGuard(stdin io.Reader, stdout io.Writer, hooks GuardHooks) error {
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer signal.Stop(ignored)
	if hooks.Logger == nil {
		hooks.Logger = slog.Default()
	}
	if hooks.open == nil {
		hooks.open = OpenDriver
	}
	if hooks.gone == 0 {
		hooks.gone = goneTime
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &guard{
		hooks: hooks, out: &lineWriter{w: stdout}, ctx: ctx, slots: make(chan struct{}, maxGuardProbes),
		held: map[netip.Addr]time.Duration{}, watched: map[netip.Addr]func(){}, main: -1,
	}
	err := g.serve(newLines(stdin))
	return errors.Join(err, g.end(cancel))
}

// serve handles requests in their order, except probes, which take 0.2 s.
func (g *guard) serve(in lines) error {
	for !g.closed {
		var r guardRequest
		if err := in.next(&r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("vip: guard: %w", err)
		}
		a := guardAnswer{ID: r.ID}
		err := r.validate()
		if err == nil && g.driver == nil && r.Op != opOpen {
			err = errors.New("vip: guard is not open")
		}
		if err == nil && (r.Op == opProbe || r.Op == opAsk) {
			g.probe(r)
			continue
		}
		if err == nil {
			err = g.do(r, &a)
		}
		a.setError(err)
		if g.out.put(a) != nil {
			return nil // the main process is dead; that the pipe ends is known already
		}
	}
	return nil
}

func (g *guard) do(r guardRequest, a *guardAnswer) (err error) {
	var addr netip.Addr
	if len(r.Addrs) > 0 {
		addr = r.Addrs[0].Unmap()
	}
	switch r.Op {
	case opOpen:
		if g.driver != nil {
			return errors.New("vip: guard is open already")
		}
		if g.driver, g.wire, err = g.hooks.open(r.Driver, r.Interface); err == nil && r.PID > 0 {
			if g.main, err = unix.PidfdOpen(r.PID, 0); err != nil {
				g.main, err = -1, nil // its pipe says enough, if a little early
			}
		}
	case opAdd:
		if len(g.held) >= maxGuardAddrs {
			return errors.New("vip: guard holds too many addresses")
		}
		if err = g.driver.Add(g.ctx, addr, r.End); err == nil {
			g.held[addr] = r.End
		}
	case opRenew:
		if err = g.driver.Renew(g.ctx, addr, r.End); err == nil {
			g.held[addr] = r.End
		} else if errors.Is(err, ErrGone) || errors.Is(err, ErrExpired) {
			delete(g.held, addr)
		}
	case opDelete:
		if err = g.driver.Delete(g.ctx, addr); err == nil {
			delete(g.held, addr)
		}
	case opHas:
		a.Yes, err = g.driver.Has(g.ctx, addr)
	case opClean:
		err = g.driver.Clean(g.ctx, r.Addrs...)
	case opAnnounce:
		if here, herr := g.driver.Has(g.ctx, addr); herr != nil || !here || lease.Now() >= g.held[addr] {
			return errors.Join(ErrExpired, herr) // a late order of a process that was stopped
		}
		err = g.wire.Announce(g.ctx, addr)
	case opWatch:
		err = g.watch(addr)
	case opUnwatch:
		g.unwatch(addr)
	case opFarewell:
		g.farewell = r.Data
	case opClose:
		g.closed = true
	}
	return err
}

func (g *guard) watch(addr netip.Addr) error {
	if g.watched[addr] != nil {
		return nil
	}
	if len(g.watched) >= maxGuardAddrs {
		return errors.New("vip: guard watches too many addresses")
	}
	stop, err := g.wire.Watch(addr, func(mac net.HardwareAddr) {
		g.out.put(guardAnswer{Addr: addr, MAC: mac.String()})
	})
	if err == nil {
		g.watched[addr] = stop
	}
	return err
}

func (g *guard) unwatch(addr netip.Addr) {
	if stop := g.watched[addr]; stop != nil {
		stop()
		delete(g.watched, addr)
	}
}

// probe answers later. Too many at a time are refused.
func (g *guard) probe(r guardRequest) {
	a := guardAnswer{ID: r.ID}
	select {
	case g.slots <- struct{}{}:
	default:
		a.setError(errors.New("vip: too many probes at a time"))
		g.out.put(a)
		return
	}
	g.probes.Add(1)
	go func() {
		defer g.probes.Done()
		defer func() { <-g.slots }()
		ask := g.wire.Probe
		if l, ok := g.wire.(*Link); ok && r.Op == opAsk {
			ask = l.Ask
		}
		mac, err := ask(g.ctx, r.Addrs[0])
		if mac != nil {
			a.MAC = mac.String()
		}
		a.setError(err)
		g.out.put(a)
	}()
}

// goneTime bounds how long a guard waits for the main process to be gone when its pipe has ended.
const goneTime = 250 * time.Millisecond

// awaitMain waits until the kernel has closed what the main process had open. The pipe ends before
// that: were the address deleted then, the kernel could not tell the clients of the connections that
// it closes after it, and they would wait for answers until their own timeouts.
func (g *guard) awaitMain() {
	if g.main < 0 {
		return
	}
	defer unix.Close(g.main)
	end := lease.Now() + g.hooks.gone
	for !g.closed && len(g.held) > 0 {
		left := end - lease.Now()
		if left <= 0 {
			return
		}
		fds := []unix.PollFd{{Fd: int32(g.main), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(left/time.Millisecond)+1); err != unix.EINTR && (n > 0 || err != nil) {
			return
		}
	}
}

// end deletes everything first, and only then takes its time.
func (g *guard) end(cancel func()) error {
	defer cancel()
	g.awaitMain()
	if g.driver == nil {
		return nil
	}
	var errs []error
	for addr := range g.held {
		errs = append(errs, g.driver.Delete(g.ctx, addr))
	}
	errs = append(errs, g.driver.Close())
	err := errors.Join(errs...)
	if err != nil {
		g.hooks.Logger.Error("guard could not delete a floating address", "error", err)
	}
	if err == nil && !g.closed && g.farewell != nil && g.hooks.Farewell != nil {
		ctx, done := context.WithTimeout(g.ctx, guardAnswerTime)
		g.hooks.Farewell(ctx, g.farewell)
		done()
	}
	cancel()
	g.probes.Wait()
	for addr := range g.watched {
		g.unwatch(addr)
	}
	return errors.Join(err, g.wire.Close())
}
