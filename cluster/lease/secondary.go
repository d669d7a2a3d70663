package lease

import "time"

// maxSessions is how many sessions of the primary can hold a promise at a time. A primary
// that restarts more often within a term gets no promise until an older one has run out.
const maxSessions = 16

// promise is given to one session of the primary.
type promise struct {
	end time.Duration
	seq uint64 // the highest request answered
}

// Secondary is the side that waits. It is not safe for use by several goroutines.
type Secondary struct {
	s        Settings
	epoch    uint64
	follows  bool
	unknown  time.Duration // end of what an earlier process of this node may have promised
	promises map[uint64]promise
}

// NewSecondary gives a secondary of the primary of this epoch. An earlier process may have
// made a promise just before now, so it starts with a promise made now to nobody.
func NewSecondary(s Settings, epoch uint64, now time.Duration) *Secondary {
	return &Secondary{s: s, epoch: epoch, follows: true, unknown: now + s.Term, promises: map[uint64]promise{}}
}

// Follow changes the epoch whose primary gets promises. Promises already made stand.
func (b *Secondary) Follow(epoch uint64) { b.epoch, b.follows = epoch, true }

// Stop gives no more promises; needed before asking the arbiter. Promises made stand.
func (b *Secondary) Stop() { b.follows = false }

// Request answers a request of the primary at the time it was received. ok is false when
// it must not be answered.
func (b *Secondary) Request(f Frame, now time.Duration) (ack Frame, ok bool) {
	if f.Kind != Request || !b.follows || f.Epoch != b.epoch {
		return Frame{}, false
	}
	p, known := b.promises[f.Session]
	if !known && len(b.promises) >= maxSessions && !b.prune(now) {
		return Frame{}, false
	}
	b.promises[f.Session] = promise{end: max(p.end, now+b.s.Term), seq: max(p.seq, f.Seq)}
	f.Kind = Ack
	return f, true
}

// Released takes the primary's word that it holds nothing more, and says whether that
// changed something. It counts only for the session that says it, and only if no later
// request of that session was answered: a word that came late is no word.
func (b *Secondary) Released(f Frame) bool {
	p, known := b.promises[f.Session]
	if f.Kind != Released || f.Epoch != b.epoch || !known || f.Seq < p.seq {
		return false
	}
	delete(b.promises, f.Session)
	b.unknown = 0 // what an earlier process promised was promised to the same primary
	return true
}

// PromiseEnd is when the last promise runs out. 0: the primary has released everything.
func (b *Secondary) PromiseEnd() time.Duration {
	end := b.unknown
	for _, p := range b.promises {
		end = max(end, p.end)
	}
	return end
}

// TakeOverAt is the time after which MayTakeOver holds, if nothing more is promised.
func (b *Secondary) TakeOverAt() time.Duration {
	end := b.PromiseEnd()
	if end == 0 {
		return 0
	}
	return end + b.s.Margin
}

// MayTakeOver says whether no lease of the primary can be running any more and its kernel
// has removed the address. The arbiter's grant is needed besides.
func (b *Secondary) MayTakeOver(now time.Duration) bool { return now > b.TakeOverAt() }

// prune forgets promises that have run out with their margin.
func (b *Secondary) prune(now time.Duration) bool {
	for session, p := range b.promises {
		if now > p.end+b.s.Margin {
			b.unknown = max(b.unknown, p.end)
			delete(b.promises, session)
		}
	}
	return len(b.promises) < maxSessions
}
