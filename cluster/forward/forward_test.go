package forward_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"
	"mailplusd/cluster/forward"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counting counts calls that go out.
type counting struct {
	forward.Caller
	calls atomic.Int64
	lose  atomic.Bool // the answer of the next call is lost
}

func (c *counting) Call(ctx context.Context, node, method string, req []byte) ([]byte, error) {
	c.calls.Add(1)
	b, err := c.Caller.Call(ctx, node, method, req)
	if c.lose.CompareAndSwap(true, false) {
		return nil, clustertest.ErrConnLost
	}
	return b, err
}

type pair struct {
	*clustertest.Cluster
	t   testing.TB
	out [2]*counting
	p   [2]*forward.Proposer
}

func newPair(t testing.TB, tune ...func(*cluster.Config)) *pair {
	c := &pair{t: t, Cluster: clustertest.New(t, 2, func(cfg *cluster.Config) {
		cfg.Timeouts.Heartbeat = 2 * time.Second
		for _, f := range tune {
			f(cfg)
		}
	})}
	for i := range 2 {
		c.open(i)
	}
	t.Cleanup(func() { c.p[0].Close(); c.p[1].Close() })
	return c
}

// open makes node i's Proposer, new or again.
func (c *pair) open(i int) {
	if c.p[i] != nil {
		c.p[i].Close()
	}
	n := c.Nodes[i]
	c.out[i] = &counting{Caller: c.Net.Caller(n.ID)}
	c.p[i] = forward.New(forward.Options{
		Node: n.Node, ID: n.ID, Caller: c.out[i],
		NotSent: func(err error) bool { return errors.Is(err, clustertest.ErrUnreachable) },
	})
	c.Net.Handle(n.ID, forward.Serve(n.Node))
}

// Every node proposes; the result is the state machine's, and the proposer sees its entry.
func TestProposeAnywhere(t *testing.T) {
	c := newPair(t)
	var wg sync.WaitGroup
	const writers, each = 64, 10
	for i := range 2 {
		for w := range writers {
			wg.Go(func() {
				for k := range each {
					data := fmt.Sprintf("%d.%d.%d", i, w, k)
					res, index, err := c.p[i].Propose(t.Context(), []byte(data))
					if err != nil {
						t.Errorf("%s: %v", data, err)
						return
					}
					entries := c.Nodes[i].FSM.Entries()
					place := binary.BigEndian.Uint64(res)
					if place > uint64(len(entries)) || entries[place-1].Data != data || entries[place-1].Index != index {
						t.Errorf("%s: result %d, index %d not seen here", data, place, index)
					}
				}
			})
		}
	}
	wg.Wait()
	if got := c.CheckSame(); len(got) != 2*writers*each {
		t.Errorf("%d entries", len(got))
	}
	calls := c.out[1].calls.Load()
	t.Logf("%d calls for %d entries", calls, writers*each)
	if calls >= writers*each || c.out[0].calls.Load() != 0 {
		t.Errorf("%d calls for %d entries: not gathered; the leader made %d", calls, writers*each, c.out[0].calls.Load())
	}
}

