package state

import (
	"errors"
	"slices"

	"mailplusd/mail/model"
)

// mailboxRow finds or makes our mailbox for one of the loser's, and makes sure that no UID
// or mod-sequence of the loser is given again.
func (m *merging) mailboxRow(in *MergeMailbox) error {
	row := &in.Row
	if to, err := m.mapping(row.ID); err != nil || to != nil {
		return err
	}
	to := &mapped{Account: row.Account, Name: row.Name, Use: row.Use}
	box, err := m.mailbox(row.ID)
	switch {
	case err == nil && box.GUID == row.GUID:
		to.ID, to.Same = box.ID, true
		if err := m.renamed(in, box); err != nil {
			return err
		}
		if err := m.subscribed(in, box); err != nil {
			return err
		}
		if err := m.ahead(box, row); err != nil {
			return err
		}
	case err == nil || in.Made && errors.Is(err, ErrNotFound):
		taken := err == nil
		if !taken { // or that of one that was deleted here and whose mail is still there
			if taken, err = m.marked(goneKey(row.ID)); err != nil {
				return err
			}
		}
		if err := m.made(row, to, taken); err != nil {
			return err
		}
	case !errors.Is(err, ErrNotFound):
		return err
	}
	return m.setMapping(row.ID, to)
}

// ahead keeps new UIDs and mod-sequences above those of both sides. What we have changed
// since the fork below the loser's mod-sequence is stamped anew: who knows the mailbox from
// there has not seen it and asks only for what is above.
func (m *merging) ahead(box, row *model.Mailbox) error {
	m.touch(box)
	// Not touched in our forced epoch: there is nothing to skip, Ahead does it.
	box.Epoch = max(box.Epoch, m.rule().Forced)
	if row.UIDNext > box.UIDNext {
		box.Ahead = max(box.Ahead, row.UIDNext)
	}
	if row.HighestModSeq <= box.HighestModSeq {
		return nil
	}
	box.HighestModSeq = row.HighestModSeq
	return m.restamp(box)
}

func (m *merging) restamp(box *model.Mailbox) error {
	live := map[model.UID]bool{}
	gone := map[model.UID]uint64{}
	prefix := be64(nil, uint64(box.ID))
	add := func(rest []byte, _ *note) error { live[uidAt(rest, len(rest)-4)] = true; return nil }
	if err := scanNotes(m.b, m.rule(), noteAdd, prefix, m.br.Fork, add); err != nil {
		return err
	}
	flag := func(rest []byte, _ *note) error { live[uidAt(rest, 8)] = true; return nil }
	if err := scanNotes(m.b, m.rule(), noteFlag, prefix, m.br.Fork, flag); err != nil {
		return err
	}
	expunge := func(rest []byte, n *note) error { gone[uidAt(rest, 8)] = n.ModSeq; return nil }
	if err := scanNotes(m.b, m.rule(), noteExpunge, prefix, m.br.Fork, expunge); err != nil {
		return err
	}
	if len(live)+len(gone) == 0 {
		return nil
	}
	modseq := m.bump(box)
	for _, uid := range sortedUIDs(live) {
		var st model.MessageState
		ok, err := m.apply.message(box.ID, uid, &st)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := m.restate(box, &st, st.Flags, st.Keywords, modseq); err != nil {
			return err
		}
	}
	for _, uid := range sortedUIDs(gone) {
		if err := m.b.Delete(changeKey(box.ID, gone[uid], uid), nil); err != nil {
			return err
		}
		if err := m.b.Set(changeKey(box.ID, modseq, uid), expunged, nil); err != nil {
			return err
		}
	}
	return nil
}

func sortedUIDs[V any](set map[model.UID]V) []model.UID {
	out := make([]model.UID, 0, len(set))
	for uid := range set {
		out = append(out, uid)
	}
	slices.Sort(out)
	return out
}

// renamed takes over a new name if we gave none ourselves.
func (m *merging) renamed(in *MergeMailbox, box *model.Mailbox) error {
	if in.RenamedAt == 0 || box.Name == in.Row.Name {
		return nil
	}
	key := append(be64(nil, uint64(box.ID)), 'r')
	ours, err := lastNote(m.b, m.rule(), noteMailbox, key, m.br.Fork)
	if err != nil {
		return err
	}
	taken, err := m.byName(box.Account, in.Row.Name)
	if err != nil {
		return err
	}
	if ours != nil || taken != 0 {
		m.rep.Counts.Conflicts++
		m.line("mailbox %q was renamed there to %q; it keeps its name here", box.Name, in.Row.Name)
		return nil
	}
	if err := m.parents(box.Account, in.Row.Name); err != nil {
		return err
	}
	m.at = in.RenamedAt
	m.rep.Counts.Mailboxes++
	return m.rename(box, in.Row.Name)
}

