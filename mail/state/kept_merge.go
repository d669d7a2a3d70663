package state

import "mailplusd/mail/model"

// gatherLost notes a deleted mailbox of the loser that got mail since the fork: what came goes to
// the winner as expunged mail, so that it can be given back there.
func (r *Replay) gatherLost(id model.MailboxID) error {
	if len(r.added[id]) == 0 {
		return nil
	}
	g, err := readGone(r.snap, id)
	if err != nil || g == nil {
		return err
	}
	r.lost = append(r.lost, g.Row)
	return nil
}

// goneAt is when a mailbox of the loser was deleted, in Unix nanoseconds; 0: it wasn't.
func (r *Replay) goneAt(id model.MailboxID) int64 {
	for i := range r.lost {
		if r.lost[i].ID == id {
			if g, err := readGone(r.snap, id); err == nil && g != nil {
				return max(g.At, 1) * 1e9
			}
		}
	}
	return 0
}

// readKept is readIn for a message that was expunged; nil when it isn't kept.
func (r *Replay) readKept(box *model.Mailbox, uid model.UID) (*MergeMessage, error) {
	row, st, err := readKeptRow(r.snap, box.ID, uid)
	if err != nil || row == nil {
		return nil, err
	}
	m := r.merged(box, &st, row.Words, row.Meta)
	m.Gone = max(row.At, 1) * 1e9
	return m, nil
}

// expungedMessage takes over a message that the loser got and expunged since the fork. It is
// placed and expunged at once, so its UID is spent and no client misses anything. Without its
// mailbox it goes to INBOX's expunged ones; without that either, the user is gone.
func (m *merging) expungedMessage(in *MergeMessage, mark []byte) error {
	if !m.keep { // nothing is kept here
		return m.b.Set(mark, nil, nil)
	}
	box, same, err := m.find(in.Mailbox)
	if err != nil {
		return err
	}
	if box == nil {
		id, err := m.byName(in.Account, "INBOX")
		if err != nil || id == 0 {
			return err
		}
		if box, err = m.mailbox(id); err != nil {
			return err
		}
		same = false
	}
	m.at = in.At
	uid, err := m.twin(box, in)
	if err != nil {
		return err
	}
	if uid == 0 { // a twin that the winner still has stays
		if uid, err = m.add(box, in, same); err != nil {
			return err
		}
		m.at = in.Gone
		m.rep.Counts.Expunged++
		if _, err := m.remove(box, []model.UID{uid}, false, true); err != nil {
			return err
		}
	}
	return m.b.Set(mark, refOctets(box.ID, uid), nil)
}
