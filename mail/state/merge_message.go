package state

import (
	"encoding/binary"
	"errors"
	"slices"

	"mailplusd/mail/model"
)

func uidAt(b []byte, at int) model.UID { return model.UID(binary.BigEndian.Uint32(b[at:])) }

// restate stores other flags of a message, or the same under another mod-sequence.
func (a *apply) restate(m *model.Mailbox, st *model.MessageState, flags model.Flags, words []uint16, modseq uint64) error {
	if err := a.b.Delete(changeKey(m.ID, st.ModSeq, st.UID), nil); err != nil {
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

// words is keywords for a merge: what doesn't fit is left out and said, because nothing may
// stop a merge.
func (m *merging) words(box *model.Mailbox, names []string) ([]uint16, error) {
	var out []uint16
	for _, name := range names {
		w, err := m.keywords(box, []string{name})
		if errors.Is(err, ErrLimit) || errors.Is(err, ErrInvalid) || len(out) >= model.MaxMessageKeywords {
			m.line("keyword %q does not fit into mailbox %q", name, box.Name)
			continue
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, w[0]) {
			out = append(out, w[0])
		}
	}
	slices.Sort(out)
	return out, nil
}

// message brings a message that the loser added.
func (m *merging) message(in *MergeMessage) error {
	mark := m.markKey(markMessage, refOctets(in.Mailbox, in.UID))
	if done, err := m.marked(mark); err != nil || done {
		return err
	}
	if in.Gone != 0 {
		return m.expungedMessage(in, mark)
	}
	box, same, err := m.target(in.Mailbox)
	if err != nil {
		return err
	}
	m.at = in.At
	uid, err := m.twin(box, in)
	if err != nil {
		return err
	}
	if uid != 0 {
		if err := m.unite(box, uid, in); err != nil {
			return err
		}
	} else if uid, err = m.add(box, in, same); err != nil {
		return err
	}
	at := refOctets(box.ID, uid)
	if err := m.b.Set(m.markKey(markPaired, at), []byte{1}, nil); err != nil {
		return err
	}
	return m.b.Set(mark, at, nil)
}

// twin finds a message that we added since the fork and that is the same as the loser's; 0:
// none. One of ours stands for one of the loser's only.
func (m *merging) twin(box *model.Mailbox, in *MergeMessage) (found model.UID, err error) {
	if len(in.Like) != 16 {
		return 0, refuse(ErrInvalid, "a merged message without its likeness")
	}
	prefix := append(be64(nil, uint64(box.ID)), in.Like...)
	err = scanNotes(m.b, m.rule(), noteAdd, prefix, m.br.Fork, func(rest []byte, _ *note) error {
		uid := uidAt(rest, len(rest)-4)
		if found != 0 {
			return nil
		}
		taken, err := m.marked(m.markKey(markPaired, refOctets(box.ID, uid)))
		if err != nil || taken {
			return err
		}
		there, err := m.marked(messageKey(box.ID, uid))
		if err == nil && there {
			found = uid
		}
		return err
	})
	return found, err
}

// unite gives our copy the loser's flags too; \Deleted only if both have it.
func (m *merging) unite(box *model.Mailbox, uid model.UID, in *MergeMessage) error {
	m.rep.Counts.Same++
	var st model.MessageState
	if ok, err := m.apply.message(box.ID, uid, &st); err != nil || !ok {
		return err
	}
	words, err := m.words(box, in.Words)
	if err != nil {
		return err
	}
	flags := (st.Flags|in.Flags)&^model.FlagDeleted | st.Flags&in.Flags&model.FlagDeleted
	_, words = combine(FlagsAdd, 0, slices.Clone(st.Keywords), 0, words)
	if flags == st.Flags && slices.Equal(words, st.Keywords) {
		return nil
	}
	if err := m.noteFlags(box, uid, st.Flags, flags, st.Keywords, words); err != nil {
		return err
	}
	return m.restate(box, &st, flags, words, m.bump(box))
}

// add places the message: under its own UID iff it is the same mailbox and we have given
// no UID so high; otherwise under the next one above both sides.
func (m *merging) add(box *model.Mailbox, in *MergeMessage, same bool) (model.UID, error) {
	m.rep.Counts.Added++
	words, err := m.words(box, in.Words)
	if err != nil {
		return 0, err
	}
	keep := same && in.UID >= box.UIDNext && in.UID < 1<<32-1
	if keep {
		box.UIDNext = in.UID
	} else {
		m.rep.Counts.Renumbered++
		m.skipAhead(box)
		box.UIDNext = max(box.UIDNext, box.Ahead)
	}
	if box.Ahead <= box.UIDNext {
		box.Ahead = 0
	}
	m.same = in.Like
	st := model.MessageState{Flags: in.Flags, Keywords: words, Date: in.Date, SaveDate: in.SaveDate, Size: in.Size, Body: in.Body, GUID: in.GUID}
	p, err := m.placeAt(box, &st, in.Meta)
	m.same = nil
	if err != nil || !keep {
		return p.UID, err
	}
	return p.UID, m.b.Set(m.markKey(markKept, refOctets(box.ID, p.UID)), []byte{1}, nil)
}

// recover brings a message that the loser changed and we have expunged.
func (m *merging) recover(in *MergeMessage) error {
	mark := m.markKey(markRecover, refOctets(in.Mailbox, in.UID))
	if done, err := m.marked(mark); err != nil || done {
		return err
	}
	box, err := m.recovered(in.Account)
	if err != nil {
		return err
	}
	m.at = in.At
	m.rep.Counts.Recovered++
	m.rep.Counts.Added-- // counted as recovered
	m.line("a message of account %d was expunged here and changed there: kept in %q", in.Account, RecoveredMailbox)
	kept := *in
	kept.SaveDate = m.entry.Time / 1e9 // it came into this mailbox now: RecoveredDays count from here
	if _, err := m.add(box, &kept, false); err != nil {
		return err
	}
	m.rep.Counts.Renumbered--
	return m.b.Set(mark, []byte{1}, nil)
}

// rescue copies a message that the loser expunged and we changed to RecoveredMailbox.
func (m *merging) rescue(box *model.Mailbox, uid model.UID) error {
	ours, err := netFlags(m.b, m.rule(), box.ID, uid, m.br.Fork)
	if err != nil || !matters(ours) {
		return err
	}
	to, err := m.recovered(box.Account)
	if err != nil || to.ID == box.ID {
		return err
	}
	m.rep.Counts.Recovered++
	m.line("message %d of mailbox %q was changed here and expunged there: kept in %q", uid, box.Name, RecoveredMailbox)
	m.at = m.entry.Time
	_, err = m.copy(&Copy{From: box.ID, To: to.ID, UIDs: []model.UID{uid}})
	return err
}

// matters tells whether a message was changed by more than preparing its removal.
func matters(changes []FlagChange) bool {
	return slices.ContainsFunc(changes, func(c FlagChange) bool { return c.Flag != model.FlagDeleted || !c.On })
}

// settle gives new UIDs to what we added where the loser's clients will not look.
func (m *merging) settle(in *MergeSettle) error {
	box, same, err := m.find(in.Mailbox)
	if err != nil || box == nil || !same {
		return err
	}
	if box.Ahead > box.UIDNext { // from here on it may be seen: never lower than the loser's
		box.UIDNext = box.Ahead
		m.touch(box)
	}
	box.Ahead = 0
	type old struct {
		uid  model.UID
		like []byte
	}
	var list []old
	err = scanNotes(m.b, m.rule(), noteAdd, be64(nil, uint64(box.ID)), m.br.Fork, func(rest []byte, _ *note) error {
		uid := uidAt(rest, len(rest)-4)
		if uid >= in.UIDNext {
			return nil
		}
		kept, err := m.marked(m.markKey(markKept, refOctets(box.ID, uid)))
		if err == nil && !kept {
			list = append(list, old{uid, slices.Clone(rest[8:24])})
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b old) int { return int(int64(a.uid) - int64(b.uid)) })
	m.at = m.entry.Time
	for _, o := range list {
		if err := m.renumber(box, o.uid, o.like); err != nil {
			return err
		}
	}
	return nil
}

func (m *merging) renumber(box *model.Mailbox, uid model.UID, like []byte) error {
	var st model.MessageState
	if ok, err := m.apply.message(box.ID, uid, &st); err != nil || !ok {
		return err
	}
	meta, err := m.get(metaKey(box.ID, uid))
	if err != nil {
		return err
	}
	m.rep.Counts.Renumbered++
	m.same = like
	p, err := m.placeAt(box, &st, meta)
	m.same = nil
	if err != nil {
		return err
	}
	ex, err := m.remove(box, []model.UID{uid}, false, false)
	if err != nil {
		return err
	}
	return m.noteExpunged(box.ID, uid, ex.ModSeq, box.ID, p.UID)
}
