package pair_test

import (
	"context"
	"testing"
	"time"

	"mailplusd/cluster/pair"
)

// A node that follows and lacks what the other acknowledged alone takes over after all. Its
// history must not look like one that goes on from there: raft would cut acknowledged entries.
func TestStaleTakesOver(t *testing.T) {
	for _, forced := range []bool{false, true} {
		w := newWorld(t, "gateway")
		w.pairUp()
		a, b := w.nodes[0], w.nodes[1]
		w.serves(a)
		b.kill(false)
		w.wait("a is alone", func() bool { return a.book.Facts().State == pair.Solo && a.cluster.IsLeader() })
		w.serves(a)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, _, err := a.cluster.Propose(ctx, []byte("only on a")); err != nil {
			t.Fatal(err)
		}
		w.raft.Cut("a", "b") // b hears of a's epoch and gets nothing of it
		b.start()
		w.wait("b follows", func() bool { return b.book.Facts().State == pair.Joining })
		a.kill(true)
		if forced {
			w.wait("b hears nothing", func() bool { return !b.ctl.Status().PeerFresh })
			if err := b.ctl.Recover(ctx, true); err != nil {
				t.Fatal(err)
			}
		}
		w.wait("b is alone", func() bool { return b.book.Facts().State == pair.Solo && b.cluster.IsLeader() })
		w.serves(b)
		if _, _, err := b.cluster.Propose(ctx, []byte("only on b")); err != nil {
			t.Fatal(err)
		}
		w.raft.Heal("a", "b")
		a.start()
		w.waitNoHolders("both in sync", func() bool {
			return a.book.Facts().State == pair.Paired && b.book.Facts().State == pair.Paired
		})
		w.wait("both have everything", func() bool {
			for _, n := range w.nodes {
				seen := map[string]int{}
				for _, e := range n.fsm.Entries() {
					seen[e.Data]++
				}
				if seen["only on a"] != 1 || seen["only on b"] != 1 {
					return false
				}
			}
			return true
		})
		for _, n := range w.nodes {
			n.stop()
		}
	}
}

// Each takes the other for the winner of a merge: one of them serves again.
func TestBothMerging(t *testing.T) {
	w := newWorld(t, "gateway")
	w.pairUp()
	a, b := w.nodes[0], w.nodes[1]
	for i, n := range w.nodes {
		n.kill(true)
		book, err := pair.OpenBook(n.dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := book.Update(func(f *pair.Facts) error {
			f.State, f.Epoch, f.Took = pair.Merging, f.Epoch+1, i == 1
			f.History = append(f.History, pair.Branch{Epoch: f.Epoch, Owner: n.id, Index: 5, Term: 1})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	a.start()
	b.start()
	w.waitNoHolders("both in sync", func() bool {
		return a.book.Facts().State == pair.Paired && b.book.Facts().State == pair.Paired
	})
}
