package vip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var testAddr = netip.MustParseAddr("10.99.0.50")

// fakeNet is a Driver and a Wire that writes down what happens, with the time since it was made.
type fakeNet struct {
	begin time.Time

	mu       sync.Mutex
	log      []string
	here     bool
	end      time.Duration
	holder   net.HardwareAddr // answers probes
	fail     map[string]error
	conflict func(net.HardwareAddr)
}

func newFakeNet() *fakeNet { return &fakeNet{begin: time.Now(), fail: map[string]error{}} }

func (f *fakeNet) now() time.Duration { return time.Since(f.begin) }

// note is called with the lock held.
func (f *fakeNet) note(what string) error {
	f.log = append(f.log, fmt.Sprintf("%v %s", f.now(), what))
	return f.fail[what]
}

func (f *fakeNet) Add(_ context.Context, _ netip.Addr, end time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.here, f.end = true, end
	return f.note("add")
}

func (f *fakeNet) Renew(_ context.Context, _ netip.Addr, end time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.fail["renew"] != nil:
		return f.note("renew")
	case !f.here || f.now() >= f.end:
		f.here = false
		return ErrGone
	}
	f.end = end
	return nil
}

func (f *fakeNet) Delete(context.Context, netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.here = false
	return f.note("delete")
}

func (f *fakeNet) Has(context.Context, netip.Addr) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.here && f.now() < f.end, nil
}

func (f *fakeNet) Clean(context.Context, ...netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.note("clean")
}

func (f *fakeNet) Probe(context.Context, netip.Addr) (net.HardwareAddr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.holder, f.note("probe")
}

func (f *fakeNet) Announce(context.Context, netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.note("announce")
}

// slowWire is a fakeNet whose announcements last until they are cancelled.
type slowWire struct{ *fakeNet }

func (f slowWire) Announce(ctx context.Context, _ netip.Addr) error {
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.note("announcement cancelled")
}

func (f *fakeNet) Watch(_ netip.Addr, conflict func(net.HardwareAddr)) (func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conflict = conflict
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.conflict = nil
	}, nil
}

func (f *fakeNet) Close() error { return nil }

func (f *fakeNet) events() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

func (f *fakeNet) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := f.events(); !slices.Equal(got, want) {
		t.Errorf("happened:\n%q\nwant:\n%q", got, want)
	}
}

// lease is an Until that can be changed.
type testLease struct {
	mu  sync.Mutex
	end time.Duration // 0: a term from now
}

func (l *testLease) until(now time.Duration) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end == 0 {
		return now + 3*time.Second, true
	}
	return l.end, now < l.end
}

func (l *testLease) endAt(t time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = t
}

func testHolder(t *testing.T, f *fakeNet, change func(*HolderConfig)) *Holder {
	t.Helper()
	cfg := HolderConfig{Addr: testAddr, Driver: f, Wire: f, Frame: 500 * time.Millisecond, Now: f.now, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	h, err := NewHolder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Acquire probes, adds and announces; the announcements are repeated by the table, and end
// before the address is deleted.
// covers: I.73
func TestHolderAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeNet(), &testLease{}
		h := testHolder(t, f, nil)
		if err := h.Acquire(t.Context(), l.until); err != nil {
			t.Fatal(err)
		}
		if err := h.Acquire(t.Context(), l.until); err != nil || !h.Held() {
			t.Errorf("a second time: %v", err)
		}
		time.Sleep(130 * time.Second)
		if err := h.Release(t.Context()); err != nil || h.Held() {
			t.Error(err)
		}
		time.Sleep(10 * time.Minute)
		f.expect(t, "0s probe", "0s add", "0s announce", "100ms announce", "500ms announce", "1.1s announce", "2.1s announce",
			"5s announce", "1m5s announce", "2m5s announce", "2m10s delete")
		if err := h.AcquireReleased(t.Context(), l.until); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		h.Reannounce()
		time.Sleep(time.Second)
		h.Release(t.Context())
		f.mu.Lock()
		for i := range f.log {
			_, f.log[i], _ = cut(f.log[i])
		}
		f.mu.Unlock()
		f.expect(t, slices.Concat([]string{"probe", "add"}, slices.Repeat([]string{"announce"}, 8), []string{"delete", "add"},
			slices.Repeat([]string{"announce"}, 8), []string{"delete"})...)
	})
}

