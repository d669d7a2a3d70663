package state

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// place adds one message to a mailbox: UID, mod-sequence, counters, change log, reference.
func (a *apply) place(m *model.Mailbox, st *model.MessageState, meta []byte) (Placed, error) {
	a.skipAhead(m)
	m.UIDNext = max(m.UIDNext, m.Ahead)
	m.Ahead = 0
	st.SaveDate = a.entry.Time / 1e9
	if st.Date == 0 {
		st.Date = st.SaveDate
	}
	return a.placeAt(m, st, meta)
}

// placeAt is place under the mailbox's next UID, with the message's own dates.
func (a *apply) placeAt(m *model.Mailbox, st *model.MessageState, meta []byte) (Placed, error) {
	modseq := a.bump(m)
	if m.UIDNext == 1<<32-1 {
		return Placed{}, refuse(ErrUIDs, "mailbox %q has no UIDs left", m.Name)
	}
	st.UID, st.ModSeq = m.UIDNext, modseq
	m.UIDNext++
	count(m, st, 1)
	if err := a.store(m.ID, st); err != nil {
		return Placed{}, err
	}
	if err := a.b.Set(metaKey(m.ID, st.UID), meta, nil); err != nil {
		return Placed{}, err
	}
	if err := a.b.Set(changeKey(m.ID, modseq, st.UID), changed, nil); err != nil {
		return Placed{}, err
	}
	if err := a.noteAdded(m.ID, st); err != nil {
		return Placed{}, err
	}
	a.change.messages = true
	return Placed{Mailbox: m.ID, UIDValidity: m.UIDValidity, UID: st.UID, ModSeq: modseq}, a.ref(st.Body)
}

var (
	changed  = []byte{'c'}
	expunged = []byte{'x'}
)

func (a *apply) store(id model.MailboxID, st *model.MessageState) error {
	a.scratch = encodeMessage(a.scratch[:0], st)
	return a.b.Set(messageKey(id, st.UID), a.scratch, nil)
}

// count adds (sign 1) or takes (sign -1) a message from the mailbox's counters.
func count(m *model.Mailbox, st *model.MessageState, sign int) {
	m.Messages = uint32(int(m.Messages) + sign)
	m.Size += int64(sign) * st.Size
	countFlags(m, st.Flags, sign)
}

func countFlags(m *model.Mailbox, f model.Flags, sign int) {
	if f&model.FlagSeen == 0 {
		m.Unseen = uint32(int(m.Unseen) + sign)
	}
	if f&model.FlagDeleted != 0 {
		m.Deleted = uint32(int(m.Deleted) + sign)
	}
}

// ref counts one more holder of a body. It doesn't read: the count is merged by the database.
func (a *apply) ref(body model.BodyID) error {
	return a.b.Merge(refKey(body), be64(nil, 1), nil)
}

// unref counts one holder less. Without any, the body waits for removal since the entry's time.
func (a *apply) unref(body model.BodyID) error {
	v, err := a.get(refKey(body))
	if err != nil {
		return err
	}
	n, _ := decodeRefs(v)
	if n > 1 {
		return a.b.Set(refKey(body), encodeRefs(n-1, 0), nil)
	}
	at := a.entry.Time / 1e9
	if err := a.b.Set(unrefKey(at, body), nil, nil); err != nil {
		return err
	}
	return a.b.Set(refKey(body), encodeRefs(0, at), nil)
}

// bodiesDropped forgets bodies; one that has found a holder again, or lost its last one
// later, keeps its row and loses only the old note.
func (a *apply) bodiesDropped(op *BodiesDropped) (any, error) {
	var out Dropped
	for _, u := range op.Bodies {
		v, err := a.get(refKey(u.Body))
		if err != nil {
			return nil, err
		}
		if err := a.b.Delete(unrefKey(u.Since, u.Body), nil); err != nil {
			return nil, err
		}
		if n, since := decodeRefs(v); v == nil || n != 0 || since != u.Since {
			continue
		}
		if err := a.b.Delete(refKey(u.Body), nil); err != nil {
			return nil, err
		}
		out.Bodies = append(out.Bodies, u.Body)
	}
	return out, nil
}

