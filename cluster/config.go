package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// Defaults of Config.
const (
	DefaultMaxEntry          = 1 << 20 // octets
	DefaultSnapshotThreshold = 8192
	DefaultTrailingLogs      = 200_000
	DefaultLogDiskCap        = 2 << 30 // octets
)

// Config describes a node. ID, DataDir and FSM must be set.
type Config struct {
	ID      string       // name of this node in the cluster, for ever; 1 to 64 octets
	DataDir string       // made if missing; must belong to this node alone
	FSM     FSM          // stays the caller's: Close flushes but doesn't close it
	Logger  *slog.Logger // nil: no log

	// Stream carries connections between nodes; Dial gets a member's ID as address. nil:
	// this node is alone. Close closes it.
	Stream raft.StreamLayer

	// Bootstrap makes this node the only voter when DataDir holds nothing yet. A node
	// that is to join a cluster leaves it false and is added by the leader.
	Bootstrap bool
	// AdoptState allows Bootstrap with an FSM that already holds state, as after a
	// restore of a backup: a new history begins at its index.
	AdoptState bool
	// Join opens a DataDir without a log although FSM holds state: one of another history,
	// moved aside. The node waits for a leader, whose state replaces the FSM's, however
	// far that was. Until then the FSM's state is the old one, and no entry is applied.
	// It has no effect once there is a log. It excludes Bootstrap.
	Join bool

	MaxEntry          int           // longest entry in octets; 0: DefaultMaxEntry
	SnapshotThreshold uint64        // entries between snapshots; 0: DefaultSnapshotThreshold
	SnapshotGap       time.Duration // shortest time between two snapshots; 0: 1 s
	TrailingLogs      uint64        // entries kept after a snapshot; 0: DefaultTrailingLogs
	LogDiskCap        int64         // octets that the kept log may take; 0: DefaultLogDiskCap

	// KeepSince is the bound that Node.KeepSince sets, in force from the start. 0: none.
	KeepSince uint64

	Timeouts Timeouts
	// OnFatal is called once, in its own goroutine, when the node can't go on.
	OnFatal func(error)
	// NoRoom is called when the log's disk is full and an entry could not be written. If it has made room
	// and says so, the entry is written again; otherwise the node fails.
	NoRoom func() bool
	// WrapLog puts something between raft and its log: a slow or failing disk in tests.
	WrapLog func(raft.LogStore) raft.LogStore
	// ForceStep is called between the steps of Force, for tests of crashes there.
	ForceStep func(step string)
}

// Timeouts of raft and of connections. Zero takes the default.
type Timeouts struct {
	Heartbeat time.Duration // heartbeat, election and leader lease alike; 4 s
	Commit    time.Duration // idle followers learn the commit index this late; 20 ms
	RPC       time.Duration // one exchange with a peer; 10 s
	Drain     time.Duration // Close waits this long for proposals in flight; 5 s
	// CatchUp is how long a peer that has received the whole state finds the log after it,
	// within LogDiskCap: a leader isn't told when the peer has caught up. 1 min.
	CatchUp time.Duration
}

func (c *Config) setDefaults() error {
	switch {
	case c.ID == "" || len(c.ID) > 64:
		return fmt.Errorf("cluster: node ID %q: 1 to 64 octets are needed", c.ID)
	case c.DataDir == "":
		return errors.New("cluster: no data directory given")
	case c.FSM == nil:
		return errors.New("cluster: no state machine given")
	case c.Join && c.Bootstrap:
		return errors.New("cluster: a node can't both begin a history and join one")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&c.MaxEntry, DefaultMaxEntry)
	orDefault(&c.SnapshotThreshold, DefaultSnapshotThreshold)
	orDefault(&c.SnapshotGap, time.Second)
	orDefault(&c.TrailingLogs, DefaultTrailingLogs)
	orDefault(&c.LogDiskCap, DefaultLogDiskCap)
	orDefault(&c.Timeouts.Heartbeat, 4*time.Second)
	orDefault(&c.Timeouts.Commit, 20*time.Millisecond)
	orDefault(&c.Timeouts.RPC, 10*time.Second)
	orDefault(&c.Timeouts.Drain, 5*time.Second)
	orDefault(&c.Timeouts.CatchUp, time.Minute)
	return nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// raft gives the library's configuration.
func (c *Config) raft() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.ID)
	// A follower of a pair can't win alone, so long time-outs cost nothing: elections
	// that are wanted are started by Campaign. The lease lets a leader drop a dead peer
	// while it still leads.
	rc.HeartbeatTimeout = c.Timeouts.Heartbeat
	rc.ElectionTimeout = c.Timeouts.Heartbeat
	rc.LeaderLeaseTimeout = c.Timeouts.Heartbeat
	rc.CommitTimeout = c.Timeouts.Commit
	rc.MaxAppendEntries = 512
	rc.BatchApplyCh = true
	rc.TrailingLogs = c.TrailingLogs
	// Snapshots are started by the node itself, after so many entries or octets.
	rc.SnapshotInterval = 24 * time.Hour
	rc.SnapshotThreshold = c.SnapshotThreshold
	rc.NoSnapshotRestoreOnStart = true
	rc.ShutdownOnRemove = false
	rc.NoLegacyTelemetry = true
	rc.Logger = newRaftLogger(c.Logger)
	return rc
}
