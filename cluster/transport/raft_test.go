package transport_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"
	"mailplusd/cluster/transport"
)

// Two raft nodes commit over the link, also after the connection was cut and after one of
// them was closed and opened again on the same transport.
// covers: I.74
func TestRaft(t *testing.T) {
	a, b := two(t)
	dirs := map[string]string{"a": t.TempDir(), "b": t.TempDir()}
	open := func(n *transport.Transport, first bool) *cluster.Node {
		fsm, err := clustertest.OpenFSM(filepath.Join(dirs[n.ID()], "state"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := cluster.Open(cluster.Config{
			ID: n.ID(), DataDir: filepath.Join(dirs[n.ID()], "raft"), FSM: fsm, Stream: n.Stream(), Bootstrap: first,
			Timeouts: cluster.Timeouts{Heartbeat: 500 * time.Millisecond, RPC: 2 * time.Second, Commit: 5 * time.Millisecond},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ca, cb := open(a, true), open(b, false)
	ctx := within(t)
	if _, err := ca.WaitLeader(ctx); err != nil {
		t.Fatal(err)
	}
	if err := ca.AddNonvoter(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	if err := ca.AddVoter(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	commit := func(n int) (last uint64) {
		t.Helper()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				_, index, err := ca.Propose(ctx, fmt.Appendf(nil, "entry %d", i))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				last = max(last, index)
			})
		}
		wg.Wait()
		return last
	}
	follows := func(index uint64) {
		t.Helper()
		until(t, "the follower has applied it", func() bool { return cb.Status().StateIndex >= index })
	}
	follows(commit(100))
	a.Disconnect("b")
	follows(commit(100))
	cb.Close()
	cb = open(b, false)
	follows(commit(100))
}
