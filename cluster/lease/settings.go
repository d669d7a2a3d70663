package lease

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// MaxDrift is how far a clock's speed may be off, as a part of 1. Twice that separates
// two nodes. Quartz is below 0.0002; a virtual machine with a bad clock source is not.
const MaxDrift = 0.01

// WriteSlack is how late a call to the kernel may set a lifetime before it has to be
// shortened again. It is part of what Settings.Margin covers.
const WriteSlack = 50 * time.Millisecond

// Settings are the times of a lease. Both nodes must use the same.
type Settings struct {
	Term       time.Duration // a request answered is good for so long after it was sent
	Frame      time.Duration // between two requests
	Margin     time.Duration // the secondary waits so long after the end of its promise
	KernelLate time.Duration // how late the kernel may remove an expired address; at least 400 ms (measured: 7 to 341)
	Silent     time.Duration // a peer not heard for so long counts as dead
	Decide     time.Duration // the arbiter must have answered within this
	Frozen     time.Duration // an own tick later than this voids the evidence about the peer
}

// Default are the times for any network: the address moves 4.5 to 5 s after a host died.
func Default() Settings {
	return Settings{
		Term: 3 * time.Second, Frame: 500 * time.Millisecond, Margin: 1500 * time.Millisecond,
		KernelLate: time.Second, Silent: 2 * time.Second, Decide: 500 * time.Millisecond, Frozen: time.Second,
	}
}

// Short are the times for a quiet LAN and hosts that are never starved: the address moves
// about 2 s after a host died, and a pause of 400 ms is already taken for a freeze.
func Short() Settings {
	return Settings{
		Term: 1200 * time.Millisecond, Frame: 200 * time.Millisecond, Margin: 800 * time.Millisecond,
		KernelLate: 600 * time.Millisecond, Silent: 800 * time.Millisecond, Decide: 400 * time.Millisecond, Frozen: 400 * time.Millisecond,
	}
}

// Validate says which relation between the times does not hold.
func (s Settings) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(s.Frame >= 50*time.Millisecond, "frame %v is below 50 ms", s.Frame)
	check(s.Term <= time.Minute, "term %v is above one minute", s.Term)
	check(s.Term >= time.Second+s.Frame, "term %v is too short: the kernel counts whole seconds, so it needs at least 1 s and one frame (%v)", s.Term, s.Frame)
	check(s.Term >= 3*s.Frame, "term %v is shorter than three frames of %v: one lost frame would end it", s.Term, s.Frame)
	check(s.KernelLate >= 400*time.Millisecond, "kernel lateness %v is below 400 ms", s.KernelLate)
	check(s.Margin <= time.Minute, "margin %v is above one minute", s.Margin)
	check(s.Margin >= s.minMargin(), "margin %v is below %v: kernel lateness, drift and the time of a call must fit into it", s.Margin, s.minMargin())
	check(s.Frozen >= s.Frame, "freeze limit %v is shorter than a frame (%v)", s.Frozen, s.Frame)
	check(s.Silent >= s.Frozen+2*s.Frame, "silence of %v can be an own freeze (%v) and two frames (%v)", s.Silent, s.Frozen, s.Frame)
	check(s.Decide > 0, "no time for the arbiter")
	check(s.Silent+s.Decide <= s.Term, "silence %v and decision %v do not fit into the term %v: the address would be given up at each death of the peer", s.Silent, s.Decide, s.Term)
	return errors.Join(errs...)
}

// minMargin solves (term+margin)*(1-drift) >= (term+late+slack)*(1+drift), rounded up to a millisecond:
// the secondary's clock is as fast as allowed, the primary's as slow.
func (s Settings) minMargin() time.Duration {
	holds := float64(s.Term+s.KernelLate+WriteSlack) * (1 + MaxDrift)
	return (time.Duration(holds/(1-MaxDrift)) - s.Term + time.Millisecond).Truncate(time.Millisecond)
}

// Now reads CLOCK_BOOTTIME: the time since the machine started, time asleep included.
// It differs between machines and means nothing to another one.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("CLOCK_BOOTTIME: " + err.Error()) // exists since Linux 2.6.39; nothing safe can be done without
	}
	return time.Duration(ts.Nano())
}

// Lifetime is what the kernel may be told at time now about an address that must be gone at
// end: whole seconds, rounded down. ok is false when less than one is left.
func Lifetime(end, now time.Duration) (seconds int, ok bool) {
	s := int((end - now) / time.Second)
	return max(s, 0), s >= 1
}
