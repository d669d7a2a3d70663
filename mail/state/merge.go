package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"mailplusd/mail/model"
)

// merging is the work of one Merge. Every item can come again: what was done for it is
// marked under the loser's numbers, or its result (a later time) makes the repetition void.
type merging struct {
	*apply
	br  Branch
	rep *MergeReport
	out Merged
}

// Kinds of marks: U<branch 18><kind>.
const (
	markMailbox = 'm' // <loser's mailbox 8>: CBOR mapped
	markMessage = 'a' // <loser's mailbox 8><UID 4>: our mailbox(8) UID(4)
	markPaired  = 'r' // <our mailbox 8><UID 4>: stands for a message of the loser
	markKept    = 'k' // <our mailbox 8><UID 4>: came under this UID
	markRecover = 'f' // <loser's mailbox 8><UID 4>
	markFlags   = 'F' // <loser's mailbox 8><UID 4>
	markQueue   = 'q' // <loser's queue 8>
	markRow     = 'R' // <table><key>
	markCounter = 'c' // <name>
	markSent    = 's' // <account 8><day 4>
)

func (m *merging) markKey(kind byte, rest ...[]byte) []byte {
	b := append(append(append(make([]byte, 0, 32), spaceMerge), m.br.key()...), kind)
	for _, r := range rest {
		b = append(b, r...)
	}
	return b
}

func (m *merging) marked(key []byte) (bool, error) {
	v, err := m.get(key)
	return v != nil, err
}

func refOctets(id model.MailboxID, uid model.UID) []byte {
	return be32(be64(make([]byte, 0, 12), uint64(id)), uint32(uid))
}

func (m *merging) line(format string, args ...any) {
	if len(m.rep.Lines) >= MaxMergeLines {
		m.rep.Left++
		return
	}
	text := fmt.Sprintf(format, args...)
	m.rep.Lines = append(m.rep.Lines, text[:min(len(text), 500)])
}

func (a *apply) merge(op *Merge) (any, error) {
	if !a.journal {
		return nil, refuse(ErrInvalid, "this node keeps no journal: it was in no pair when the branches parted")
	}
	if g := a.rule(); g.JournalFrom == g.Journal && g.JournalIndex > op.Branch.Fork {
		return nil, refuse(ErrInvalid, "the journal here begins at entry %d, behind the fork at %d", g.JournalIndex, op.Branch.Fork)
	}
	rep, err := getRow(a, MergeReports, op.Branch.String())
	if err != nil {
		return nil, err
	}
	if rep == nil {
		rep = &MergeReport{ID: op.Branch.String(), Loser: op.Loser, Epoch: op.Branch.Epoch, Fork: op.Branch.Fork, Started: a.entry.Time / 1e9}
	}
	if rep.Done != 0 {
		return Merged{Done: true}, nil
	}
	m := &merging{apply: a, br: op.Branch, rep: rep}
	a.seed = op.Branch.key()
	defer func() { a.at, a.same, a.seed = a.entry.Time, nil, nil }()
	for _, part := range []func() error{
		func() error { return each(op.Mailboxes, m.mailboxRow) }, func() error { return each(op.Messages, m.message) },
		func() error { return each(op.Flags, m.flags) }, func() error { return each(op.Gone, m.gone) },
		func() error { return each(op.Deleted, m.deleted) }, func() error { return each(op.Settle, m.settle) },
		func() error { return each(op.Recover, m.recover) }, func() error { return each(op.Queue, m.queue) },
		func() error { return each(op.Rcpts, m.rcpt) }, func() error { return each(op.Rows, m.row) },
		func() error { return each(op.Counters, m.count) }, func() error { return each(op.Replied, m.replied) },
		func() error { return each(op.Sent, m.sentThere) },
	} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	return m.out, putRow(a, MergeReports, rep)
}

