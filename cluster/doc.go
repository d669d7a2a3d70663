// Package cluster keeps one sequence of entries on every node of the system: hashicorp/raft,
// a bbolt log and a state machine given by the caller. It knows octets, not mail.
//
// # What a node is
//
// Open makes a Node from a data directory, a state machine (FSM) and, when there are
// peers, a raft.StreamLayer. A node without one is alone: it elects itself at once with
// the library's TimeoutNow, so that the long time-outs a pair needs cost nothing at start.
// In every node's configuration the raft address of a member is its ID; which network
// address that means is the StreamLayer's business, so an address can change without a
// change of the configuration.
//
// # The path of an entry
//
//	Propose -> raft (up to 512 entries per fsync) -> log on a majority -> FSM.Apply -> result
//
// Propose returns when this node has applied the entry, and never before the entry is
// on the disks of a majority. Callers that run side by side share the fsync: never
// serialise proposals, and never send one at a time while others wait.
//
// # The state machine keeps its own state
//
// An FSM stores the index of what it applied together with the state, and may lose its
// newest entries in a crash (its own journal is off): the log holds them. At start the
// entries it lacks are delivered again and those it has are not. A snapshot is therefore
// only a pointer: FSM.Flush, then a file of a few hundred octets that says from where the
// log is needed. The log is cut after that, and keeps Config.TrailingLogs entries so that
// a peer that comes back finds what it missed.
//
// A peer that needs more than the log holds gets the whole state: FSM.Checkpoint (hard
// links), sent as a tar whose last member is a manifest with the sizes and SHA-256
// digests. It is unpacked beside the state, made durable, checked, and only then handed to
// FSM.Restore. A crash at any point of that is repaired by Open.
//
// # Epochs
//
// The upper 40 bits of a raft term are the epoch (EpochOf): 0 for elections of the first
// history, raised when a node is told to go on alone. Entry.Term carries it to the state
// machine. A forced configuration takes the first term of its epoch and node bit, so two
// histories never hold the same (index, term) with different content. Below the node bit
// 23 bits count elections: room for 8,388,607 in an epoch.
//
// # A pair
//
// Node.Force makes a node the only voter: raft ends, one configuration entry with the forced
// term is appended, raft starts again on the same log and elects the node. The Node object
// stays; one run of the library inside it is an engine. A History is the sequence of the
// decisions to go on alone; who takes them keeps it on disk before each (cluster/pair).
// Compare says from two histories whether the nodes' logs still belong together. If not,
// the loser's own entries are read with ReadLog, MoveAside puts its log away and it opens
// with Config.Join, to get the winner's state whole. A sent state always carries the configuration of that
// moment: with an older one the receiver might have been the only voter.
//
// Package forward lets the follower propose and read.
//
// # What ends a node
//
// A failed write or fsync of the log, an entry the state machine can't understand, a
// failed flush: the node accepts nothing more, tells Config.OnFatal and Failed, and must
// be restarted. Retrying an fsync would acknowledge what the kernel has already dropped.
// A data directory written by a newer program, in use by another process, of another
// node, or with a state that doesn't fit its log is refused by Open with what to do.
//
// # Files in the data directory
//
//	LOCK            flock; holds the process number of the owner
//	format.json     version of this layout and the node's ID
//	raft.db         log, term and vote (bbolt); compacted by Open when mostly empty
//	snapshots/      pointers (*.json), a received state (*.state/), one being sent (send-*/)
package cluster
