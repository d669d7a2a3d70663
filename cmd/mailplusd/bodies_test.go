package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mailplusd/cluster/body"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
	"mailplusd/mail/store/segment"
)

// bodyNode is the body store of one node with its links.
type bodyNode struct {
	*segment.Store
	*bodyLinks
	l      net.Listener
	faults atomic.Int64
}

// bodyPair opens two stores that can reach each other over loopback TCP.
func bodyPair(t testing.TB, dirs ...string) (a, b *bodyNode) {
	t.Helper()
	nodes := map[string]*bodyNode{"a": {}, "b": {}}
	dial := func(ctx context.Context, node string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", nodes[node].l.Addr().String())
	}
	var served sync.WaitGroup
	for i, name := range []string{"a", "b"} {
		n := nodes[name]
		dir := ""
		if i < len(dirs) {
			dir = dirs[i]
		} else {
			dir = t.TempDir()
		}
		var err error
		n.Store, n.bodyLinks, err = openLinked(segment.Options{Dir: dir, Compress: true}, dial, func(string, error) { n.faults.Add(1) })
		if err != nil {
			t.Fatal(err)
		}
		if n.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		served.Add(1)
		go func() { defer served.Done(); n.server.Serve(n.l) }()
	}
	t.Cleanup(func() {
		for _, n := range nodes {
			n.bodyLinks.Close()
		}
		served.Wait()
		for _, n := range nodes {
			n.Store.Close()
		}
	})
	return nodes["a"], nodes["b"]
}

func readBody(t testing.TB, s *segment.Store, id segment.ID) []byte {
	t.Helper()
	b, err := s.OpenLocal(id)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer b.Close()
	all, err := io.ReadAll(b)
	if err != nil {
		t.Error(err)
	}
	return all
}

func mailText(seed, size int) []byte {
	b := bytes.Repeat([]byte("Lorem ipsum dolor sit amet, "), size/28+1)[:size]
	copy(b, fmt.Sprint(seed, " "))
	return b
}

// TestPairOfBodies: while a peer is set, what is acknowledged is on both disks with the same octets.
func TestPairOfBodies(t *testing.T) {
	a, b := bodyPair(t)
	ctx := context.Background()
	alone, _, err := a.Put(ctx, mailText(0, 5000))
	if err != nil || b.Has(alone) {
		t.Fatal("without a peer", err)
	}
	a.mirror.SetPeer("b")
	b.mirror.SetPeer("a") // both nodes serve sessions
	var wg sync.WaitGroup
	for g, n := range []*bodyNode{a, b} {
		other := []*bodyNode{b, a}[g]
		for w := range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := range 12 {
					size := []int{0, 100, 5000, 70_000, 900_000, 2_500_000}[i%6]
					raw := mailText((g*8+w)*100+i, size)
					sp := n.NewSpool(0)
					for rest := raw; len(rest) > 0; {
						k := min(len(rest), 32<<10)
						sp.Write(rest[:k])
						rest = rest[k:]
					}
					prefix := fmt.Appendf(nil, "Received: %d %d %d\r\n", g, w, i/2)
					id, _, err := sp.Commit(ctx, prefix)
					if err != nil {
						t.Error(err)
						return
					}
					want := append(prefix, raw...)
					if !bytes.Equal(readBody(t, n.Store, id), want) || !bytes.Equal(readBody(t, other.Store, id), want) {
						t.Errorf("%d octets are not on both nodes", size)
					}
				}
			}()
		}
	}
	wg.Wait()
	if _, _, err := a.Put(ctx, mailText(0, 5000)); err != nil || !b.Has(alone) {
		t.Error("a body that only one node had was not ensured on the other", err)
	}
}

