package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"
)

// crashChild proposes numbers from several goroutines, for ever, and prints each one that was
// acknowledged.
func crashChild(dir string) {
	fsm, err := clustertest.OpenFSM(filepath.Join(dir, "state"))
	if err != nil {
		panic(err)
	}
	n, err := cluster.Open(cluster.Config{
		ID: "a", DataDir: filepath.Join(dir, "raft"), FSM: fsm, Bootstrap: true,
		SnapshotThreshold: 200, SnapshotGap: 5 * time.Millisecond, TrailingLogs: 100,
	})
	if err != nil {
		panic(err)
	}
	if _, err := n.WaitLeader(context.Background()); err != nil {
		panic(err)
	}
	run := os.Getenv("CLUSTER_CRASH_RUN")
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				data := fmt.Sprintf("%s.%d.%d", run, w, i)
				if _, _, err := n.Propose(context.Background(), []byte(data)); err != nil {
					panic(err)
				}
				os.Stdout.WriteString(data + "\n")
			}
		})
	}
	wg.Wait()
}

// A real process, really killed: what it has acknowledged is there, once.
func TestKilledProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	acked := map[string]bool{}
	for run := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CLUSTER_CRASH_DIR="+dir, "CLUSTER_CRASH_RUN="+strconv.Itoa(run))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for k := 0; lines.Scan(); k++ {
			acked[lines.Text()] = true
			if k == 700+run*333 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
	}
	n, fsm := mustOpen(t, dir, nil)
	defer n.Close()
	seen := map[string]int{}
	for _, e := range fsm.Entries() {
		seen[e.Data]++
		if seen[e.Data] > 1 {
			t.Errorf("%s is there %d times", e.Data, seen[e.Data])
		}
	}
	for data := range acked {
		if seen[data] == 0 {
			t.Errorf("%s was acknowledged and is missing", data)
		}
	}
	t.Logf("%d acknowledged, %d in the state", len(acked), len(seen))
}
