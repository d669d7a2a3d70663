package cluster

import (
	"io"

	"github.com/hashicorp/raft"
)

// A state that comes late, because its sender has asked again meanwhile, or the link was cut, is
// taken by the library whatever this node has by now: it sets the configuration back to the one of
// the snapshot, in which this node may have no vote, and forgets what was applied after it.
// What is there already is therefore answered here: the leader goes on behind it.

// Consumer implements raft.Transport.
func (n *network) Consumer() <-chan raft.RPC {
	out := make(chan raft.RPC)
	in := n.NetworkTransport.Consumer()
	go func() {
		for {
			select {
			case rpc := <-in:
				if n.late(rpc) {
					continue
				}
				select {
				case out <- rpc:
				case <-n.done:
					return
				}
			case <-n.done:
				return
			}
		}
	}()
	return out
}

// late answers a state that this node has.
func (n *network) late(rpc raft.RPC) bool {
	req, ok := rpc.Command.(*raft.InstallSnapshotRequest)
	if !ok || n.has == nil || !n.has(req) {
		return false
	}
	go func() { // it must be read, and that takes as long as its sender likes; other requests don't wait
		_, err := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{RPCHeader: req.RPCHeader, Term: req.Term, Success: err == nil}, err)
	}()
	return true
}

// has tells whether this node has everything that a snapshot says, in the same history: its last
// entry is in the log, or behind this node's own snapshot.
func (n *Node) has(req *raft.InstallSnapshotRequest) bool {
	if n.fsm.foreign.Load() {
		return false
	}
	if m := n.snaps.newest(); m != nil && req.LastLogIndex <= m.Raft.Index && EpochOf(req.LastLogTerm) == EpochOf(m.Raft.Term) {
		n.log.Info("a state that came late is not taken", "index", req.LastLogIndex, "own", m.Raft.Index)
		return true
	}
	var l raft.Log
	if err := n.logs.GetLog(req.LastLogIndex, &l); err != nil || l.Term != req.LastLogTerm || l.Index != req.LastLogIndex {
		return false
	}
	n.log.Info("a state that came late is not taken", "index", req.LastLogIndex)
	return true
}
