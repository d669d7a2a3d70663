package state

import (
	"encoding/binary"
	"slices"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// Mailboxes lists an account's mailboxes in the order of their names' octets.
func (s *State) Mailboxes(account model.AccountID) ([]model.Mailbox, error) {
	snap := s.snap()
	defer snap.Close()
	ids, err := listNames(snap, account)
	if err != nil {
		return nil, err
	}
	out := make([]model.Mailbox, 0, len(ids))
	for _, id := range ids {
		m, err := readMailbox(snap, id)
		if err != nil {
			return nil, err
		}
		out = append(out, *m)
	}
	return out, nil
}

// MailboxID finds a mailbox by its canonical name; 0 when there is none.
func (s *State) MailboxID(account model.AccountID, name string) (model.MailboxID, error) {
	h := s.acquire()
	defer h.release()
	v, err := getCopy(h, nameKey(account, name))
	if err != nil || len(v) != 8 {
		return 0, err
	}
	return model.MailboxID(binary.BigEndian.Uint64(v)), nil
}

// Mailbox reads a mailbox row; ErrNotFound when it is gone.
func (s *State) Mailbox(id model.MailboxID) (model.Mailbox, error) {
	h := s.acquire()
	defer h.release()
	m, err := s.loadMailbox(h, id)
	if err != nil {
		return model.Mailbox{}, err
	}
	return *m, nil
}

func readMailbox(r pebble.Reader, id model.MailboxID) (*model.Mailbox, error) {
	v, closer, err := r.Get(mailboxKey(id))
	if err == pebble.ErrNotFound {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	m := new(model.Mailbox)
	return m, decMode.Unmarshal(v, m)
}

// scanMessages calls fn for the messages with from <= UID <= to; the state is valid during fn only.
func scanMessages(r pebble.Reader, id model.MailboxID, from, to model.UID, fn func(*model.MessageState) bool) error {
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound: messageKey(id, from), UpperBound: after(messageKey(id, to)),
	})
	if err != nil {
		return err
	}
	defer it.Close()
	var st model.MessageState
	for it.First(); it.Valid(); it.Next() {
		st.UID = model.UID(binary.BigEndian.Uint32(it.Key()[9:]))
		if err := decodeMessage(it.Value(), &st); err != nil {
			return err
		}
		if !fn(&st) {
			break
		}
	}
	return it.Error()
}

// View reads a mailbox and its messages at one moment.
func (s *State) View(id model.MailboxID, from, to model.UID, fn func(*model.MessageState) bool) (model.Mailbox, error) {
	snap := s.snap()
	defer snap.Close()
	m, err := readMailbox(snap, id)
	if err != nil {
		return model.Mailbox{}, err
	}
	return *m, scanMessages(snap, id, from, to, fn)
}

// Message reads one message; ErrNotFound when it is gone.
func (s *State) Message(id model.MailboxID, uid model.UID) (model.MessageState, error) {
	h := s.acquire()
	defer h.release()
	v, closer, err := h.Get(messageKey(id, uid))
	if err == pebble.ErrNotFound {
		return model.MessageState{}, ErrNotFound
	}
	if err != nil {
		return model.MessageState{}, err
	}
	defer closer.Close()
	st := model.MessageState{UID: uid}
	return st, decodeMessage(v, &st)
}

// Meta reads a message's parsed headers; ErrNotFound when it is gone.
func (s *State) Meta(id model.MailboxID, uid model.UID) ([]byte, error) {
	h := s.acquire()
	defer h.release()
	v, err := getCopy(h, metaKey(id, uid))
	if err == nil && v == nil {
		err = ErrNotFound
	}
	return v, err
}

// Metas calls fn for the parsed headers of from <= UID <= to; meta is valid during fn only.
func (s *State) Metas(id model.MailboxID, from, to model.UID, fn func(uid model.UID, meta []byte) bool) error {
	h := s.acquire()
	defer h.release()
	it, err := h.NewIter(&pebble.IterOptions{LowerBound: metaKey(id, from), UpperBound: after(metaKey(id, to))})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		if !fn(model.UID(binary.BigEndian.Uint32(it.Key()[9:])), it.Value()) {
			break
		}
	}
	return it.Error()
}

// Changes is what happened in a mailbox after a mod-sequence.
type Changes struct {
	Mailbox  model.Mailbox
	Changed  []model.MessageState // new, or with other flags; by ascending UID
	Expunged []model.UID
}

// Changes reads everything with a mod-sequence above since, at one moment.
func (s *State) Changes(id model.MailboxID, since uint64) (Changes, error) {
	snap := s.snap()
	defer snap.Close()
	var out Changes
	m, err := readMailbox(snap, id)
	if err != nil {
		return out, err
	}
	out.Mailbox = *m
	if since >= m.HighestModSeq {
		return out, nil
	}
	var uids []model.UID
	err = scanChanges(snap, id, since, m.HighestModSeq, func(uid model.UID, gone bool) {
		if gone {
			out.Expunged = append(out.Expunged, uid)
		} else {
			uids = append(uids, uid)
		}
	})
	if err != nil {
		return out, err
	}
	slices.Sort(uids)
	out.Changed = make([]model.MessageState, 0, len(uids))
	return out, readMessages(snap, id, uids, func(st *model.MessageState) {
		cp := *st
		cp.Keywords = slices.Clone(st.Keywords)
		out.Changed = append(out.Changed, cp)
	})
}

