package lease

import (
	"math/rand/v2"
	"time"
)

// maxOutstanding is how many requests without an answer are remembered.
const maxOutstanding = 64

// mode is why a primary may hold.
type mode uint8

const (
	modeNone   mode = iota // it may not
	modePair               // while the secondary promises
	modeSolo               // a durable grant of the arbiter for this epoch
	modeSingle             // there is no second node
)

// Primary is the side that holds the address. It is not safe for use by several goroutines.
type Primary struct {
	s       Settings
	mode    mode
	epoch   uint64
	session uint64
	seq     uint64 // of the newest request
	floor   uint64 // answers up to this one count no more
	sent    map[uint64]time.Duration
	end     time.Duration // of the lease in modePair
}

// NewPrimary gives a primary that may hold nothing yet. Each one counts as a new session:
// what an earlier process of this node was promised is nothing to it.
func NewPrimary(s Settings) *Primary {
	session := rand.Uint64()
	for session == 0 {
		session = rand.Uint64()
	}
	return &Primary{s: s, session: session, sent: map[uint64]time.Duration{}}
}

// Session names this primary in its frames, so that one that comes late from an earlier
// process is not taken for one of this.
func (p *Primary) Session() uint64 { return p.session }

// Epoch is the epoch of the present mode.
func (p *Primary) Epoch() uint64 { return p.epoch }

// Pair starts to need the secondary's promises, in the given epoch. What was promised in
// another epoch is void. A lease of this epoch that already runs goes on.
func (p *Primary) Pair(epoch uint64) {
	if epoch != p.epoch {
		p.forget()
	}
	p.mode, p.epoch = modePair, epoch
}

// Solo says that the arbiter's grant for this epoch is durable.
func (p *Primary) Solo(epoch uint64) {
	if epoch != p.epoch {
		p.forget()
	}
	p.mode, p.epoch = modeSolo, epoch
}

// Single says that there is no second node.
func (p *Primary) Single() { p.mode = modeSingle }

// StepDown ends whatever this node might hold. Answers that are still on their way count
// no more. What it returns may be sent to the secondary AFTER the address has been
// deleted and the last acknowledgement has been given: it then need not wait.
func (p *Primary) StepDown() Frame {
	p.mode = modeNone
	p.forget()
	return Frame{Kind: Released, Epoch: p.epoch, Session: p.session, Seq: p.seq}
}

func (p *Primary) forget() {
	p.floor, p.end = p.seq, 0
	clear(p.sent)
}

// Farewell is what a guard may send for a process that has died: it releases all that
// this session was ever promised in the epoch.
func (p *Primary) Farewell() Frame {
	return Frame{Kind: Released, Epoch: p.epoch, Session: p.session, Seq: ^uint64(0)}
}

// Request is the next frame to send, now. It must not be sent later than the time given
// here by anything but the network. Send it in modes other than pair too: a secondary
// that answers keeps its promise, and the change to a pair finds a running lease.
func (p *Primary) Request(now time.Duration) Frame {
	p.seq++
	if len(p.sent) >= maxOutstanding {
		delete(p.sent, p.seq-maxOutstanding)
	}
	p.sent[p.seq] = now
	return Frame{Kind: Request, Epoch: p.epoch, Session: p.session, Seq: p.seq}
}

// Ack takes an answer and says whether the lease became longer. The same answer over two
// paths, an old one, or one nobody asked for changes nothing.
func (p *Primary) Ack(f Frame) bool {
	if f.Kind != Ack || f.Epoch != p.epoch || f.Session != p.session || f.Seq <= p.floor {
		return false
	}
	sent, known := p.sent[f.Seq]
	if !known {
		return false
	}
	for seq := range p.sent {
		if seq <= f.Seq {
			delete(p.sent, seq)
		}
	}
	p.floor = f.Seq
	if end := sent + p.s.Term; end > p.end {
		p.end = end
		return true
	}
	return false
}

// MayHold says whether this node may hold the address, lead or acknowledge at this moment.
// Ask again each time: an answer is good for nothing later.
func (p *Primary) MayHold(now time.Duration) bool {
	_, ok := p.Until(now)
	return ok
}

// Until is the time until when the address may be set. Alone, it is one term from now:
// the address goes if the process hangs, though nobody else may take it.
func (p *Primary) Until(now time.Duration) (end time.Duration, ok bool) {
	switch p.mode {
	case modeSolo, modeSingle:
		return now + p.s.Term, true
	case modePair:
		return p.end, now < p.end
	}
	return 0, false
}

// LeaseEnd is the end of what the secondary promised, whatever the mode; 0 for nothing.
func (p *Primary) LeaseEnd() time.Duration { return p.end }
