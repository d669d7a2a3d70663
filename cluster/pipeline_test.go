package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// stuckPipeline hangs until it is closed, as the library's can.
type stuckPipeline struct {
	raft.AppendPipeline
	closed chan struct{}
}

func (p *stuckPipeline) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	<-p.closed
	return nil, raft.ErrPipelineShutdown
}

func (p *stuckPipeline) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

// A pipeline that hangs is closed after a while, or when the engine ends.
func TestStuckPipelineEnds(t *testing.T) {
	for name, n := range map[string]*network{
		"in time":  newNetwork(nil, time.Millisecond),
		"at abort": newNetwork(nil, time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			p := &pipeline{&stuckPipeline{closed: make(chan struct{})}, n}
			n.pipes[p] = struct{}{}
			if n.timeout == time.Hour {
				go n.abort()
			}
			if _, err := p.AppendEntries(nil, nil); err != raft.ErrPipelineShutdown {
				t.Errorf("got %v", err)
			}
		})
	}
}
