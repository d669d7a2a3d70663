package queue

import (
	"time"

	"mailplusd/mail/model"
)

// startWindow is how many attempts a destination that nothing is known of gets at once.
const startWindow = 2

// destination is what a place that mail goes to has shown lately. Its window of attempts at a
// time grows with each success by one for a full window and is halved by each failure to talk to it. After
// failures in a row for half of its window the destination rests, each time for longer.
type destination struct {
	name   string
	ready  []entry // in the order of their turns
	active int
	listed bool // in the ring of those that may have work

	window float64
	failed int // in a row
	downs  int // times it was given a rest, in a row
	until  time.Time
	reason string // why it rests
}

// entry is one message's recipients that go the same way.
type entry struct {
	id  model.QueueID
	n   uint32   // the first one
	etc []uint32 // the others
}

func (e *entry) numbers() []uint32 { return append([]uint32{e.n}, e.etc...) }

// down tells whether the destination rests.
func (d *destination) down(now time.Time) bool { return now.Before(d.until) }

// room tells whether one more attempt may begin.
func (d *destination) room(most int, now time.Time) bool {
	return !d.down(now) && d.active < max(1, min(int(d.window), most))
}

// succeeded counts an attempt in which a server has answered, whatever it said.
func (d *destination) succeeded(most int) {
	d.failed, d.downs, d.reason, d.until = 0, 0, "", time.Time{}
	d.window = min(d.window+1/max(d.window, 1), float64(most))
}

// unreachable counts an attempt in which no server could be talked to. It tells whether the
// destination now rests.
func (d *destination) unreachable(now time.Time, reason string, set model.Queue) bool {
	if d.down(now) {
		return false // an attempt that began before
	}
	width := int(d.window)
	d.failed++
	d.window = max(d.window/2, 1)
	if 2*d.failed < width && d.downs == 0 {
		return false
	}
	d.until = now.Add(Backoff(uint32(d.downs), set))
	d.reason = reason
	d.failed, d.window = 0, 1
	d.downs++
	return true
}

// forgettable tells whether nothing would be lost with it.
func (d *destination) forgettable(now time.Time) bool {
	return d.active == 0 && len(d.ready) == 0 && !d.down(now) && d.downs == 0
}