// keywords turns names into the mailbox's numbers, adding new names.
func (a *apply) keywords(m *model.Mailbox, names []string) ([]uint16, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if len(names) > model.MaxMessageKeywords {
		return nil, refuse(ErrLimit, "a message can have %d keywords at most", model.MaxMessageKeywords)
	}
	out := make([]uint16, 0, len(names))
	for _, name := range names {
		i := slices.IndexFunc(m.Keywords, func(k string) bool { return strings.EqualFold(k, name) })
		if i < 0 {
			if len(m.Keywords) >= model.MaxKeywords {
				return nil, refuse(ErrLimit, "mailbox %q has %d keywords already", m.Name, model.MaxKeywords)
			}
			if len(name) > model.MaxKeywordLength {
				return nil, refuse(ErrInvalid, "the keyword has %d octets, more than %d", len(name), model.MaxKeywordLength)
			}
			i = len(m.Keywords)
			m.Keywords = append(slices.Clip(m.Keywords), name)
			a.touch(m)
		}
		if !slices.Contains(out, uint16(i)) {
			out = append(out, uint16(i))
		}
	}
	slices.Sort(out)
	return out, nil
}

func (a *apply) deliver(op *Deliver) (any, error) {
	var out Delivered
	guid := a.guid('e')
	a.same = op.Same
	defer func() { a.same = nil }()
	for _, to := range op.Local {
		m, err := a.byUse(to.Account, to.Use)
		if err != nil {
			return nil, err
		}
		kw, err := a.keywords(m, to.Keywords)
		if err != nil {
			return nil, err
		}
		p, err := a.place(m, &model.MessageState{Flags: to.Flags, Keywords: kw, Size: op.Size, Body: op.Body, GUID: guid}, op.Meta)
		if err != nil {
			return nil, err
		}
		out.Local = append(out.Local, p)
	}
	if op.Queue != nil {
		id, err := a.enqueue(op)
		if err != nil {
			return nil, err
		}
		out.Queue = id
	}
	return out, nil
}

func (a *apply) append(op *Append) (any, error) {
	m, err := a.mailbox(op.Mailbox)
	if err != nil {
		return nil, err
	}
	var out Appended
	for _, it := range op.Items {
		kw, err := a.keywords(m, it.Keywords)
		if err != nil {
			return nil, err
		}
		st := &model.MessageState{Flags: it.Flags, Keywords: kw, Size: it.Size, Body: it.Body, Date: it.Date, GUID: a.guid('e')}
		p, err := a.place(m, st, it.Meta)
		if err != nil {
			return nil, err
		}
		out.Placed = append(out.Placed, p)
	}
	return out, nil
}

// message reads one message as this entry sees it; false when there is none.
func (a *apply) message(id model.MailboxID, uid model.UID, st *model.MessageState) (bool, error) {
	v, closer, err := a.b.Get(messageKey(id, uid))
	if err == pebble.ErrNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	st.UID = uid
	err = decodeMessage(v, st)
	if cerr := closer.Close(); err == nil {
		err = cerr
	}
	return err == nil, err
}

