package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Errors of Open and of a running node.
var (
	ErrClosed   = errors.New("cluster: the node is closed")
	ErrTooLarge = errors.New("cluster: entry too large")
	// ErrBusy says that the entry was not taken in time: nothing happened.
	ErrBusy = errors.New("cluster: the log does not accept entries fast enough")
	// ErrUncertain says that leadership was lost, or the node stopped, while the entry was under way: it
	// may be committed later or not. Repeat it with the same operation ID.
	ErrUncertain = errors.New("cluster: leadership was lost while the entry was under way")
	ErrLocked    = errors.New("cluster: data directory in use")
	ErrNewer     = errors.New("cluster: data directory of a newer program")
	ErrMismatch  = errors.New("cluster: state and log do not belong together")
	// ErrEpoch says that a forced epoch is not above the present one, or not possible.
	ErrEpoch = errors.New("cluster: the epoch can't be forced")
	// ErrFailed wraps the reason why a node can't go on.
	ErrFailed = errors.New("cluster: the node has stopped after a fault")
)

// ErrNotLeader says that another node has to be asked. Match it with errors.As.
type ErrNotLeader struct {
	Leader string // ID of the leader; empty if unknown
	Addr   string // its raft address
}

func (e ErrNotLeader) Error() string {
	if e.Leader == "" {
		return "cluster: this node does not lead and no leader is known"
	}
	return fmt.Sprintf("cluster: this node does not lead; the leader is %s", e.Leader)
}

// translate makes the library's errors ours. Everything unknown is returned as it is.
func (n *Node) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return n.notLeader()
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		return n.orFailure(ErrUncertain)
	case errors.Is(err, raft.ErrRaftShutdown):
		return n.orFailure(n.endedAs())
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrBusy
	}
	return n.orFailure(err)
}

// translateProposal is translate for an entry that the library has given index, 0 if it did
// not get so far. An engine that ends answers in both cases with the same error.
func (n *Node) translateProposal(err error, index uint64) error {
	if errors.Is(err, raft.ErrRaftShutdown) {
		switch {
		case index > 0:
			return n.orFailure(ErrUncertain)
		case !n.isClosing():
			return n.orFailure(ErrNotLeader{})
		}
	}
	return n.translate(err)
}

func (n *Node) notLeader() error {
	if err := n.failure(); err != nil {
		return err
	}
	addr, id := n.raft().LeaderWithID()
	if string(id) == n.cfg.ID {
		id, addr = "", "" // handing over: the successor is not known yet
	}
	return ErrNotLeader{Leader: string(id), Addr: string(addr)}
}

// orFailure prefers the fault that ended the node to its consequence.
func (n *Node) orFailure(err error) error {
	if f := n.failure(); f != nil {
		return f
	}
	return err
}
