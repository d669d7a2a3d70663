package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Member is a node of the cluster.
type Member struct {
	ID    string
	Voter bool // false: gets all entries, but none waits for it
}

// Members lists the nodes in the newest configuration known here.
func (n *Node) Members() ([]Member, error) {
	f := n.raft().GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, n.translate(err)
	}
	var out []Member
	for _, s := range f.Configuration().Servers {
		out = append(out, Member{ID: string(s.ID), Voter: s.Suffrage == raft.Voter})
	}
	return out, nil
}

// AddNonvoter makes id a member that receives everything and decides nothing: the first
// step of joining. Leader only, as all changes of members. A member without a log always
// gets the whole state: it may hold another one (Config.Join).
func (n *Node) AddNonvoter(ctx context.Context, id string) error {
	if err := n.hideBeginning(); err != nil {
		return err
	}
	return n.change(ctx, func(r *raft.Raft) raft.Future {
		return r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, within(ctx))
	})
}

// hideBeginning removes the first entry of all time from the log, after a snapshot that
// covers it. With it, raft would give a new member the log instead of the state.
func (n *Node) hideBeginning() error {
	if !n.IsLeader() {
		return n.notLeader()
	}
	if first, err := n.logs.FirstIndex(); err != nil || first != 1 {
		return n.orFailure(err)
	}
	if n.snaps.newest() == nil {
		if err := n.Snapshot(); err != nil {
			return err
		}
	}
	if n.snaps.newest() == nil {
		return fmt.Errorf("%w: no snapshot yet", ErrBusy)
	}
	return n.orFailure(n.logs.DeleteRange(1, 1))
}

// ErrVoter says that a member still has a vote.
var ErrVoter = errors.New("cluster: the member still has a vote")

// Readd removes the non-voter id and adds it again, which restarts replication to it at
// once: after a silence the library waits up to 10 s and more. Leader only. After an error
// in between the node is no member; repeat the call. ErrVoter: Demote it first.
func (n *Node) Readd(ctx context.Context, id string) error {
	members, err := n.Members()
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.ID == id && m.Voter {
			return fmt.Errorf("%w: %s", ErrVoter, id)
		}
	}
	if err := n.Remove(ctx, id); err != nil {
		return err
	}
	return n.AddNonvoter(ctx, id)
}

// Progress is how far a node is. A leader doesn't know it of its followers: they have to be
// asked (package forward).
type Progress struct {
	Term    uint64
	Last    uint64 // newest entry in the log, committed or not
	Applied uint64
}

// Progress says how far this node is.
func (n *Node) Progress() Progress {
	r := n.raft()
	return Progress{Term: r.CurrentTerm(), Last: r.LastIndex(), Applied: n.Applied()}
}

// Lag is how many entries a follower at p has still to apply.
func (n *Node) Lag(p Progress) uint64 {
	if last := n.raft().LastIndex(); last > p.Applied {
		return last - p.Applied
	}
	return 0
}

// AddVoter makes id a full member. From then on commits need it: it should have caught up.
// It returns when a majority that counts id has everything. The library alone would return
// earlier: a node that was the only voter commits the new configuration by itself, and
// its peer may lack that and other acknowledged entries. After an error id may have a vote.
func (n *Node) AddVoter(ctx context.Context, id string) error {
	err := n.change(ctx, func(r *raft.Raft) raft.Future {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, within(ctx))
	})
	if err != nil {
		return err
	}
	return n.Barrier(ctx)
}

// Demote takes the vote from id. In a pair it is how a leader goes on when the other
// node has died; it works only while this node still leads.
func (n *Node) Demote(ctx context.Context, id string) error {
	return n.change(ctx, func(r *raft.Raft) raft.Future {
		return r.DemoteVoter(raft.ServerID(id), 0, within(ctx))
	})
}

// Remove takes id out of the cluster. Remove and AddNonvoter in a row also restart
// replication to a peer that came back, which otherwise waits up to 10 s and more.
func (n *Node) Remove(ctx context.Context, id string) error {
	return n.change(ctx, func(r *raft.Raft) raft.Future {
		return r.RemoveServer(raft.ServerID(id), 0, within(ctx))
	})
}

// Transfer hands leadership to the voter id, which is brought up to date first.
// Proposals meanwhile get ErrNotLeader.
func (n *Node) Transfer(ctx context.Context, id string) error {
	return n.change(ctx, func(r *raft.Raft) raft.Future {
		return r.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id))
	})
}

func (n *Node) change(ctx context.Context, f func(*raft.Raft) raft.Future) error {
	return n.await(ctx, func(e *engine) error { return f(e.raft).Error() })
}
