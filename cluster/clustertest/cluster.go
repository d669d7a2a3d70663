package clustertest

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster"
)

// patience bounds every wait; a test that reaches it fails.
const patience = 15 * time.Second

// Node is a member. Node and FSM change with each Start.
type Node struct {
	*cluster.Node
	FSM   *FSM
	ID    string
	Dir   string
	Clock *Clock
	Up    bool
}

// Cluster is a set of nodes on one Network.
type Cluster struct {
	Nodes []*Node
	Net   *Network

	t    testing.TB
	tune func(*cluster.Config)
}

// New starts n nodes, 1 to 9, all voters, named n0, n1 and so on, and waits for a leader.
// tune, if given, changes each node's configuration before each start.
func New(t testing.TB, n int, tune ...func(*cluster.Config)) *Cluster {
	t.Helper()
	c := &Cluster{t: t, Net: NewNetwork(), tune: func(*cluster.Config) {}}
	if len(tune) > 0 {
		c.tune = tune[0]
	}
	base := t.TempDir()
	for i := range n {
		id := fmt.Sprintf("n%d", i)
		c.Nodes = append(c.Nodes, &Node{ID: id, Dir: filepath.Join(base, id), Clock: &Clock{}})
	}
	t.Cleanup(c.close)
	c.Start(0)
	first := c.Leader()
	for i := 1; i < n; i++ {
		c.Start(i)
		c.add(first, i)
	}
	return c
}

// add makes node i a voter once it has everything.
func (c *Cluster) add(leader *Node, i int) {
	c.t.Helper()
	ctx, cancel := Context()
	defer cancel()
	id := c.Nodes[i].ID
	if err := leader.AddNonvoter(ctx, id); err != nil {
		c.t.Fatalf("add %s: %v", id, err)
	}
	c.Wait(id+" to be filled", func() bool { return leader.Lag(c.Nodes[i].Progress()) == 0 })
	if err := leader.AddVoter(ctx, id); err != nil {
		c.t.Fatalf("add %s: %v", id, err)
	}
}

// Context gives one that ends when a test should have gone on long ago.
func Context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (c *Cluster) close() {
	for i, n := range c.Nodes {
		if n.Up {
			c.Stop(i)
		}
	}
}

// Start opens node i, new or again.
func (c *Cluster) Start(i int) {
	c.t.Helper()
	if err := c.TryStart(i); err != nil {
		c.t.Fatalf("start %s: %v", c.Nodes[i].ID, err)
	}
}

// TryStart is Start for a node that may refuse.
func (c *Cluster) TryStart(i int) error {
	n := c.Nodes[i]
	if n.Up {
		c.t.Fatalf("%s is up", n.ID)
	}
	var err error
	if n.FSM, err = OpenFSM(filepath.Join(n.Dir, "state")); err != nil {
		return err
	}
	cfg := cluster.Config{
		ID: n.ID, DataDir: filepath.Join(n.Dir, "raft"), FSM: n.FSM, Bootstrap: i == 0,
		Logger:   slog.New(slog.NewTextHandler(logWriter{c.t}, &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", n.ID),
		Timeouts: cluster.Timeouts{Heartbeat: 300 * time.Millisecond, RPC: 2 * time.Second, Commit: 5 * time.Millisecond},
	}
	if len(c.Nodes) > 1 {
		cfg.Stream = c.Net.Endpoint(n.ID)
	}
	c.tune(&cfg)
	if n.Node, err = cluster.Open(cfg); err != nil {
		return err
	}
	n.Up = true
	return nil
}

// logWriter sends log lines to the test. Lines after its end are lost.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSuffix(string(p), "\n"))
	}
	return len(p), nil
}

// Stop closes node i cleanly.
func (c *Cluster) Stop(i int) {
	c.t.Helper()
	c.Nodes[i].Up = false
	if err := c.Nodes[i].Close(); err != nil {
		c.t.Errorf("close %s: %v", c.Nodes[i].ID, err)
	}
}

// Kill ends node i as a crash would: what its FSM has not flushed is gone.
func (c *Cluster) Kill(i int) {
	c.Nodes[i].Up = false
	c.Nodes[i].Kill()
}

// Cut breaks the link between two nodes.
func (c *Cluster) Cut(i, j int) { c.Net.Cut(c.Nodes[i].ID, c.Nodes[j].ID) }

// Heal mends it.
func (c *Cluster) Heal(i, j int) { c.Net.Heal(c.Nodes[i].ID, c.Nodes[j].ID) }

// Isolate cuts all links of node i.
func (c *Cluster) Isolate(i int) {
	for j := range c.Nodes {
		if j != i {
			c.Cut(i, j)
		}
	}
}

// Rejoin heals all links of node i.
func (c *Cluster) Rejoin(i int) {
	for j := range c.Nodes {
		if j != i {
			c.Heal(i, j)
		}
	}
}

// Force makes node i the only voter under epoch; the others become non-voters. The node's
// number is its place.
func (c *Cluster) Force(i int, epoch uint64) error {
	f := cluster.Forced{Epoch: epoch, NodeBit: uint8(i & 1)}
	for j, n := range c.Nodes {
		if j != i {
			f.Others = append(f.Others, n.ID)
		}
	}
	ctx, cancel := Context()
	defer cancel()
	return c.Nodes[i].Force(ctx, f)
}

// Data gives what node i holds.
func (c *Cluster) Data(i int) []string {
	entries := c.Nodes[i].FSM.Entries()
	out := make([]string, len(entries))
	for k, e := range entries {
		out[k] = e.Data
	}
	return out
}

// Index gives the place of a node in Nodes.
func (c *Cluster) Index(n *Node) int {
	for i, m := range c.Nodes {
		if m == n {
			return i
		}
	}
	c.t.Fatalf("no such node")
	return -1
}

// Leader waits until one of the given nodes leads; of all, if none are given.
func (c *Cluster) Leader(among ...int) *Node {
	c.t.Helper()
	nodes := c.Nodes
	if len(among) > 0 {
		nodes = nil
		for _, i := range among {
			nodes = append(nodes, c.Nodes[i])
		}
	}
	var leader *Node
	c.Wait("a leader", func() bool {
		for _, n := range nodes {
			if n.Up && n.IsLeader() {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

// Wait polls until cond holds, and fails the test when it never does.
func (c *Cluster) Wait(what string, cond func() bool) {
	c.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-limit.C:
			for _, n := range c.Nodes {
				if n.Up {
					c.t.Logf("%+v", n.Status())
				}
			}
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Propose brings data into the log by whoever leads, and fails the test if it can't.
func (c *Cluster) Propose(data string) (index uint64) {
	c.t.Helper()
	ctx, cancel := Context()
	defer cancel()
	_, index, err := c.Leader().Propose(ctx, []byte(data))
	if err != nil {
		c.t.Fatalf("propose: %v", err)
	}
	return index
}

// CheckSame waits until all nodes that are up have applied what the leader has, compares
// their sequences entry by entry and returns the data.
func (c *Cluster) CheckSame() []string {
	c.t.Helper()
	leader := c.Leader()
	want := leader.FSM.Entries()
	for _, n := range c.Nodes {
		if !n.Up || n == leader || len(want) == 0 {
			continue
		}
		c.Wait(n.ID+" to catch up", func() bool { return n.FSM.Applied() >= want[len(want)-1].Index })
		got := n.FSM.Entries()
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				c.t.Fatalf("%s and %s differ at entry %d of %d", n.ID, leader.ID, i, len(want))
			}
		}
	}
	out := make([]string, len(want))
	for i, k := range want {
		out[i] = k.Data
	}
	return out
}
