package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"mailplusd/mail/model"
)

// Limits of one Merge, which is one entry: items, and octets of parsed headers.
const (
	mergeItems  = 500
	mergeOctets = 512 << 10
)

// Replay turns what a branch did since the fork into Merge operations for the other side.
// It reads the loser's state at one moment and changes nothing there. The loser must have
// stopped; run again after an interruption, it makes the same operations.
type Replay struct {
	branch Branch
	loser  string
	snap   snapshot
	rule   *Regime
	closed bool

	boxes []MergeMailbox
	lost  []model.Mailbox // deleted ones that got mail since the fork and whose mail is kept
	added map[model.MailboxID]map[model.UID]addedNote
}

type addedNote struct {
	like []byte
	at   int64
}

// NewReplay opens the branch of this state, whose owner (a node ID) is named in the report.
// fork is the last index that both sides have in common. Close it.
func (s *State) NewReplay(loser string, node uint16, fork uint64) (*Replay, error) {
	r := &Replay{loser: loser, snap: s.snap(), added: map[model.MailboxID]map[model.UID]addedNote{}}
	var err error
	if r.rule, err = readRegime(r.snap); err != nil {
		r.Close()
		return nil, err
	}
	r.branch = Branch{Node: node, Epoch: r.rule.Epoch, Fork: fork}
	if r.rule.Phase == PhaseSingle {
		err = errors.New("state: this side keeps no journal, so its branch can't be merged")
	} else if r.rule.JournalFrom == r.rule.Journal && r.rule.JournalIndex > fork {
		err = fmt.Errorf("state: the journal begins at entry %d, behind the fork at %d", r.rule.JournalIndex, fork)
	}
	if err == nil {
		err = r.gather()
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Branch names what is merged.
func (r *Replay) Branch() Branch { return r.branch }

// Close ends the replay. It may be called more than once.
func (r *Replay) Close() {
	if !r.closed {
		r.closed = true
		r.snap.Close()
	}
}

func (r *Replay) notes(kind byte, fn func(rest []byte, n *note) error) error {
	return scanNotes(r.snap, r.rule, kind, nil, r.branch.Fork, fn)
}

// gather finds the mailboxes in which something happened, those above others first, and the
// messages that were added.
func (r *Replay) gather() error {
	touched := map[model.MailboxID]*MergeMailbox{}
	box := func(rest []byte) *MergeMailbox {
		id := model.MailboxID(binary.BigEndian.Uint64(rest))
		if touched[id] == nil {
			touched[id] = new(MergeMailbox)
		}
		return touched[id]
	}
	err := r.notes(noteAdd, func(rest []byte, n *note) error {
		box(rest)
		id := model.MailboxID(binary.BigEndian.Uint64(rest))
		if r.added[id] == nil {
			r.added[id] = map[model.UID]addedNote{}
		}
		r.added[id][uidAt(rest, 24)] = addedNote{bytes.Clone(rest[8:24]), n.Time}
		return nil
	})
	for _, kind := range []byte{noteFlag, noteExpunge} {
		if err == nil {
			err = r.notes(kind, func(rest []byte, _ *note) error { box(rest); return nil })
		}
	}
	if err == nil {
		err = r.notes(noteMailbox, func(rest []byte, n *note) error {
			switch m := box(rest); rest[8] {
			case 'c':
				m.Made = true
			case 'r':
				m.RenamedAt = n.Time
			case 's':
				m.SubscribedAt = n.Time
			}
			return nil
		})
	}
	if err != nil {
		return err
	}
	for id, m := range touched {
		row, err := readMailbox(r.snap, id)
		if errors.Is(err, ErrNotFound) {
			if err := r.gatherLost(id); err != nil {
				return err
			}
			continue // deleted: see deleted
		}
		if err != nil {
			return err
		}
		m.Row = *row
		r.boxes = append(r.boxes, *m)
	}
	slices.SortFunc(r.boxes, func(a, b MergeMailbox) int {
		if a.Row.Account != b.Row.Account {
			return int(int64(a.Row.Account) - int64(b.Row.Account))
		}
		return strings.Compare(a.Row.Name, b.Row.Name)
	})
	return nil
}

// Bodies calls fn for the bodies that the other side may lack. It must have them all before Run.
func (r *Replay) Bodies(fn func(model.BodyID) error) error {
	for i := range r.boxes {
		err := r.eachAdded(&r.boxes[i].Row, func(m *MergeMessage) error { return fn(m.Body) })
		if err != nil {
			return err
		}
	}
	for i := range r.lost {
		err := r.eachAdded(&r.lost[i], func(m *MergeMessage) error { return fn(m.Body) })
		if err != nil {
			return err
		}
	}
	return r.notes(noteQueue, func(rest []byte, _ *note) error {
		q, _, err := r.queued(model.QueueID(binary.BigEndian.Uint64(rest)))
		if err != nil || q == nil {
			return err
		}
		return fn(q.Body)
	})
}

// Propose brings one Merge into the winner's log and gives its result.
type Propose func(ctx context.Context, m *Merge) (Merged, error)

// Run proposes everything. It gives the number of items and their digest, for MergeDone.
func (r *Replay) Run(ctx context.Context, propose Propose) (count uint64, digest []byte, err error) {
	b := &batcher{r: r, ctx: ctx, propose: propose, sum: sha256.New()}
	for _, part := range []func(*batcher) error{
		r.mailboxes, r.messages, r.flags, r.expunges, r.deleted, r.settle, r.queue, r.rcpts, r.rows, r.counters, r.replied, r.sent,
	} {
		if err := part(b); err != nil {
			return b.count, nil, err
		}
		if err := b.flush(); err != nil {
			return b.count, nil, err
		}
		if b.done {
			break
		}
	}
	return b.count, b.sum.Sum(nil), nil
}

// batcher gathers items until an entry is full.
type batcher struct {
	r       *Replay
	ctx     context.Context
	propose Propose
	m       Merge
	items   int
	octets  int
	count   uint64
	sum     hash.Hash
	done    bool // the winner has the whole branch already
}

// took counts an item that was put into b.m.
func (b *batcher) took(item any, octets int) error {
	v, err := encMode.Marshal(item)
	if err != nil {
		return err
	}
	b.sum.Write(v)
	b.count++
	b.items++
	b.octets += octets + 64
	if b.items >= mergeItems || b.octets >= mergeOctets {
		return b.flush()
	}
	return nil
}

func (b *batcher) flush() error {
	if b.items == 0 || b.done {
		b.m, b.items, b.octets = Merge{}, 0, 0
		return nil
	}
	m := b.m
	b.m, b.items, b.octets = Merge{}, 0, 0
	return b.send(&m)
}

func (b *batcher) send(m *Merge) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	m.Branch, m.Loser = b.r.branch, b.r.loser
	out, err := b.propose(b.ctx, m)
	if err != nil {
		return fmt.Errorf("state: merge: %w", err)
	}
	b.done = b.done || out.Done
	var again Merge
	octets := 0
	for _, ref := range out.Wanted {
		msg, err := b.r.read(ref)
		if err != nil {
			return err
		}
		if msg == nil {
			continue
		}
		again.Recover = append(again.Recover, *msg)
		if octets += len(msg.Meta); octets >= mergeOctets {
			if err := b.send(&again); err != nil {
				return err
			}
			again, octets = Merge{}, 0
		}
	}
	if len(again.Recover) > 0 {
		return b.send(&again)
	}
	return nil
}

func (r *Replay) mailboxes(b *batcher) error {
	for i := range r.boxes {
		b.m.Mailboxes = append(b.m.Mailboxes, r.boxes[i])
		if err := b.took(r.boxes[i], 512); err != nil {
			return err
		}
	}
	return nil
}

func (r *Replay) messages(b *batcher) error {
	take := func(m *MergeMessage) error {
		b.m.Messages = append(b.m.Messages, *m)
		return b.took(m, len(m.Meta))
	}
	for i := range r.boxes {
		if err := r.eachAdded(&r.boxes[i].Row, take); err != nil {
			return err
		}
	}
	for i := range r.lost {
		if err := r.eachAdded(&r.lost[i], take); err != nil {
			return err
		}
	}
	return nil
}

// eachAdded gives what was added to a mailbox and is still there or kept, by ascending UID.
func (r *Replay) eachAdded(box *model.Mailbox, fn func(*MergeMessage) error) error {
	for _, uid := range sortedUIDs(r.added[box.ID]) {
		m, err := r.readIn(box, uid)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// read gives a message with everything that the winner needs; nil when it is gone.
func (r *Replay) read(ref MessageRef) (*MergeMessage, error) {
	box, err := readMailbox(r.snap, ref.Mailbox)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := r.readIn(box, ref.UID)
	if m != nil && m.Gone != 0 {
		return nil, err
	}
	return m, err
}

func (r *Replay) readIn(box *model.Mailbox, uid model.UID) (*MergeMessage, error) {
	v, err := getCopy(r.snap, messageKey(box.ID, uid))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return r.readKept(box, uid)
	}
	st := model.MessageState{UID: uid}
	if err := decodeMessage(v, &st); err != nil {
		return nil, err
	}
	meta, err := getCopy(r.snap, metaKey(box.ID, uid))
	if err != nil {
		return nil, err
	}
	m := r.merged(box, &st, wordNames(box, st.Keywords), meta)
	m.Gone = r.goneAt(box.ID)
	return m, nil
}

func (r *Replay) merged(box *model.Mailbox, st *model.MessageState, words []string, meta []byte) *MergeMessage {
	n, ok := r.added[box.ID][st.UID]
	if !ok {
		n = addedNote{like: likeness(nil, st.Body)}
	}
	return &MergeMessage{
		Mailbox: box.ID, UID: st.UID, Account: box.Account, Flags: st.Flags, Words: words, Date: st.Date,
		SaveDate: st.SaveDate, Size: st.Size, Body: st.Body, GUID: st.GUID, Meta: meta, Like: n.like, At: n.at,
	}
}

// older tells whether a message is from before the fork. A UID that this side gave itself
// may be another message there.
func (r *Replay) older(id model.MailboxID, uid model.UID) bool {
	_, ours := r.added[id][uid]
	return !ours
}

func (r *Replay) flags(b *batcher) error {
	refs := map[MessageRef]bool{}
	err := r.notes(noteFlag, func(rest []byte, _ *note) error {
		if id, uid := flagNoteRef(rest); r.older(id, uid) {
			refs[MessageRef{Mailbox: id, UID: uid}] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, ref := range sortedRefs(refs) {
		if v, err := getCopy(r.snap, messageKey(ref.Mailbox, ref.UID)); err != nil {
			return err
		} else if v == nil {
			continue // expunged afterwards
		}
		changes, err := netFlags(r.snap, r.rule, ref.Mailbox, ref.UID, r.branch.Fork)
		if err != nil {
			return err
		}
		if len(changes) == 0 {
			continue
		}
		item := MergeFlags{Mailbox: ref.Mailbox, UID: ref.UID, Changes: changes}
		b.m.Flags = append(b.m.Flags, item)
		if err := b.took(item, 0); err != nil {
			return err
		}
	}
	return nil
}

func sortedRefs(set map[MessageRef]bool) []MessageRef {
	out := make([]MessageRef, 0, len(set))
	for ref := range set {
		out = append(out, ref)
	}
	slices.SortFunc(out, func(a, b MessageRef) int {
		return bytes.Compare(refOctets(a.Mailbox, a.UID), refOctets(b.Mailbox, b.UID))
	})
	return out
}

func (r *Replay) expunges(b *batcher) error {
	return r.notes(noteExpunge, func(rest []byte, n *note) error {
		id, uid := flagNoteRef(rest)
		if !r.older(id, uid) {
			return nil
		}
		item := MergeGone{Mailbox: id, UID: uid, At: n.Time, To: n.To, ToUID: n.ToUID}
		b.m.Gone = append(b.m.Gone, item)
		return b.took(item, 0)
	})
}

func (r *Replay) deleted(b *batcher) error {
	made := map[model.MailboxID]bool{}
	return r.notes(noteMailbox, func(rest []byte, n *note) error {
		id := model.MailboxID(binary.BigEndian.Uint64(rest))
		if rest[8] == 'c' {
			made[id] = true // 'c' comes before 'd'
		}
		if rest[8] != 'd' || made[id] {
			return nil
		}
		item := MergeDeleted{Mailbox: id, At: n.Time}
		b.m.Deleted = append(b.m.Deleted, item)
		return b.took(item, 0)
	})
}

func (r *Replay) settle(b *batcher) error {
	for i := range r.boxes {
		item := MergeSettle{Mailbox: r.boxes[i].Row.ID, UIDNext: r.boxes[i].Row.UIDNext}
		b.m.Settle = append(b.m.Settle, item)
		if err := b.took(item, 0); err != nil {
			return err
		}
	}
	return nil
}
