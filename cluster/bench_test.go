package cluster_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"
)

// nullFSM only counts, so that the benchmark measures the log.
type nullFSM struct{ applied atomic.Uint64 }

var nothing = []byte{}

func (f *nullFSM) Apply(entries []cluster.Entry) ([][]byte, error) {
	out := make([][]byte, len(entries))
	for i := range out {
		out[i] = nothing
	}
	f.applied.Store(entries[len(entries)-1].Index)
	return out, nil
}
func (f *nullFSM) Applied() uint64         { return f.applied.Load() }
func (f *nullFSM) Flush() error            { return nil }
func (f *nullFSM) Checkpoint(string) error { return nil }
func (f *nullFSM) Restore(string) error    { return nil }

// BenchmarkPropose: entries of 300 octets, fsync on, by so many goroutines at a time.
func BenchmarkPropose(b *testing.B) {
	for _, c := range []int{1, 64, 256, 512} {
		b.Run(fmt.Sprintf("alone/%d", c), func(b *testing.B) {
			n, err := cluster.Open(cluster.Config{ID: "a", DataDir: b.TempDir(), FSM: &nullFSM{}, Bootstrap: true})
			if err != nil {
				b.Fatal(err)
			}
			defer n.Close()
			if _, err := n.WaitLeader(context.Background()); err != nil {
				b.Fatal(err)
			}
			propose(b, n, c)
		})
	}
	for _, c := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("pair/%d", c), func(b *testing.B) {
			cl := clustertest.New(b, 2, func(cfg *cluster.Config) {
				cfg.FSM = &nullFSM{}
				cfg.Timeouts.Heartbeat = 4 * time.Second
			})
			propose(b, cl.Leader().Node, c)
		})
	}
}

func propose(b *testing.B, n *cluster.Node, workers int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, workers)
	for range workers {
		go func() {
			for left.Add(-1) >= 0 {
				if _, _, err := n.Propose(ctx, make([]byte, 300)); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkOpen: from Open to a leader, after a clean stop with entries in the log.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for i := range b.N + 1 {
		fsm, err := clustertest.OpenFSM(filepath.Join(dir, "state"))
		if err != nil {
			b.Fatal(err)
		}
		if i == 1 {
			b.ResetTimer()
		}
		b.StartTimer()
		n, err := cluster.Open(cluster.Config{ID: "a", DataDir: filepath.Join(dir, "raft"), FSM: fsm, Bootstrap: true})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := n.WaitLeader(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if i == 0 {
			for range 1000 {
				if _, _, err := n.Propose(context.Background(), make([]byte, 300)); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
