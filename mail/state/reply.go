package state

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"mailplusd/mail/model"
)

// Reply is an automatic reply of an account to a sender. It is delivered unless the sender has got
// one within Period: the state machine decides, so two nodes that take two messages of one sender
// at the same time answer once.
type Reply struct {
	Account model.AccountID `cbor:"1,keyasint"`
	Sender  []byte          `cbor:"2,keyasint"` // 16 octets that name the sender
	Period  int64           `cbor:"3,keyasint"` // nanoseconds
	Most    int             `cbor:"4,keyasint"` // senders that are remembered; beyond it nobody is answered
	Deliver []Deliver       `cbor:"5,keyasint"`
}

// Replied tells whether a Reply was delivered.
type Replied struct {
	Sent bool `cbor:"1,keyasint,omitempty"`
	Full bool `cbor:"2,keyasint,omitempty"` // it was not, because Most senders are remembered
}

func (Reply) kind() Kind { return KindReply }

// senderOctets is the length of Reply.Sender.
const senderOctets = 16

func repliedKey(account model.AccountID, sender []byte) []byte {
	return append(be64(append(make([]byte, 0, 9+senderOctets), spaceReplied), uint64(account)), sender...)
}

func (a *apply) reply(op *Reply) (any, error) {
	if len(op.Sender) != senderOctets {
		return nil, refuse(ErrInvalid, "a sender is named by %d octets, not %d", senderOctets, len(op.Sender))
	}
	key := repliedKey(op.Account, op.Sender)
	v, err := a.get(key)
	if err != nil {
		return nil, err
	}
	if v != nil && a.entry.Time-int64(number(v)) < op.Period {
		return Replied{}, nil
	}
	n, err := a.tidyReplied(op.Account, a.entry.Time-op.Period)
	if err != nil {
		return nil, err
	}
	if n >= op.Most {
		return Replied{Full: true}, nil
	}
	for i := range op.Deliver {
		if _, err := a.deliver(&op.Deliver[i]); err != nil {
			return nil, err
		}
	}
	return Replied{Sent: true}, a.setReplied(key, a.entry.Time)
}

func (a *apply) setReplied(key []byte, at int64) error {
	if err := a.note(note{}, noteReply, key[1:]); err != nil {
		return err
	}
	return a.b.Set(key, be64(nil, uint64(at)), nil)
}

// tidyReplied forgets the senders of an account that were answered up to a time, and counts the others.
func (a *apply) tidyReplied(account model.AccountID, upto int64) (n int, err error) {
	it, err := a.b.NewIter(rangeOf(repliedKey(account, nil)))
	if err != nil {
		return 0, err
	}
	var old [][]byte
	for it.First(); it.Valid(); it.Next() {
		if int64(number(it.Value())) > upto {
			n++
		} else {
			old = append(old, bytes.Clone(it.Key()))
		}
	}
	err = it.Error()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	for _, key := range old {
		if err == nil {
			err = a.b.Delete(key, nil)
		}
	}
	return n, err
}

// forgetReplied drops what is remembered for an account that is deleted.
func (a *apply) forgetReplied(account model.AccountID) error {
	prefix := repliedKey(account, nil)
	return a.b.DeleteRange(prefix, after(prefix), nil)
}

// RepliedAt is when a sender got an account's automatic reply, Unix nanoseconds; 0: not, or it is
// forgotten. It may lag behind on a node that doesn't lead: Reply decides.
func (s *State) RepliedAt(account model.AccountID, sender []byte) (int64, error) {
	snap := s.snap()
	defer snap.Close()
	v, err := getCopy(snap, repliedKey(account, sender))
	return int64(number(v)), err
}

// replied tells the winner whom the loser has answered.
func (r *Replay) replied(b *batcher) error {
	return r.notes(noteReply, func(rest []byte, n *note) error {
		if len(rest) != 8+senderOctets {
			return fmt.Errorf("state: journal: a reply is noted in %d octets", len(rest))
		}
		item := MergeReplied{Account: model.AccountID(binary.BigEndian.Uint64(rest)), Sender: bytes.Clone(rest[8:]), At: n.Time}
		b.m.Replied = append(b.m.Replied, item)
		return b.took(item, senderOctets)
	})
}

// replied remembers whom the loser has answered: the later time holds.
func (m *merging) replied(in *MergeReplied) error {
	if len(in.Sender) != senderOctets {
		return nil
	}
	key := repliedKey(in.Account, in.Sender)
	v, err := m.get(key)
	if err != nil || int64(number(v)) >= in.At {
		return err
	}
	m.at = in.At
	return m.setReplied(key, in.At)
}
