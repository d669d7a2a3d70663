package state

import (
	"bytes"
	"encoding/binary"
	"slices"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// The journal says what has changed, and when, since the nodes were last known to be in
// sync. A merge of two branches is made from it (merge.go): the loser's side tells what it
// did, the winner's side what must not be overwritten. The replicated log can't serve for
// that: it doesn't hold what an operation came to (UIDs), and it may have been cut.
//
// It is kept from the first entry in a pair on, not only while alone: what a leader has
// appended when it loses its peer is applied before it knows that it is alone, and the peer
// may never have seen it. In sync it is cut in generations, of which the older one is dropped
// each time; an entry that only one side has can't be so old. Alone nothing is dropped.
// A single node keeps none.
//
// Keys: J<generation 4><kind 1> and
//
//	'a' <mailbox 8><likeness 16><uid 4>  a message was added
//	'f' <mailbox 8><uid 4><index 8><n 2> flags changed
//	'x' <mailbox 8><uid 4>               expunged or moved away
//	'm' <mailbox 8><what>                mailbox: c made, r renamed, d deleted, s subscription
//	'Q' <queue 8>                        queued
//	'q' <queue 8><n 4>                   recipient done or changed
//	'r' <row key>                        row put or deleted
//	'k' <index 8><n 2>                   counter
//	'v' <account 8><sender 16>           answered automatically
//	's' <account 8><index 8><n 2>        counted as sent
const (
	noteAdd     = 'a'
	noteFlag    = 'f'
	noteExpunge = 'x'
	noteMailbox = 'm'
	noteQueue   = 'Q'
	noteRcpt    = 'q'
	noteRowKey  = 'r'
	noteCount   = 'k'
	noteReply   = 'v'
	noteSent    = 's'
)

// journalCount is how many entries a generation covers while in sync.
var journalCount = uint64(100_000)

// note is the value of every line of the journal; each kind fills its part.
type note struct {
	Index uint64 `cbor:"1,keyasint"`
	Time  int64  `cbor:"2,keyasint"`

	Set        model.Flags `cbor:"3,keyasint,omitempty"` // flags
	Clear      model.Flags `cbor:"4,keyasint,omitempty"`
	SetWords   []string    `cbor:"5,keyasint,omitempty"`
	ClearWords []string    `cbor:"6,keyasint,omitempty"`

	To    model.MailboxID `cbor:"7,keyasint,omitempty"` // where a moved message went
	ToUID model.UID       `cbor:"8,keyasint,omitempty"`

	Account model.AccountID `cbor:"9,keyasint,omitempty"` // mailbox: as it was before
	Name    string          `cbor:"10,keyasint,omitempty"`

	Done bool  `cbor:"11,keyasint,omitempty"` // recipient
	Add  int64 `cbor:"12,keyasint,omitempty"` // counter

	ModSeq uint64 `cbor:"13,keyasint,omitempty"` // of an expunge
	Op     []byte `cbor:"14,keyasint,omitempty"` // queue: ID of the entry that queued it

	Day    model.Day `cbor:"15,keyasint,omitempty"` // sent: Add are messages
	Octets int64     `cbor:"16,keyasint,omitempty"`
}

func noteKey(gen uint32, kind byte, rest ...[]byte) []byte {
	b := append(make([]byte, 0, 48), spaceJournal)
	b = append(binary.BigEndian.AppendUint32(b, gen), kind)
	for _, r := range rest {
		b = append(b, r...)
	}
	return b
}

const noteHead = 1 + 4 + 1 // octets in front of what a kind puts in the key

func (a *apply) note(n note, kind byte, rest ...[]byte) error {
	if !a.journal {
		return nil
	}
	n.Index, n.Time = a.index, a.at
	v, err := encMode.Marshal(&n)
	if err != nil {
		return err
	}
	return a.b.Set(noteKey(a.rule().Journal, kind, rest...), v, nil)
}

// serial tells notes of one entry apart.
func (a *apply) serial() []byte {
	a.notes++
	return binary.BigEndian.AppendUint16(be64(nil, a.index), a.notes)
}

// likeness is what two copies of one message have in common: the key that the committer gave
// (Deliver.Same), else the start of the body's name.
func likeness(same []byte, body model.BodyID) []byte {
	if len(same) == 16 {
		return same
	}
	return body[:16]
}

func (a *apply) noteAdded(id model.MailboxID, st *model.MessageState) error {
	if !a.journal {
		return nil
	}
	return a.note(note{}, noteAdd, be64(nil, uint64(id)), likeness(a.same, st.Body), be32(nil, uint32(st.UID)))
}

func (a *apply) noteFlags(m *model.Mailbox, uid model.UID, old, now model.Flags, oldWords, newWords []uint16) error {
	if !a.journal {
		return nil
	}
	n := note{Set: now &^ old, Clear: old &^ now}
	for _, w := range newWords {
		if !slices.Contains(oldWords, w) {
			n.SetWords = append(n.SetWords, wordName(m, w))
		}
	}
	for _, w := range oldWords {
		if !slices.Contains(newWords, w) {
			n.ClearWords = append(n.ClearWords, wordName(m, w))
		}
	}
	return a.note(n, noteFlag, be64(nil, uint64(m.ID)), be32(nil, uint32(uid)), a.serial())
}

func wordName(m *model.Mailbox, w uint16) string {
	if int(w) < len(m.Keywords) {
		return m.Keywords[w]
	}
	return ""
}

func wordNames(m *model.Mailbox, words []uint16) []string {
	out := make([]string, 0, len(words))
	for _, w := range words {
		if name := wordName(m, w); name != "" {
			out = append(out, name)
		}
	}
	return out
}

func (a *apply) noteExpunged(id model.MailboxID, uid model.UID, modseq uint64, to model.MailboxID, toUID model.UID) error {
	if !a.journal {
		return nil
	}
	return a.note(note{ModSeq: modseq, To: to, ToUID: toUID}, noteExpunge, be64(nil, uint64(id)), be32(nil, uint32(uid)))
}

func (a *apply) noteMailbox(m *model.Mailbox, what byte) error {
	if !a.journal {
		return nil
	}
	return a.note(note{Account: m.Account, Name: m.Name}, noteMailbox, be64(nil, uint64(m.ID)), []byte{what})
}

// noteQueued notes which entry queued a message. An entry that queues several, as for forwards,
// numbers those behind the first.
func (a *apply) noteQueued(id model.QueueID) error {
	op := a.entry.ID[:]
	if a.queued > 0 {
		op = append(bytes.Clone(op), a.queued)
	}
	a.queued++
	if !a.journal {
		return nil
	}
	return a.note(note{Op: op}, noteQueue, be64(nil, uint64(id)))
}

func (a *apply) noteRcpt(id model.QueueID, n uint32, done bool) error {
	if !a.journal {
		return nil
	}
	return a.note(note{Done: done}, noteRcpt, be64(nil, uint64(id)), be32(nil, n))
}

func (a *apply) noteRow(key []byte) error {
	if !a.journal || key[0] != spaceRow {
		return nil
	}
	return a.note(note{}, noteRowKey, key)
}

func (a *apply) noteCounter(name string, add int64) error {
	if !a.journal {
		return nil
	}
	return a.note(note{Name: name, Add: add}, noteCount, a.serial())
}

// enterPhase keeps or drops the journal as the new phase needs it.
func (a *apply) enterPhase(g *Regime, p Phase) error {
	g.Phase = p
	a.journal = p != PhaseSingle
	if p == PhaseSolo {
		return nil
	}
	g.Journal++
	g.JournalFrom, g.JournalIndex = g.Journal, a.index
	return a.b.DeleteRange([]byte{spaceJournal}, noteKey(g.Journal, 0), nil)
}

// cutJournal begins a new generation when it is time; only while in sync.
func (a *apply) cutJournal() error {
	g := a.rule()
	if g.Phase != PhasePair || a.index-g.JournalIndex < journalCount {
		return nil
	}
	next := *g
	next.JournalFrom, next.Journal, next.JournalIndex = g.Journal, g.Journal+1, a.index
	if err := a.b.DeleteRange([]byte{spaceJournal}, noteKey(next.JournalFrom, 0), nil); err != nil {
		return err
	}
	rows := a.change.rows
	err := a.setRule(next)
	a.change.rows = rows
	return err
}

// scanNotes calls fn for the lines of one kind that are newer than the fork, oldest
// generation first. rest is the key behind the kind; it and the note are valid during fn.
func scanNotes(r pebble.Reader, g *Regime, kind byte, prefix []byte, fork uint64, fn func(rest []byte, n *note) error) error {
	for gen := g.JournalFrom; gen <= g.Journal; gen++ {
		lower := noteKey(gen, kind, prefix)
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: after(lower)})
		if err != nil {
			return err
		}
		for it.First(); it.Valid(); it.Next() {
			var n note
			if err = decMode.Unmarshal(it.Value(), &n); err != nil {
				break
			}
			if n.Index <= fork {
				continue
			}
			if err = fn(it.Key()[noteHead:], &n); err != nil {
				break
			}
		}
		if err == nil {
			err = it.Error()
		}
		if cerr := it.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lastNote gives the newest line under a whole key; nil when there is none behind the fork.
func lastNote(r pebble.Reader, g *Regime, kind byte, key []byte, fork uint64) (*note, error) {
	for gen := g.Journal; ; gen-- {
		v, err := getCopy(r, noteKey(gen, kind, key))
		if err != nil {
			return nil, err
		}
		if v != nil {
			n := new(note)
			if err := decMode.Unmarshal(v, n); err != nil || n.Index <= fork {
				return nil, err
			}
			return n, nil
		}
		if gen <= g.JournalFrom {
			return nil, nil
		}
	}
}
