package cluster

import (
	"context"

	"github.com/hashicorp/raft"
)

// Member is a node of the cluster.
type Member struct {
	ID    string
	Voter bool // false: gets all entries, but none waits for it
}

// Members lists the nodes in the newest configuration known here.
func (n *Node) Members() ([]Member, error) {
	f := n.raft.GetConfiguration()
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
// step of joining. Leader only, as all changes of members.
func (n *Node) AddNonvoter(ctx context.Context, id string) error {
	return n.change(ctx, func() raft.Future {
		return n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, within(ctx))
	})
}

// AddVoter makes id a full member. From then on commits need it: it should have caught up.
func (n *Node) AddVoter(ctx context.Context, id string) error {
	return n.change(ctx, func() raft.Future {
		return n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, within(ctx))
	})
}

// Demote takes the vote from id. In a pair it is how a leader goes on when the other
// node has died; it works only while this node still leads.
func (n *Node) Demote(ctx context.Context, id string) error {
	return n.change(ctx, func() raft.Future {
		return n.raft.DemoteVoter(raft.ServerID(id), 0, within(ctx))
	})
}

// Remove takes id out of the cluster. Remove and AddNonvoter in a row also restart
// replication to a peer that came back, which otherwise waits up to 10 s and more.
func (n *Node) Remove(ctx context.Context, id string) error {
	return n.change(ctx, func() raft.Future {
		return n.raft.RemoveServer(raft.ServerID(id), 0, within(ctx))
	})
}

// Transfer hands leadership to the voter id, which is brought up to date first.
// Proposals meanwhile get ErrNotLeader.
func (n *Node) Transfer(ctx context.Context, id string) error {
	return n.change(ctx, func() raft.Future {
		return n.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id))
	})
}

func (n *Node) change(ctx context.Context, f func() raft.Future) error {
	return n.await(ctx, func() error { return f().Error() })
}
