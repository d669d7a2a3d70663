package pair

import (
	"crypto/ed25519"
	"slices"

	"mailplusd/cluster"
)

// State is what a node durably is.
type State string

// The states.
const (
	Single  State = "single"
	Joining State = "joining"
	Paired  State = "pair"
	Solo    State = "solo"
	Merging State = "merging" // own history is being replayed on the peer; serves nothing
)

// Member is a node of the pair as the other must know it before any state is read.
type Member struct {
	ID     string            `json:"id"`
	Number uint8             `json:"number"` // 0: original primary, 1: original secondary
	Addrs  []string          `json:"addrs"`  // host:port of the link, tried in order
	Key    ed25519.PublicKey `json:"key"`
}

// Branch and History are those of package cluster.
type (
	Branch  = cluster.Branch
	History = cluster.History
)

// Facts are what a node keeps about the pair, on disk before they count.
type Facts struct {
	State   State   `json:"state"`
	Cluster string  `json:"cluster,omitempty"`
	Self    Member  `json:"self"`
	Peer    Member  `json:"peer"`
	Witness *Member `json:"witness,omitempty"`
	Epoch   uint64  `json:"epoch"`             // raised by every solo decision and every merge
	Turn    uint64  `json:"turn"`              // raised whenever another node becomes the primary
	Primary string  `json:"primary,omitempty"` // who holds the address, by what this node knows
	Took    bool    `json:"took,omitempty"`    // solo: by taking over, not by being left
	Stale   bool    `json:"stale,omitempty"`   // the peer has gone on without this node
	Partial bool    `json:"partial,omitempty"` // joining: has never had everything
	// Whole is the newest epoch whose entries, if acknowledged, this node has had. While it
	// is joining the history may name later ones: it follows them and still lacks some.
	Whole   uint64  `json:"whole,omitempty"`
	History History `json:"history,omitempty"`
	// Aside is the name under which the log is put aside before it is opened the next time:
	// it does not belong to the history that this node follows from now on.
	Aside string `json:"aside,omitempty"`
	// Report says that the arbiter must still be told that both nodes are in sync.
	Report bool `json:"report,omitempty"`
	// Told is the kind of arbiter that was told last; another one knows nothing yet.
	Told string `json:"told,omitempty"`
	// Revision is the newest of the witness's record that this node has seen. A witness that
	// shows an older one has been set back, and can't know who is in sync.
	Revision uint64 `json:"revision,omitempty"`
	// Setup is the replicated set-up as this node had it last. After a crash the state lags
	// behind until there is a leader, and may name another arbiter.
	Setup *KeptSetup `json:"setup,omitempty"`
	// Making says that the pair is being made and the other node has not said yet that it joined.
	Making bool `json:"making,omitempty"`
	// Former is a node that this one has removed. It is told so when it asks: it may not have
	// been there to hear of it.
	Former *Member `json:"former,omitempty"`
	// Parted says that the other node has left, told by this one: the pair has only to be ended.
	Parted bool `json:"parted,omitempty"`
	// Held lists addresses to take from the interface before anything else at a start.
	Held []string `json:"held,omitempty"`
}

func (f Facts) clone() Facts {
	f.History = slices.Clone(f.History)
	f.Held = slices.Clone(f.Held)
	return f
}

// Relation says how two histories stand to each other.
type Relation int

// The relations, from this node's side.
const (
	Same     Relation = iota // nothing to do
	Behind                   // the peer has branches that this node can follow
	Ahead                    // this node has branches that the peer can follow
	Diverged                 // both have branches of their own
)

func (r Relation) String() string {
	return [...]string{"same", "behind", "ahead", "diverged"}[r]
}

// Relate compares histories. Only branches count, never how far a state has come: entries
// acknowledged alone may exist in the log only.
func Relate(mine, theirs History) Relation {
	switch cluster.Compare(mine, theirs, 0).Relation {
	case cluster.Equal:
		return Same
	case cluster.MinePrefix:
		return Behind
	case cluster.TheirsPrefix:
		return Ahead
	}
	return Diverged
}

// upTo gives the branches of epochs up to epoch.
func upTo(h History, epoch uint64) History {
	for i, b := range h {
		if b.Epoch > epoch {
			return h[:i:i]
		}
	}
	return h
}

// fork gives the first branch of mine that theirs lacks.
func fork(mine, theirs History) (Branch, bool) {
	for i, b := range mine {
		if i >= len(theirs) || b.Epoch != theirs[i].Epoch || b.Owner != theirs[i].Owner || b.Index != theirs[i].Index {
			return b, true
		}
	}
	return Branch{}, false
}
