package state

import (
	"encoding/binary"
	"errors"

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
	h := s.acquire()
	defer h.release()
	it, err := h.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{spaceRef + 1}})
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

// KnowsBody tells whether anything in the state names a body, or did until it was dropped.
func (s *State) KnowsBody(id model.BodyID) (bool, error) {
	h := s.acquire()
	defer h.release()
	_, closer, err := h.Get(refKey(id))
	if err == pebble.ErrNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, closer.Close()
}

// MailboxesWhere lists the mailboxes, of all accounts, that fit.
func (s *State) MailboxesWhere(fits func(*model.Mailbox) bool) (out []model.Mailbox, err error) {
	boxes, err := s.mailboxNumbers()
	if err != nil {
		return nil, err
	}
	for _, id := range boxes {
		m, err := s.Mailbox(id)
		if errors.Is(err, ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		if fits(&m) {
			out = append(out, m)
		}
	}
	return out, nil
}

// RecentBodies calls fn for the bodies of the newest messages of every mailbox, up to perMailbox
// each, newest first within a mailbox. It holds nothing still while fn runs.
func (s *State) RecentBodies(perMailbox int, fn func(model.BodyID) bool) error {
	boxes, err := s.mailboxNumbers()
	if err != nil {
		return err
	}
	for _, box := range boxes {
		ids, err := s.newest(box, perMailbox)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if !fn(id) {
				return nil
			}
		}
	}
	return nil
}

func (s *State) mailboxNumbers() ([]model.MailboxID, error) {
	h := s.acquire()
	defer h.release()
	it, err := h.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceMailbox}, UpperBound: []byte{spaceMailbox + 1}})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []model.MailboxID
	for it.First(); it.Valid(); it.Next() {
		out = append(out, model.MailboxID(binary.BigEndian.Uint64(it.Key()[1:])))
	}
	return out, it.Error()
}

// newest lists the bodies of a mailbox's last n messages.
func (s *State) newest(box model.MailboxID, n int) ([]model.BodyID, error) {
	prefix := be64([]byte{spaceMessage}, uint64(box))
	h := s.acquire()
	defer h.release()
	it, err := h.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []model.BodyID
	var st model.MessageState
	for it.Last(); it.Valid() && len(out) < n; it.Prev() {
		if err := decodeMessage(it.Value(), &st); err != nil {
			return nil, err
		}
		out = append(out, st.Body)
	}
	return out, it.Error()
}
