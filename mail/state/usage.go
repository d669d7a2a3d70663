package state

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// Sent counts what an account sends on a day, and refuses the whole entry, the mail with it, when a
// limit would be passed: ErrOver, as an OverLimit. Entries are applied one after the other, so however
// many messages are on their way at once, the limit holds exactly. The day is the proposer's: the
// state machine has no clock. A count is one row per account, that a later day starts anew.
type Sent struct {
	Account     model.AccountID `cbor:"1,keyasint"`
	Day         model.Day       `cbor:"2,keyasint"`
	Messages    int64           `cbor:"3,keyasint"`
	Octets      int64           `cbor:"4,keyasint"`
	MaxMessages int64           `cbor:"5,keyasint,omitempty"` // 0: no limit
	MaxOctets   int64           `cbor:"6,keyasint,omitempty"`
}

// SentClear forgets what accounts have sent. Its result is Changed.
type SentClear struct {
	Accounts []model.AccountID `cbor:"1,keyasint,omitempty"`
	All      bool              `cbor:"2,keyasint,omitempty"` // every account
}

func (Sent) kind() Kind      { return KindSent }
func (SentClear) kind() Kind { return KindSentClear }

// ErrOver refuses an entry with a message too many.
var ErrOver = errors.New("the daily sending limit is reached")

// OverLimit is ErrOver with the account, and what it has sent on the day without the message.
type OverLimit struct {
	Account model.AccountID
	Usage   model.Usage
}

const overText = "account %d has sent %d messages of %d octets on day %d, which leaves no room"

func (o *OverLimit) Error() string {
	return fmt.Sprintf(overText, o.Account, o.Usage.Messages, o.Usage.Octets, o.Usage.Day)
}

// Unwrap makes it ErrOver.
func (o *OverLimit) Unwrap() error { return ErrOver }

// overOf reads an OverLimit that has travelled as its text.
func overOf(text string) error {
	o := new(OverLimit)
	if _, err := fmt.Sscanf(text, overText, &o.Account, &o.Usage.Messages, &o.Usage.Octets, &o.Usage.Day); err != nil {
		return ErrOver
	}
	return o
}

// usageOctets is the length of a row: day(4) messages(8) octets(8).
const usageOctets = 20

func usageKey(account model.AccountID) []byte {
	return be64(append(make([]byte, 0, 9), spaceUsage), uint64(account))
}

func decodeUsage(v []byte) (u model.Usage) {
	if len(v) == usageOctets {
		u.Day = model.Day(binary.BigEndian.Uint32(v))
		u.Messages, u.Octets = int64(binary.BigEndian.Uint64(v[4:])), int64(binary.BigEndian.Uint64(v[12:]))
	}
	return u
}

func (a *apply) usage(account model.AccountID) (model.Usage, error) {
	v, closer, err := a.b.Get(usageKey(account))
	if errors.Is(err, pebble.ErrNotFound) {
		return model.Usage{}, nil
	}
	if err != nil {
		return model.Usage{}, err
	}
	return decodeUsage(v), closer.Close()
}

// setUsage stores a count and notes by how much it has changed.
func (a *apply) setUsage(account model.AccountID, now model.Usage, messages, octets int64) error {
	if a.journal {
		if err := a.note(note{Day: now.Day, Add: messages, Octets: octets}, noteSent, be64(nil, uint64(account)), a.serial()); err != nil {
			return err
		}
	}
	if now.Messages == 0 && now.Octets == 0 {
		return a.b.Delete(usageKey(account), nil)
	}
	v := be32(make([]byte, 0, usageOctets), uint32(now.Day))
	return a.b.Set(usageKey(account), be64(be64(v, uint64(now.Messages)), uint64(now.Octets)), nil)
}

func (a *apply) sent(op *Sent) (any, error) {
	if op.Messages < 0 || op.Octets < 0 {
		return nil, refuse(ErrInvalid, "%d messages of %d octets can't be counted", op.Messages, op.Octets)
	}
	u, err := a.usage(op.Account)
	if err != nil {
		return nil, err
	}
	u = u.On(op.Day)
	if op.MaxMessages > 0 && u.Messages+op.Messages > op.MaxMessages || op.MaxOctets > 0 && u.Octets+op.Octets > op.MaxOctets {
		return nil, &OverLimit{Account: op.Account, Usage: u}
	}
	u.Messages += op.Messages
	u.Octets += op.Octets
	return nil, a.setUsage(op.Account, u, op.Messages, op.Octets)
}

