package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"

	"github.com/hashicorp/raft"
)

// longLease keeps a pair's leader in office while its peer is silent, as in real life.
func longLease(cfg *cluster.Config) { cfg.Timeouts.Heartbeat = 4 * time.Second }

// The leader dies under 64 writers and the follower forces itself: what was acknowledged is
// there once, the old leader gives up its tail and catches up by the log.
func TestForceAfterLeaderDies(t *testing.T) {
	c := clustertest.New(t, 2, longLease)
	a, b := c.Nodes[0], c.Nodes[1]
	load := clustertest.NewLoad(t, "a", 64, func(ctx context.Context, data string) error {
		_, _, err := a.Propose(ctx, []byte(data))
		return err
	})
	c.Wait("some entries", func() bool { return load.Count() > 500 })
	c.Kill(0)
	acked := load.Stop()
	if err := c.Force(1, 1); err != nil {
		t.Fatal(err)
	}
	if !b.IsLeader() {
		t.Error("not ready after Force")
	}
	s := b.Status()
	if s.Epoch != 1 || s.Term&(1<<23) == 0 || !slices.Equal(s.Voters, []string{"n1"}) || !slices.Equal(s.Nonvoters, []string{"n0"}) {
		t.Errorf("status %+v", s)
	}
	clustertest.CheckAcked(t, c.Data(1), acked)
	_, _, err := b.Propose(context.Background(), []byte("alone"))
	if err != nil {
		t.Fatal(err)
	}
	restores := b.FSM.Restores()
	c.Start(0)
	ctx, cancel := clustertest.Context()
	defer cancel()
	if err := b.Readd(ctx, "n0"); err != nil {
		t.Fatal(err)
	}
	clustertest.CheckAcked(t, c.CheckSame(), append(acked, "alone"))
	if got := c.Nodes[0].FSM.Restores(); got != 0 || b.FSM.Restores() != restores {
		t.Errorf("%d whole states sent", got)
	}
	if err := b.AddVoter(ctx, "n0"); err != nil {
		t.Fatal(err)
	}
	if err := b.Readd(ctx, "n0"); !errors.Is(err, cluster.ErrVoter) {
		t.Errorf("Readd of a voter: %v", err)
	}
	c.Propose("together")
	c.CheckSame()
	t.Logf("%d acknowledged", len(acked))
}

// Proposals, watchers, waiters and a second Force survive the restart of raft; the epoch
// only goes up.
func TestForceKeepsTheNode(t *testing.T) {
	c := clustertest.New(t, 2, longLease)
	a := c.Nodes[0]
	ch, stop := a.Watch()
	defer stop()
	load := clustertest.NewLoad(t, "w", 16, func(ctx context.Context, data string) error {
		_, _, err := a.Propose(ctx, []byte(data))
		if err != nil && !errors.Is(err, cluster.ErrUncertain) && !errors.As(err, new(cluster.ErrNotLeader)) && ctx.Err() == nil {
			t.Errorf("proposal: %v", err)
		}
		return err
	})
	c.Wait("some entries", func() bool { return load.Count() > 50 })
	for epoch := range uint64(5) {
		if err := c.Force(0, epoch+1); err != nil {
			t.Fatal(err)
		}
		was := load.Count()
		c.Wait("more entries", func() bool { return load.Count() > was+50 })
	}
	for l := <-ch; !l.Self || cluster.EpochOf(l.Term) != 5; l = <-ch {
	}
	s := a.Status()
	for _, f := range []cluster.Forced{{Epoch: 4}, {Epoch: 5, NodeBit: 1}, {Epoch: 0}, {Epoch: 6, NodeBit: 2}, {Epoch: 1 << 40}} {
		if err := a.Force(context.Background(), f); !errors.Is(err, cluster.ErrEpoch) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if err := a.Force(context.Background(), cluster.Forced{Epoch: 6, Others: []string{"n0"}}); err == nil {
		t.Error("itself as non-voter")
	}
	if err := c.Force(0, 5); err != nil { // once more: nothing to do
		t.Error(err)
	}
	if now := a.Status(); now.Term != s.Term {
		t.Errorf("term %#x after refusals, before %#x", now.Term, s.Term)
	}
	acked := load.Stop()
	clustertest.CheckAcked(t, c.Data(0), acked)
	clustertest.CheckAcked(t, c.CheckSame(), acked)
}

// A crash at each step of Force leaves a log that opens, with the old or with the forced
// configuration, and lets Force be repeated.
func TestCrashInForce(t *testing.T) {
	for _, step := range []string{cluster.ForceStopped, cluster.ForceAppended, cluster.ForceTerm, cluster.ForceStarted} {
		t.Run(step, func(t *testing.T) {
			var armed atomic.Pointer[clustertest.Node]
			killed := make(chan struct{})
			c := clustertest.New(t, 2, func(cfg *cluster.Config) {
				longLease(cfg)
				cfg.ForceStep = func(s string) {
					n := armed.Load()
					if n == nil || s != step {
						return
					}
					armed.Store(nil)
					go func() { n.Kill(); close(killed) }()
					<-n.Failed()
				}
			})
			var acked []string
			for i := range 20 {
				c.Propose(fmt.Sprint(i))
				acked = append(acked, fmt.Sprint(i))
			}
			c.Kill(0)
			armed.Store(c.Nodes[1])
			if err := c.Force(1, 3); !errors.Is(err, cluster.ErrClosed) {
				t.Errorf("Force of a killed node: %v", err)
			}
			<-killed
			c.Nodes[1].Up = false
			c.Start(1)
			b := c.Nodes[1]
			s := b.Status()
			if step == cluster.ForceStopped {
				if s.Epoch != 0 || len(s.Voters) != 2 {
					t.Errorf("before the entry: %+v", s)
				}
			} else if c.Leader(1); !slices.Equal(b.Status().Voters, []string{"n1"}) || b.Status().Epoch != 3 {
				t.Errorf("after the entry: %+v", b.Status())
			}
			if err := c.Force(1, 3); err != nil {
				t.Fatal(err)
			}
			c.Propose("alone")
			c.Start(0)
			ctx, cancel := clustertest.Context()
			defer cancel()
			if err := b.Readd(ctx, "n0"); err != nil {
				t.Fatal(err)
			}
			if got := c.CheckSame(); !slices.Equal(got, append(acked, "alone")) {
				t.Errorf("%q", got)
			}
		})
	}
}

// Close and Kill end a node in the middle of Force.
func TestCloseDuringForce(t *testing.T) {
	for name, end := range map[string]func(*cluster.Node){
		"close": func(n *cluster.Node) { n.Close() },
		"kill":  (*cluster.Node).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			var n *cluster.Node
			ended := make(chan struct{})
			n, _ = mustOpen(t, t.TempDir(), func(c *cluster.Config) {
				c.ForceStep = func(step string) {
					if step == cluster.ForceAppended {
						go func() { end(n); close(ended) }()
					}
				}
			})
			err := n.Force(context.Background(), cluster.Forced{Epoch: 1})
			<-ended
			if _, _, perr := n.Propose(context.Background(), []byte("x")); !errors.Is(perr, cluster.ErrClosed) {
				t.Errorf("proposal after the end: %v (Force: %v)", perr, err)
			}
			if err := n.Force(context.Background(), cluster.Forced{Epoch: 2}); !errors.Is(err, cluster.ErrClosed) {
				t.Errorf("Force after the end: %v", err)
			}
		})
	}
}

