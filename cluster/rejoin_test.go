package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"
)

// diverge lets both nodes go on alone, node 1 with less and then both with more entries
// than the other, and ends node 0.
func diverge(t *testing.T, c *clustertest.Cluster, more int) (common, own uint64) {
	t.Helper()
	for i := range 5 {
		common = c.Propose(fmt.Sprint("common ", i))
	}
	c.CheckSame()
	c.Cut(0, 1)
	ctx, cancel := clustertest.Context()
	defer cancel()
	for i, count := range []int{10, 10 + more} {
		if err := c.Force(i, 1); err != nil {
			t.Fatal(err)
		}
		for k := range count {
			_, index, err := c.Nodes[i].Propose(ctx, fmt.Appendf(nil, "%d alone %d", i, k))
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				own = index
			}
		}
	}
	return common, own
}

// A diverged node reads its own entries for the merge, empties its log and gets the
// winner's state, whether that reaches less far, as far or further than its own did.
func TestDivergedNodeJoinsAgain(t *testing.T) {
	for _, more := range []int{-8, 0, 1, 40} {
		t.Run(fmt.Sprint(more), func(t *testing.T) {
			join := false
			c := clustertest.New(t, 2, func(cfg *cluster.Config) {
				longLease(cfg)
				if cfg.ID == "n0" && join {
					cfg.Bootstrap, cfg.Join = false, true
				}
			})
			common, own := diverge(t, c, more)
			c.Stop(0)
			a, b := c.Nodes[0], c.Nodes[1]
			dir := filepath.Join(a.Dir, "raft")
			for range 2 { // the second time as after a crash
				if err := cluster.MoveAside(dir, "diverged-1"); err != nil {
					t.Fatal(err)
				}
			}
			var mine []string
			err := cluster.ReadLogDir(context.Background(), filepath.Join(a.Dir, "diverged-1"), common+1, 0, func(e cluster.Entry) error {
				mine = append(mine, string(e.Data))
				return nil
			})
			if err != nil || len(mine) != 10 || mine[9] != "0 alone 9" {
				t.Fatalf("own entries %q, %v", mine, err)
			}
			join = true
			c.Start(0)
			if got := a.FSM.Applied(); got != own || a.Applied() != 0 {
				t.Errorf("before the state comes: state at %d, want %d; applied %d", got, own, a.Applied())
			}
			if err := a.Force(context.Background(), cluster.Forced{Epoch: 9}); !errors.Is(err, cluster.ErrMismatch) {
				t.Errorf("Force on a foreign state: %v", err)
			}
			c.Kill(0) // and once more the same
			c.Start(0)
			c.Heal(0, 1)
			ctx, cancel := clustertest.Context()
			defer cancel()
			if err := b.Readd(ctx, "n0"); err != nil {
				t.Fatal(err)
			}
			last := c.Propose("together")
			if err := a.WaitApplied(ctx, last); err != nil {
				t.Fatal(err)
			}
			got := c.CheckSame()
			if slices.Contains(got, "0 alone 0") || !slices.Contains(got, "1 alone 0") || len(c.Data(0)) != len(got) {
				t.Errorf("%d entries at n0, %d at n1: %q", len(c.Data(0)), len(got), got)
			}
			if n := a.FSM.Restores(); n != 1 {
				t.Errorf("%d states received", n)
			}
			c.Kill(0) // with Join still set
			c.Start(0)
			if err := b.Readd(ctx, "n0"); err != nil {
				t.Fatal(err)
			}
			c.Propose("end")
			c.CheckSame()
		})
	}
}

func TestMoveAsideRefusals(t *testing.T) {
	dir := t.TempDir()
	n, _ := mustOpen(t, dir, nil)
	data := filepath.Join(dir, "raft")
	if err := cluster.MoveAside(data, "x"); !errors.Is(err, cluster.ErrLocked) {
		t.Errorf("an open node's directory: %v", err)
	}
	if _, _, err := n.Propose(context.Background(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	n.Close()
	for _, name := range []string{"", "..", "a/b", ".hidden"} {
		if err := cluster.MoveAside(data, name); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	if err := cluster.MoveAside(data, "state"); err == nil {
		t.Error("another directory was replaced")
	}
	if err := cluster.MoveAside(data, "x"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(t, dir, func(c *cluster.Config) { c.Bootstrap = false }); !errors.Is(err, cluster.ErrMismatch) {
		t.Errorf("state without log and without Join: %v", err)
	}
	if _, _, err := open(t, dir, func(c *cluster.Config) { c.Join = true }); err == nil {
		t.Error("Join and Bootstrap together")
	}
}

// Entries from the branch on are not cut, whatever the other bounds say; those before are.
func TestKeepSinceAndReadLog(t *testing.T) {
	n, _ := mustOpen(t, t.TempDir(), func(c *cluster.Config) { c.TrailingLogs, c.KeepSince = 1, 40 })
	read := func(from, to uint64) (count int, err error) {
		err = n.ReadLog(context.Background(), from, to, func(e cluster.Entry) error {
			if e.Index < from || to > 0 && e.Index > to || string(e.Data) != "x" {
				t.Errorf("entry %+v", e)
			}
			count++
			return nil
		})
		return count, err
	}
	var last uint64
	for range 100 {
		_, last, _ = n.Propose(context.Background(), []byte("x"))
	}
	if err := n.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if s := n.Status(); s.FirstIndex != 40 {
		t.Errorf("log begins at %d", s.FirstIndex)
	}
	if got, err := read(40, 0); err != nil || got != int(last-39) {
		t.Errorf("%d entries, %v", got, err)
	}
	if got, err := read(50, 59); err != nil || got != 10 {
		t.Errorf("%d entries, %v", got, err)
	}
	for _, r := range [][2]uint64{{39, 0}, {1, 41}, {last - 1, last + 1}} {
		if _, err := read(r[0], r[1]); !errors.Is(err, cluster.ErrCompacted) {
			t.Errorf("%v: %v", r, err)
		}
	}
	stop := errors.New("enough")
	if err := n.ReadLog(context.Background(), 40, 0, func(cluster.Entry) error { return stop }); err != stop {
		t.Errorf("error of the reader: %v", err)
	}
	n.KeepSince(0)
	if _, _, err := n.Propose(context.Background(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := n.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if s := n.Status(); s.FirstIndex <= 40 {
		t.Errorf("without the bound the log begins at %d", s.FirstIndex)
	}
}

// The secondary dies under writers: the leader demotes it and no writer sees an error.
func TestDemoteDeadPeer(t *testing.T) {
	c := clustertest.New(t, 2, longLease)
	a := c.Nodes[0]
	load := clustertest.NewLoad(t, "w", 8, func(ctx context.Context, data string) error {
		_, _, err := a.Propose(ctx, []byte(data))
		if err != nil && ctx.Err() == nil {
			t.Errorf("proposal: %v", err)
		}
		return err
	})
	c.Wait("some entries", func() bool { return load.Count() > 100 })
	c.Kill(1)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := a.Demote(ctx, "n1"); err != nil {
		t.Fatal(err)
	}
	was := load.Count()
	c.Wait("entries alone", func() bool { return load.Count() > was+100 })
	acked := load.Stop()
	c.Start(1)
	if err := a.Readd(ctx, "n1"); err != nil {
		t.Fatal(err)
	}
	clustertest.CheckAcked(t, c.CheckSame(), acked)
}
