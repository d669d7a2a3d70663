package cluster_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("CLUSTER_CRASH_DIR"); dir != "" {
		crashChild(dir)
		return
	}
	// Each check of a property starts nodes and waits for elections; CLUSTER_CHECKS asks for more.
	if err := flag.Set("rapid.checks", cmp.Or(os.Getenv("CLUSTER_CHECKS"), "8")); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, dir string, change func(*cluster.Config)) (*cluster.Node, *clustertest.FSM, error) {
	t.Helper()
	fsm, err := clustertest.OpenFSM(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := cluster.Config{ID: "a", DataDir: filepath.Join(dir, "raft"), FSM: fsm, Bootstrap: true}
	if change != nil {
		change(&cfg)
	}
	n, err := cluster.Open(cfg)
	if err == nil {
		t.Cleanup(func() { n.Close() })
	}
	return n, fsm, err
}

func mustOpen(t testing.TB, dir string, change func(*cluster.Config)) (*cluster.Node, *clustertest.FSM) {
	t.Helper()
	n, fsm, err := open(t, dir, change)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := clustertest.Context()
	defer cancel()
	if _, err := n.WaitLeader(ctx); err != nil {
		t.Fatal(err)
	}
	return n, fsm
}

// A node alone leads at once, although its election time-out is 4 s.
func TestAloneLeadsAtOnce(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		start := time.Now()
		n, fsm := mustOpen(t, dir, nil)
		took := time.Since(start)
		t.Logf("round %d: leader after %v", round, took)
		if took > 2*time.Second {
			t.Errorf("leader only after %v", took)
		}
		if got := n.Status(); got.State != "leader" || got.Leader != "a" || len(got.Voters) != 1 {
			t.Errorf("status %+v", got)
		}
		res, index, err := n.Propose(context.Background(), []byte(strconv.Itoa(round)))
		if err != nil || binary.BigEndian.Uint64(res) != uint64(round+1) || index == 0 {
			t.Fatalf("round %d: result %x at %d: %v", round, res, index, err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if len(fsm.Entries()) != round+1 {
			t.Fatalf("round %d: %d entries", round, len(fsm.Entries()))
		}
	}
}

func TestCleanRestartReplaysNothing(t *testing.T) {
	dir := t.TempDir()
	n, _ := mustOpen(t, dir, nil)
	for i := range 50 {
		if _, _, err := n.Propose(context.Background(), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n, fsm := mustOpen(t, dir, nil)
	if got := fsm.Applies(); got != 0 {
		t.Errorf("%d calls of Apply after a clean stop", got)
	}
	s := n.Status()
	if s.SnapshotIndex != fsm.Applied() || len(fsm.Entries()) != 50 {
		t.Errorf("snapshot at %d, state at %d with %d entries", s.SnapshotIndex, fsm.Applied(), len(fsm.Entries()))
	}
}

// A crash loses nothing that was acknowledged and repeats nothing, at whatever point
// between proposals, flushes and snapshots it comes.
func TestCrashKeepsEveryEntryOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		var want []string
		threshold := rapid.SampledFrom([]uint64{3, 7, 1000}).Draw(rt, "threshold")
		for run := range rapid.IntRange(1, 4).Draw(rt, "runs") {
			n, fsm := mustOpen(t, dir, func(c *cluster.Config) {
				c.SnapshotThreshold, c.SnapshotGap, c.TrailingLogs = threshold, time.Millisecond, 5
			})
			for i := range rapid.IntRange(0, 25).Draw(rt, "entries") {
				data := fmt.Sprintf("%d-%d", run, i)
				_, index, err := n.Propose(context.Background(), []byte(data))
				if err != nil {
					rt.Fatal(err)
				}
				if err := n.WaitApplied(context.Background(), index); err != nil {
					rt.Fatal(err)
				}
				want = append(want, data)
			}
			if rapid.Bool().Draw(rt, "snapshot") {
				if err := n.Snapshot(); err != nil {
					rt.Fatal(err)
				}
			}
			checkData(rt, fsm, want)
			if rapid.Bool().Draw(rt, "clean") {
				if err := n.Close(); err != nil {
					rt.Fatal(err)
				}
			} else {
				n.Kill()
			}
		}
		n, fsm := mustOpen(t, dir, nil)
		checkData(rt, fsm, want)
		n.Close()
	})
}

func checkData(t interface{ Fatalf(string, ...any) }, fsm *clustertest.FSM, want []string) {
	got := fsm.Entries()
	for i := range want {
		if i >= len(got) || got[i].Data != want[i] {
			t.Fatalf("entry %d of %d is not %q: %d in the state", i, len(want), want[i], len(got))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d entries instead of %d", len(got), len(want))
	}
}

// Proposers side by side see the sequence in one order, and each its own entries in its
// order.
func TestConcurrentProposals(t *testing.T) {
	n, fsm := mustOpen(t, t.TempDir(), nil)
	var wg sync.WaitGroup
	const workers, each = 32, 20
	places := make([][each]uint64, workers)
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				res, _, err := n.Propose(context.Background(), []byte(fmt.Sprintf("%d %d", w, i)))
				if err != nil {
					t.Error(err)
					return
				}
				places[w][i] = binary.BigEndian.Uint64(res)
			}
		})
	}
	wg.Wait()
	got := fsm.Entries()
	if len(got) != workers*each {
		t.Fatalf("%d entries", len(got))
	}
	for w := range workers {
		for i := range each {
			if d := got[places[w][i]-1].Data; d != fmt.Sprintf("%d %d", w, i) {
				t.Fatalf("the result of %d %d belongs to %q", w, i, d)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	n, _ := mustOpen(t, dir, func(c *cluster.Config) { c.MaxEntry = 10 })

	_, _, err := n.Propose(context.Background(), make([]byte, 11))
	if !errors.Is(err, cluster.ErrTooLarge) {
		t.Errorf("large entry: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := n.Propose(ctx, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}

	_, _, err = open(t, dir, nil)
	if !errors.Is(err, cluster.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("second opener: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.Propose(context.Background(), []byte("x")); !errors.Is(err, cluster.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}

	if _, _, err := open(t, dir, func(c *cluster.Config) { c.ID = "b" }); !errors.Is(err, cluster.ErrMismatch) {
		t.Errorf("another node's directory: %v", err)
	}
	name := filepath.Join(dir, "raft", "format.json")
	if err := os.WriteFile(name, []byte(`{"format":2,"node":"a"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = open(t, dir, nil)
	if !errors.Is(err, cluster.ErrNewer) || !strings.Contains(err.Error(), "has format 2") {
		t.Errorf("newer format: %v", err)
	}
	if err := os.WriteFile(name, []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(t, dir, nil); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged format file: %v", err)
	}
}

// State and log that don't belong together are refused, or made to fit when the log
// holds what the state lacks.
func TestStateAndLogFit(t *testing.T) {
	dir := t.TempDir()
	fill := func(k int) {
		n, _ := mustOpen(t, dir, nil)
		for range k {
			if _, _, err := n.Propose(context.Background(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fill(10)
	old := filepath.Join(dir, "old")
	if err := os.CopyFS(old, os.DirFS(filepath.Join(dir, "state"))); err != nil {
		t.Fatal(err)
	}
	fill(10)
	if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(old, filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	n, fsm := mustOpen(t, dir, nil)
	if got := len(fsm.Entries()); got != 20 {
		t.Errorf("older state: %d entries after the start, want 20", got)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	if err := os.RemoveAll(filepath.Join(dir, "raft")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(t, dir, nil); !errors.Is(err, cluster.ErrMismatch) {
		t.Errorf("state without log: %v", err)
	}
	n, fsm = mustOpen(t, dir, func(c *cluster.Config) { c.AdoptState = true })
	was := fsm.Applied()
	_, index, err := n.Propose(context.Background(), []byte("new"))
	if err != nil || index <= was || len(fsm.Entries()) != 21 {
		t.Errorf("adopted state: entry %d after %d, %d in the state: %v", index, was, len(fsm.Entries()), err)
	}
	n.Kill()
	_, fsm = mustOpen(t, dir, nil)
	if got := len(fsm.Entries()); got != 21 {
		t.Errorf("adopted state after a crash: %d entries", got)
	}
}

// failingLog fails once told to.
type failingLog struct {
	raft.LogStore
	fail chan struct{}
}

var errDisk = errors.New("input/output error")

func (f *failingLog) StoreLogs(logs []*raft.Log) error {
	select {
	case <-f.fail:
		return errDisk
	default:
		return f.LogStore.StoreLogs(logs)
	}
}

// A failed write of the log ends the node, also if the disk seems to work again.
func TestDiskFaultIsFatal(t *testing.T) {
	dir := t.TempDir()
	f := &failingLog{fail: make(chan struct{}, 1)}
	fatal := make(chan error, 1)
	n, _ := mustOpen(t, dir, func(c *cluster.Config) {
		c.WrapLog = func(l raft.LogStore) raft.LogStore { f.LogStore = l; return f }
		c.OnFatal = func(err error) { fatal <- err }
	})
	if _, _, err := n.Propose(context.Background(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	f.fail <- struct{}{} // one failure only
	if _, _, err := n.Propose(context.Background(), []byte("b")); !errors.Is(err, errDisk) || !errors.Is(err, cluster.ErrFailed) {
		t.Errorf("proposal on a failing disk: %v", err)
	}
	if _, _, err := n.Propose(context.Background(), []byte("c")); !errors.Is(err, cluster.ErrFailed) {
		t.Errorf("proposal after it: %v", err)
	}
	if err := <-fatal; !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "raft.db") {
		t.Errorf("fatal: %v", err)
	}
	if s := n.Status(); s.Fault == "" || s.State != "stopped" {
		t.Errorf("status %+v", s)
	}
	n.Close()
	_, fsm := mustOpen(t, dir, nil)
	checkData(t, fsm, []string{"a"})
}

// An entry that the state machine can't understand ends the node; it is not skipped.
func TestApplyFaultIsFatal(t *testing.T) {
	dir := t.TempDir()
	n, fsm := mustOpen(t, dir, nil)
	fsm.Fail(errors.New("unknown operation"))
	if _, _, err := n.Propose(context.Background(), []byte("a")); !errors.Is(err, cluster.ErrFailed) {
		t.Errorf("entry that can't be applied: %v", err)
	}
	<-n.Failed()
	n.Close()
	_, fsm = mustOpen(t, dir, nil) // a program that understands it
	checkData(t, fsm, []string{"a"})
}

func TestLogIsCut(t *testing.T) {
	n, _ := mustOpen(t, t.TempDir(), func(c *cluster.Config) { c.TrailingLogs = 10 })
	for range 100 {
		if _, _, err := n.Propose(context.Background(), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Snapshot(); err != nil {
		t.Fatal(err)
	}
	s := n.Status()
	if kept := s.LastIndex - s.FirstIndex + 1; kept > 11 {
		t.Errorf("%d entries kept: %+v", kept, s)
	}
	n.KeepLogs(1000)
	if got := n.Status().TrailingLogs; got != 1000 {
		t.Errorf("trailing logs %d", got)
	}
}

// Large entries shorten the log to what the disk cap allows, and bring snapshots early.
func TestLogDiskCap(t *testing.T) {
	n, _ := mustOpen(t, t.TempDir(), func(c *cluster.Config) {
		c.LogDiskCap, c.SnapshotGap = 4<<20, time.Millisecond
	})
	for range 60 {
		if _, _, err := n.Propose(context.Background(), make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Snapshot(); err != nil {
		t.Fatal(err)
	}
	s := n.Status()
	if s.SnapshotIndex == 0 || s.TrailingLogs != 1024 || s.LogBytes < 5<<20 {
		t.Errorf("status %+v", s)
	}
}
