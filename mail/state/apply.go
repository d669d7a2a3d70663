package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
	"github.com/fxamacker/cbor/v2"
)

// apply is the work of one entry: an indexed batch that is committed whole or thrown away.
type apply struct {
	s         *State
	b         *pebble.Batch
	entry     *Entry
	index     uint64
	mailboxes map[model.MailboxID]*model.Mailbox // read or changed in this entry; nil: deleted
	dirty     []model.MailboxID
	change    change
	guids     uint32
	regime    *Regime     // changed by this entry; nil: the state's
	once      *onceWindow // begun by this entry
	journal   bool        // note what a merge needs
	at        int64       // the time noted there
	notes     uint16      // notes of this entry
	queued    byte        // messages that this entry has queued
	seed      []byte      // what names of new mailboxes are made from in a merge; nil: the entry's ID
	same      []byte      // likeness of the messages being placed, see Deliver.Same
	keep      bool        // what this entry expunges can be given back, see Keeping
	scratch   []byte
}

// LogEntry is one committed entry of the replicated log.
type LogEntry struct {
	Index uint64
	Data  []byte
}

// Apply applies committed entries in order and gives each one's result to hand back to
// its proposer. Entries at or below the applied index give nil. An error means that
// this node must stop: it can't know what the entry means, or can't store it.
func (s *State) Apply(entries []LogEntry) ([][]byte, error) {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	out := make([][]byte, len(entries))
	for i, e := range entries {
		if e.Index <= s.applied.Load() {
			continue
		}
		res, err := s.applyOne(e)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		out[i] = res
	}
	return out, nil
}

func (s *State) applyOne(e LogEntry) ([]byte, error) {
	entry, err := DecodeEntry(e.Data)
	if err != nil {
		return nil, err
	}
	a := &s.work
	h := s.db.Load() // Restore doesn't run at the same time
	if h.db == nil {
		return nil, ErrClosed
	}
	a.s, a.entry, a.index, a.guids, a.notes, a.queued, a.same, a.seed, a.keep = s, entry, e.Index, 0, 0, 0, nil, nil, false
	a.journal, a.at = s.regime.Load().Phase != PhaseSingle, entry.Time
	a.b = h.db.NewIndexedBatch()
	defer a.reset()

	res, err := a.run()
	if errors.Is(err, ErrDuplicate) {
		return res, a.commitIndex()
	}
	if err != nil {
		code := codeOf(err)
		if code == "" {
			return nil, err // not a refusal: a fault of this node
		}
		a.b.Reset()
		clear(a.mailboxes)
		a.dirty, a.change, a.regime, a.once = a.dirty[:0], change{}, nil, nil
		if err := a.commitIndex(); err != nil {
			return nil, err
		}
		return encMode.Marshal(result{Code: code, Text: err.Error()})
	}
	if err := a.commitIndex(); err != nil {
		return nil, err
	}
	if a.once != nil {
		s.once = *a.once
	}
	if a.regime != nil {
		s.regime.Store(a.regime)
	}
	if entry.Time > s.appliedAt.Load() {
		s.appliedAt.Store(entry.Time)
	}
	if a.change.rows {
		s.rows.Add(1)
	}
	for id, m := range a.mailboxes {
		s.cacheMailbox(id, m)
	}
	s.due.add(a.change.due)
	s.bus.publish(&a.change)
	return res, nil
}

// commitIndex writes the batch with the applied index in it.
func (a *apply) commitIndex() error {
	var v [8]byte
	binary.BigEndian.PutUint64(v[:], a.index)
	if err := a.b.Set(keyApplied, v[:], nil); err != nil {
		return err
	}
	if err := a.b.Commit(pebble.NoSync); err != nil {
		return err
	}
	a.s.applied.Store(a.index)
	return nil
}

func (a *apply) reset() {
	a.b.Close()
	a.b, a.entry = nil, nil
	clear(a.mailboxes)
	a.dirty, a.change, a.regime, a.once = a.dirty[:0], change{}, nil, nil
}

// run does every operation and gives the encoded result.
func (a *apply) run() ([]byte, error) {
	if a.entry.Once {
		done, err := a.remembered()
		if err != nil {
			return nil, err
		}
		if done != nil {
			return done, ErrDuplicate
		}
	}
	res := result{Ops: make([]cbor.RawMessage, 0, len(a.entry.Ops))}
	for _, op := range a.entry.Ops {
		if op.Kind == KindKeeping { // about the entry: has no result of its own
			a.keep = true
			continue
		}
		out, err := a.op(op)
		if err != nil {
			return nil, err
		}
		if out == nil {
			res.Ops = append(res.Ops, cborNull)
			continue
		}
		raw, err := encMode.Marshal(out)
		if err != nil {
			return nil, err
		}
		res.Ops = append(res.Ops, raw)
	}
	for _, id := range a.dirty {
		if err := a.storeMailbox(id); err != nil {
			return nil, err
		}
	}
	if err := a.cutJournal(); err != nil {
		return nil, err
	}
	raw, err := encMode.Marshal(res)
	if err != nil {
		return nil, err
	}
	if a.entry.Once {
		return raw, a.remember(raw)
	}
	return raw, nil
}

