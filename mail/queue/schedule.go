package queue

import (
	"context"
	"errors"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/remote"
	"mailplusd/mail/state"
)

// What is held in memory: for each recipient whose turn has come, an entry in its destination
// and a mark, together about 100 octets. Nothing is held of those whose turn comes later.
const (
	maxWaiting = 200_000 // recipients; more stay in the state until there is room
	readBatch  = 1000    // turns read at a time, so that the first of many begin at once
	maxLost    = 4       // times the attempts at a time may have outcomes that are not recorded yet
)

// schedule is what is due, by destination. Its fields are guarded by Queue.mu.
type schedule struct {
	at     state.Due // turns up to here have been read
	full   bool      // some were left out for want of room
	marks  map[key]mark
	dests  map[string]*destination
	again  []state.Due    // turns that came while the recipient was still being tried
	ring   []*destination // those that may have work, in turns
	active int            // attempts under way
	ending int            // attempts that are over but not recorded
}

// mark tells where a recipient in the schedule stands.
type mark uint8

const (
	waits mark = iota // for its turn in its destination
	tried             // an attempt is under way or being recorded
	comes             // so it is, and the next turn has come already
)

func newSchedule() schedule {
	return schedule{marks: map[key]mark{}, dests: map[string]*destination{}}
}

// forget drops what waits, because another node delivers, or because it is read again.
func (q *Queue) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := &q.sched
	for k, m := range s.marks {
		if m == waits {
			delete(s.marks, k)
		}
	}
	for _, d := range s.dests {
		d.ready, d.listed = nil, false
	}
	s.ring, s.again, s.at, s.full = nil, nil, state.Due{}, false
}

// read takes in what has become due. more: there is more than one batch. next is the time of the
// first turn that is not due yet.
func (q *Queue) read(now time.Time) (more bool, next int64, err error) {
	fresh, lost := q.State.TakeDue()
	q.mu.Lock()
	s := &q.sched
	if lost || s.full && len(s.marks) < maxWaiting/2 {
		s.at, s.full = state.Due{}, false
		fresh = nil
	}
	at := s.at
	crowded := len(s.marks) >= maxWaiting
	due := s.again
	s.again = nil
	q.mu.Unlock()
	for _, d := range fresh {
		if d.At <= at.At { // behind it, reading on will find it
			due = append(due, d)
		}
	}
	if crowded {
		q.mu.Lock()
		s.full = s.full || len(due) > 0
		q.mu.Unlock()
		return false, 0, nil
	}
	list, next, err := q.State.DueFrom(at, now.UnixNano(), readBatch)
	if err != nil {
		return false, 0, err
	}
	if len(list) == readBatch {
		at, more = list[len(list)-1], next != 0 && next <= now.UnixNano()
	}
	if !more {
		at = state.Due{At: max(now.UnixNano(), at.At), Queue: ^model.QueueID(0), N: ^uint32(0)}
	}
	q.mu.Lock()
	s.at = at
	q.mu.Unlock()
	q.take(append(due, list...), now)
	return more, next, nil
}

// take puts recipients to their destinations.
func (q *Queue) take(due []state.Due, now time.Time) {
	numbers := map[model.QueueID][]uint32{}
	var order []model.QueueID
	q.mu.Lock()
	for _, d := range due {
		k := key{d.Queue, d.N}
		if m, known := q.sched.marks[k]; known {
			if m == tried {
				q.sched.marks[k] = comes
			}
			continue
		}
		q.sched.marks[k] = waits
		if numbers[d.Queue] == nil {
			order = append(order, d.Queue)
		}
		numbers[d.Queue] = append(numbers[d.Queue], d.N)
	}
	q.mu.Unlock()
	for _, id := range order {
		msg, rcpts, err := q.State.QueuedSome(id, numbers[id])
		q.mu.Lock()
		if err != nil {
			if !errors.Is(err, state.ErrNotFound) {
				q.sched.full = true // read again later
			}
			q.unmark(id, numbers[id])
			q.mu.Unlock()
			continue
		}
		at := map[string]int{}
		left := map[uint32]bool{}
		for _, r := range rcpts {
			if r.State == model.QueueHeld || r.Next > q.sched.at.At {
				continue
			}
			left[r.N] = true
			name := remote.Destination(q.route(&msg, &r), r.Domain)
			d := q.destination(name)
			if i, ok := at[name]; ok {
				d.ready[i].etc = append(d.ready[i].etc, r.N)
				continue
			}
			at[name] = len(d.ready)
			d.ready = append(d.ready, entry{id: id, n: r.N})
			q.list(d)
		}
		for _, n := range numbers[id] {
			if !left[n] {
				delete(q.sched.marks, key{id, n})
			}
		}
		q.mu.Unlock()
	}
}

// unmark forgets recipients. The caller holds mu.
func (q *Queue) unmark(id model.QueueID, numbers []uint32) {
	for _, n := range numbers {
		if q.sched.marks[key{id, n}] == comes {
			q.sched.again = append(q.sched.again, state.Due{Queue: id, N: n})
		}
		delete(q.sched.marks, key{id, n})
	}
}

func (q *Queue) route(msg *model.QueueMessage, r *model.QueueRcpt) *remote.Route {
	if q.Route == nil {
		return nil
	}
	return q.Route(msg, r)
}

