package cluster_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"
)

// schedule drives a pair through random kills, take-overs, demotions and returns.
type schedule struct {
	t     *testing.T
	c     *clustertest.Cluster
	rnd   *rand.Rand
	nodes [2]atomic.Pointer[cluster.Node] // for the writers
	epoch uint64
	solo  int // the node that is alone; -1: none
	steps map[string]int
}

// propose tries whichever node leads.
func (s *schedule) propose(ctx context.Context, data string) error {
	var err error = cluster.ErrNotLeader{}
	for i := range s.nodes {
		if n := s.nodes[i].Load(); n.IsLeader() {
			_, _, err = n.Propose(ctx, []byte(data))
			return err
		}
	}
	return err
}

func (s *schedule) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *schedule) start(i int) {
	s.c.Start(i)
	s.nodes[i].Store(s.c.Nodes[i].Node)
}

// step does one thing that may happen to the pair.
func (s *schedule) step(ctx context.Context) string {
	c := s.c
	if s.solo < 0 {
		leader := c.Leader()
		l := c.Index(leader)
		other := c.Nodes[1-l]
		switch s.rnd.IntN(4) {
		case 0:
			c.Kill(l)
			s.epoch++
			s.must(c.Force(1-l, s.epoch))
			s.solo = 1 - l
			return "leader dies"
		case 1:
			c.Kill(1 - l)
			s.must(leader.Demote(ctx, other.ID))
			s.solo = l
			return "follower dies"
		case 2:
			if err := leader.Transfer(ctx, other.ID); err != nil {
				s.t.Logf("transfer: %v", err)
			}
			return "transfer"
		default:
			s.must(other.Snapshot())
			return "snapshot of the follower"
		}
	}
	i := s.solo
	n := c.Nodes[i]
	switch s.rnd.IntN(5) {
	case 0:
		c.Kill(i)
		s.start(i)
		c.Leader(i)
		return "the one alone dies and returns"
	case 1:
		s.epoch++
		s.must(c.Force(i, s.epoch))
		return "forced again"
	case 2:
		s.must(n.Snapshot())
		return "snapshot"
	default:
		other := c.Nodes[1-i]
		s.start(1 - i)
		s.must(n.Readd(ctx, other.ID))
		c.Wait("the peer to catch up", func() bool { return n.Lag(other.Progress()) < 64 })
		s.must(n.AddVoter(ctx, other.ID))
		s.solo = -1
		return "together again"
	}
}

// Whatever happens to a pair in which no two nodes are ever alone, what was acknowledged is
// there, once, on both. CLUSTER_SEED repeats a run, CLUSTER_SCHEDULE sets its length.
func TestRandomSchedule(t *testing.T) {
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("CLUSTER_SEED"), strconv.FormatInt(time.Now().UnixNano(), 10)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	length, err := time.ParseDuration(cmp.Or(os.Getenv("CLUSTER_SCHEDULE"), "4s"))
	if err != nil {
		t.Fatal(err)
	}
	if testing.Short() {
		length = time.Second
	}
	t.Logf("CLUSTER_SEED=%d", seed)
	c := clustertest.New(t, 2, func(cfg *cluster.Config) {
		longLease(cfg)
		cfg.SnapshotThreshold, cfg.SnapshotGap, cfg.TrailingLogs = 400, time.Millisecond, 300
	})
	s := &schedule{t: t, c: c, rnd: rand.New(rand.NewPCG(seed, 1)), solo: -1, steps: map[string]int{}}
	for i := range s.nodes {
		s.nodes[i].Store(c.Nodes[i].Node)
	}
	load := clustertest.NewLoad(t, "w", 16, s.propose)
	for end := time.Now().Add(length); time.Now().Before(end); {
		ctx, cancel := clustertest.Context()
		s.steps[s.step(ctx)]++
		cancel()
		was := load.Count()
		c.Wait("entries", func() bool { return load.Count() > was+s.rnd.IntN(200) })
	}
	ctx, cancel := clustertest.Context()
	defer cancel()
	for s.solo >= 0 {
		s.step(ctx)
	}
	acked := load.Stop()
	clustertest.CheckAcked(t, c.CheckSame(), acked)
	t.Logf("%d acknowledged; %v", len(acked), s.steps)
}
