package state

import (
	"encoding/binary"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// KeptMessage is an expunged message, or one of a deleted mailbox, that can be given back.
type KeptMessage struct {
	Mailbox  model.MailboxID
	At       int64 // when it was expunged, Unix seconds
	State    model.MessageState
	Keywords []string
	Meta     []byte // parsed headers
}

// Ref names it for KeptRestore.
func (k *KeptMessage) Ref() MessageRef { return MessageRef{Mailbox: k.Mailbox, UID: k.State.UID} }

// GoneMailboxes lists an account's deleted mailboxes whose messages can be given back.
func (s *State) GoneMailboxes(account model.AccountID) ([]GoneMailbox, error) {
	snap := s.snap()
	defer snap.Close()
	it, err := snap.NewIter(rangeOf(be64([]byte{spaceGoneOf}, uint64(account))))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []GoneMailbox
	for it.First(); it.Valid(); it.Next() {
		g, err := readGone(snap, model.MailboxID(binary.BigEndian.Uint64(it.Key()[9:])))
		if err != nil {
			return nil, err
		}
		if g != nil {
			out = append(out, *g)
		}
	}
	return out, it.Error()
}

// GoneAccounts finds the deleted accounts that a user name had whose mail can be given back, the
// latest deleted last. A name can have been used more than once.
func (s *State) GoneAccounts(user string) ([]model.AccountID, error) {
	h := s.acquire()
	defer h.release()
	it, err := h.NewIter(rangeOf([]byte{spaceGone}))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	latest := map[model.AccountID]int64{}
	var out []model.AccountID
	for it.First(); it.Valid(); it.Next() {
		var g GoneMailbox
		if err := decMode.Unmarshal(it.Value(), &g); err != nil {
			return nil, err
		}
		if g.User == "" || g.User != user {
			continue
		}
		if _, known := latest[g.Row.Account]; !known {
			out = append(out, g.Row.Account)
		}
		latest[g.Row.Account] = max(latest[g.Row.Account], g.At)
	}
	sortByTime(out, latest)
	return out, it.Error()
}

func sortByTime(ids []model.AccountID, at map[model.AccountID]int64) {
	for i := 1; i < len(ids); i++ {
		for j := i; j > 0 && at[ids[j]] < at[ids[j-1]]; j-- {
			ids[j], ids[j-1] = ids[j-1], ids[j]
		}
	}
}

// Kept calls fn for what can be given back of a mailbox, live or deleted, by ascending UID.
// The message is valid during fn only.
func (s *State) Kept(id model.MailboxID, fn func(*KeptMessage) bool) error {
	snap := s.snap()
	defer snap.Close()
	g, err := readGone(snap, id)
	if err != nil {
		return err
	}
	it, err := snap.NewIter(rangeOf(be64([]byte{spaceKept}, uint64(id))))
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		k := KeptMessage{Mailbox: id}
		if err := k.decode(it.Key(), it.Value()); err != nil {
			return err
		}
		if !fn(&k) {
			return nil
		}
	}
	if err := it.Error(); err != nil || g == nil {
		return err
	}
	return keptWithMailbox(snap, g, fn)
}

func (k *KeptMessage) decode(key, value []byte) error {
	var row keptRow
	if err := decMode.Unmarshal(value, &row); err != nil {
		return err
	}
	k.State.UID = uidAt(key, 9)
	k.At, k.Keywords, k.Meta = row.At, row.Words, row.Meta
	return decodeMessage(row.State, &k.State)
}

// keptWithMailbox gives the messages that went with their mailbox.
func keptWithMailbox(r pebble.Reader, g *GoneMailbox, fn func(*KeptMessage) bool) error {
	var inner error
	err := scanMessages(r, g.Row.ID, 1, 1<<32-1, func(st *model.MessageState) bool {
		k := KeptMessage{Mailbox: g.Row.ID, At: g.At, State: *st, Keywords: wordNames(&g.Row, st.Keywords)}
		if k.Meta, inner = getCopy(r, metaKey(g.Row.ID, st.UID)); inner != nil {
			return false
		}
		return fn(&k)
	})
	if inner != nil {
		return inner
	}
	return err
}

// KeptBefore tells whether anything was expunged before a time (Unix seconds) and is still kept.
func (s *State) KeptBefore(before int64) (bool, error) {
	h := s.acquire()
	defer h.release()
	it, err := h.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceExpiry}, UpperBound: expiryKey(max(before, 0), 0, 0)})
	if err != nil {
		return false, err
	}
	defer it.Close()
	return it.First(), it.Error()
}
