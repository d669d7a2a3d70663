package cluster

import (
	"errors"
	"fmt"
	"time"
)

// Branch is one decision to go on alone, or to be together again after a merge: from Index
// on, the log is Owner's.
type Branch struct {
	Epoch  uint64    `json:"epoch"`
	Owner  string    `json:"owner"` // ID of the node that decided
	Index  uint64    `json:"index"` // last entry that is common with what others have
	Term   uint64    `json:"term"`  // of that entry
	Reason string    `json:"reason,omitempty"`
	Time   time.Time `json:"time"` // for display only
}

// same says whether both are the same decision.
func (b *Branch) same(o *Branch) bool {
	return b.Epoch == o.Epoch && b.Owner == o.Owner && b.Index == o.Index && b.Term == o.Term
}

// History is the sequence of branches that led to a log, oldest first. Epochs rise. Indexes
// need not: a node that has taken over another's history may be forced before it has
// received all entries of it.
type History []Branch

// Limits of a history that is accepted, from a file or from a peer.
const (
	maxBranches = 1 << 16
	maxReason   = 1024 // octets
)

// ErrHistory says that a history can't be one.
var ErrHistory = errors.New("cluster: impossible history")

// Validate checks a history that came from outside.
func (h History) Validate() error {
	if len(h) > maxBranches {
		return fmt.Errorf("%w: %d branches", ErrHistory, len(h))
	}
	for i := range h {
		b := &h[i]
		switch {
		case b.Owner == "" || len(b.Owner) > 64 || len(b.Reason) > maxReason:
			return fmt.Errorf("%w: branch %d of %d octets by %q", ErrHistory, i, len(b.Reason), b.Owner)
		case b.Epoch == 0 || b.Epoch > maxEpoch:
			return fmt.Errorf("%w: branch %d is epoch %d", ErrHistory, i, b.Epoch)
		case i > 0 && b.Epoch <= h[i-1].Epoch:
			return fmt.Errorf("%w: epoch %d follows %d", ErrHistory, b.Epoch, h[i-1].Epoch)
		}
	}
	return nil
}

// Epoch is the newest one, 0 for an empty history.
func (h History) Epoch() uint64 {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].Epoch
}

// Owner is the node that decided last; empty for an empty history.
func (h History) Owner() string {
	if len(h) == 0 {
		return ""
	}
	return h[len(h)-1].Owner
}

// Relation says how two nodes' logs belong together.
type Relation uint8

// Relations of this node's history to a peer's.
const (
	// Equal: the same history; raft may run.
	Equal Relation = iota + 1
	// MinePrefix: the peer has gone on alone from a log that has all this node has
	// applied. This node may follow; raft cuts what it has beyond the branch.
	MinePrefix
	// TheirsPrefix: the other way round. Whether the peer may follow depends on what it
	// has applied, which only it knows for sure: it compares, too.
	TheirsPrefix
	// Diverged: each has something that the other lacks. raft must not run between
	// them; nothing may be cut before a merge.
	Diverged
)

func (r Relation) String() string {
	return [...]string{"unknown", "equal", "mine is a prefix", "theirs is a prefix", "diverged"}[min(r, Diverged)]
}

// Comparison is the result of Compare.
type Comparison struct {
	Relation Relation
	// Index and Term of the last entry that both logs surely have in common, except for
	// Equal, which leaves them zero.
	Index, Term uint64
}

// Compare finds how two nodes' logs belong together. applied is the index up to which this
// node has applied its log (Node.Applied, or that of the state before the node is opened).
//
// The histories decide. The applied index can only make it worse: a node that has applied
// more than the peer had at its branch has diverged. It can never make a node with an epoch
// of its own a prefix: the state may lag behind a log that holds acknowledged entries.
func Compare(mine, theirs History, applied uint64) Comparison {
	k := 0
	for k < len(mine) && k < len(theirs) && mine[k].same(&theirs[k]) {
		k++
	}
	switch {
	case k == len(mine) && k == len(theirs):
		return Comparison{Relation: Equal}
	case k == len(mine):
		c := Comparison{Relation: MinePrefix, Index: theirs[k].Index, Term: theirs[k].Term}
		if applied > c.Index {
			c.Relation = Diverged
		}
		return c
	case k == len(theirs):
		return Comparison{Relation: TheirsPrefix, Index: mine[k].Index, Term: mine[k].Term}
	}
	c := Comparison{Relation: Diverged, Index: mine[k].Index, Term: mine[k].Term}
	if theirs[k].Index < c.Index {
		c.Index, c.Term = theirs[k].Index, theirs[k].Term
	}
	return c
}
