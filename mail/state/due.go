package state

import (
	"encoding/binary"
	"sync"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// dueFeed gathers the recipients whose turn was set, for the queue: it needn't look through the
// whole index to find what is new in the part that it has read.
type dueFeed struct {
	mu   sync.Mutex
	list []Due
	lost bool
}

const maxFeed = 50_000

func (f *dueFeed) add(list []Due) {
	if len(list) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list)+len(list) > maxFeed { // nobody takes them
		f.list, f.lost = nil, true
		return
	}
	f.list = append(f.list, list...)
}

// TakeDue gives the recipients whose turn was set since the last call. lost: there were too many
// of them, so only DueFrom knows them all. There is one reader.
func (s *State) TakeDue() (list []Due, lost bool) {
	f := &s.due
	f.mu.Lock()
	defer f.mu.Unlock()
	list, lost = f.list, f.lost
	f.list, f.lost = nil, false
	return list, lost
}

// DueFrom lists up to limit recipients behind from whose next attempt is at or before the time,
// the earliest first, and the time of the first one that is not listed (0: none).
func (s *State) DueFrom(from Due, at int64, limit int) (due []Due, next int64, err error) {
	h := s.acquire()
	defer h.release()
	start := append(dueKey(from.At, from.Queue, from.N), 0)
	it, err := h.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: []byte{spaceDue + 1}})
	if err != nil {
		return nil, 0, err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		d := Due{
			At:    int64(binary.BigEndian.Uint64(it.Key()[1:])),
			Queue: model.QueueID(binary.BigEndian.Uint64(it.Key()[9:])),
			N:     binary.BigEndian.Uint32(it.Key()[17:]),
		}
		if d.At > at || len(due) == limit {
			return due, d.At, it.Error()
		}
		due = append(due, d)
	}
	return due, 0, it.Error()
}

// QueuedSome reads a queued message and those of the recipients that are still there;
// ErrNotFound when the message is gone.
func (s *State) QueuedSome(id model.QueueID, numbers []uint32) (model.QueueMessage, []model.QueueRcpt, error) {
	snap := s.snap()
	defer snap.Close()
	var q model.QueueMessage
	v, err := getCopy(snap, queueKey(id))
	if err != nil {
		return q, nil, err
	}
	if v == nil {
		return q, nil, ErrNotFound
	}
	if err := decMode.Unmarshal(v, &q); err != nil {
		return q, nil, err
	}
	out := make([]model.QueueRcpt, 0, len(numbers))
	for _, n := range numbers {
		v, err := getCopy(snap, rcptKey(id, n))
		if err != nil {
			return q, nil, err
		}
		if v == nil {
			continue
		}
		var r model.QueueRcpt
		if err := decMode.Unmarshal(v, &r); err != nil {
			return q, nil, err
		}
		out = append(out, r)
	}
	return q, out, nil
}

// Tries gives the last attempts of a recipient, the oldest first.
func Tries(r *model.QueueRcpt) (list []model.QueueTry, err error) {
	if len(r.Tries) > 0 {
		err = decMode.Unmarshal(r.Tries, &list)
	}
	return list, err
}

// maxTryReason bounds what a remembered attempt takes, in octets.
const maxTryReason = 300

// addTry remembers the attempt that the recipient's fields tell of.
func addTry(r *model.QueueRcpt) error {
	list, err := Tries(r)
	if err != nil {
		return err
	}
	if n := len(list) - model.MaxTries + 1; n > 0 {
		list = list[n:]
	}
	reason := r.Reason
	if len(reason) > maxTryReason {
		reason = reason[:maxTryReason]
		for len(reason) > 0 && reason[len(reason)-1] >= 0x80 {
			reason = reason[:len(reason)-1]
		}
	}
	list = append(list, model.QueueTry{At: r.LastAt, Code: r.LastCode, Reason: reason, Remote: r.Remote, TLS: r.TLS})
	r.Tries, err = encMode.Marshal(list)
	return err
}
