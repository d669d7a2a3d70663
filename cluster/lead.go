package cluster

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// Leadership says who leads, as this node knows it.
type Leadership struct {
	Leader string // ID; empty while nobody is known to lead
	Self   bool   // this node leads and has applied everything that earlier leaders committed
	Term   uint64
}

// leadership keeps the present answer and tells watchers about the next.
type leadership struct {
	mu       sync.Mutex
	now      Leadership
	watchers map[chan Leadership]struct{}
}

func (l *leadership) set(v Leadership) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == v {
		return false
	}
	l.now = v
	for ch := range l.watchers {
		offer(ch, v)
	}
	return true
}

// offer leaves only the newest value in ch.
func offer(ch chan Leadership, v Leadership) {
	select {
	case <-ch:
	default:
	}
	ch <- v // capacity 1, and set holds the lock: it never blocks
}

// Watch gives a channel with the present Leadership and then each change. A slow reader
// sees only the newest. stop ends it; the channel is not closed.
func (n *Node) Watch() (ch <-chan Leadership, stop func()) {
	c := make(chan Leadership, 1)
	l := &n.lead
	l.mu.Lock()
	defer l.mu.Unlock()
	c <- l.now
	l.watchers[c] = struct{}{}
	return c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watchers, c)
	}
}

// Leadership says who leads now.
func (n *Node) Leadership() Leadership {
	n.lead.mu.Lock()
	defer n.lead.mu.Unlock()
	return n.lead.now
}

// IsLeader says whether this node leads and is ready to read and write.
func (n *Node) IsLeader() bool {
	l := n.Leadership()
	r := n.raft()
	return l.Self && r.State() == raft.Leader && r.CurrentTerm() == l.Term
}

// LeaderID names the leader; empty if none is known.
func (n *Node) LeaderID() string { return n.Leadership().Leader }

// WaitLeader waits until a leader is known, and ready if it is this node.
func (n *Node) WaitLeader(ctx context.Context) (id string, err error) {
	ch, stop := n.Watch()
	defer stop()
	for {
		select {
		case l := <-ch:
			if l.Leader != "" && (l.Self || l.Leader != n.cfg.ID) {
				return l.Leader, nil
			}
		case <-ctx.Done():
			return "", ctx.Err()
		case <-n.done:
			return "", n.orFailure(ErrClosed)
		}
	}
}

// Campaign makes this node stand for election at once, without waiting for a time-out and even while
// another leads. It returns when the request has been taken, not when it has won.
func (n *Node) Campaign(ctx context.Context) error {
	return n.await(ctx, n.campaign)
}

func (n *Node) campaign(e *engine) error {
	req := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.cfg.ID), Addr: []byte(n.cfg.ID),
	}}
	return e.trans.TimeoutNow(raft.ServerID(n.cfg.ID), raft.ServerAddress(n.cfg.ID), &req, &raft.TimeoutNowResponse{})
}

// follow turns the library's observations into Leadership until the node is closed.
func (n *Node) follow() {
	defer n.wg.Done()
	for {
		n.lookAround()
		select {
		case <-n.events:
		case <-n.done:
			n.lead.set(Leadership{})
			return
		}
	}
}

// lookAround reads who leads. An own leadership counts when a barrier has passed:
// before it, entries of earlier terms may not have been applied here.
func (n *Node) lookAround() {
	r := n.raft()
	_, id := r.LeaderWithID()
	l := Leadership{Leader: string(id), Term: r.CurrentTerm()}
	if l.Leader == n.cfg.ID {
		if was := n.Leadership(); was.Self && was.Term == l.Term {
			return
		}
		n.lead.set(l)
		if r.State() != raft.Leader || n.Barrier(context.Background()) != nil {
			return // the next observation tells more
		}
		l.Self = true
	}
	if n.lead.set(l) {
		n.log.Info("leadership", "leader", l.Leader, "self", l.Self, "term", l.Term, "epoch", EpochOf(l.Term))
	}
}
