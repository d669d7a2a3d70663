package state

import (
	"encoding/binary"
	"slices"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// bulk is how many messages an entry reads with one iterator, before it changes them; few is
// up to how many it reads one by one.
const (
	bulk = 1000
	few  = 4
)

// each calls fn for those of the UIDs that are there, in their order, as this entry sees them.
// fn may change the message, and no other of them. The state is valid during fn only.
func (a *apply) each(id model.MailboxID, uids []model.UID, fn func(*model.MessageState) error) error {
	if len(uids) <= few || !ascending(uids) {
		var st model.MessageState
		for _, uid := range uids {
			if ok, err := a.message(id, uid, &st); err != nil {
				return err
			} else if !ok {
				continue
			}
			if err := fn(&st); err != nil {
				return err
			}
		}
		return nil
	}
	list := make([]model.MessageState, 0, min(len(uids), bulk))
	for part := range slices.Chunk(uids, bulk) {
		list = list[:0]
		err := readMessages(a.b, id, part, func(st *model.MessageState) {
			list = append(list, *st)
			list[len(list)-1].Keywords = slices.Clone(st.Keywords)
		})
		if err != nil {
			return err
		}
		for i := range list {
			if err := fn(&list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func ascending(uids []model.UID) bool {
	for i := 1; i < len(uids); i++ {
		if uids[i] <= uids[i-1] {
			return false
		}
	}
	return true
}

// metas reads parsed headers, many at once when they are asked for in ascending order.
type metas struct {
	a     *apply
	id    model.MailboxID
	it    *pebble.Iterator
	valid bool
}

// newMetas reads for uids; close it.
func (a *apply) newMetas(id model.MailboxID, uids []model.UID) (*metas, error) {
	m := &metas{a: a, id: id}
	if len(uids) <= few || !ascending(uids) {
		return m, nil
	}
	var err error
	m.it, err = a.b.NewIter(&pebble.IterOptions{LowerBound: metaKey(id, uids[0]), UpperBound: after(metaKey(id, uids[len(uids)-1]))})
	if err == nil {
		m.valid = m.it.First()
	}
	return m, err
}

// get gives the parsed headers of a message; valid until the next call.
func (m *metas) get(uid model.UID) ([]byte, error) {
	if m.it == nil {
		return m.a.get(metaKey(m.id, uid))
	}
	at := func() model.UID { return model.UID(binary.BigEndian.Uint32(m.it.Key()[9:])) }
	for n := 0; m.valid && at() < uid; n++ {
		if n == nearby {
			m.valid = m.it.SeekGE(metaKey(m.id, uid))
			break
		}
		m.valid = m.it.Next()
	}
	if m.valid && at() == uid {
		return m.it.Value(), nil
	}
	return nil, m.it.Error()
}

func (m *metas) close() error {
	if m.it == nil {
		return nil
	}
	return m.it.Close()
}
