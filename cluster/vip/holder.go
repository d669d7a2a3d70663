package vip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"mailplusd/cluster/lease"
)

// announceAt is when the address is announced after it was acquired, then each announceEvery.
// A client may have lost one, or refuse to learn twice within a second (Linux: locktime).
var announceAt = []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, 1100 * time.Millisecond, 2100 * time.Millisecond, 5 * time.Second}

const (
	announceEvery = time.Minute
	callTime      = 2 * time.Second // for one call to the Driver or the Wire
)

// Until says until when the address may be held, asked at now: lease.Primary.Until. ok is false when
// it may not be held at all. It is called from the Holder's goroutine.
type Until func(now time.Duration) (end time.Duration, ok bool)

// HolderConfig is what a Holder needs.
type HolderConfig struct {
	Addr       netip.Addr
	Driver     Driver
	Wire       Wire          // nil: Silent
	Frame      time.Duration // between renewals: lease.Settings.Frame
	OnLost     func(error)   // the address was lost without Release: ErrExpired, ErrGone or what went wrong; may be nil
	OnConflict func(net.HardwareAddr)
	Logger     *slog.Logger // nil: slog.Default
	Now        func() time.Duration
}

// Holder owns one floating address on this node. Acquire and Release may be called by any
// goroutine; the callbacks come from goroutines of the Holder and may call its methods.
type Holder struct {
	cfg HolderConfig
	op  sync.Mutex // one Acquire or Release at a time

	mu   sync.Mutex
	term *tenure // nil: not held
}

// tenure is the time from one Acquire to its end.
type tenure struct {
	ctx    context.Context // ends with the tenure
	cancel context.CancelFunc
	kick   chan struct{}
	again  chan struct{}  // announce from the beginning
	done   chan struct{}  // closed when keep has ended
	wg     sync.WaitGroup // announce
	mu     sync.Mutex
	end    time.Duration // until when the address was last allowed
}

// NewHolder gives a Holder that holds nothing. It cleans nothing: see Clean.
func NewHolder(cfg HolderConfig) (*Holder, error) {
	if !cfg.Addr.IsValid() || cfg.Driver == nil || cfg.Frame <= 0 {
		return nil, errors.New("vip: a holder needs an address, a driver and a frame")
	}
	cfg.Addr = cfg.Addr.Unmap()
	if cfg.Wire == nil {
		cfg.Wire = Silent{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = lease.Now
	}
	return &Holder{cfg: cfg}, nil
}

// Clean takes away what an earlier process has left. Before anything else at start.
func (h *Holder) Clean(ctx context.Context) error { return h.cfg.Driver.Clean(ctx, h.cfg.Addr) }

// Probe asks whether any other machine has the address; nil: nobody.
func (h *Holder) Probe(ctx context.Context) (net.HardwareAddr, error) {
	return h.cfg.Wire.Probe(ctx, h.cfg.Addr)
}

// Acquire probes for the address (0.2 s), puts it here, announces it and keeps it until Release or until
// the lease ends. InUseError if somebody has it: do not try again without an alarm.
func (h *Holder) Acquire(ctx context.Context, until Until) error { return h.acquire(ctx, until, true) }

// AcquireReleased is Acquire without probes, right after the peer has said that it has
// deleted the address: clients then wait 3 ms, not 200.
func (h *Holder) AcquireReleased(ctx context.Context, until Until) error {
	return h.acquire(ctx, until, false)
}

func (h *Holder) acquire(ctx context.Context, until Until, probe bool) error {
	h.op.Lock()
	defer h.op.Unlock()
	if h.Held() {
		return nil
	}
	if _, ok := until(h.cfg.Now()); !ok {
		return ErrExpired
	}
	if probe {
		mac, err := h.Probe(ctx)
		if err != nil {
			return fmt.Errorf("vip: probe for %v: %w", h.cfg.Addr, err)
		}
		if mac != nil {
			return &InUseError{Addr: h.cfg.Addr, MAC: mac}
		}
	}
	end, ok := until(h.cfg.Now())
	if !ok {
		return ErrExpired
	}
	if err := h.cfg.Driver.Add(ctx, h.cfg.Addr, end); err != nil {
		return err
	}
	t := &tenure{kick: make(chan struct{}, 1), again: make(chan struct{}, 1), done: make(chan struct{}), end: end}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	stop, err := h.cfg.Wire.Watch(h.cfg.Addr, h.conflict)
	if err != nil { // still worth holding
		h.cfg.Logger.Warn("no conflict watch for the floating address", "addr", h.cfg.Addr, "error", err)
		stop = func() {}
	}
	h.mu.Lock()
	h.term = t
	h.mu.Unlock()
	t.wg.Add(1)
	go h.announce(t)
	go h.keep(t, until, stop)
	h.cfg.Logger.Info("floating address acquired", "addr", h.cfg.Addr)
	return nil
}

// Held says whether the address is here as far as this process knows. It may have gone
// in the last moment: what needs a lease must ask the lease.
func (h *Holder) Held() bool { return h.tenure() != nil }

func (h *Holder) tenure() *tenure {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.term
}

// Renew renews now instead of at the next frame; for right after an answer of the peer.
func (h *Holder) Renew() {
	if t := h.tenure(); t != nil {
		offer(t.kick)
	}
}

// Reannounce starts the announcements from the beginning; for after a conflict that was
// decided for this node.
func (h *Holder) Reannounce() {
	if t := h.tenure(); t != nil {
		offer(t.again)
	}
}

func offer(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Release ends the announcements and then deletes the address. After an error the address
// may still be here, for as long as the kernel was told: don't tell the peer that it is free.
func (h *Holder) Release(ctx context.Context) error {
	t, err := h.release(ctx)
	if t != nil {
		<-t.done
	}
	return err
}

func (h *Holder) release(ctx context.Context) (*tenure, error) {
	h.op.Lock()
	defer h.op.Unlock()
	t := h.take(nil)
	if t != nil {
		t.cancel()
		t.wg.Wait()
	}
	return t, h.cfg.Driver.Delete(ctx, h.cfg.Addr)
}

// take ends the present tenure, if it is only (any: nil), for the one who gets it.
func (h *Holder) take(only *tenure) *tenure {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.term
	if t == nil || only != nil && t != only {
		return nil
	}
	h.term = nil
	return t
}

func (h *Holder) conflict(mac net.HardwareAddr) {
	if !h.Held() {
		return
	}
	h.cfg.Logger.Error("another machine claims the floating address", "addr", h.cfg.Addr, "mac", mac.String())
	if h.cfg.OnConflict != nil {
		go h.cfg.OnConflict(mac)
	}
}

// keep renews the address until the tenure or the lease ends.
func (h *Holder) keep(t *tenure, until Until, stopWatch func()) {
	defer close(t.done)
	defer stopWatch()
	timer := time.NewTimer(h.cfg.Frame)
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-timer.C:
		case <-t.kick:
		}
		if err := h.renew(t, until); err != nil {
			h.lose(t, err)
			return
		}
		wait := h.cfg.Frame
		if left := t.allowed() - h.cfg.Now(); left < wait {
			wait = max(left, 0)
		}
		timer.Reset(wait)
	}
}

