package state

import (
	"encoding/binary"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// Due is a recipient whose turn has come.
type Due struct {
	At    int64 // Unix nanoseconds
	Queue model.QueueID
	N     uint32
}

// DueBefore lists up to limit recipients whose next attempt is at or before the time, the
// earliest first, and the time of the first one behind (0: none).
func (s *State) DueBefore(at int64, limit int) (due []Due, next int64, err error) {
	return s.DueFrom(Due{}, at, limit)
}

// Queued reads one queued message with its recipients; ErrNotFound when it is gone.
func (s *State) Queued(id model.QueueID) (model.QueueMessage, []model.QueueRcpt, error) {
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
	rcpts, err := scanRcpts(snap, id)
	return q, rcpts, err
}

// QueueScan calls fn for every queued message from the ID on, oldest first.
func (s *State) QueueScan(from model.QueueID, fn func(*model.QueueMessage, []model.QueueRcpt) bool) error {
	snap := s.snap()
	defer snap.Close()
	messages, err := snap.NewIter(&pebble.IterOptions{LowerBound: queueKey(from), UpperBound: []byte{spaceQueue + 1}})
	if err != nil {
		return err
	}
	defer messages.Close()
	rcpts, err := snap.NewIter(&pebble.IterOptions{LowerBound: rcptKey(from, 0), UpperBound: []byte{spaceRcpt + 1}})
	if err != nil {
		return err
	}
	defer rcpts.Close()
	rcpts.First()
	for messages.First(); messages.Valid(); messages.Next() {
		var q model.QueueMessage
		if err := decMode.Unmarshal(messages.Value(), &q); err != nil {
			return err
		}
		var list []model.QueueRcpt
		for ; rcpts.Valid(); rcpts.Next() {
			id := model.QueueID(binary.BigEndian.Uint64(rcpts.Key()[1:]))
			if id > q.ID {
				break
			}
			if id < q.ID {
				continue
			}
			var r model.QueueRcpt
			if err := decMode.Unmarshal(rcpts.Value(), &r); err != nil {
				return err
			}
			list = append(list, r)
		}
		if !fn(&q, list) {
			break
		}
	}
	return messages.Error()
}

// QueueLength counts queued messages.
func (s *State) QueueLength() (n int, err error) {
	h := s.acquire()
	defer h.release()
	it, err := h.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceQueue}, UpperBound: []byte{spaceQueue + 1}})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		n++
	}
	return n, it.Error()
}
