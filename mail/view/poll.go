package view

import (
	"errors"
	"slices"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// Update is what has to be announced, in this order: expunges, then EXISTS, then flags.
type Update struct {
	Expunged []Expunged
	Exists   bool     // the number of messages has grown
	Changed  []Change // messages that were changed, ascending
	Keywords bool     // the mailbox has new keywords
	Gone     bool     // the mailbox itself was deleted
}

// Expunged is one message that was taken out; Seq is valid after the ones before were.
type Expunged struct {
	Seq int
	UID model.UID
}

// Change is a message whose mod-sequence has risen.
type Change struct {
	Index int
	Flags bool // its flags differ from what the session knew
}

// Poll brings the view up to date. With expunge false, removed messages keep their place until a
// later Poll (RFC 3501 §7.4.1: no EXPUNGE during FETCH, STORE, SEARCH).
func (v *View) Poll(expunge bool) (Update, error) {
	var u Update
	gen := v.store.Generation()
	var c state.Changes
	var err error
	if gen != v.gen {
		c, err = v.compare()
	} else if m, merr := v.store.MailboxByID(v.Mailbox.ID); merr != nil {
		err = merr
	} else if m.HighestModSeq == v.modseq { // the usual case, without reading the log of changes
		c.Mailbox = m
	} else {
		c, err = v.store.Changes(v.Mailbox.ID, v.modseq)
	}
	if errors.Is(err, state.ErrNotFound) {
		return Update{Gone: true}, nil
	}
	if err != nil {
		return u, err
	}
	if !v.Pending() {
		v.told = v.modseq
	}
	v.gen = gen
	u.Keywords = len(c.Mailbox.Keywords) > len(v.Mailbox.Keywords)
	v.Mailbox, v.modseq = c.Mailbox, c.Mailbox.HighestModSeq
	if len(c.Expunged)+len(c.Changed) > 0 {
		v.own()
	}
	for _, uid := range c.Expunged {
		if i, ok := v.Index(uid); ok && !v.Messages[i].Gone {
			v.Messages[i].Gone = true
			v.gone++
		}
	}
	changed := v.merge(&c, &u)
	if expunge && v.gone > 0 {
		u.Expunged = v.drop()
	}
	for _, ch := range changed {
		if i, ok := v.Index(ch.uid); ok && !v.Messages[i].Gone {
			u.Changed = append(u.Changed, Change{i, ch.flags})
		}
	}
	if u.Exists {
		v.claim()
	}
	return u, nil
}

type changedUID struct {
	uid   model.UID
	flags bool
}

// merge puts changed and new messages into the view and gives the changed ones, ascending.
func (v *View) merge(c *state.Changes, u *Update) []changedUID {
	byUID := func(a, b model.MessageState) int { return int(int64(a.UID) - int64(b.UID)) }
	if !slices.IsSortedFunc(c.Changed, byUID) {
		slices.SortFunc(c.Changed, byUID)
	}
	var out []changedUID
	for i := range c.Changed {
		st := &c.Changed[i]
		m := v.words.message(st)
		if at, ok := v.Index(st.UID); ok {
			old := &v.Messages[at]
			if differ := !m.sameFlags(old); differ || old.ModSeq != m.ModSeq {
				out = append(out, changedUID{st.UID, differ})
			}
			m.Gone = old.Gone
			*old = m
			continue
		}
		if st.UID < v.Largest() {
			continue // an old message that this view never had: a UID can't come back
		}
		v.Messages = append(v.Messages, m)
		u.Exists = true
	}
	return out
}

// compare finds what differs after the state was replaced by one of another history, in which
// mod-sequences say nothing about this view. What can't be told in the order of UIDs ends the
// view: the client must select the mailbox again.
func (v *View) compare() (state.Changes, error) {
	c := state.Changes{}
	have := map[model.UID]bool{}
	last := v.Largest()
	untold := false
	m, err := v.store.View(v.Mailbox.ID, 1, 1<<32-1, func(st *model.MessageState) bool {
		have[st.UID] = true
		cp := *st
		cp.Keywords = slices.Clone(st.Keywords)
		c.Changed = append(c.Changed, cp)
		if _, known := v.Index(st.UID); !known && st.UID < last {
			untold = true
		}
		return true
	})
	if err != nil {
		return c, err
	}
	old := &v.Mailbox
	prefix := min(len(old.Keywords), len(m.Keywords))
	if untold || m.GUID != old.GUID || m.UIDValidity != old.UIDValidity || !slices.Equal(old.Keywords[:prefix], m.Keywords[:prefix]) || m.UIDNext < old.UIDNext {
		return c, state.ErrNotFound
	}
	c.Mailbox = m
	for i := range v.Messages {
		if uid := v.Messages[i].UID; !have[uid] {
			c.Expunged = append(c.Expunged, uid)
		}
	}
	return c, nil
}

// drop takes the gone messages out and gives them as they are announced.
func (v *View) drop() []Expunged {
	v.own() // a failed Poll may have left it shared
	out := make([]Expunged, 0, v.gone)
	kept := v.Messages[:0]
	for _, m := range v.Messages {
		if m.Gone {
			out = append(out, Expunged{len(kept) + 1, m.UID})
			continue
		}
		kept = append(kept, m)
	}
	clear(v.Messages[len(kept):])
	v.Messages, v.gone = kept, 0
	return out
}
