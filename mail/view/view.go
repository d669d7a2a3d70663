// Package view is a mailbox as one session sees it: sequence numbers, what has been
// announced and what hasn't. It knows nothing of the wire.
//
// A view is opened from an image of the mailbox that sessions share (cache.go) and copies it
// when it has to differ from it; Poll brings it up to date.
package view

import (
	"slices"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// Store is what a view reads.
type Store interface {
	MailboxByID(id model.MailboxID) (model.Mailbox, error)
	View(id model.MailboxID, from, to model.UID, fn func(*model.MessageState) bool) (model.Mailbox, error)
	Changes(id model.MailboxID, since uint64) (state.Changes, error)
	Generation() uint64 // another value: the whole state was replaced, see state.Restore
}

// Message is a message as the session knows it. There may be a hundred thousand in a session,
// so it is small.
type Message struct {
	UID    model.UID
	Flags  model.Flags
	Gone   bool // expunged, but not announced yet
	Size   int64
	Date   int64
	ModSeq uint64
	words  *[]uint16
}

// Keywords are indexes into the mailbox's keywords, ascending; they must not be changed.
func (m *Message) Keywords() []uint16 {
	if m.words == nil {
		return nil
	}
	return *m.words
}

func (m *Message) sameFlags(o *Message) bool {
	return m.Flags == o.Flags && (m.words == o.words || slices.Equal(m.Keywords(), o.Keywords()))
}

// View is one mailbox in one session.
type View struct {
	store    Store
	cache    *Cache
	Mailbox  model.Mailbox
	Messages []Message // in the order of sequence numbers; must not be changed
	shared   bool      // Messages are an image's: copy before changing
	words    words
	modseq   uint64 // up to here everything is in Messages
	gone     int    // messages that are Gone
	told     uint64 // modseq before the first of them was Gone
	gen      uint64 // of the store when all of this was read
	readOnly bool
	recent   []uids // what this session is the first to see, ascending
}

// uids is from <= UID < to.
type uids struct{ from, to model.UID }

// words keeps each combination of keywords once.
type words map[string]*[]uint16

func (w *words) of(list []uint16) *[]uint16 {
	if len(list) == 0 {
		return nil
	}
	key := make([]byte, 0, 64)
	for _, k := range list {
		key = append(key, byte(k>>8), byte(k))
	}
	if p := (*w)[string(key)]; p != nil {
		return p
	}
	if *w == nil {
		*w = words{}
	}
	cp := slices.Clone(list)
	(*w)[string(key)] = &cp
	return &cp
}

func (w *words) message(st *model.MessageState) Message {
	return Message{UID: st.UID, Flags: st.Flags, Size: st.Size, Date: st.Date, ModSeq: st.ModSeq, words: w.of(st.Keywords)}
}

// ModSeq is the mod-sequence up to which everything is in Messages.
func (v *View) ModSeq() uint64 { return v.modseq }

// Told is the mod-sequence up to which the session was told everything (RFC 7162 HIGHESTMODSEQ).
func (v *View) Told() uint64 {
	if v.Pending() {
		return min(v.told, v.modseq) // another history may have begun lower
	}
	return v.modseq
}

// Pending tells whether messages are Gone whose expunge the session has yet to be told of.
func (v *View) Pending() bool { return v.gone > 0 }

// ReadOnly tells whether the view claims no \Recent.
func (v *View) ReadOnly() bool { return v.readOnly }

// Recent tells whether this session is the first to see a message (RFC 3501 §2.3.2).
func (v *View) Recent(uid model.UID) bool {
	for i := len(v.recent) - 1; i >= 0; i-- {
		if r := v.recent[i]; uid >= r.from {
			return uid < r.to
		}
	}
	return false
}

// CountRecent counts the messages that this session is the first to see.
func (v *View) CountRecent() (n int) {
	for _, r := range v.recent {
		lo, _ := v.Index(r.from)
		hi, _ := v.Index(r.to)
		n += hi - lo
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

// Index finds a UID: its place, or where it would be and false when it is not in the view.
func (v *View) Index(uid model.UID) (int, bool) { return index(v.Messages, uid) }

func index(list []Message, uid model.UID) (int, bool) {
	lo, hi := 0, len(list)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); list[mid].UID < uid {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(list) && list[lo].UID == uid
}

// Largest is the highest UID in the view; 0 when it is empty.
func (v *View) Largest() model.UID {
	if n := len(v.Messages); n > 0 {
		return v.Messages[n-1].UID
	}
	return 0
}

// own makes Messages the view's own.
func (v *View) own() {
	if v.shared {
		v.Messages = append(make([]Message, 0, len(v.Messages)+len(v.Messages)/64+8), v.Messages...)
		v.shared = false
	}
}
