package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"

	"pgregory.net/rapid"
)

func TestThreeNodesHoldTheSame(t *testing.T) {
	c := clustertest.New(t, 3)
	var last uint64
	for i := range 100 {
		last = c.Propose(fmt.Sprint(i))
	}
	if got := c.CheckSame(); len(got) != 100 || got[99] != "99" {
		t.Errorf("%d entries", len(got))
	}
	ctx, cancel := clustertest.Context()
	defer cancel()
	leader := c.Leader()
	for _, n := range c.Nodes {
		if err := n.WaitApplied(ctx, last); err != nil {
			t.Error(err)
		}
		if n == leader {
			continue
		}
		_, _, err := n.Propose(ctx, []byte("x"))
		var not cluster.ErrNotLeader
		if !errors.As(err, &not) || not.Leader != leader.ID {
			t.Errorf("proposal at a follower: %v", err)
		}
	}
	index, err := leader.ReadIndex(ctx)
	if err != nil || index < last {
		t.Errorf("read index %d, %v; last entry %d", index, err, last)
	}
	if s := leader.Status(); len(s.Voters) != 3 || s.CommitIndex < last {
		t.Errorf("status %+v", s)
	}
}

func TestTransferAndMembers(t *testing.T) {
	c := clustertest.New(t, 3)
	ctx, cancel := clustertest.Context()
	defer cancel()
	a := c.Leader()
	ch, stop := a.Watch()
	defer stop()
	if l := <-ch; !l.Self || l.Leader != a.ID {
		t.Errorf("watch begins with %+v", l)
	}
	b := c.Nodes[(c.Index(a)+1)%3]
	if err := a.Transfer(ctx, b.ID); err != nil {
		t.Fatal(err)
	}
	for l := range ch {
		if l.Leader == b.ID {
			break
		}
	}
	if got := c.Leader(); got != b {
		t.Fatalf("%s leads", got.ID)
	}
	c.Propose("after")
	if err := b.Demote(ctx, a.ID); err != nil {
		t.Fatal(err)
	}
	if s := b.Status(); len(s.Voters) != 2 || len(s.Nonvoters) != 1 || s.Nonvoters[0] != a.ID {
		t.Errorf("after Demote: %+v", s)
	}
	if err := b.AddVoter(ctx, a.ID); err != nil {
		t.Fatal(err)
	}
	c.CheckSame()
}

// The leader cut off from the others acknowledges nothing more; they go on, and what it
// took alone is gone when it returns.
func TestPartitionOfLeader(t *testing.T) {
	c := clustertest.New(t, 3)
	c.Propose("before")
	old := c.Leader()
	i := c.Index(old)
	c.Isolate(i)

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, _, err := old.Propose(ctx, []byte("lost")); err == nil {
		t.Error("an isolated leader acknowledged an entry")
	} else if !errors.Is(err, cluster.ErrUncertain) && !errors.As(err, new(cluster.ErrNotLeader)) {
		t.Errorf("isolated leader: %v", err)
	}
	fresh := c.Leader((i+1)%3, (i+2)%3)
	if _, _, err := fresh.Propose(ctx, []byte("during")); err != nil {
		t.Fatal(err)
	}
	c.Rejoin(i)
	c.Propose("after")
	got := strings.Join(c.CheckSame(), " ")
	if got != "before during after" {
		t.Errorf("sequence %q", got)
	}
}

// A node that missed more than the log holds gets the whole state, and goes on from it
// also after a crash of its own.
func TestStateIsStreamed(t *testing.T) {
	c := clustertest.New(t, 3, func(cfg *cluster.Config) { cfg.TrailingLogs, cfg.Timeouts.CatchUp = 5, 1 })
	for i := range 20 {
		c.Propose(fmt.Sprint(i))
	}
	behind := (c.Index(c.Leader()) + 1) % 3
	c.CheckSame()
	c.Kill(behind)
	for i := range 50 {
		c.Propose(fmt.Sprint(20 + i))
	}
	if err := c.Leader().Snapshot(); err != nil {
		t.Fatal(err)
	}
	// The state that is sent is ahead of the snapshot it stands for.
	c.Propose("past the snapshot")
	c.Start(behind)
	c.CheckSame()
	if got := c.Nodes[behind].FSM.Restores(); got != 1 {
		t.Errorf("%d states received, want 1", got)
	}
	c.Propose("by the log again")
	c.CheckSame()
	c.Kill(behind)
	c.Start(behind)
	c.Propose("end")
	if got := c.CheckSame(); len(got) != 73 {
		t.Errorf("%d entries", len(got))
	}
	if got := c.Nodes[behind].FSM.Restores(); got != 0 {
		t.Errorf("%d states received after the crash", got)
	}
}