func (a *apply) setFlags(op *SetFlags) (any, error) {
	m, err := a.mailbox(op.Mailbox)
	if err != nil {
		return nil, err
	}
	kw, err := a.keywords(m, op.Keywords)
	if err != nil {
		return nil, err
	}
	var out FlagsChanged
	err = a.each(m.ID, op.UIDs, func(st *model.MessageState) error {
		if op.UnchangedSince != nil && st.ModSeq > *op.UnchangedSince {
			out.Conflict = append(out.Conflict, st.UID)
			return nil
		}
		flags, words := st.Flags, slices.Clone(st.Keywords)
		newFlags, newWords := combine(op.Mode, flags, words, op.Flags, kw)
		if newFlags == flags && slices.Equal(newWords, st.Keywords) {
			return nil
		}
		if len(newWords) > model.MaxMessageKeywords {
			return refuse(ErrLimit, "a message can have %d keywords at most", model.MaxMessageKeywords)
		}
		if out.ModSeq == 0 {
			out.ModSeq = a.bump(m)
		}
		out.Changed = append(out.Changed, st.UID)
		return a.reflag(m, st, newFlags, newWords, out.ModSeq)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// reflag stores a message with other flags.
func (a *apply) reflag(m *model.Mailbox, st *model.MessageState, flags model.Flags, words []uint16, modseq uint64) error {
	if err := a.b.Delete(changeKey(m.ID, st.ModSeq, st.UID), nil); err != nil {
		return err
	}
	if err := a.noteFlags(m, st.UID, st.Flags, flags, st.Keywords, words); err != nil {
		return err
	}
	countFlags(m, st.Flags, -1)
	countFlags(m, flags, 1)
	st.Flags, st.Keywords, st.ModSeq = flags, words, modseq
	if err := a.store(m.ID, st); err != nil {
		return err
	}
	return a.b.Set(changeKey(m.ID, modseq, st.UID), changed, nil)
}

// combine gives a message's flags after a STORE.
func combine(mode FlagMode, flags model.Flags, words []uint16, arg model.Flags, argWords []uint16) (model.Flags, []uint16) {
	switch mode {
	case FlagsSet:
		return arg, slices.Clone(argWords) // the caller reads the next message into the same memory
	case FlagsRemove:
		kept := words[:0:0]
		for _, w := range words {
			if !slices.Contains(argWords, w) {
				kept = append(kept, w)
			}
		}
		return flags &^ arg, kept
	}
	for _, w := range argWords {
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	slices.Sort(words)
	return flags | arg, words
}

func (a *apply) expunge(op *Expunge) (any, error) {
	m, err := a.mailbox(op.Mailbox)
	if err != nil {
		return nil, err
	}
	return a.remove(m, op.UIDs, op.OnlyDeleted, a.keep)
}

// remove expunges messages of one mailbox under one mod-sequence. With keep they can be given back.
func (a *apply) remove(m *model.Mailbox, uids []model.UID, onlyDeleted, keep bool) (Expunged, error) {
	var out Expunged
	err := a.each(m.ID, uids, func(st *model.MessageState) error {
		if onlyDeleted && st.Flags&model.FlagDeleted == 0 {
			return nil
		}
		if out.ModSeq == 0 {
			out.ModSeq = a.bump(m)
		}
		if keep {
			if err := a.keepMessage(m, st); err != nil {
				return err
			}
		}
		for _, key := range [][]byte{messageKey(m.ID, st.UID), metaKey(m.ID, st.UID), changeKey(m.ID, st.ModSeq, st.UID)} {
			if err := a.b.Delete(key, nil); err != nil {
				return err
			}
		}
		if err := a.b.Set(changeKey(m.ID, out.ModSeq, st.UID), expunged, nil); err != nil {
			return err
		}
		if err := a.noteExpunged(m.ID, st.UID, out.ModSeq, 0, 0); err != nil {
			return err
		}
		count(m, st, -1)
		out.UIDs = append(out.UIDs, st.UID)
		if keep {
			return nil
		}
		return a.unref(st.Body)
	})
	if err != nil {
		return out, err
	}
	m.Tombstones += uint32(len(out.UIDs))
	return out, a.forget(m)
}

// Tombstones of a mailbox: above the first number the oldest are forgotten, down to the second.
// They tell a client that comes back what was expunged meanwhile; one that was away for longer
// compares whole lists of UIDs (RFC 7162 §3.2.5.2).
var (
	maxTombstones  = uint32(100_000)
	keepTombstones = uint32(50_000)
)

func (a *apply) forget(m *model.Mailbox) error {
	if m.Tombstones <= maxTombstones {
		return nil
	}
	prefix := be64([]byte{spaceChange}, uint64(m.ID))
	it, err := a.b.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	var lines [][]byte
	for it.First(); it.Valid() && m.Tombstones > keepTombstones; it.Next() {
		if v := it.Value(); len(v) == 1 && v[0] == expunged[0] {
			lines = append(lines, bytes.Clone(it.Key()))
			m.Forgotten = max(m.Forgotten, binary.BigEndian.Uint64(it.Key()[9:]))
			m.Tombstones--
		}
	}
	err = it.Error()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	for _, k := range lines {
		if err == nil {
			err = a.b.Delete(k, nil)
		}
	}
	return err
}

func (a *apply) copy(op *Copy) (any, error) {
	from, err := a.mailbox(op.From)
	if err != nil {
		return nil, err
	}
	to, err := a.mailbox(op.To)
	if err != nil {
		return nil, refuse(ErrNotFound, "the target mailbox is gone")
	}
	out := Copied{UIDValidity: to.UIDValidity}
	metas, err := a.newMetas(from.ID, op.UIDs)
	if err != nil {
		return nil, err
	}
	err = a.each(from.ID, op.UIDs, func(st *model.MessageState) error {
		meta, err := metas.get(st.UID)
		if err != nil {
			return err
		}
		cp := *st
		if cp.Keywords, err = a.keywords(to, wordNames(from, st.Keywords)); err != nil {
			return err
		}
		p, err := a.place(to, &cp, meta)
		if err != nil {
			return err
		}
		out.From, out.To = append(out.From, st.UID), append(out.To, p.UID)
		return nil
	})
	if cerr := metas.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	if op.Move {
		ex, err := a.remove(from, out.From, false, false)
		if err != nil {
			return nil, err
		}
		out.ModSeq = ex.ModSeq
		for i, uid := range out.From { // over the lines that remove has written
			if err := a.noteExpunged(from.ID, uid, out.ModSeq, to.ID, out.To[i]); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