// A write that fails in Force ends the node, and the log opens as it was.
func TestDiskFaultInForce(t *testing.T) {
	dir := t.TempDir()
	f := &failingLog{fail: make(chan struct{}, 1)}
	n, _ := mustOpen(t, dir, func(c *cluster.Config) {
		c.WrapLog = func(l raft.LogStore) raft.LogStore { f.LogStore = l; return f }
	})
	if _, _, err := n.Propose(context.Background(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	f.fail <- struct{}{}
	if err := n.Force(context.Background(), cluster.Forced{Epoch: 1}); !errors.Is(err, errDisk) || !errors.Is(err, cluster.ErrFailed) {
		t.Errorf("Force on a failing disk: %v", err)
	}
	n.Close()
	n, fsm := mustOpen(t, dir, nil)
	checkData(t, fsm, []string{"a"})
	if s := n.Status(); s.Epoch != 0 {
		t.Errorf("status %+v", s)
	}
}

// Both nodes, cut from each other, force the same epoch: their terms differ for ever.
func TestBothForceTheSameEpoch(t *testing.T) {
	c := clustertest.New(t, 2, longLease)
	c.Propose("common")
	c.CheckSame()
	c.Cut(0, 1)
	for i := range 2 {
		if err := c.Force(i, 1); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := clustertest.Context()
	defer cancel()
	for i, n := range c.Nodes {
		for k := range 5 { // elections in the branch
			term := n.Status().Term
			if err := n.Campaign(ctx); err != nil {
				t.Fatal(err)
			}
			c.Wait("another term", func() bool { return n.IsLeader() && n.Status().Term > term })
			if _, _, err := n.Propose(ctx, fmt.Appendf(nil, "%d.%d", i, k)); err != nil {
				t.Fatal(err)
			}
		}
	}
	terms := map[uint64]int{}
	for i, n := range c.Nodes {
		for _, e := range n.FSM.Entries()[1:] {
			if e.Epoch() != 1 || e.Term>>23&1 != uint64(i) {
				t.Errorf("%s has entry %d of term %#x", n.ID, e.Index, e.Term)
			}
			if j, ok := terms[e.Term]; ok && j != i {
				t.Errorf("both have term %#x", e.Term)
			}
			terms[e.Term] = i
		}
	}
	// Even if they meet, the logs don't mix: the lower term's branch is cut at the fork.
	// (The controller doesn't let that happen: it compares histories first.)
}

// stuckDial never answers for a dead host until the test lets it.
type stuckDial struct {
	raft.StreamLayer
	stuck   atomic.Bool
	dialing chan struct{}
	release chan struct{}
}

func (s *stuckDial) Dial(a raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if s.stuck.Load() {
		select {
		case s.dialing <- struct{}{}:
		default:
		}
		<-s.release
		return nil, errors.New("host is down")
	}
	return s.StreamLayer.Dial(a, timeout)
}

// Force does not wait for a connection to a host that is down.
func TestForceWithHangingDial(t *testing.T) {
	s := &stuckDial{dialing: make(chan struct{}, 1), release: make(chan struct{})}
	c := clustertest.New(t, 2, func(cfg *cluster.Config) {
		if cfg.ID == "n1" {
			s.StreamLayer = cfg.Stream
			cfg.Stream = s
		}
	})
	s.stuck.Store(true)
	c.Kill(0)
	<-s.dialing // asks the dead leader for its vote
	if err := c.Force(1, 1); err != nil {
		t.Error(err)
	}
	close(s.release)
}