var cborNull = cbor.RawMessage{0xf6}

// op decodes one operation and does it.
func (a *apply) op(op Op) (any, error) {
	switch op.Kind {
	case KindRows:
		return do(op, a.rows)
	case KindDeliver:
		return do(op, a.deliver)
	case KindAppend:
		return do(op, a.append)
	case KindFlags:
		return do(op, a.setFlags)
	case KindExpunge:
		return do(op, a.expunge)
	case KindCopy:
		return do(op, a.copy)
	case KindMailboxCreate:
		return do(op, a.mailboxCreate)
	case KindMailboxRename:
		return do(op, a.mailboxRename)
	case KindMailboxDelete:
		return do(op, a.mailboxDelete)
	case KindMailboxSubscribe:
		return do(op, a.mailboxSubscribe)
	case KindSeen:
		return do(op, a.seen)
	case KindAccountDelete:
		return do(op, a.accountDelete)
	case KindAttempt:
		return do(op, a.attempt)
	case KindQueueChange:
		return do(op, a.queueChange)
	case KindBodiesDropped:
		return do(op, a.bodiesDropped)
	case KindCounter:
		return do(op, a.counter)
	case KindEpochStart:
		return do(op, a.epochStart)
	case KindPairSet:
		return do(op, a.pairSet)
	case KindRaiseLevel:
		return do(op, a.raiseLevel)
	case KindMerge:
		return do(op, a.merge)
	case KindMergeDone:
		return do(op, a.mergeDone)
	case KindStarted:
		return do(op, a.started)
	case KindTakeover:
		return do(op, a.takeover)
	case KindKeptRestore:
		return do(op, a.keptRestore)
	case KindKeptPurge:
		return do(op, a.keptPurge)
	case KindReply:
		return do(op, a.reply)
	case KindSent:
		return do(op, a.sent)
	case KindSentClear:
		return do(op, a.sentClear)
	}
	if op.Ignorable {
		return nil, nil
	}
	return nil, fmt.Errorf("%w %d: %w", errUnknownOp, op.Kind, ErrNewer)
}

func do[In any](op Op, f func(*In) (any, error)) (any, error) {
	in := new(In)
	if err := decMode.Unmarshal(op.Body, in); err != nil {
		return nil, fmt.Errorf("operation %d: %w", op.Kind, err)
	}
	return f(in)
}

// get reads a key as this entry sees it; nil when there is none.
func (a *apply) get(key []byte) ([]byte, error) { return getCopy(a.b, key) }

func getCopy(r pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append([]byte(nil), v...)
	return out, closer.Close()
}

// number reads a value of eight octets; 0 when there is none.
func number(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// next gives the next value of a persistent counter that starts at 1.
func (a *apply) next(key []byte) (uint64, error) {
	v, err := a.get(key)
	if err != nil {
		return 0, err
	}
	n := number(v) + 1
	return n, a.b.Set(key, be64(nil, n), nil)
}

// counter adds to a count, refusing to pass Max.
func (a *apply) counter(op *Counter) (any, error) {
	key := counterKey(op.Name)
	v, err := a.get(key)
	if err != nil {
		return nil, err
	}
	var n int64
	if len(v) == 8 {
		n = int64(binary.BigEndian.Uint64(v))
	}
	n += op.Add
	if op.Max > 0 && op.Add > 0 && n > op.Max {
		return nil, refuse(ErrLimit, "%s: %d would pass the limit of %d", op.Name, n, op.Max)
	}
	if err := a.noteCounter(op.Name, op.Add); err != nil {
		return nil, err
	}
	if n == 0 {
		return Counted{}, a.b.Delete(key, nil)
	}
	return Counted{Value: n}, a.b.Set(key, be64(nil, uint64(n)), nil)
}

// rows compares and stores.
func (a *apply) rows(op *Rows) (any, error) {
	if err := a.rowsAllowed(op); err != nil {
		return nil, err
	}
	for _, e := range op.Expect {
		v, err := a.get(e.Key)
		if err != nil {
			return nil, err
		}
		var version uint64
		if len(v) >= 8 {
			version = binary.BigEndian.Uint64(v)
		}
		if version != e.Version {
			return nil, ErrConflict
		}
	}
	version := be64(nil, a.index)
	for _, p := range op.Put {
		value := p.Value
		if !p.Plain {
			value = append(append(make([]byte, 0, 8+len(p.Value)), version...), p.Value...)
		}
		if err := a.b.Set(p.Key, value, nil); err != nil {
			return nil, err
		}
		if err := a.noteRow(p.Key); err != nil {
			return nil, err
		}
	}
	for _, k := range op.Delete {
		if err := a.b.Delete(k, nil); err != nil {
			return nil, err
		}
		if err := a.noteRow(k); err != nil {
			return nil, err
		}
	}
	for _, t := range op.Tables {
		if err := a.b.Set([]byte{spaceTableV, t}, version, nil); err != nil {
			return nil, err
		}
	}
	a.change.rows = true
	return nil, nil
}