// each stops at the first fault.
func each[T any](list []T, do func(*T) error) error {
	for i := range list {
		if err := do(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *apply) mergeDone(op *MergeDone) (any, error) {
	rep, err := getRow(a, MergeReports, op.Branch.String())
	if err != nil {
		return nil, err
	}
	if rep == nil { // a branch without any change
		rep = &MergeReport{ID: op.Branch.String(), Epoch: op.Branch.Epoch, Fork: op.Branch.Fork, Started: a.entry.Time / 1e9}
	}
	if rep.Done != 0 {
		return nil, nil
	}
	rep.Done, rep.Changes, rep.Digest = a.entry.Time/1e9, op.Count, op.Digest
	prefix := append([]byte{spaceMerge}, op.Branch.key()...)
	if err := a.b.DeleteRange(prefix, after(prefix), nil); err != nil {
		return nil, err
	}
	return nil, putRow(a, MergeReports, rep)
}

// mapped is where messages of a mailbox of the loser go.
type mapped struct {
	ID      model.MailboxID  `cbor:"1,keyasint,omitempty"` // ours; 0: deleted here, made when mail comes
	Same    bool             `cbor:"2,keyasint,omitempty"` // it is the same mailbox: UIDs can be kept
	Account model.AccountID  `cbor:"3,keyasint"`
	Name    string           `cbor:"4,keyasint"`
	Use     model.SpecialUse `cbor:"5,keyasint,omitempty"`
}

func (m *merging) mapping(id model.MailboxID) (*mapped, error) {
	v, err := m.get(m.markKey(markMailbox, be64(nil, uint64(id))))
	if err != nil || v == nil {
		return nil, err
	}
	to := new(mapped)
	return to, decMode.Unmarshal(v, to)
}

func (m *merging) setMapping(id model.MailboxID, to *mapped) error {
	v, err := encMode.Marshal(to)
	if err != nil {
		return err
	}
	return m.b.Set(m.markKey(markMailbox, be64(nil, uint64(id))), v, nil)
}

// find gives our mailbox for one of the loser's; nil when there is none.
func (m *merging) find(id model.MailboxID) (box *model.Mailbox, same bool, err error) {
	to, err := m.mapping(id)
	if err != nil {
		return nil, false, err
	}
	if to == nil {
		to = &mapped{ID: id, Same: true}
	}
	if to.ID == 0 {
		return nil, false, nil
	}
	box, err = m.mailbox(to.ID)
	if errors.Is(err, ErrNotFound) {
		return nil, false, nil
	}
	return box, to.Same, err
}

// target is find for new mail: a mailbox that is gone here is made again.
func (m *merging) target(id model.MailboxID) (*model.Mailbox, bool, error) {
	box, same, err := m.find(id)
	if err != nil || box != nil {
		return box, same, err
	}
	to, err := m.mapping(id)
	if err != nil {
		return nil, false, err
	}
	if to == nil {
		return nil, false, refuse(ErrInvalid, "messages for mailbox %d came before the mailbox", id)
	}
	old, err := m.byName(to.Account, to.Name)
	if err != nil {
		return nil, false, err
	}
	if old != 0 {
		box, err = m.mailbox(old)
	} else {
		m.line("mailbox %q was deleted here, but got new mail there: made again with the new mail", to.Name)
		m.rep.Counts.Mailboxes++
		box, err = m.make(to.Account, to.Name)
	}
	if err != nil {
		return nil, false, err
	}
	to.ID, to.Same = box.ID, false
	return box, false, m.setMapping(id, to)
}

// make makes a mailbox with the ones above it.
func (m *merging) make(account model.AccountID, name string) (*model.Mailbox, error) {
	if err := m.parents(account, name); err != nil {
		return nil, err
	}
	box, err := m.newMailbox(account, name, "")
	if err == nil {
		box.Subscribed = true
	}
	return box, err
}

// recovered is the account's mailbox for what one side expunged and the other changed.
func (m *merging) recovered(account model.AccountID) (*model.Mailbox, error) {
	id, err := m.byName(account, RecoveredMailbox)
	if err != nil {
		return nil, err
	}
	if id != 0 {
		return m.mailbox(id)
	}
	return m.make(account, RecoveredMailbox)
}

func decodeRef(v []byte) (id model.MailboxID, uid model.UID, ok bool) {
	if len(v) != 12 {
		return 0, 0, false
	}
	return model.MailboxID(binary.BigEndian.Uint64(v)), model.UID(binary.BigEndian.Uint32(v[8:])), true
}
