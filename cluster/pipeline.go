package cluster

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// network is the library's transport with pipelines that can't hang. In the library, when
// a follower refuses an entry of a pipeline, or its connection breaks, the reader of the
// answers ends; a sender that has just written the next entry then waits for it for ever,
// and with it whoever waits for the end of raft.
type network struct {
	*raft.NetworkTransport
	timeout time.Duration
	has     func(*raft.InstallSnapshotRequest) bool // this node needs no such state; may be nil
	done    chan struct{}                           // closed by abort

	mu      sync.Mutex
	pipes   map[*pipeline]struct{}
	aborted bool
}

// pipeline is one that is closed when a call of it takes too long, or with the network.
type pipeline struct {
	raft.AppendPipeline
	n *network
}

func newNetwork(t *raft.NetworkTransport, timeout time.Duration) *network {
	return &network{NetworkTransport: t, timeout: timeout, done: make(chan struct{}), pipes: map[*pipeline]struct{}{}}
}

// AppendEntriesPipeline opens a pipeline to a follower.
func (n *network) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := n.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &pipeline{inner, n}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.aborted {
		inner.Close()
		return nil, raft.ErrPipelineShutdown
	}
	n.pipes[p] = struct{}{}
	return p, nil
}

// AppendEntries hands a request over; it waits for the one before the last to be answered.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	// Twice the time in which the one before is answered or its connection fails.
	t := time.AfterFunc(2*p.n.timeout, func() { p.AppendPipeline.Close() })
	defer t.Stop()
	return p.AppendPipeline.AppendEntries(args, resp)
}

func (p *pipeline) Close() error {
	p.n.mu.Lock()
	delete(p.n.pipes, p)
	p.n.mu.Unlock()
	return p.AppendPipeline.Close()
}

// abort closes all pipelines, and those that are opened later.
func (n *network) abort() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.aborted {
		close(n.done)
	}
	n.aborted = true
	for p := range n.pipes {
		p.AppendPipeline.Close()
	}
}