func cut(s string) (string, string, bool) {
	for i := range s {
		if s[i] == ' ' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// An announcement under way is cancelled, and has ended, before the address is deleted.
// covers: I.73
func TestHolderCancelsAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeNet(), &testLease{}
		h := testHolder(t, f, func(c *HolderConfig) { c.Wire = slowWire{f} })
		if err := h.AcquireReleased(t.Context(), l.until); err != nil {
			t.Fatal(err)
		}
		time.Sleep(700 * time.Millisecond)
		if err := h.Release(t.Context()); err != nil {
			t.Error(err)
		}
		f.expect(t, "0s add", "700ms announcement cancelled", "700ms delete")
	})
}

// The holder gives up at the end of the lease, to the millisecond and not at the next frame.
// covers: I.73
func TestHolderLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeNet(), &testLease{}
		lost := make(chan error, 1)
		h := testHolder(t, f, func(c *HolderConfig) { c.OnLost = func(err error) { lost <- err } })
		l.endAt(-1)
		if err := h.Acquire(t.Context(), l.until); !errors.Is(err, ErrExpired) {
			t.Errorf("without a lease: %v", err)
		}
		f.expect(t)
		l.endAt(1730 * time.Millisecond)
		if err := h.AcquireReleased(t.Context(), l.until); err != nil {
			t.Fatal(err)
		}
		if err := <-lost; !errors.Is(err, ErrExpired) || f.now() != 1730*time.Millisecond {
			t.Errorf("%v after %v", err, f.now())
		}
		if h.Held() {
			t.Error("held after the end")
		}
		time.Sleep(time.Minute)
		f.expect(t, "0s add", "0s announce", "100ms announce", "500ms announce", "1.1s announce", "1.73s delete")
	})
}

// An address that has gone by itself is lost; the callback may acquire it again, which probes.
func TestHolderGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeNet(), &testLease{}
		var h *Holder
		again := make(chan error, 1)
		h = testHolder(t, f, func(c *HolderConfig) {
			c.OnLost = func(err error) {
				if !errors.Is(err, ErrGone) {
					t.Error(err)
				}
				again <- h.Acquire(context.Background(), l.until)
			}
		})
		if err := h.AcquireReleased(t.Context(), l.until); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.here = false
		f.mu.Unlock()
		h.Renew() // not at the next frame
		if err := <-again; err != nil || !h.Held() || f.now() != 0 {
			t.Errorf("%v after %v", err, f.now())
		}
		h.Release(t.Context())
	})
}

// Errors of the driver are borne until the lease that was last told ends.
func TestHolderDriverFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeNet(), &testLease{}
		lost := make(chan error, 1)
		h := testHolder(t, f, func(c *HolderConfig) { c.OnLost = func(err error) { lost <- err } })
		if err := h.AcquireReleased(t.Context(), l.until); err != nil {
			t.Fatal(err)
		}
		broken := errors.New("broken")
		f.mu.Lock()
		f.fail["renew"] = broken
		f.mu.Unlock()
		if err := <-lost; !errors.Is(err, broken) || f.now() != 3*time.Second {
			t.Errorf("%v after %v", err, f.now())
		}
	})
}

func TestHolderRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFakeNet(), &testLease{}
		mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
		conflicts := make(chan net.HardwareAddr, 1)
		h := testHolder(t, f, func(c *HolderConfig) { c.OnConflict = func(m net.HardwareAddr) { conflicts <- m } })
		f.holder = mac
		var use *InUseError
		if err := h.Acquire(t.Context(), l.until); !errors.As(err, &use) || use.MAC.String() != mac.String() {
			t.Errorf("in use: %v", err)
		}
		f.holder, f.fail["probe"] = nil, errors.New("no wire")
		if err := h.Acquire(t.Context(), l.until); err == nil {
			t.Error("acquired without a probe")
		}
		f.expect(t, "0s probe", "0s probe")
		f.fail["add"] = ErrExpired
		if err := h.AcquireReleased(t.Context(), l.until); !errors.Is(err, ErrExpired) || h.Held() {
			t.Errorf("not added: %v", err)
		}
		clear(f.fail)
		if err := h.AcquireReleased(t.Context(), l.until); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		conflict := f.conflict
		f.mu.Unlock()
		conflict(mac)
		if got := <-conflicts; got.String() != mac.String() {
			t.Errorf("conflict with %v", got)
		}
		f.mu.Lock()
		f.fail["delete"] = errors.New("no")
		f.mu.Unlock()
		if err := h.Release(t.Context()); err == nil {
			t.Error("a release that failed was reported as done")
		}
		conflict(mac)
		synctest.Wait()
		if len(conflicts) > 0 {
			t.Error("a conflict was reported about an address that is not held")
		}
		if _, err := NewHolder(HolderConfig{Addr: testAddr}); err == nil {
			t.Error("a holder without a driver")
		}
	})
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
