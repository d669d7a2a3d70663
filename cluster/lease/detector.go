package lease

import "time"

const (
	refusals     = 3           // so many refused connections
	refusalsIn   = time.Second // in this time mean a dead process
	freshFailure = 3           // failed probes needed after an own freeze
)

// Detector says whether the peer counts as dead. It is not safe for use by several goroutines.
type Detector struct {
	s       Settings
	heard   time.Duration
	tick    time.Duration   // the last time this detector was asked or told anything
	refused []time.Duration // the last refusals, at most three
	void    bool            // this node was frozen: old evidence counts no more
	thawed  time.Duration   // when that was found
	fresh   int             // failed probes since then
	freezes uint64
}

// NewDetector starts with a peer heard now.
func NewDetector(s Settings, now time.Duration) *Detector {
	return &Detector{s: s, heard: now, tick: now}
}

// Tick must be called every frame. It says whether this node itself was frozen since the
// last call: then neither the peer's silence nor its refusals mean anything.
func (d *Detector) Tick(now time.Duration) (frozen bool) {
	late := now - d.tick - d.s.Frame
	d.tick = now
	if late <= d.s.Frozen {
		return false
	}
	d.void, d.thawed, d.fresh, d.refused = true, now, 0, nil
	d.freezes++
	return true
}

// Freezes counts how often this node was frozen.
func (d *Detector) Freezes() uint64 { return d.freezes }

// Heard takes any sign of life of the peer, received now.
func (d *Detector) Heard(now time.Duration) {
	d.Tick(now)
	d.heard, d.refused, d.void, d.fresh = now, nil, false, 0
}

// Failed takes a probe of the peer that began at started and is known now to have failed. One
// that began before an own freeze proves nothing.
func (d *Detector) Failed(started, now time.Duration) {
	d.Tick(now)
	if started >= d.thawed {
		d.fresh++
	}
}

// Refused takes a probe, started then, that the peer's host has refused: its process is
// gone. Try again after 300 ms, so that three refusals fit into one second.
func (d *Detector) Refused(started, now time.Duration) {
	d.Failed(started, now)
	if started < d.thawed {
		return
	}
	d.refused = append(d.refused, now)
	if len(d.refused) > refusals {
		d.refused = d.refused[1:]
	}
}

// Dead says whether the peer counts as dead: silent for Settings.Silent, or three
// connections refused within one second; after an own freeze only with three fresh
// failures besides.
func (d *Detector) Dead(now time.Duration) bool {
	d.Tick(now)
	if d.void && d.fresh < freshFailure {
		return false
	}
	return now-d.heard >= d.s.Silent || len(d.refused) == refusals && d.refused[refusals-1]-d.refused[0] <= refusalsIn
}

// Silence is how long nothing was heard.
func (d *Detector) Silence(now time.Duration) time.Duration { return now - d.heard }
