package state

import (
	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// BodiesAfter lists up to limit bodies that the state knows, in the order of their names,
// beginning behind a name; the zero ID is before all of them. It is for work that goes on for
// hours and must not hold the database still.
func (s *State) BodiesAfter(name model.BodyID, limit int) ([]model.BodyID, error) {
	lower := []byte{spaceRef}
	if name != (model.BodyID{}) {
		lower = after(refKey(name))
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{spaceRef + 1}})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	out := make([]model.BodyID, 0, min(limit, 4096))
	for it.First(); it.Valid() && len(out) < limit; it.Next() {
		var id model.BodyID
		copy(id[:], it.Key()[1:])
		out = append(out, id)
	}
	return out, it.Error()
}

// RecentBodies calls fn for the bodies of the newest messages of every mailbox, up to perMailbox
// each, newest first within a mailbox.
func (s *State) RecentBodies(perMailbox int, fn func(model.BodyID) bool) error {
	boxes, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceMailbox}, UpperBound: []byte{spaceMailbox + 1}})
	if err != nil {
		return err
	}
	defer boxes.Close()
	for boxes.First(); boxes.Valid(); boxes.Next() {
		prefix := append([]byte{spaceMessage}, boxes.Key()[1:]...)
		more, err := s.newest(prefix, perMailbox, fn)
		if err != nil || !more {
			return err
		}
	}
	return boxes.Error()
}

// newest calls fn for the last n messages below prefix.
func (s *State) newest(prefix []byte, n int, fn func(model.BodyID) bool) (bool, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return false, err
	}
	defer it.Close()
	var st model.MessageState
	for it.Last(); it.Valid() && n > 0; it.Prev() {
		if err := decodeMessage(it.Value(), &st); err != nil {
			return false, err
		}
		if !fn(st.Body) {
			return false, nil
		}
		n--
	}
	return true, it.Error()
}
