// Package view is a mailbox as one session sees it: sequence numbers, what has been
// announced and what hasn't. It knows nothing of the wire.
package view

import (
	"slices"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// Store is what a view reads.
type Store interface {
	View(id model.MailboxID, from, to model.UID, fn func(*model.MessageState) bool) (model.Mailbox, error)
	Changes(id model.MailboxID, since uint64) (state.Changes, error)
	Generation() uint64 // another value: the whole state was replaced, see state.Restore
}

// Message is a message as the session knows it.
type Message struct {
	UID      model.UID
	Flags    model.Flags
	Recent   bool
	Gone     bool // expunged, but not announced yet
	Size     int64
	Date     int64
	ModSeq   uint64
	Keywords []uint16
}

// View is one mailbox in one session.
type View struct {
	store    Store
	Mailbox  model.Mailbox
	Messages []Message // in the order of sequence numbers
	modseq   uint64    // up to here everything is in Messages
	gone     int       // messages that are Gone
	gen      uint64    // of the store when all of this was read
	readOnly bool
}

// Open reads a mailbox as it is now; box may be of a moment ago.
func Open(s Store, box model.Mailbox, readOnly bool) (*View, error) {
	v := &View{store: s, readOnly: readOnly, gen: s.Generation(), Messages: make([]Message, 0, box.Messages)}
	m, err := s.View(box.ID, 1, 1<<32-1, func(st *model.MessageState) bool {
		v.Messages = append(v.Messages, message(st))
		return true
	})
	if err != nil {
		return nil, err
	}
	v.Mailbox, v.modseq = m, m.HighestModSeq
	for i := len(v.Messages) - 1; i >= 0 && v.Messages[i].UID >= m.RecentFloor; i-- {
		v.Messages[i].Recent = true
	}
	return v, nil
}

func message(st *model.MessageState) Message {
	m := Message{UID: st.UID, Flags: st.Flags, Size: st.Size, Date: st.Date, ModSeq: st.ModSeq}
	if len(st.Keywords) > 0 {
		m.Keywords = slices.Clone(st.Keywords)
	}
	return m
}

// Recent counts the messages that this session is the first to see.
func (v *View) Recent() (n int) {
	for i := len(v.Messages) - 1; i >= 0; i-- {
		if v.Messages[i].Recent {
			n++
		}
	}
	return n
}

// FirstUnseen is the sequence number of the first message without \Seen; 0: none.
func (v *View) FirstUnseen() int {
	for i := range v.Messages {
		if v.Messages[i].Flags&model.FlagSeen == 0 {
			return i + 1
		}
	}
	return 0
}

// Index finds a UID; false when it is not in the view.
func (v *View) Index(uid model.UID) (int, bool) {
	return slices.BinarySearchFunc(v.Messages, uid, func(m Message, u model.UID) int { return int(int64(m.UID) - int64(u)) })
}

// Update is what has to be announced, in this order: expunges, then EXISTS, then flags.
type Update struct {
	Expunged []int // sequence numbers, each one valid after the ones before were taken away
	Exists   bool  // the number of messages has grown
	Flags    []int // indexes of messages whose flags changed
	Keywords bool  // the mailbox has new keywords
	Gone     bool  // the mailbox itself was deleted
}

// Poll brings the view up to date. With expunge false, removed messages keep their place until a
// later Poll (RFC 3501 §7.4.1: no EXPUNGE during FETCH, STORE, SEARCH).
func (v *View) Poll(expunge bool) (Update, error) {
	var u Update
	gen := v.store.Generation()
	var c state.Changes
	var err error
	if gen == v.gen {
		c, err = v.store.Changes(v.Mailbox.ID, v.modseq)
	} else {
		c, err = v.compare()
	}
	if err == state.ErrNotFound {
		return Update{Gone: true}, nil
	}
	if err != nil {
		return u, err
	}
	v.gen = gen
	u.Keywords = len(c.Mailbox.Keywords) > len(v.Mailbox.Keywords)
	v.Mailbox, v.modseq = c.Mailbox, c.Mailbox.HighestModSeq
	for _, uid := range c.Expunged {
		if i, ok := v.Index(uid); ok && !v.Messages[i].Gone {
			v.Messages[i].Gone = true
			v.gone++
		}
	}
	slices.SortFunc(c.Changed, func(a, b model.MessageState) int { return int(int64(a.UID) - int64(b.UID)) })
	changed := map[model.UID]bool{}
	for i := range c.Changed {
		st := &c.Changed[i]
		if at, ok := v.Index(st.UID); ok {
			m := message(st)
			old := &v.Messages[at]
			if old.Flags != m.Flags || !slices.Equal(old.Keywords, m.Keywords) {
				changed[st.UID] = true
			}
			m.Recent, m.Gone = old.Recent, old.Gone
			*old = m
			continue
		}
		if n := len(v.Messages); n > 0 && st.UID < v.Messages[n-1].UID {
			continue // an old message that this view never had: a UID can't come back
		}
		m := message(st)
		m.Recent = st.UID >= v.Mailbox.RecentFloor
		v.Messages = append(v.Messages, m)
		u.Exists = true
	}
	if expunge && v.gone > 0 {
		u.Expunged = v.drop()
	}
	for i := range v.Messages {
		if len(changed) == 0 {
			break
		}
		if changed[v.Messages[i].UID] {
			delete(changed, v.Messages[i].UID)
			if !v.Messages[i].Gone {
				u.Flags = append(u.Flags, i)
			}
		}
	}
	return u, nil
}

// compare finds what differs after the state was replaced by one of another history, in which
// mod-sequences say nothing about this view. What can't be told in the order of UIDs ends the
// view: the client must select the mailbox again.
func (v *View) compare() (state.Changes, error) {
	c := state.Changes{}
	have := map[model.UID]bool{}
	last := model.UID(0)
	if n := len(v.Messages); n > 0 {
		last = v.Messages[n-1].UID
	}
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

// drop takes the gone messages out and gives their sequence numbers as they are announced.
func (v *View) drop() []int {
	var out []int
	kept := v.Messages[:0]
	for _, m := range v.Messages {
		if m.Gone {
			out = append(out, len(kept)+1)
			continue
		}
		kept = append(kept, m)
	}
	clear(v.Messages[len(kept):])
	v.Messages, v.gone = kept, 0
	return out
}

// Told makes the view agree with a change that the session itself has announced.
func (v *View) Told(i int, flags model.Flags, words []uint16, modseq uint64) {
	v.Messages[i].Flags, v.Messages[i].Keywords, v.Messages[i].ModSeq = flags, words, modseq
}
