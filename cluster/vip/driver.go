package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

var (
	// ErrGone: a renewal did not find the address. It must be acquired again, with probes.
	ErrGone = errors.New("vip: the address is no longer here")
	// ErrExpired: the lease has ended, or less than a second of it is left. The address is not here.
	ErrExpired = errors.New("vip: the lease has ended")
	// ErrForeign: the address is here, but something else has put it here.
	ErrForeign = errors.New("vip: the address is configured here by something else")
)

// InUseError: somebody else has the address.
type InUseError struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // of who answered; nil if that can't be known
}

func (e *InUseError) Error() string {
	if e.MAC == nil {
		return fmt.Sprintf("vip: %v is in use", e.Addr)
	}
	return fmt.Sprintf("vip: %v is in use by %v", e.Addr, e.MAC)
}

// Driver holds addresses. Its methods may be called by several goroutines.
type Driver interface {
	// Add puts addr here, to vanish by itself at end (lease.Now) at the latest.
	Add(ctx context.Context, addr netip.Addr, end time.Duration) error
	// Renew moves the end of an address that is here. It never puts it here: ErrGone. If the
	// end has passed it deletes the address: ErrExpired.
	Renew(ctx context.Context, addr netip.Addr, end time.Duration) error
	// Delete takes addr away. That it is not here is no error.
	Delete(ctx context.Context, addr netip.Addr) error
	// Has says whether addr is here.
	Has(ctx context.Context, addr netip.Addr) (bool, error)
	// Clean takes away what an earlier process has left of these addresses; ErrForeign if
	// one is here that no Driver has put here. Before anything else at start.
	Clean(ctx context.Context, addrs ...netip.Addr) error
	// Close takes every address away that this Driver has put here.
	Close() error
}

// Wire asks and tells the neighbours about addresses.
type Wire interface {
	// Probe asks whether anybody has addr, without claiming anything (RFC 5227, RFC 4862),
	// three times 70 ms apart. nil: nobody has answered.
	Probe(ctx context.Context, addr netip.Addr) (net.HardwareAddr, error)
	// Announce tells once that addr is here.
	Announce(ctx context.Context, addr netip.Addr) error
	// Watch calls conflict for packets of others that claim addr, at most once a second,
	// until stop is called. conflict must return soon.
	Watch(addr netip.Addr, conflict func(net.HardwareAddr)) (stop func(), err error)
	Close() error
}

// Silent is the Wire of an address that has no neighbours.
type Silent struct{}

// Probe gets no answer.
func (Silent) Probe(ctx context.Context, _ netip.Addr) (net.HardwareAddr, error) {
	return nil, ctx.Err()
}

// Announce tells nobody.
func (Silent) Announce(context.Context, netip.Addr) error { return nil }

// Watch sees nothing.
func (Silent) Watch(netip.Addr, func(net.HardwareAddr)) (func(), error) { return func() {}, nil }

// Close has nothing to do.
func (Silent) Close() error { return nil }