// destination finds or makes one. The caller holds mu.
func (q *Queue) destination(name string) *destination {
	d := q.sched.dests[name]
	if d == nil {
		d = &destination{name: name, window: startWindow}
		q.sched.dests[name] = d
	}
	return d
}

// list puts a destination in the ring. The caller holds mu.
func (q *Queue) list(d *destination) {
	if !d.listed {
		d.listed = true
		q.sched.ring = append(q.sched.ring, d)
	}
}

// pick takes what may begin now, in turns of destinations. What waits for a destination that
// rests goes to put off.
func (q *Queue) pick(now time.Time) (begin []attempt, putOff []delay) {
	set := q.State.Current().Queue
	q.mu.Lock()
	defer q.mu.Unlock()
	s := &q.sched
	for idle := 0; idle < len(s.ring); {
		d := s.ring[0]
		s.ring = append(s.ring[1:], d)
		switch {
		case len(d.ready) == 0:
			s.ring = s.ring[:len(s.ring)-1]
			if d.listed = false; d.forgettable(now) {
				delete(s.dests, d.name)
			}
			continue
		case d.down(now):
			putOff = append(putOff, delay{dest: d.name, until: d.until, reason: d.reason, list: d.ready})
			for _, e := range d.ready {
				q.mark(&e)
			}
			d.ready = nil
			continue
		case s.active >= set.Concurrency || s.active+s.ending >= maxLost*set.Concurrency:
			return begin, putOff
		case !d.room(set.PerDestination, now):
			idle++
			continue
		}
		idle = 0
		e := d.ready[0]
		if d.ready = d.ready[1:]; len(d.ready) == 0 {
			d.ready = nil
		}
		d.active++
		s.active++
		q.mark(&e)
		begin = append(begin, attempt{dest: d.name, entry: e})
	}
	return begin, putOff
}

// rescan has what is due read again: some of it was left as it is.
func (q *Queue) rescan() {
	q.mu.Lock()
	q.sched.full = true
	q.mu.Unlock()
}

// mark notes that recipients are being tried. The caller holds mu.
func (q *Queue) mark(e *entry) {
	for _, n := range e.numbers() {
		q.sched.marks[key{e.id, n}] = tried
	}
}

// over counts an attempt that has ended; its outcome is still to be recorded.
func (q *Queue) over(dest string, down bool, reason string) {
	now, set := q.Now(), q.State.Current().Queue
	q.mu.Lock()
	defer q.mu.Unlock()
	d := q.destination(dest)
	d.active--
	q.sched.active--
	q.sched.ending++
	if !down {
		d.succeeded(set.PerDestination)
	} else if d.unreachable(now, reason, set) {
		q.Log.Warn("destination is down, its mail waits", "destination", dest, "until", d.until.Format(time.RFC3339), "reason", reason)
	}
	if len(d.ready) > 0 {
		q.list(d)
	} else if d.forgettable(now) {
		delete(q.sched.dests, dest)
	}
}

// done forgets an attempt whose outcome is recorded.
func (q *Queue) done(e *entry) {
	q.mu.Lock()
	q.sched.ending--
	q.unmark(e.id, e.numbers())
	q.mu.Unlock()
	q.Wake()
}

// cancel takes back an attempt that has not begun.
func (q *Queue) cancel(a *attempt) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.destination(a.dest).active--
	q.sched.active--
	q.unmark(a.entry.id, a.entry.numbers())
}

// Destination names what limits and rests of a recipient's mail go by.
func (q *Queue) Destination(msg *model.QueueMessage, r *model.QueueRcpt) string {
	return remote.Destination(q.route(msg, r), r.Domain)
}

// DownUntil is when a destination that rests is tried again; zero: it doesn't rest.
func (q *Queue) DownUntil(destination string) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d := q.sched.dests[destination]; d != nil && d.down(q.Now()) {
		return d.until
	}
	return time.Time{}
}

// Waiting is how many recipients are held in memory: due, being tried or being recorded.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.sched.marks)
}

// Resume ends the rest of every destination, as when an administrator says "now".
func (q *Queue) Resume() {
	q.mu.Lock()
	for _, d := range q.sched.dests {
		d.until = time.Time{}
	}
	q.mu.Unlock()
	q.Wake()
}

// delay is what waits for a destination that rests.
type delay struct {
	dest   string
	until  time.Time
	reason string
	list   []entry
}

// start begins attempts for what is due, and gives the time of the next turn (0: none) and
// whether to go on at once.
func (q *Queue) start(ctx context.Context) (again bool, next int64) {
	now := q.Now()
	more, next, err := q.read(now)
	if err != nil {
		q.Log.Error("queue can't be read", "err", err)
		return false, now.Add(time.Second).UnixNano()
	}
	begin, putOff := q.pick(now)
	for _, d := range putOff {
		q.wg.Go(func() { q.putOff(ctx, &d) })
	}
	begun := begin[:0]
	for _, a := range begin {
		if q.load(&a) {
			begun = append(begun, a)
		}
	}
	if err := q.note(ctx, begun); err != nil {
		q.Log.Warn("attempts can't be noted, so they don't begin", "err", err)
		q.mu.Lock()
		q.sched.full = true // they are read again
		q.mu.Unlock()
		for _, a := range begun {
			q.cancel(&a)
		}
		return false, now.Add(time.Second).UnixNano()
	}
	for _, a := range begun {
		q.wg.Go(func() { q.attempt(ctx, &a) })
	}
	return more, next
}