// scanChanges calls fn for the lines of a mailbox's log of changes with since < mod-sequence <= upto,
// in the order of mod-sequences. A message has one line at most: its last.
func scanChanges(r pebble.Reader, id model.MailboxID, since, upto uint64, fn func(uid model.UID, gone bool)) error {
	if since >= upto {
		return nil
	}
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound: changeKey(id, since+1, 0), UpperBound: after(changeKey(id, upto, 1<<32-1)),
	})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		v := it.Value()
		fn(model.UID(binary.BigEndian.Uint32(it.Key()[17:])), len(v) == 1 && v[0] == expunged[0])
	}
	return it.Error()
}

// nearby is how far apart two UIDs may be for the iterator to walk rather than jump.
const nearby = 8

// readMessages calls fn for those of the UIDs, which ascend, that are there; the state is valid
// during fn only. One iterator goes through all: a read of its own for each costs five times as much.
func readMessages(r pebble.Reader, id model.MailboxID, uids []model.UID, fn func(*model.MessageState)) error {
	if len(uids) == 0 {
		return nil
	}
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound: messageKey(id, uids[0]), UpperBound: after(messageKey(id, uids[len(uids)-1])),
	})
	if err != nil {
		return err
	}
	defer it.Close()
	var st model.MessageState
	valid := it.First()
	at := func() model.UID { return model.UID(binary.BigEndian.Uint32(it.Key()[9:])) }
	for _, uid := range uids {
		for n := 0; valid && at() < uid; n++ {
			if n == nearby {
				valid = it.SeekGE(messageKey(id, uid))
				break
			}
			valid = it.Next()
		}
		if !valid {
			break
		}
		if at() != uid {
			continue
		}
		st.UID = uid
		if err := decodeMessage(it.Value(), &st); err != nil {
			return err
		}
		fn(&st)
	}
	return it.Error()
}

// Expunged lists the UIDs that were removed from a mailbox with since < mod-sequence <= upto.
// ok is false when some of that is forgotten (model.Mailbox.Forgotten).
func (s *State) Expunged(id model.MailboxID, since, upto uint64) (uids []model.UID, ok bool, err error) {
	snap := s.snap()
	defer snap.Close()
	m, err := readMailbox(snap, id)
	if err != nil {
		return nil, false, err
	}
	if since < m.Forgotten {
		return nil, false, nil
	}
	err = scanChanges(snap, id, since, upto, func(uid model.UID, gone bool) {
		if gone {
			uids = append(uids, uid)
		}
	})
	slices.Sort(uids)
	return uids, err == nil, err
}

// Watch wakes when one of the mailboxes changes.
func (s *State) Watch(ids ...model.MailboxID) *Watch { return s.bus.add(&Watch{mailboxes: ids}) }

// WatchAccount wakes when the account's mailboxes are made, renamed, deleted or change.
func (s *State) WatchAccount(account model.AccountID) *Watch {
	return s.bus.add(&Watch{account: account})
}

// WatchTopic wakes on a topic.
func (s *State) WatchTopic(t Topic) *Watch { return s.bus.add(&Watch{topic: t}) }

// Counter reads a named count.
func (s *State) Counter(name string) (int64, error) {
	h := s.acquire()
	defer h.release()
	v, err := getCopy(h, counterKey(name))
	if err != nil || len(v) != 8 {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(v)), nil
}

// Unreferenced lists up to limit bodies without references since before the time in Unix seconds.
func (s *State) Unreferenced(before int64, limit int) ([]UnrefBody, error) {
	h := s.acquire()
	defer h.release()
	it, err := h.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceUnref}, UpperBound: unrefKey(before, model.BodyID{})})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []UnrefBody
	for it.First(); it.Valid() && len(out) < limit; it.Next() {
		u := UnrefBody{Since: int64(binary.BigEndian.Uint64(it.Key()[1:]))}
		copy(u.Body[:], it.Key()[9:])
		out = append(out, u)
	}
	return out, it.Error()
}

// Bodies calls fn for every body that the state knows, with its number of references.
func (s *State) Bodies(fn func(body model.BodyID, refs uint64) bool) error {
	h := s.acquire()
	defer h.release()
	it, err := h.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceRef}, UpperBound: []byte{spaceRef + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		var body model.BodyID
		copy(body[:], it.Key()[1:])
		refs, _ := decodeRefs(it.Value())
		if !fn(body, refs) {
			break
		}
	}
	return it.Error()
}
