package cluster

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Status is what a node knows about itself and the cluster.
type Status struct {
	ID    string
	State string // "leader", "follower", "candidate" or "stopped"
	// Leader is the leader's ID; empty if none is known.
	Leader        string
	Term          uint64
	Epoch         uint64
	FirstIndex    uint64 // oldest entry in the log; 0: the log is empty
	LastIndex     uint64 // newest entry in the log
	CommitIndex   uint64
	AppliedIndex  uint64 // last entry handled here
	StateIndex    uint64 // last entry in the state machine; configurations don't count
	Voters        []string
	Nonvoters     []string
	SnapshotIndex uint64 // after a crash, entries above it are delivered again
	SnapshotTime  time.Time
	LogBytes      int64     // octets that the log takes, estimated
	LogFileBytes  int64     // size of raft.db
	LogWrites     uint64    // writes of the log since the start; each syncs the disk twice
	LogEntries    uint64    // entries they brought
	TrailingLogs  uint64    // entries that the next snapshot leaves in the log
	LastContact   time.Time // of a follower with its leader; zero: never
	Fault         string    // why the node has stopped; empty: it has not
}

// Status gathers the present status, in about a millisecond. It works on a node that has
// failed or is closed.
func (n *Node) Status() Status {
	r := n.raft()
	s := Status{
		ID:           n.cfg.ID,
		State:        "stopped",
		Leader:       n.LeaderID(),
		Term:         r.CurrentTerm(),
		CommitIndex:  r.CommitIndex(),
		AppliedIndex: n.Applied(),
		StateIndex:   n.fsm.fsm.Applied(),
		TrailingLogs: r.ReloadableConfig().TrailingLogs,
		LastContact:  r.LastContact(),
		LogWrites:    n.store.writes.Load(),
		LogEntries:   n.store.entries.Load(),
	}
	s.Epoch = EpochOf(s.Term)
	switch r.State() {
	case raft.Leader:
		s.State = "leader"
	case raft.Follower:
		s.State = "follower"
	case raft.Candidate:
		s.State = "candidate"
	}
	if err := n.failure(); err != nil {
		s.Fault = err.Error()
		s.State = "stopped"
	}
	for _, srv := range r.GetConfiguration().Configuration().Servers {
		if srv.Suffrage == raft.Voter {
			s.Voters = append(s.Voters, string(srv.ID))
		} else {
			s.Nonvoters = append(s.Nonvoters, string(srv.ID))
		}
	}
	slices.Sort(s.Voters)
	slices.Sort(s.Nonvoters)
	if m := n.snaps.newest(); m != nil {
		s.SnapshotIndex, s.SnapshotTime = m.Raft.Index, m.Time
	}
	s.LastIndex = r.LastIndex()
	n.gateMu.RLock()
	defer n.gateMu.RUnlock()
	if !n.closing {
		s.FirstIndex, _, s.LogBytes = n.store.measure()
		s.LogFileBytes = n.store.fileSize()
	}
	return s
}
