package state

import (
	"encoding/binary"
	"slices"
	"strings"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// netFlags gives the flags of a message that differ from their values at the fork, with the
// time of the last change of each.
func netFlags(r pebble.Reader, g *Regime, id model.MailboxID, uid model.UID, fork uint64) ([]FlagChange, error) {
	var t flagTally
	err := scanNotes(r, g, noteFlag, refOctets(id, uid), fork, func(_ []byte, n *note) error {
		t.add(n)
		return nil
	})
	return t.net(), err
}

// flagTally adds up changes of one message's flags, the oldest first.
type flagTally struct {
	list []flagState
}

type flagState struct {
	FlagChange
	was bool // at the fork
}

func (t *flagTally) add(n *note) {
	for _, f := range model.SystemFlags {
		if (n.Set|n.Clear)&f.Bit != 0 {
			t.set(f.Bit, "", n.Set&f.Bit != 0, n.Time)
		}
	}
	for _, w := range n.SetWords {
		t.set(0, w, true, n.Time)
	}
	for _, w := range n.ClearWords {
		t.set(0, w, false, n.Time)
	}
}

func (t *flagTally) set(f model.Flags, word string, on bool, at int64) {
	for i := range t.list {
		if s := &t.list[i]; s.Flag == f && strings.EqualFold(s.Word, word) {
			s.On, s.At = on, at
			return
		}
	}
	t.list = append(t.list, flagState{FlagChange{Flag: f, Word: word, On: on, At: at}, !on})
}

func (t *flagTally) net() []FlagChange {
	var out []FlagChange
	for _, s := range t.list {
		if s.On != s.was {
			out = append(out, s.FlagChange)
		}
	}
	return out
}

// follow finds where a message is now: at its place, or where we have moved it since the fork.
func (m *merging) follow(id model.MailboxID, uid model.UID) (*model.Mailbox, model.UID, error) {
	box, _, err := m.find(id)
	if err != nil || box == nil {
		return nil, 0, err
	}
	for range 16 { // moves; nobody carries one message around more often in one split
		there, err := m.marked(messageKey(box.ID, uid))
		if err != nil {
			return nil, 0, err
		}
		if there {
			return box, uid, nil
		}
		n, err := lastNote(m.b, m.rule(), noteExpunge, refOctets(box.ID, uid), m.br.Fork)
		if err != nil || n == nil || n.To == 0 {
			return nil, 0, err
		}
		if box, err = m.mailbox(n.To); err != nil {
			if err == ErrNotFound {
				err = nil
			}
			return nil, 0, err
		}
		uid = n.ToUID
	}
	return nil, 0, nil
}

// flags brings changed flags of a message that both sides had, flag by flag: what only one
// side changed holds; what both changed to different values, the later one.
func (m *merging) flags(in *MergeFlags) error {
	// A mark, because a repetition must not undo what a user has changed since.
	mark := m.markKey(markFlags, refOctets(in.Mailbox, in.UID))
	if done, err := m.marked(mark); err != nil || done {
		return err
	}
	box, uid, err := m.follow(in.Mailbox, in.UID)
	if err != nil {
		return err
	}
	if box == nil {
		mark := m.markKey(markRecover, refOctets(in.Mailbox, in.UID))
		if done, err := m.marked(mark); err != nil || done || !matters(in.Changes) {
			return err
		}
		m.out.Wanted = append(m.out.Wanted, MessageRef{Mailbox: in.Mailbox, UID: in.UID})
		return nil
	}
	ours, err := netFlags(m.b, m.rule(), box.ID, uid, m.br.Fork)
	if err != nil {
		return err
	}
	if box.ID != in.Mailbox || uid != in.UID { // changed here before it was moved
		before, err := netFlags(m.b, m.rule(), in.Mailbox, in.UID, m.br.Fork)
		if err != nil {
			return err
		}
		ours = append(ours, before...)
	}
	if err := m.b.Set(mark, []byte{1}, nil); err != nil {
		return err
	}
	return m.changeFlags(box, uid, in.Changes, ours)
}

// changeFlags makes the changes that are not older than ours. Each is noted with its own time.
func (m *merging) changeFlags(box *model.Mailbox, uid model.UID, changes, ours []FlagChange) error {
	var st model.MessageState
	if ok, err := m.apply.message(box.ID, uid, &st); err != nil || !ok {
		return err
	}
	flags, words := st.Flags, slices.Clone(st.Keywords)
	for _, c := range changes {
		i := slices.IndexFunc(ours, func(o FlagChange) bool { return o.Flag == c.Flag && strings.EqualFold(o.Word, c.Word) })
		if i >= 0 && (ours[i].On == c.On || ours[i].At >= c.At) {
			if ours[i].On != c.On {
				m.rep.Counts.FlagsKept++
			}
			continue
		}
		var arg []uint16
		if c.Flag == 0 {
			var err error
			if arg, err = m.words(box, []string{c.Word}); err != nil {
				return err
			}
		}
		mode := FlagsRemove
		if c.On {
			mode = FlagsAdd
		}
		newFlags, newWords := combine(mode, flags, slices.Clone(words), c.Flag, arg)
		if newFlags == flags && slices.Equal(newWords, words) || len(newWords) > model.MaxMessageKeywords {
			continue
		}
		m.at = c.At
		if err := m.noteFlags(box, uid, flags, newFlags, words, newWords); err != nil {
			return err
		}
		flags, words = newFlags, newWords
	}
	if flags == st.Flags && slices.Equal(words, st.Keywords) {
		return nil
	}
	m.rep.Counts.Flags++
	return m.restate(box, &st, flags, words, m.bump(box))
}

// gone expunges what the loser expunged. If we have changed its flags, they go to where the
// loser moved the message, or the message to RecoveredMailbox.
func (m *merging) gone(in *MergeGone) error {
	box, _, err := m.find(in.Mailbox)
	if err != nil || box == nil {
		return err
	}
	if there, err := m.marked(messageKey(box.ID, in.UID)); err != nil || !there {
		return err
	}
	var to model.MailboxID
	var toUID model.UID
	if in.To != 0 {
		v, err := m.get(m.markKey(markMessage, refOctets(in.To, in.ToUID)))
		if err != nil {
			return err
		}
		to, toUID, _ = decodeRef(v)
	}
	if to == 0 {
		err = m.rescue(box, in.UID)
	} else {
		err = m.carry(box, in.UID, to, toUID)
	}
	if err != nil {
		return err
	}
	m.at = in.At
	m.rep.Counts.Expunged++
	ex, err := m.remove(box, []model.UID{in.UID}, false, m.keep && in.To == 0)
	if err != nil || to == 0 {
		return err
	}
	return m.noteExpunged(box.ID, in.UID, ex.ModSeq, to, toUID)
}

// carry takes our flag changes of a message to where the loser moved it.
func (m *merging) carry(from *model.Mailbox, uid model.UID, to model.MailboxID, toUID model.UID) error {
	ours, err := netFlags(m.b, m.rule(), from.ID, uid, m.br.Fork)
	if err != nil || len(ours) == 0 {
		return err
	}
	box, err := m.mailbox(to)
	if err == ErrNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	ours = slices.DeleteFunc(ours, func(c FlagChange) bool { return c.Flag == model.FlagDeleted })
	return m.changeFlags(box, toUID, ours, nil)
}

func flagNoteRef(rest []byte) (model.MailboxID, model.UID) {
	return model.MailboxID(binary.BigEndian.Uint64(rest)), uidAt(rest, 8)
}