// renew gives an error when the address is lost.
func (h *Holder) renew(t *tenure, until Until) error {
	end, ok := until(h.cfg.Now())
	if !ok {
		return ErrExpired
	}
	ctx, cancel := context.WithTimeout(t.ctx, callTime)
	defer cancel()
	err := h.cfg.Driver.Renew(ctx, h.cfg.Addr, end)
	switch {
	case err == nil:
		t.allow(end)
		return nil
	case errors.Is(err, ErrGone), errors.Is(err, ErrExpired), h.cfg.Now() >= t.allowed():
		return err
	}
	h.cfg.Logger.Warn("floating address not renewed", "addr", h.cfg.Addr, "error", err)
	return nil // the kernel still has what it was told before; the next frame may do better
}

func (t *tenure) allowed() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end
}

func (t *tenure) allow(end time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = end
}

// lose ends a tenure that nobody has released.
func (h *Holder) lose(t *tenure, reason error) {
	h.op.Lock() // or an Acquire in between would see its address deleted
	if h.take(t) == nil {
		h.op.Unlock()
		return // Release was first, and deletes
	}
	t.cancel()
	t.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	if err := h.cfg.Driver.Delete(ctx, h.cfg.Addr); err != nil {
		reason = errors.Join(reason, err)
	}
	cancel()
	h.op.Unlock()
	h.cfg.Logger.Warn("floating address lost", "addr", h.cfg.Addr, "error", reason)
	if h.cfg.OnLost != nil {
		h.cfg.OnLost(reason)
	}
}

// announce tells the neighbours until the tenure ends, and never when the lease has: a
// process that was stopped must not draw clients to an address it has lost.
func (h *Holder) announce(t *tenure) {
	defer t.wg.Done()
	start, next := h.cfg.Now(), 0
	timer := time.NewTimer(announceAt[0])
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-t.again:
			start, next = h.cfg.Now(), 0
		case <-timer.C:
		}
		if t.ctx.Err() != nil || h.cfg.Now() >= t.allowed() {
			return
		}
		err := h.tell(t)
		if err != nil && t.ctx.Err() == nil {
			h.cfg.Logger.Warn("floating address not announced", "addr", h.cfg.Addr, "error", err)
		}
		since := h.cfg.Now() - start
		for next < len(announceAt) && announceAt[next] <= since {
			next++ // those missed during a stop are not made up for
		}
		wait := announceEvery
		if next < len(announceAt) {
			wait = announceAt[next] - since
		}
		timer.Reset(wait)
	}
}

// tell announces once, if the address is still here: the kernel may have removed it a
// second before the lease ends.
func (h *Holder) tell(t *tenure) error {
	ctx, cancel := context.WithTimeout(t.ctx, callTime)
	defer cancel()
	here, err := h.cfg.Driver.Has(ctx, h.cfg.Addr)
	if err == nil && !here {
		return ErrGone
	}
	if err != nil {
		return err
	}
	return h.cfg.Wire.Announce(ctx, h.cfg.Addr)
}