// subscribed: the later change holds.
func (m *merging) subscribed(in *MergeMailbox, box *model.Mailbox) error {
	if in.SubscribedAt == 0 || box.Subscribed == in.Row.Subscribed {
		return nil
	}
	key := append(be64(nil, uint64(box.ID)), 's')
	ours, err := lastNote(m.b, m.rule(), noteMailbox, key, m.br.Fork)
	if err != nil || ours != nil && ours.Time >= in.SubscribedAt {
		return err
	}
	m.at = in.SubscribedAt
	box.Subscribed = in.Row.Subscribed
	m.touch(box)
	return m.noteMailbox(box, 's')
}

// made takes over a mailbox that the loser made, with its number, GUID and UIDVALIDITY, so
// that its clients find what they know. If there is one of this name, the contents are united.
func (m *merging) made(row *model.Mailbox, to *mapped, taken bool) error {
	id, err := m.byName(row.Account, row.Name)
	if err != nil {
		return err
	}
	if id != 0 {
		to.ID = id
		m.rep.Counts.Conflicts++
		m.line("mailbox %q was made on both sides: contents united", row.Name)
		return nil
	}
	if err := m.parents(row.Account, row.Name); err != nil {
		return err
	}
	m.rep.Counts.Mailboxes++
	if taken { // its number is that of another mailbox here
		box, err := m.make(row.Account, row.Name)
		if err == nil {
			to.ID = box.ID
		}
		return err
	}
	box := *row
	box.Messages, box.Unseen, box.Deleted, box.Size, box.Kept, box.KeptSize = 0, 0, 0, 0, 0, 0
	box.UIDNext, box.Ahead, box.RecentFloor = 1, row.UIDNext, 1
	box.Epoch = max(row.Epoch, m.rule().Forced)
	box.Keywords = slices.Clone(row.Keywords)
	if box.Use != "" {
		all, err := m.accountMailboxes(row.Account)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(o *model.Mailbox) bool { return o.Use == box.Use }) {
			box.Use = ""
		}
	}
	if err := m.raiseValidity(row.Account, row.UIDValidity); err != nil {
		return err
	}
	m.mailboxes[box.ID] = &box
	m.touch(&box)
	to.ID, to.Same = box.ID, true
	if err := m.noteMailbox(&box, 'c'); err != nil {
		return err
	}
	return m.b.Set(nameKey(box.Account, box.Name), be64(nil, uint64(box.ID)), nil)
}

// raiseValidity keeps the account's next UIDVALIDITY above v.
func (a *apply) raiseValidity(account model.AccountID, v uint32) error {
	key := be64([]byte("avalidity"), uint64(account))
	last, err := a.get(key)
	if err != nil {
		return err
	}
	if len(last) == 4 && v <= uint32(last[0])<<24|uint32(last[1])<<16|uint32(last[2])<<8|uint32(last[3]) {
		return nil
	}
	return a.b.Set(key, be32(nil, v), nil)
}

// deleted deletes a mailbox that the loser deleted, but not what came into it here since.
func (m *merging) deleted(in *MergeDeleted) error {
	box, err := m.mailbox(in.Mailbox)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	fresh := map[model.UID]bool{}
	err = scanNotes(m.b, m.rule(), noteAdd, be64(nil, uint64(box.ID)), m.br.Fork, func(rest []byte, _ *note) error {
		fresh[uidAt(rest, len(rest)-4)] = true
		return nil
	})
	if err != nil {
		return err
	}
	var old []model.UID
	kept := 0
	err = scanMessages(m.b, box.ID, 1, 1<<32-1, func(st *model.MessageState) bool {
		if fresh[st.UID] {
			kept++
		} else {
			old = append(old, st.UID)
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, uid := range old {
		if err := m.rescue(box, uid); err != nil {
			return err
		}
	}
	m.at = in.At
	if kept == 0 && box.Use != model.UseInbox {
		m.rep.Counts.Mailboxes++
		return m.removeMailbox(box, "")
	}
	if len(old) == 0 {
		return nil
	}
	m.rep.Counts.Conflicts++
	m.line("mailbox %q was deleted there, but got new mail here: kept with the %d new messages", box.Name, kept)
	m.rep.Counts.Expunged += len(old)
	_, err = m.remove(box, old, false, m.keep)
	return err
}
