package state

import (
	"errors"
	"fmt"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// levelOf gives the level from which on an operation may be used; missing: 1.
var levelOf = map[Kind]uint16{}

// Phase is how many nodes take part.
type Phase uint8

// The phases. In a pair and alone the state keeps a journal for a merge (journal.go).
const (
	PhaseSingle Phase = iota // never paired, or the peer was removed
	PhasePair                // both nodes in sync
	PhaseSolo                // one of the two goes on without the other
)

func (p Phase) String() string {
	return [...]string{"single", "pair", "solo"}[min(int(p), 2)]
}

// Regime is the facts against which entries are checked. It is part of the replicated state.
type Regime struct {
	Epoch         uint64 `cbor:"1,keyasint"`           // 0: never more than one node
	Owner         string `cbor:"2,keyasint"`           // node whose branch this is
	Phase         Phase  `cbor:"3,keyasint,omitempty"` //
	Forced        uint64 `cbor:"4,keyasint,omitempty"` // last forced epoch: mailboxes skip ahead at their first change
	Block         uint64 `cbor:"5,keyasint,omitempty"` // of the forced epoch: 2*epoch + node number, see idBlock
	SettingsOwner string `cbor:"6,keyasint,omitempty"` // node that may change settings while alone
	Level         uint16 `cbor:"7,keyasint,omitempty"` // 0: 1
	Journal       uint32 `cbor:"8,keyasint,omitempty"` // current generation of the journal
	JournalFrom   uint32 `cbor:"9,keyasint,omitempty"` // oldest one kept
	JournalIndex  uint64 `cbor:"10,keyasint,omitempty"`
}

// idBlock is how many numbers of mailboxes and queued messages a forced epoch reserves. The
// side that is forced starts its numbers at block*2^32, the other goes on where it is: the
// numbers that two sides of a split give are disjoint, until one of them has made four
// thousand million. The node's number in the block keeps two forced sides apart.
const idBlock = 32

// ReadOnly tells whether settings are refused, and whose return or removal would end that.
func (r *Regime) ReadOnly() (owner string, yes bool) {
	return r.SettingsOwner, r.Phase == PhaseSolo && r.SettingsOwner != "" && r.SettingsOwner != r.Owner
}

func (r *Regime) settingsAllowed() error {
	if owner, ro := r.ReadOnly(); ro {
		return refuse(ErrReadOnly, "settings are read-only until node %s is repaired or removed (mpctl ha remove %s)", owner, owner)
	}
	return nil
}

// Regime gives the facts in force. The value is shared: don't change it.
func (s *State) Regime() *Regime { return s.regime.Load() }

// Level is the feature level in force.
func (s *State) Level() uint16 { return max(s.regime.Load().Level, 1) }

func (s *State) levelAllows(k Kind) error {
	if need, have := max(levelOf[k], 1), s.Level(); need > have {
		return refuse(ErrLevel, "operation %d needs feature level %d, in force is %d; raise it when both nodes run the new version", k, need, have)
	}
	return nil
}

func readRegime(r pebble.Reader) (*Regime, error) {
	g := new(Regime)
	v, err := getCopy(r, keyRegime)
	if err != nil || v == nil {
		return g, err
	}
	return g, decMode.Unmarshal(v, g)
}

// rule gives the regime as this entry sees it.
func (a *apply) rule() *Regime {
	if a.regime != nil {
		return a.regime
	}
	return a.s.regime.Load()
}

// setRule changes the regime; it is in force from the next operation on.
func (a *apply) setRule(g Regime) error {
	v, err := encMode.Marshal(&g)
	if err != nil {
		return err
	}
	a.regime = &g
	a.change.rows = true
	return a.b.Set(keyRegime, v, nil)
}

// EpochStart is the first entry of a new epoch. Forced says that the node has made itself
// the only voter without having heard of the end of the other's branch.
type EpochStart struct {
	Epoch         uint64 `cbor:"1,keyasint"` // above every epoch of the history
	Owner         string `cbor:"2,keyasint"` // node ID
	Node          uint16 `cbor:"3,keyasint"` // its number
	Forced        bool   `cbor:"4,keyasint,omitempty"`
	Phase         Phase  `cbor:"5,keyasint"`
	Index         uint64 `cbor:"6,keyasint"`           // where it leaves the epoch before: last index in common
	Term          uint64 `cbor:"7,keyasint"`           // and its term
	Reason        string `cbor:"8,keyasint,omitempty"` //
	SettingsOwner string `cbor:"9,keyasint,omitempty"` // empty: as before; the first epoch's owner if there is none
}

// Epoch is one line of the history.
type Epoch struct {
	Epoch  uint64 `cbor:"1,keyasint" json:"epoch"`
	Owner  string `cbor:"2,keyasint" json:"owner"`
	Forced bool   `cbor:"3,keyasint,omitempty" json:"forced,omitempty"`
	Phase  Phase  `cbor:"4,keyasint" json:"phase"`
	Index  uint64 `cbor:"5,keyasint" json:"index"`
	Term   uint64 `cbor:"6,keyasint" json:"term"`
	Reason string `cbor:"7,keyasint,omitempty" json:"reason,omitempty"`
	Time   int64  `cbor:"8,keyasint" json:"time"` // Unix nanoseconds
}

// PairSet changes the regime inside an epoch: back in sync, settings handed over, peer
// removed. Empty strings leave a value as it is.
type PairSet struct {
	Epoch         uint64 `cbor:"1,keyasint"` // must be the one in force
	Phase         Phase  `cbor:"2,keyasint"`
	Owner         string `cbor:"3,keyasint,omitempty"`
	SettingsOwner string `cbor:"4,keyasint,omitempty"`
}

// RaiseLevel raises the feature level. A node that doesn't know the level stops.
type RaiseLevel struct {
	Level uint16 `cbor:"1,keyasint"`
}

func (EpochStart) kind() Kind { return KindEpochStart }
func (PairSet) kind() Kind    { return KindPairSet }
func (RaiseLevel) kind() Kind { return KindRaiseLevel }

func (a *apply) epochStart(op *EpochStart) (any, error) {
	g := *a.rule()
	if op.Epoch <= g.Epoch {
		return nil, refuse(ErrConflict, "epoch %d is not above %d", op.Epoch, g.Epoch)
	}
	if op.Owner == "" || op.Phase > PhaseSolo || op.Node > 1 || op.Epoch >= 1<<30 {
		return nil, refuse(ErrInvalid, "epoch %d of %q in phase %d", op.Epoch, op.Owner, op.Phase)
	}
	g.Epoch, g.Owner = op.Epoch, op.Owner
	if op.SettingsOwner != "" {
		g.SettingsOwner = op.SettingsOwner
	} else if g.SettingsOwner == "" {
		g.SettingsOwner = op.Owner
	}
	if op.Forced {
		g.Forced, g.Block = op.Epoch, 2*op.Epoch+uint64(op.Node)
		for _, key := range [][]byte{keyNextMailbox, keyNextQueue} {
			if err := a.raise(key, g.Block<<idBlock); err != nil {
				return nil, err
			}
		}
	}
	if err := a.enterPhase(&g, op.Phase); err != nil {
		return nil, err
	}
	row := Epoch{Epoch: op.Epoch, Owner: op.Owner, Forced: op.Forced, Phase: op.Phase, Index: op.Index, Term: op.Term, Reason: op.Reason, Time: a.entry.Time}
	if err := putRow(a, Epochs, &row); err != nil {
		return nil, err
	}
	return nil, a.setRule(g)
}

func (a *apply) pairSet(op *PairSet) (any, error) {
	g := *a.rule()
	if op.Epoch != g.Epoch {
		return nil, refuse(ErrConflict, "epoch %d is in force, not %d", g.Epoch, op.Epoch)
	}
	if op.Phase > PhaseSolo {
		return nil, refuse(ErrInvalid, "phase %d", op.Phase)
	}
	if op.Owner != "" {
		g.Owner = op.Owner
	}
	if op.SettingsOwner != "" {
		g.SettingsOwner = op.SettingsOwner
	}
	if err := a.enterPhase(&g, op.Phase); err != nil {
		return nil, err
	}
	return nil, a.setRule(g)
}

func (a *apply) raiseLevel(op *RaiseLevel) (any, error) {
	if op.Level > FeatureLevel {
		return nil, fmt.Errorf("feature level %d: %w", op.Level, ErrNewer)
	}
	g := *a.rule()
	if op.Level <= max(g.Level, 1) {
		return nil, nil
	}
	g.Level = op.Level
	return nil, a.setRule(g)
}

// raise makes a persistent counter go on behind n at least.
func (a *apply) raise(key []byte, n uint64) error {
	v, err := a.get(key)
	if err != nil {
		return err
	}
	if number(v) >= n {
		return nil
	}
	return a.b.Set(key, be64(nil, n), nil)
}

// History lists the epochs, the oldest first.
func (s *State) History() ([]*Epoch, error) { return Epochs.List(s, "") }

// Pair reads the facts of the pair; ErrNotFound on a node that was never paired.
func (s *State) Pair() (*model.Pair, error) { return Pairs.Get(s, pairRow) }

// ReadPair is Pair inside a transaction.
func ReadPair(tx *Tx) (*model.Pair, error) { return Pairs.Get(tx, pairRow) }

// StorePair validates and stores the facts of the pair; Delete the row with DropPair.
func StorePair(tx *Tx, p *model.Pair) error {
	if err := p.Validate(); err != nil {
		return err
	}
	return Pairs.Put(tx, p)
}

// DropPair removes the facts of the pair.
func DropPair(tx *Tx) error {
	err := Pairs.Delete(tx, pairRow)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