// What goes wrong at the leader arrives as the same error here.
func TestForwardedErrors(t *testing.T) {
	c := newPair(t, func(cfg *cluster.Config) { cfg.MaxEntry = 1000 })
	if _, _, err := c.p[1].Propose(t.Context(), make([]byte, 1001)); !errors.Is(err, cluster.ErrTooLarge) {
		t.Errorf("large entry: %v", err)
	}
	if _, _, err := c.p[1].Propose(t.Context(), make([]byte, 9<<20)); !errors.Is(err, cluster.ErrTooLarge) {
		t.Errorf("very large entry: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.p[1].Propose(ctx, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	c.p[1].Close()
	if _, _, err := c.p[1].Propose(t.Context(), []byte("x")); !errors.Is(err, cluster.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := c.p[1].Fresh(t.Context()); !errors.Is(err, cluster.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// A lost answer: only an entry that may be there twice is sent again.
func TestLostAnswer(t *testing.T) {
	c := newPair(t)
	c.out[1].lose.Store(true)
	if _, _, err := c.p[1].Propose(t.Context(), []byte("a")); !errors.Is(err, cluster.ErrUncertain) {
		t.Errorf("lost answer: %v", err)
	}
	c.out[1].lose.Store(true)
	if _, _, err := c.p[1].ProposeOnce(t.Context(), []byte("b")); err != nil {
		t.Errorf("lost answer, idempotent: %v", err)
	}
	if got := c.CheckSame(); !slices.Equal(got, []string{"a", "b", "b"}) {
		t.Errorf("%q", got)
	}
}

// Without a leader in reach the proposal waits and nothing happens; when the link is back it
// goes through, once.
func TestProposeWaitsForLeader(t *testing.T) {
	c := newPair(t)
	c.Cut(0, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := c.p[1].Propose(ctx, []byte("never")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, cluster.ErrUncertain) {
		t.Errorf("unreachable leader: %v", err)
	}
	res := make(chan error, 1)
	before := c.out[1].calls.Load()
	go func() { _, _, err := c.p[1].Propose(t.Context(), []byte("later")); res <- err }()
	c.Wait("some tries", func() bool { return c.out[1].calls.Load() > before+2 })
	c.Heal(0, 1)
	if err := <-res; err != nil {
		t.Error(err)
	}
	if got := c.CheckSame(); !slices.Equal(got, []string{"later"}) {
		t.Errorf("%q", got)
	}
}

// Leadership goes back and forth under writers on both nodes: none sees an error but the
// uncertain, what is acknowledged is there once.
func TestTransferUnderWriters(t *testing.T) {
	c := newPair(t)
	var loads []*clustertest.Load
	for i := range 2 {
		loads = append(loads, clustertest.NewLoad(t, fmt.Sprint(i), 16, func(ctx context.Context, data string) error {
			_, _, err := c.p[i].Propose(ctx, []byte(data))
			if err != nil && ctx.Err() == nil && !errors.Is(err, cluster.ErrUncertain) {
				t.Errorf("%s: %v", data, err)
			}
			return err
		}))
	}
	ctx, cancel := clustertest.Context()
	defer cancel()
	for range 6 {
		was := loads[0].Count() + loads[1].Count()
		c.Wait("entries", func() bool { return loads[0].Count()+loads[1].Count() > was+200 })
		l := c.Leader()
		other := c.Nodes[1-c.Index(l)]
		if err := l.Transfer(ctx, other.ID); err != nil && !errors.As(err, new(cluster.ErrNotLeader)) {
			t.Logf("transfer: %v", err)
		}
	}
	acked := append(loads[0].Stop(), loads[1].Stop()...)
	clustertest.CheckAcked(t, c.CheckSame(), acked)
	t.Logf("%d acknowledged", len(acked))
}

// A read after Fresh never shows the past, on either node, whoever wrote.
func TestFresh(t *testing.T) {
	c := newPair(t)
	var last atomic.Uint64 // index of the newest acknowledged entry
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				_, index, err := c.p[i].Propose(t.Context(), fmt.Appendf(nil, "%d.%d", i, k))
				if err != nil {
					t.Error(err)
					return
				}
				for was := last.Load(); was < index && !last.CompareAndSwap(was, index); was = last.Load() {
				}
			}
		})
	}
	var readers sync.WaitGroup
	const count, each = 32, 30
	before := c.out[1].calls.Load()
	for i := range 2 {
		for range count {
			readers.Go(func() {
				for range each {
					want := last.Load()
					if err := c.p[i].Fresh(t.Context()); err != nil {
						t.Errorf("node %d: %v", i, err)
						return
					}
					if got := c.Nodes[i].FSM.Applied(); got < want {
						t.Errorf("node %d shows %d, %d was acknowledged", i, got, want)
					}
				}
			})
		}
	}
	readers.Wait()
	close(stop)
	wg.Wait()
	t.Logf("%d calls for %d reads and the writes meanwhile", c.out[1].calls.Load()-before, count*each)
}

// Readers that wait share a question; a leader with a lease asks nobody; a node cut off
// says so.
func TestFreshCost(t *testing.T) {
	c := newPair(t)
	c.Propose("a")
	leased := false
	p := forward.New(forward.Options{Node: c.Nodes[0].Node, ID: "n0", Leased: func() bool { leased = true; return true }})
	defer p.Close()
	if err := p.Fresh(t.Context()); err != nil || !leased {
		t.Errorf("leased leader: %v", err)
	}
	c.Cut(0, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.p[1].Fresh(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cut off: %v", err)
	}
}

// A new leader by Force is found, and progress can be asked for.
func TestForwardAfterForce(t *testing.T) {
	c := newPair(t)
	if _, _, err := c.p[1].Propose(t.Context(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	c.Kill(0)
	if err := c.Force(1, 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.p[1].Propose(t.Context(), []byte("b")); err != nil {
		t.Fatal(err)
	}
	c.Start(0)
	c.open(0)
	ctx, cancel := clustertest.Context()
	defer cancel()
	if err := c.Nodes[1].Readd(ctx, "n0"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.p[0].Propose(ctx, []byte("c")); err != nil {
		t.Fatal(err)
	}
	pr, err := forward.Ask(ctx, c.Net.Caller("n1"), "n0")
	if err != nil || pr.Applied == 0 || pr.Last < pr.Applied || cluster.EpochOf(pr.Term) != 1 {
		t.Errorf("progress %+v, %v", pr, err)
	}
	c.Wait("n0 to catch up", func() bool {
		pr, err := forward.Ask(ctx, c.Net.Caller("n1"), "n0")
		return err == nil && c.Nodes[1].Lag(pr) == 0
	})
	if got := c.CheckSame(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("%q", got)
	}
}

// BenchmarkPropose: entries of 300 octets of so many writers, on the leader and on the
// other node.
func BenchmarkPropose(b *testing.B) {
	for i, where := range []string{"local", "forwarded"} {
		for _, writers := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("%s/%d", where, writers), func(b *testing.B) {
				c := newPair(b)
				var left atomic.Int64
				left.Store(int64(b.N))
				b.ResetTimer()
				var wg sync.WaitGroup
				for range writers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if _, _, err := c.p[i].Propose(context.Background(), make([]byte, 300)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			})
		}
	}
}

// held holds the first call back until it is released.
type held struct {
	forward.Caller
	calls   atomic.Int64
	first   chan struct{}
	release chan struct{}
}

func (h *held) Call(ctx context.Context, node, method string, req []byte) ([]byte, error) {
	if h.calls.Add(1) == 1 {
		close(h.first)
		<-h.release
	}
	return h.Caller.Call(ctx, node, method, req)
}

// Readers that come while a question is under way share the next one, and don't take the
// answer to the one asked before them.
func TestFreshIsShared(t *testing.T) {
	c := newPair(t)
	c.Propose("a")
	h := &held{Caller: c.Net.Caller("n1"), first: make(chan struct{}), release: make(chan struct{})}
	p := forward.New(forward.Options{Node: c.Nodes[1].Node, ID: "n1", Caller: h})
	defer p.Close()
	var wg sync.WaitGroup
	fresh := func() {
		if err := p.Fresh(t.Context()); err != nil {
			t.Error(err)
		}
	}
	wg.Go(fresh)
	<-h.first
	var begun atomic.Int64
	for range 50 {
		wg.Go(func() { begun.Add(1); fresh() })
	}
	c.Wait("the readers", func() bool { return begun.Load() == 50 })
	close(h.release)
	wg.Wait()
	// The second question may be asked before the last of them has come to wait.
	if n := h.calls.Load(); n < 2 || n > 25 {
		t.Errorf("%d questions for 51 readers", n)
	}
}
