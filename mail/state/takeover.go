package state

import (
	"encoding/binary"
	"fmt"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// A delivery attempt that is under way when its node dies may have reached the other server:
// the answer is lost. Tried again at once, the message would surely arrive twice if that
// server is still busy with the first copy. So the node that takes over waits.
//
// Which attempts were under way is known from Started, one entry for all attempts that a
// round of the queue begins, and only in a pair: a single node that restarts knows that its
// own connections are dead. The mark goes with the attempt's outcome. The cheaper way, to
// delay everything that is due, would hold up mail that nobody has tried yet. A message
// arrives twice at most: once from each node, and then the reason of the second attempt says
// so. Every take-over delays again, but only what was started since.

// Started notes attempts that begin now. It must be applied before the first connection.
type Started struct {
	Node  uint16       `cbor:"1,keyasint"`
	Rcpts []StartedFor `cbor:"2,keyasint"`
}

// StartedFor is one recipient.
type StartedFor struct {
	_     struct{} `cbor:",toarray"`
	Queue model.QueueID
	N     uint32
}

// Takeover is proposed by a node when it begins to deliver: attempts of the other node that
// have no outcome wait for Delay.
type Takeover struct {
	Node  uint16 `cbor:"1,keyasint"`
	Delay int64  `cbor:"2,keyasint"` // nanoseconds; TakeoverDelay is usual
}

// TakeoverDelay is how long an attempt that may be under way is left alone.
const TakeoverDelay = int64(5 * 60 * 1e9)

func (Started) kind() Kind  { return KindStarted }
func (Takeover) kind() Kind { return KindTakeover }

func startedKey(id model.QueueID, n uint32) []byte {
	return be32(be64(append(make([]byte, 0, 13), spaceStarted), uint64(id)), n)
}

// started gives how many recipients are still in the queue; the others must not be tried.
func (a *apply) started(op *Started) (any, error) {
	v := be64(binary.BigEndian.AppendUint16(nil, op.Node), uint64(a.entry.Time))
	var out Changed
	for _, r := range op.Rcpts {
		if old, err := a.get(rcptKey(r.Queue, r.N)); err != nil {
			return nil, err
		} else if old == nil {
			continue
		}
		out.N++
		if err := a.b.Set(startedKey(r.Queue, r.N), v, nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// attemptOver takes the mark away.
func (a *apply) attemptOver(id model.QueueID, n uint32) error {
	if !a.journal {
		return nil // a single node sets no marks; those of its time in a pair are taken by Takeover
	}
	return a.b.Delete(startedKey(id, n), nil)
}

func (a *apply) takeover(op *Takeover) (any, error) {
	it, err := a.b.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceStarted}, UpperBound: []byte{spaceStarted + 1}})
	if err != nil {
		return nil, err
	}
	type mark struct {
		id model.QueueID
		n  uint32
	}
	var marks []mark
	for it.First(); it.Valid(); it.Next() {
		if v := it.Value(); len(v) == 10 && binary.BigEndian.Uint16(v) == op.Node {
			continue // our own: still running, or the process has started anew and knows that it isn't
		}
		k := it.Key()
		marks = append(marks, mark{model.QueueID(binary.BigEndian.Uint64(k[1:])), binary.BigEndian.Uint32(k[9:])})
	}
	if err := it.Error(); err != nil {
		it.Close()
		return nil, err
	}
	if err := it.Close(); err != nil {
		return nil, err
	}
	var out Changed
	for _, m := range marks {
		if err := a.b.Delete(startedKey(m.id, m.n), nil); err != nil {
			return nil, err
		}
		delayed, err := a.delay(m.id, m.n, op.Delay)
		if err != nil {
			return nil, err
		}
		if delayed {
			out.N++
		}
	}
	a.change.queue = a.change.queue || out.N > 0
	return out, nil
}

func (a *apply) delay(id model.QueueID, n uint32, wait int64) (bool, error) {
	v, err := a.get(rcptKey(id, n))
	if err != nil || v == nil {
		return false, err
	}
	var r model.QueueRcpt
	if err := decMode.Unmarshal(v, &r); err != nil {
		return false, err
	}
	if err := a.b.Delete(dueKey(r.Next, id, n), nil); err != nil {
		return false, err
	}
	r.Next = max(r.Next, a.entry.Time+wait)
	r.Reason = fmt.Sprintf("an attempt was under way when its node stopped; its outcome is not known, so the message may arrive twice (attempt %d)", r.Attempts+1)
	if err := a.noteRcpt(id, n, false); err != nil {
		return false, err
	}
	return true, a.putRcpt(id, &r)
}
