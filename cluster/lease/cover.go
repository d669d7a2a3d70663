package lease

import "time"

// Act is what to do with an address.
type Act uint8

// What to do.
const (
	Keep  Act = iota // nothing: the kernel knows enough
	Write            // tell the kernel a new lifetime, without creating the address anew
	Drop             // delete the address: it must not be here
)

// Renew says, before the kernel is told anything, what to do with an address that may be
// held until end and that the kernel removes at kernelEnd (0 for unknown). A lifetime is
// only ever made longer; in the last second of a lease nothing can be told, since the
// kernel counts whole seconds, and what it was told before ends in time.
func Renew(end, kernelEnd, now time.Duration) (seconds int, act Act) {
	if now >= end {
		return 0, Drop
	}
	seconds, ok := Lifetime(end, now)
	if !ok || now+time.Duration(seconds)*time.Second <= kernelEnd {
		return 0, Keep
	}
	return seconds, Write
}

// Wrote says, after the kernel was told seconds in a call that returned at now, what is to
// be done about it. The process may have been frozen before the call, so that the seconds
// count from a later moment than they were meant to: then they are written again, fewer,
// or the address is dropped.
func Wrote(end time.Duration, seconds int, now time.Duration) (again int, act Act) {
	if now >= end {
		return 0, Drop
	}
	if now+time.Duration(seconds)*time.Second <= end+WriteSlack {
		return 0, Keep
	}
	again, ok := Lifetime(end, now)
	if !ok {
		return 0, Drop
	}
	return again, Write
}
