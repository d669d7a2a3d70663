package state

import (
	"encoding/binary"
	"errors"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// Expunged mail can be given back for a time. An expunged message moves to a row of its own (X),
// which holds its body's reference, so that neither removal nor compaction takes the body; a
// deleted mailbox only loses its name: its row moves to G, where no session finds it, and its
// messages stay where they are, so that deleting 100,000 messages is one small entry.
// Everything here is replicated like the rest; scheduled work proposes KeptPurge.

// Keeping, as the first operation of an entry, says that what the entry expunges or deletes can
// be given back. Do puts it there as the setting storage.keep-expunged says. It has no result.
type Keeping struct{}

// KeptRestore gives back messages that Kept has shown: into To, under new UIDs, with their flags
// (not \Deleted), keywords and dates. Those that are gone meanwhile are passed over.
type KeptRestore struct {
	To   model.MailboxID `cbor:"1,keyasint"`
	From []MessageRef    `cbor:"2,keyasint"`
}

// KeptRestored pairs what was given back with where it is now.
type KeptRestored struct {
	From   []MessageRef `cbor:"1,keyasint,omitempty"`
	Placed []Placed     `cbor:"2,keyasint,omitempty"`
}

// KeptPurge forgets for good what was expunged or deleted before a time, up to Limit messages.
type KeptPurge struct {
	Before int64 `cbor:"1,keyasint"` // Unix seconds
	Limit  int   `cbor:"2,keyasint"` // at most MaxKeptPurge
}

// KeptPurged tells what a KeptPurge did.
type KeptPurged struct {
	Messages int  `cbor:"1,keyasint,omitempty"`
	More     bool `cbor:"2,keyasint,omitempty"` // Limit was reached
}

// MaxKeptPurge bounds the messages of one KeptPurge, and of one KeptRestore.
const MaxKeptPurge = 1000

func (Keeping) kind() Kind     { return KindKeeping }
func (KeptRestore) kind() Kind { return KindKeptRestore }
func (KeptPurge) kind() Kind   { return KindKeptPurge }

// keeps tells whether operations are to be led by Keeping.
func (s *State) keeps(ops []Operation) bool {
	for _, op := range ops {
		switch op.kind() {
		case KindExpunge, KindMailboxDelete, KindAccountDelete, KindMerge:
			return s.Current().Storage.ExpungedDays > 0
		}
	}
	return false
}

// keptRow is an expunged message as it is stored.
type keptRow struct {
	_     struct{} `cbor:",toarray"`
	At    int64    // when it was expunged, Unix seconds
	State []byte   // encodeMessage
	Words []string // its keywords: the mailbox may be gone when they are wanted
	Meta  []byte
}

// GoneMailbox is a deleted mailbox whose messages can be given back.
type GoneMailbox struct {
	Row  model.Mailbox `cbor:"1,keyasint"`
	At   int64         `cbor:"2,keyasint"`           // when it was deleted, Unix seconds
	User string        `cbor:"3,keyasint,omitempty"` // name of its owner, when he was deleted with it
}

func keptKey(id model.MailboxID, uid model.UID) []byte {
	return be32(be64(append(make([]byte, 0, 13), spaceKept), uint64(id)), uint32(uid))
}

func expiryKey(at int64, id model.MailboxID, uid model.UID) []byte {
	return be32(be64(be64(append(make([]byte, 0, 21), spaceExpiry), uint64(at)), uint64(id)), uint32(uid))
}

func goneKey(id model.MailboxID) []byte {
	return be64(append(make([]byte, 0, 9), spaceGone), uint64(id))
}

func goneOfKey(account model.AccountID, id model.MailboxID) []byte {
	return be64(be64(append(make([]byte, 0, 17), spaceGoneOf), uint64(account)), uint64(id))
}

// keepMessage stores an expunged message; its body keeps the reference that the message had.
func (a *apply) keepMessage(m *model.Mailbox, st *model.MessageState) error {
	meta, err := a.get(metaKey(m.ID, st.UID))
	if err != nil {
		return err
	}
	row := keptRow{At: a.at / 1e9, State: encodeMessage(nil, st), Words: wordNames(m, st.Keywords), Meta: meta}
	v, err := encMode.Marshal(&row)
	if err != nil {
		return err
	}
	m.Kept++
	m.KeptSize += st.Size
	if err := a.b.Set(expiryKey(row.At, m.ID, st.UID), nil, nil); err != nil {
		return err
	}
	return a.b.Set(keptKey(m.ID, st.UID), v, nil)
}

// hideMailbox takes a mailbox out of sight with all its messages.
func (a *apply) hideMailbox(m *model.Mailbox, user string) error {
	g := GoneMailbox{Row: *m, At: a.at / 1e9, User: user}
	v, err := encMode.Marshal(&g)
	if err != nil {
		return err
	}
	for _, key := range [][]byte{goneOfKey(m.Account, m.ID), expiryKey(g.At, m.ID, 0)} {
		if err := a.b.Set(key, nil, nil); err != nil {
			return err
		}
	}
	if err := a.b.Set(goneKey(m.ID), v, nil); err != nil {
		return err
	}
	changes := be64([]byte{spaceChange}, uint64(m.ID))
	if err := a.b.DeleteRange(changes, after(changes), nil); err != nil {
		return err
	}
	if err := a.b.Delete(nameKey(m.Account, m.Name), nil); err != nil {
		return err
	}
	if err := a.noteMailbox(m, 'd'); err != nil {
		return err
	}
	a.touch(m)
	a.mailboxes[m.ID] = nil
	return a.b.Delete(mailboxKey(m.ID), nil)
}

// dropAllKept forgets what a mailbox has kept.
func (a *apply) dropAllKept(id model.MailboxID) error {
	uids, err := a.uids(spaceKept, id, 1<<32)
	if err != nil {
		return err
	}
	for _, uid := range uids {
		if _, err := a.dropKept(id, uid); err != nil {
			return err
		}
	}
	return nil
}

// dropKept forgets one kept message and gives its size; -1 when there is none.
func (a *apply) dropKept(id model.MailboxID, uid model.UID) (int64, error) {
	row, st, err := readKeptRow(a.b, id, uid)
	if err != nil || row == nil {
		return -1, err
	}
	if err := a.unref(st.Body); err != nil {
		return 0, err
	}
	return st.Size, a.forgetKept(id, uid, row.At)
}

// forgetKept deletes the keys of a kept message and leaves its body's references alone.
func (a *apply) forgetKept(id model.MailboxID, uid model.UID, at int64) error {
	if err := a.b.Delete(expiryKey(at, id, uid), nil); err != nil {
		return err
	}
	return a.b.Delete(keptKey(id, uid), nil)
}

func readKeptRow(r pebble.Reader, id model.MailboxID, uid model.UID) (*keptRow, model.MessageState, error) {
	st := model.MessageState{UID: uid}
	v, err := getCopy(r, keptKey(id, uid))
	if err != nil || v == nil {
		return nil, st, err
	}
	row := new(keptRow)
	if err := decMode.Unmarshal(v, row); err != nil {
		return nil, st, err
	}
	return row, st, decodeMessage(row.State, &st)
}

// uids lists up to limit UIDs of a mailbox in a space of keys <mailbox 8><uid 4>.
func (a *apply) uids(space byte, id model.MailboxID, limit int) ([]model.UID, error) {
	it, err := a.b.NewIter(rangeOf(be64([]byte{space}, uint64(id))))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []model.UID
	for it.First(); it.Valid() && len(out) < limit; it.Next() {
		if k := it.Key(); len(k) == 13 {
			out = append(out, uidAt(k, 9))
		}
	}
	return out, it.Error()
}

// keptBoxes are the mailboxes, live or deleted, that an operation takes kept messages from.
type keptBoxes struct {
	a    *apply
	gone map[model.MailboxID]*GoneMailbox
}

// row gives a mailbox's row; nil when there is none.
func (k *keptBoxes) row(id model.MailboxID) (box *model.Mailbox, gone bool, err error) {
	if g := k.gone[id]; g != nil {
		return &g.Row, true, nil
	}
	box, err = k.a.mailbox(id)
	if !errors.Is(err, ErrNotFound) {
		return box, false, err
	}
	g, err := readGone(k.a.b, id)
	if err != nil || g == nil {
		return nil, false, err
	}
	if k.gone == nil {
		k.gone = map[model.MailboxID]*GoneMailbox{}
	}
	k.gone[id] = g
	return &g.Row, true, nil
}

// flush stores the rows of deleted mailboxes; those that are empty now are forgotten.
func (k *keptBoxes) flush() error {
	for id, g := range k.gone {
		if g.Row.Messages+g.Row.Kept > 0 {
			v, err := encMode.Marshal(g)
			if err != nil {
				return err
			}
			if err := k.a.b.Set(goneKey(id), v, nil); err != nil {
				return err
			}
			continue
		}
		for _, key := range [][]byte{goneKey(id), goneOfKey(g.Row.Account, id), expiryKey(g.At, id, 0)} {
			if err := k.a.b.Delete(key, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func readGone(r pebble.Reader, id model.MailboxID) (*GoneMailbox, error) {
	v, err := getCopy(r, goneKey(id))
	if err != nil || v == nil {
		return nil, err
	}
	g := new(GoneMailbox)
	return g, decMode.Unmarshal(v, g)
}

// keptRestore gives messages back.
func (a *apply) keptRestore(op *KeptRestore) (any, error) {
	if len(op.From) > MaxKeptPurge {
		return nil, refuse(ErrLimit, "%d messages at once, more than %d", len(op.From), MaxKeptPurge)
	}
	to, err := a.mailbox(op.To)
	if err != nil {
		return nil, refuse(ErrNotFound, "the target mailbox is gone")
	}
	var out KeptRestored
	boxes := keptBoxes{a: a}
	for _, ref := range op.From {
		p, ok, err := a.restoreOne(&boxes, to, ref)
		if err != nil {
			return nil, err
		}
		if ok {
			out.From, out.Placed = append(out.From, ref), append(out.Placed, p)
		}
	}
	return out, boxes.flush()
}

func (a *apply) restoreOne(boxes *keptBoxes, to *model.Mailbox, ref MessageRef) (p Placed, ok bool, err error) {
	box, gone, err := boxes.row(ref.Mailbox)
	if err != nil || box == nil {
		return p, false, err
	}
	row, st, err := readKeptRow(a.b, ref.Mailbox, ref.UID)
	if err != nil {
		return p, false, err
	}
	if row == nil && gone {
		if ok, err := a.message(ref.Mailbox, ref.UID, &st); err != nil || !ok {
			return p, false, err
		}
		meta, err := a.get(metaKey(ref.Mailbox, ref.UID))
		if err != nil {
			return p, false, err
		}
		row = &keptRow{Words: wordNames(box, st.Keywords), Meta: meta}
		count(box, &st, -1)
		for _, key := range [][]byte{messageKey(ref.Mailbox, ref.UID), metaKey(ref.Mailbox, ref.UID)} {
			if err := a.b.Delete(key, nil); err != nil {
				return p, false, err
			}
		}
	} else if row == nil {
		return p, false, nil
	} else {
		box.Kept--
		box.KeptSize -= st.Size
		if !gone {
			a.touch(box)
		}
		if err := a.forgetKept(ref.Mailbox, ref.UID, row.At); err != nil {
			return p, false, err
		}
	}
	st.Flags &^= model.FlagDeleted
	if st.Keywords, err = a.fitting(to, row.Words); err != nil {
		return p, false, err
	}
	body := st.Body
	if p, err = a.place(to, &st, row.Meta); err != nil {
		return p, false, err
	}
	return p, true, a.unref(body) // place has counted it again
}

// fitting is keywords without those that the mailbox has no room for.
func (a *apply) fitting(m *model.Mailbox, names []string) ([]uint16, error) {
	all, err := a.keywords(m, names)
	if !errors.Is(err, ErrLimit) && !errors.Is(err, ErrInvalid) {
		return all, err
	}
	var fit []string
	for _, name := range names[:min(len(names), model.MaxMessageKeywords)] {
		if _, err := a.keywords(m, []string{name}); err == nil {
			fit = append(fit, name)
		}
	}
	return a.keywords(m, fit)
}

// keptPurge forgets what is too old.
func (a *apply) keptPurge(op *KeptPurge) (any, error) {
	limit := min(max(op.Limit, 1), MaxKeptPurge)
	refs, err := a.expired(op.Before, limit)
	if err != nil {
		return nil, err
	}
	var out KeptPurged
	boxes := keptBoxes{a: a}
	for _, ref := range refs {
		if out.Messages >= limit {
			break
		}
		n, err := a.purge(&boxes, ref, limit-out.Messages)
		if err != nil {
			return nil, err
		}
		out.Messages += n
	}
	out.More = len(refs) == limit || out.Messages >= limit
	return out, boxes.flush()
}

// expired lists up to limit lines of the expiry, the oldest first.
func (a *apply) expired(before int64, limit int) ([]MessageRef, error) {
	it, err := a.b.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceExpiry}, UpperBound: expiryKey(max(before, 0), 0, 0)})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []MessageRef
	for it.First(); it.Valid() && len(out) < limit; it.Next() {
		if k := it.Key(); len(k) == 21 {
			out = append(out, MessageRef{Mailbox: model.MailboxID(binary.BigEndian.Uint64(k[9:])), UID: uidAt(k, 17)})
		}
	}
	return out, it.Error()
}

// purge forgets a message, or up to limit messages of a deleted mailbox; it gives their number.
func (a *apply) purge(boxes *keptBoxes, ref MessageRef, limit int) (int, error) {
	box, gone, err := boxes.row(ref.Mailbox)
	if err != nil {
		return 0, err
	}
	if ref.UID != 0 {
		size, err := a.dropKept(ref.Mailbox, ref.UID)
		if err != nil || size < 0 || box == nil {
			return 1, err
		}
		box.Kept--
		box.KeptSize -= size
		if !gone {
			a.touch(box)
		}
		return 1, nil
	}
	if !gone {
		return 0, nil
	}
	n := 0
	kept, err := a.uids(spaceKept, ref.Mailbox, limit)
	if err != nil {
		return 0, err
	}
	for _, uid := range kept {
		size, err := a.dropKept(ref.Mailbox, uid)
		if err != nil {
			return 0, err
		}
		box.Kept--
		box.KeptSize -= size
		n++
	}
	uids, err := a.uids(spaceMessage, ref.Mailbox, limit-n)
	if err != nil {
		return 0, err
	}
	var st model.MessageState
	for _, uid := range uids {
		if _, err := a.message(ref.Mailbox, uid, &st); err != nil {
			return 0, err
		}
		count(box, &st, -1)
		for _, key := range [][]byte{messageKey(ref.Mailbox, uid), metaKey(ref.Mailbox, uid)} {
			if err := a.b.Delete(key, nil); err != nil {
				return 0, err
			}
		}
		if err := a.unref(st.Body); err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}
