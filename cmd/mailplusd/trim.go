package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Hashing a password takes 19 MB, a large message or a listing some more. The runtime keeps such
// memory for the next time, up to twice of what is in use; a server with thousands of idle
// connections has better uses for it.
const (
	trimLook  = 5 * time.Second
	trimPause = 30 * time.Second // between two trims at least: each one is a garbage collection
	trimQuiet = 8 << 20          // octets allocated within trimLook that still count as quiet
	trimWorth = 16 << 20         // octets allocated since the last trim that make it worth while
)

// trimmer decides when memory goes back to the system.
type trimmer struct {
	last, trimmed uint64 // octets allocated at the last look, and at the last trim
	at            time.Time
}

// due tells whether to trim, given all octets ever allocated.
func (t *trimmer) due(allocated uint64, now time.Time) bool {
	quiet := allocated-t.last < trimQuiet
	t.last = allocated
	if !quiet || allocated-t.trimmed < trimWorth || now.Sub(t.at) < trimPause {
		return false
	}
	t.trimmed, t.at = allocated, now
	return true
}

// trim gives memory back whenever there was work and it has ended.
func trim(ctx context.Context) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var t trimmer
	tick := time.NewTicker(trimLook)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			metrics.Read(sample)
			if t.due(sample[0].Value.Uint64(), now) {
				debug.FreeOSMemory()
			}
		case <-ctx.Done():
			return
		}
	}
}
