package view

import "mailplusd/mail/model"

// claim says below which UID every message of a mailbox has been announced to a read-write
// session of this node. It runs ahead of the mailbox's row (RecentFloor), which is written when
// a mailbox is selected and when a view is closed.
type claim struct {
	uidValidity uint32
	below       model.UID
}

// claim makes the view's new messages \Recent here and nowhere else. A read-only view shows what
// nobody was told of yet and leaves it so.
func (v *View) claim() {
	from, to := v.cache.claim(&v.Mailbox, v.readOnly)
	if from >= to {
		return
	}
	if n := len(v.recent); n > 0 {
		if last := &v.recent[n-1]; from <= last.to { // a read-only view finds what it has again
			last.to = max(last.to, to)
			return
		}
	}
	v.recent = append(v.recent, uids{from, to})
}

// RecentFrom gives the UID from which on no session has been told of a mailbox's messages: who selects
// it next finds them \Recent.
func (c *Cache) RecentFrom(m *model.Mailbox) model.UID {
	from, _ := c.claim(m, true)
	return from
}

func (c *Cache) claim(m *model.Mailbox, readOnly bool) (from, to model.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.claims[m.ID]
	from, to = max(m.RecentFloor, 1), m.UIDNext
	if have.uidValidity == m.UIDValidity {
		from = max(from, have.below)
	}
	if from >= to || readOnly {
		return from, to
	}
	if c.claims == nil || len(c.claims) >= cacheClaims {
		c.claims = map[model.MailboxID]claim{} // some messages will be recent twice
	}
	c.claims[m.ID] = claim{m.UIDValidity, to}
	return from, to
}

// Unrecorded gives the UID below which the mailbox's row must be told that messages are no
// longer recent (state.Seen); 0 when it knows.
func (v *View) Unrecorded() model.UID {
	if v.readOnly || len(v.recent) == 0 {
		return 0
	}
	if to := v.recent[len(v.recent)-1].to; to > v.Mailbox.RecentFloor {
		return to
	}
	return 0
}

// Recorded says that the mailbox's row knows.
func (v *View) Recorded(below model.UID) { v.Mailbox.RecentFloor = max(v.Mailbox.RecentFloor, below) }