func (a *apply) sentClear(op *SentClear) (any, error) {
	accounts := op.Accounts
	if op.All {
		accounts = nil
		if err := eachUsage(a.b, func(id model.AccountID, _ model.Usage) bool { accounts = append(accounts, id); return true }); err != nil {
			return nil, err
		}
	}
	var out Changed
	for _, id := range accounts {
		u, err := a.usage(id)
		if err != nil {
			return nil, err
		}
		if u.Messages == 0 && u.Octets == 0 {
			continue
		}
		out.N++
		if err := a.setUsage(id, model.Usage{Day: u.Day}, -u.Messages, -u.Octets); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func eachUsage(r pebble.Reader, fn func(model.AccountID, model.Usage) bool) error {
	it, err := r.NewIter(rangeOf([]byte{spaceUsage}))
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if k := it.Key(); len(k) == 9 && !fn(model.AccountID(binary.BigEndian.Uint64(k[1:])), decodeUsage(it.Value())) {
			break
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// Usage is what an account has sent on the last day on which it did: see model.Usage.On. It may lag
// behind on a node that doesn't lead: Sent decides.
func (s *State) Usage(account model.AccountID) (model.Usage, error) {
	h := s.acquire()
	defer h.release()
	v, err := getCopy(h, usageKey(account))
	return decodeUsage(v), err
}

// Usages are the counts of all accounts that have one.
func (s *State) Usages() (map[model.AccountID]model.Usage, error) {
	snap := s.snap()
	defer snap.Close()
	out := map[model.AccountID]model.Usage{}
	return out, eachUsage(snap, func(id model.AccountID, u model.Usage) bool { out[id] = u; return true })
}

// MergeSent is what the loser has counted for an account on a day.
type MergeSent struct {
	Account  model.AccountID `cbor:"1,keyasint"`
	Day      model.Day       `cbor:"2,keyasint"`
	Messages int64           `cbor:"3,keyasint"` // less than 0: more were cleared than counted
	Octets   int64           `cbor:"4,keyasint"`
}

// sent tells the winner what the loser has counted.
func (r *Replay) sent(b *batcher) error {
	sums := map[MergeSent]*MergeSent{} // by account and day
	if err := r.notes(noteSent, func(rest []byte, n *note) error {
		if len(rest) < 8 {
			return fmt.Errorf("state: journal: what is sent is noted in %d octets", len(rest))
		}
		key := MergeSent{Account: model.AccountID(binary.BigEndian.Uint64(rest)), Day: n.Day}
		if sums[key] == nil {
			sums[key] = &MergeSent{Account: key.Account, Day: key.Day}
		}
		sums[key].Messages += n.Add
		sums[key].Octets += n.Octets
		return nil
	}); err != nil {
		return err
	}
	list := make([]MergeSent, 0, len(sums))
	for _, item := range sums {
		list = append(list, *item)
	}
	slices.SortFunc(list, func(a, b MergeSent) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Day, b.Day))
	})
	for _, item := range list {
		b.m.Sent = append(b.m.Sent, item)
		if err := b.took(item, usageOctets); err != nil {
			return err
		}
	}
	return nil
}

// sentThere adds what the loser has counted, unless the day is over. Limits are not asked: it is sent.
func (m *merging) sentThere(in *MergeSent) error {
	mark := m.markKey(markSent, be64(nil, uint64(in.Account)), be32(nil, uint32(in.Day)))
	if done, err := m.marked(mark); err != nil || done {
		return err
	}
	if err := m.b.Set(mark, []byte{1}, nil); err != nil {
		return err
	}
	u, err := m.usage(in.Account)
	if err != nil || u.Day > in.Day {
		return err
	}
	if u.Day < in.Day {
		u = model.Usage{Day: in.Day}
	}
	was := u
	u.Messages, u.Octets = max(u.Messages+in.Messages, 0), max(u.Octets+in.Octets, 0)
	if u == was {
		return nil
	}
	m.rep.Counts.Counters++
	return m.setUsage(in.Account, u, u.Messages-was.Messages, u.Octets-was.Octets)
}