func TestPairFetchesAndRepairs(t *testing.T) {
	dir := t.TempDir()
	a, b := bodyPair(t, dir)
	ctx := context.Background()
	small, _, _ := b.Put(ctx, mailText(1, 5000))
	large, _, _ := b.Put(ctx, mailText(2, 1500), bytes.Repeat([]byte{0}, 3<<20))
	if _, err := a.Open(small); !errors.Is(err, segment.ErrNotFound) {
		t.Error("without a peer", err)
	}
	a.puller.SetPeer("b")
	for _, id := range []segment.ID{small, large} {
		if o, err := a.Open(id); err != nil {
			t.Error(err)
		} else {
			o.Close()
		}
		if !bytes.Equal(readBody(t, a.Store, id), readBody(t, b.Store, id)) {
			t.Error("it differs")
		}
	}
	path := filepath.Join(dir, "00000001.seg")
	raw, _ := os.ReadFile(path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := bytes.Index(raw, []byte("MPBO")) // either end of the magic
	if at < 0 {
		at = bytes.Index(raw, []byte("OBPM"))
	}
	f.WriteAt([]byte("broken"), int64(at)+100)
	st, err := a.Verify(ctx, nil)
	if err != nil || st.Repaired != 1 || len(st.Damaged) != 0 {
		t.Errorf("%+v %v", st, err)
	}
	if st, err = a.Verify(ctx, nil); err != nil || st.Repaired != 0 || len(st.Damaged) != 0 {
		t.Errorf("after the repair: %+v %v", st, err)
	}
}

func TestPairBackfillsTenThousand(t *testing.T) {
	a, b := bodyPair(t)
	ctx := context.Background()
	want := make([]body.ID, 10_000)
	var wg sync.WaitGroup
	for g := range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := g; i < len(want); i += 100 {
				id, _, err := b.Put(ctx, mailText(i, 100+i%3000))
				if err != nil {
					t.Error(err)
				}
				want[i] = body.ID(id)
			}
		}()
	}
	wg.Wait()
	gone := want[4321]
	b.Delete(segment.ID(gone))
	a.puller.SetPeer("b")
	st, err := a.puller.Backfill(ctx, slices.Values(want), body.BackfillOptions{})
	if err != nil || st.Fetched != 9_999 || st.Missing != 1 || len(st.Names) != 1 || st.Names[0] != gone {
		t.Fatalf("%+v %v", st, err)
	}
	if v, err := a.Verify(ctx, nil); err != nil || v.Bodies != 9_999 || len(v.Damaged) != 0 {
		t.Errorf("%+v %v", v, err)
	}
	n, err := a.puller.Missing(ctx, slices.Values(want))
	lacks := 0
	if e := a.puller.PeerMissing(ctx, slices.Values(want), func(body.ID) { lacks++ }); err != nil || e != nil || n != 1 || lacks != 1 {
		t.Errorf("%d and %d are missing: %v %v", n, lacks, err, e)
	}
}

// TestPeerWithoutSpace: the peer's full disk is told, holds mail back, and is not taken for this node's.
func TestPeerWithoutSpace(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("can't mount a tmpfs here: %s", out)
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	a, b := bodyPair(t, t.TempDir(), dir)
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 64<<10))
	}
	a.mirror.SetPeer("b")
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 34<<20) // more than what is reserved ahead
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	done := make(chan error, 2)
	for _, raw := range [][]byte{noise, noise[1:]} {
		go func() {
			sp := a.NewSpool(0)
			sp.Write(raw)
			_, _, err := sp.Commit(context.Background(), nil)
			done <- err
		}()
	}
	end := time.Now().Add(30 * time.Second)
	for a.faults.Load() == 0 {
		if time.Now().After(end) {
			t.Fatal("nobody was told of the full disk")
		}
		time.Sleep(time.Millisecond)
	}
	a.mirror.SetPeer("") // as the controller does
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("after the peer was demoted: %v", err)
		}
	}
	if b.Has(sha256.Sum256(noise)) {
		t.Error("it is there")
	}
	fill.Close()
	os.Remove(fill.Name())
	a.mirror.SetPeer("b")
	if id, _, err := a.Put(context.Background(), []byte("space again")); err != nil || !b.Has(id) {
		t.Errorf("with space again: %v", err)
	}
}

// cpuTime is what this process has used, which other work on the machine changes less than the time that passes.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkCopy(b *testing.B) {
	for _, workers := range []int{1, 64, 256} {
		for _, how := range []string{"alone", "pair"} {
			b.Run(fmt.Sprintf("%s/%d", how, workers), func(b *testing.B) {
				x, y := bodyPair(b)
				if how == "pair" {
					x.mirror.SetPeer("b")
					x.Put(context.Background(), []byte("first"))
				}
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				cpu := cpuTime()
				for range workers {
					wg.Add(1)
					go func() {
						defer wg.Done()
						data := mailText(0, 4096)
						for next.Add(1) <= int64(b.N) {
							raw := bytes.Clone(data)
							copy(raw, fmt.Sprintf("%d %d", rand.Uint64(), rand.Uint64()))
							if _, _, err := x.Put(context.Background(), raw); err != nil {
								b.Error(err)
								return
							}
						}
					}()
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/body") // of both nodes
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bodies/s")
				if how == "pair" && y.Stats().Appends < int64(b.N) {
					b.Error("not all were copied")
				}
			})
		}
	}
}

// TestWantedBodies: a back-fill asks for the newest first, and for everything.
func TestWantedBodies(t *testing.T) {
	st, _ := statetest.Open(t)
	ctx := context.Background()
	for i := range 2*recentPerMailbox + 10 {
		op := state.Deliver{Body: model.BodyID{byte(i), byte(i >> 8), 1}, Size: 10, Local: []state.DeliverTo{{Account: 1}}}
		if err := st.Do(ctx, []state.Operation{op}, new(state.Delivered)); err != nil {
			t.Fatal(err)
		}
	}
	var got []body.ID
	seen := map[body.ID]bool{}
	var failed error
	for id := range wantedBodies(st, &failed) {
		got = append(got, id)
		seen[id] = true
	}
	last := 2*recentPerMailbox + 9
	if failed != nil || len(seen) != last+1 || got[0] != (body.ID{byte(last), byte(last >> 8), 1}) {
		t.Errorf("%d names, %d different; first %v", len(got), len(seen), got[0])
	}
	for range wantedBodies(st, &failed) {
		break // and can be left early
	}
}