// A member that joins late and empty is filled before it votes.
func TestJoinByStream(t *testing.T) {
	c := clustertest.New(t, 2, func(cfg *cluster.Config) { cfg.TrailingLogs, cfg.Timeouts.CatchUp = 1, 1 })
	ctx, cancel := clustertest.Context()
	defer cancel()
	a := c.Leader()
	gone := 1 - c.Index(a)
	if err := a.Remove(ctx, c.Nodes[gone].ID); err != nil {
		t.Fatal(err)
	}
	c.Stop(gone)
	for i := range 30 {
		c.Propose(fmt.Sprint(i))
	}
	if err := a.Snapshot(); err != nil {
		t.Fatal(err)
	}
	c.Nodes[gone].Dir += "-new"
	c.Start(gone)
	if err := a.AddNonvoter(ctx, c.Nodes[gone].ID); err != nil {
		t.Fatal(err)
	}
	if got := c.CheckSame(); len(got) != 30 {
		t.Errorf("%d entries", len(got))
	}
	if got := c.Nodes[gone].FSM.Restores(); got != 1 {
		t.Errorf("%d states received", got)
	}
	c.Wait("the new member to know that it is one", func() bool {
		return len(c.Nodes[gone].Status().Nonvoters) == 1
	})
}

// Whatever is cut, killed and started again, all nodes hold one sequence, in which every
// acknowledged entry is exactly once and in the order of its acknowledgement.
func TestOrderUnderFaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := clustertest.New(t, 3, func(cfg *cluster.Config) {
			cfg.TrailingLogs, cfg.SnapshotThreshold, cfg.SnapshotGap = 3, 5, time.Millisecond
		})
		var acked []string
		down, cut := -1, -1
		for step := range rapid.IntRange(3, 8).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "fault") {
			case 0:
				if down < 0 && cut < 0 {
					down = rapid.IntRange(0, 2).Draw(rt, "kill")
					c.Kill(down)
				}
			case 1:
				if down < 0 && cut < 0 {
					cut = rapid.IntRange(0, 2).Draw(rt, "cut")
					c.Isolate(cut)
				}
			case 2:
				if down >= 0 {
					c.Start(down)
					down = -1
				}
				if cut >= 0 {
					c.Rejoin(cut)
					cut = -1
				}
			}
			for k := range rapid.IntRange(1, 8).Draw(rt, "entries") {
				data := fmt.Sprintf("%d.%d", step, k)
				if proposeSomewhere(c, data) {
					acked = append(acked, data)
				}
			}
		}
		if down >= 0 {
			c.Start(down)
		}
		if cut >= 0 {
			c.Rejoin(cut)
		}
		c.Propose("end")
		got := c.CheckSame()
		seen := map[string]bool{}
		next := 0
		for _, d := range got {
			if seen[d] {
				rt.Fatalf("%s is there twice", d)
			}
			seen[d] = true
			if next < len(acked) && acked[next] == d {
				next++
			}
		}
		if next != len(acked) {
			rt.Fatalf("acknowledged %v, held %v", acked, got)
		}
		for i, n := range c.Nodes {
			if n.Up {
				c.Stop(i)
			}
		}
	})
}

// proposeSomewhere tries the nodes that claim to lead, once each.
func proposeSomewhere(c *clustertest.Cluster, data string) bool {
	for _, n := range c.Nodes {
		if !n.Up || !n.IsLeader() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, _, err := n.Propose(ctx, []byte(data))
		cancel()
		if err == nil {
			return true
		}
		if !errors.As(err, new(cluster.ErrNotLeader)) {
			return false // may be committed: must not be repeated
		}
	}
	return false
}
