// Package lease is the arithmetic that lets only one node of a pair hold the floating
// address and acknowledge anything. It does no I/O and starts no goroutine: the caller
// passes the time, a reading of CLOCK_BOOTTIME (Now), with every call.
//
// # The two sides
//
// The primary sends a request every Settings.Frame; the secondary answers only while it
// regards the sender as the primary of that epoch. An answer proves to the primary that
// it may go on until Settings.Term after it SENT that request (Primary.MayHold). The
// secondary promises to stay quiet until Settings.Term after it RECEIVED it, and waits
// Settings.Margin more (Secondary.MayTakeOver). Receiving comes after sending, so the
// primary's lease ends first, whatever the clocks say; only their speed matters.
//
// The margin covers what happens after the end of a lease: the kernel removes an expired
// address up to Settings.KernelLate too late, clocks drift up to 1 %, and a call to the
// kernel may take up to WriteSlack before it is noticed and corrected.
//
// # Who is dead
//
// Detector decides when a peer counts as silent. A node that was frozen itself (stopped,
// suspended, starved) has heard nothing meanwhile, and that proves nothing: its evidence
// is void until three fresh probes have failed. keepalived knows the same rule
// (timer_expired_backup).
package lease
