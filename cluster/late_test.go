package cluster_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"
)

// tape keeps what is sent on each connection, from the request on that carries a state.
type tape struct {
	raft.StreamLayer
	mu   sync.Mutex
	sent [][]byte
}

type tapedConn struct {
	net.Conn
	t *tape
	n int // where in sent; -1: no state so far
}

func (t *tape) Dial(a raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	c, err := t.StreamLayer.Dial(a, timeout)
	if err != nil {
		return nil, err
	}
	return &tapedConn{Conn: c, t: t, n: -1}, nil
}

// installSnapshot is the octet with which the library begins such a request.
const installSnapshot = 2

func (c *tapedConn) Write(p []byte) (int, error) {
	c.t.mu.Lock()
	if c.n < 0 && len(p) > 0 && p[0] == installSnapshot {
		c.n = len(c.t.sent)
		c.t.sent = append(c.t.sent, nil)
	}
	if c.n >= 0 {
		c.t.sent[c.n] = append(c.t.sent[c.n], p...)
	}
	c.t.mu.Unlock()
	return c.Conn.Write(p)
}

// A state that comes a second time, late, from the time when the node had no vote, changes nothing:
// the node keeps its vote, what it has applied, and can lead alone.
func TestLateState(t *testing.T) {
	rec := &tape{}
	c := clustertest.New(t, 2, func(cfg *cluster.Config) {
		if cfg.ID == "n0" {
			rec.StreamLayer = cfg.Stream
			cfg.Stream = rec
		}
	})
	a, b := c.Nodes[0], c.Nodes[1]
	for range 20 {
		c.Propose("after the state")
	}
	before := c.CheckSame()
	rec.mu.Lock()
	if len(rec.sent) != 1 || b.FSM.Restores() != 1 {
		t.Fatalf("%d states sent, %d received: the test needs one", len(rec.sent), b.FSM.Restores())
	}
	late := rec.sent[0]
	rec.mu.Unlock()

	conn, err := c.Net.Endpoint("late").Dial("n1", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go conn.Write(late)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAtLeast(conn, make([]byte, 512), 1); err != nil {
		t.Fatalf("no answer to the late state: %v", err)
	}

	if n := b.FSM.Restores(); n != 1 {
		t.Errorf("the late state was taken: %d", n)
	}
	ctx, cancel := clustertest.Context()
	defer cancel()
	if err := a.Transfer(ctx, "n1"); err != nil {
		t.Fatal(err)
	}
	c.Wait("n1 to lead", b.IsLeader)
	if err := b.Demote(ctx, "n0"); err != nil {
		t.Fatalf("n1 can't lead alone: %v", err)
	}
	c.Propose("alone")
	if got := c.CheckSame(); len(got) != len(before)+1 {
		t.Errorf("%d entries, %d before", len(got), len(before))
	}
}
