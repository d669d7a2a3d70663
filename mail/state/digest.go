package state

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// Digest is a hash over the content of the state.
type Digest struct {
	Applied uint64   `cbor:"1,keyasint" json:"applied"` // the state of which entry this is
	Sum     [32]byte `cbor:"2,keyasint" json:"sum"`
}

// digested are the spaces that Digest covers: everything that users and administrators have,
// the queue, the references of bodies, counters, the marks of a merge and of attempts.
//
// Left out is what depends on the numbering of the log rather than on what was done: the
// applied index, versions of rows and tables, remembered results and the journal. So the
// digest compares two nodes at one index, and also two ways to the same state.
var digested = []byte{
	spaceMeta, spaceRow, spaceIndex, spaceMailbox, spaceName, spaceMessage, spaceMeta2, spaceChange, spaceRef, spaceUnref,
	spaceQueue, spaceRcpt, spaceDue, spaceCounter, spaceMerge, spaceStarted, spaceKept, spaceExpiry, spaceGone, spaceGoneOf, spaceReplied, spaceUsage,
}

// Digest reads the whole state at one moment: seconds for a million messages.
func (s *State) Digest(ctx context.Context) (Digest, error) {
	snap := s.snap()
	defer snap.Close()
	v, err := getCopy(snap, keyApplied)
	if err != nil {
		return Digest{}, err
	}
	d := Digest{Applied: number(v)}
	sum := sha256.New()
	for _, space := range digested {
		if err := digestSpace(ctx, snap, space, sum); err != nil {
			return Digest{}, err
		}
	}
	sum.Sum(d.Sum[:0])
	return d, nil
}

func digestSpace(ctx context.Context, r pebble.Reader, space byte, sum hash.Hash) error {
	it, err := r.NewIter(rangeOf([]byte{space}))
	if err != nil {
		return err
	}
	defer it.Close()
	var head [8]byte
	n := 0
	for it.First(); it.Valid(); it.Next() {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		k, v := it.Key(), it.Value()
		switch {
		case space == spaceRow && len(v) >= 8:
			v = v[8:]
		case space == spaceMeta:
			switch string(k) {
			case string(keyApplied), string(keyOnce), string(keyFormat):
				continue
			case string(keyRegime):
				g, err := readRegime(r)
				if err != nil {
					return err
				}
				g.Journal, g.JournalFrom, g.JournalIndex = 0, 0, 0
				if v, err = encMode.Marshal(g); err != nil {
					return err
				}
			}
		}
		binary.BigEndian.PutUint32(head[:], uint32(len(k)))
		binary.BigEndian.PutUint32(head[4:], uint32(len(v)))
		sum.Write(head[:])
		sum.Write(k)
		sum.Write(v)
	}
	return it.Error()
}

// MailboxDigest is what two nodes compare of one mailbox.
type MailboxDigest struct {
	Mailbox       model.MailboxID `cbor:"1,keyasint"`
	UIDNext       model.UID       `cbor:"2,keyasint"`
	HighestModSeq uint64          `cbor:"3,keyasint"`
	Messages      uint32          `cbor:"4,keyasint"`
	Hash          [32]byte        `cbor:"5,keyasint"` // of every message's state
}

// MailboxDigest reads one mailbox; ErrNotFound when it is gone.
func (s *State) MailboxDigest(id model.MailboxID) (MailboxDigest, error) {
	sum := sha256.New()
	var buf []byte
	m, err := s.View(id, 1, 1<<32-1, func(st *model.MessageState) bool {
		buf = encodeMessage(be32(buf[:0], uint32(st.UID)), st)
		sum.Write(buf)
		return true
	})
	d := MailboxDigest{Mailbox: id, UIDNext: m.UIDNext, HighestModSeq: m.HighestModSeq, Messages: m.Messages}
	sum.Sum(d.Hash[:0])
	return d, err
}
