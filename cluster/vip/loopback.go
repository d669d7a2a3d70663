package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"mailplusd/cluster/lease"
)

// Loopback is the Driver for a pair on one machine, without root: the address is one of
// 127.0.0.0/8, which Linux answers for anyway, and holding it means to own the abstract
// unix socket "@mailplusd-vip-ADDRESS". The kernel gives that to one process only and frees
// it when the process dies. A timer gives it back at the end of the lease; a stopped
// process keeps it until it goes on, which makes a takeover late but never double.
type Loopback struct {
	mu   sync.Mutex
	held map[netip.Addr]*loopLock
}

type loopLock struct {
	l     *net.UnixListener
	end   time.Duration
	timer *time.Timer
}

var _ Driver = (*Loopback)(nil)

// LoopbackName is the abstract unix socket of an address, of whoever holds it.
func LoopbackName(addr netip.Addr) string { return "@mailplusd-vip-" + addr.Unmap().String() }

// OpenLoopback gives the driver for addresses in 127.0.0.0/8.
func OpenLoopback() *Loopback { return &Loopback{held: map[netip.Addr]*loopLock{}} }

// Add implements Driver.
func (d *Loopback) Add(_ context.Context, addr netip.Addr, end time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	addr = addr.Unmap()
	if !addr.Is4() || !addr.IsLoopback() {
		return fmt.Errorf("vip: %v is not in 127.0.0.0/8", addr)
	}
	if _, held := d.held[addr]; held {
		return fmt.Errorf("%w: %v", ErrForeign, addr)
	}
	left := end - lease.Now()
	if left < time.Second {
		return ErrExpired
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: LoopbackName(addr), Net: "unix"})
	if errors.Is(err, syscall.EADDRINUSE) {
		return &InUseError{Addr: addr}
	}
	if err != nil {
		return fmt.Errorf("vip: lock of %v: %w", addr, err)
	}
	lock := &loopLock{l: l, end: end}
	lock.timer = time.AfterFunc(left, func() { d.expire(addr, lock) })
	d.held[addr] = lock
	return nil
}

// expire frees the address when its time is up. The timer's clock stands still while the
// machine sleeps; Renew and Has look at the right one.
func (d *Loopback) expire(addr netip.Addr, lock *loopLock) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held[addr] != lock {
		return
	}
	if left := lock.end - lease.Now(); left > 0 {
		lock.timer.Reset(left)
		return
	}
	d.free(addr)
}

func (d *Loopback) free(addr netip.Addr) {
	lock := d.held[addr]
	lock.timer.Stop()
	lock.l.Close()
	delete(d.held, addr)
}

// Renew implements Driver.
func (d *Loopback) Renew(_ context.Context, addr netip.Addr, end time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	addr = addr.Unmap()
	lock, held := d.held[addr]
	now := lease.Now()
	switch {
	case !held:
		return ErrGone
	case now >= lock.end:
		d.free(addr)
		return ErrGone
	case now >= end:
		d.free(addr)
		return ErrExpired
	case end > lock.end:
		lock.end = end
		lock.timer.Reset(end - now)
	}
	return nil
}

// Delete implements Driver.
func (d *Loopback) Delete(_ context.Context, addr netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if addr = addr.Unmap(); d.held[addr] != nil {
		d.free(addr)
	}
	return nil
}

// Has implements Driver.
func (d *Loopback) Has(_ context.Context, addr netip.Addr) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	lock := d.held[addr.Unmap()]
	return lock != nil && lease.Now() < lock.end, nil
}

// Clean implements Driver. A dead process leaves nothing.
func (d *Loopback) Clean(context.Context, ...netip.Addr) error { return nil }

// Close implements Driver.
func (d *Loopback) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for addr := range d.held {
		d.free(addr)
	}
	return nil
}
