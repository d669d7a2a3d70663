package pair_test

import (
	"context"
	"os"
	"testing"
	"time"

	"mailplusd/cluster/pair"
)

func mkdir(t testing.TB, dir string) string {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

var arbiters = []string{"witness", "gateway"}

func each(t *testing.T, f func(t *testing.T, w *world)) {
	for _, arb := range arbiters {
		t.Run(arb, func(t *testing.T) {
			w := newWorld(t, arb)
			w.pairUp()
			w.serves(w.nodes[0])
			f(t, w)
		})
	}
}

// A planned switchover moves leadership and address, loses nothing, and raises no epoch.
func TestSwitchover(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.nodes[0], w.nodes[1]
		epoch := a.book.Facts().Epoch
		wr := w.write(4)
		for i := range 4 {
			to := w.nodes[1-i%2]
			if err := w.nodes[i%2].ctl.Switchover(context.Background(), to.id); err != nil {
				t.Fatal(err)
			}
			w.serves(to)
		}
		// From the secondary, too.
		if err := b.ctl.Switchover(context.Background(), "b"); err != nil {
			t.Logf("asked of the secondary: %v", err)
		}
		wr.finish(a, b)
		if e := b.book.Facts().Epoch; e != epoch {
			t.Errorf("epoch %d became %d in a planned switchover", epoch, e)
		}
	})
}

// The secondary dies: the primary goes on alone, and takes it back when it returns.
func TestSecondaryDies(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.nodes[0], w.nodes[1]
		wr := w.write(4)
		b.kill(false)
		w.wait("a is alone", func() bool { f := a.book.Facts(); return f.State == pair.Solo && !f.Took })
		w.serves(a)
		b.start()
		w.inSync()
		w.serves(a)
		wr.finish(a, b)
	})
}

// The primary dies: the secondary takes over, and the old primary comes back as secondary.
func TestPrimaryDies(t *testing.T) {
	for _, guard := range []bool{true, false} {
		name := "without a guard"
		if guard {
			name = "guard"
		}
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				a, b := w.nodes[0], w.nodes[1]
				wr := w.write(4)
				a.kill(guard)
				w.wait("b is alone", func() bool { f := b.book.Facts(); return f.State == pair.Solo && f.Took })
				w.serves(b)
				a.start()
				w.inSync()
				w.serves(b)
				if err := b.ctl.Switchover(context.Background(), "a"); err != nil {
					t.Fatal(err)
				}
				w.serves(a)
				wr.finish(a, b)
			})
		})
	}
}

// The link between the nodes is cut while both reach everything else: one serves, and the
// other follows again when the link is back.
func TestLinkCut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.nodes[0], w.nodes[1]
		wr := w.write(4)
		w.Cut("a", "b")
		w.wait("a is alone", func() bool { return a.book.Facts().State == pair.Solo })
		time.Sleep(2 * quick.Term) // b must stay as it is for longer than it takes to take over
		if s := b.book.Facts().State; s == pair.Solo {
			t.Fatalf("b serves, too")
		}
		w.Heal("a", "b")
		w.inSync()
		w.serves(a)
		wr.finish(a, b)
	})
}

// The primary is cut from everything: it gives up the address, the other takes over.
func TestPrimaryCutOff(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.nodes[0], w.nodes[1]
		wr := w.write(4)
		w.mu.Lock()
		w.gateway["a"] = false
		w.mu.Unlock()
		w.Cut("a", "witness")
		w.Cut("a", "b")
		w.wait("b is alone", func() bool { return b.book.Facts().State == pair.Solo })
		w.serves(b)
		if a.book.Facts().State == pair.Solo {
			t.Fatal("a serves alone although it is cut off")
		}
		w.mu.Lock()
		w.gateway["a"] = true
		w.mu.Unlock()
		w.Heal("a", "witness")
		w.Heal("a", "b")
		w.inSync()
		w.serves(b)
		wr.finish(a, b)
	})
}

// Both lose power and come back.
func TestBothRestart(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.nodes[0], w.nodes[1]
		wr := w.write(4)
		a.kill(false)
		b.kill(false)
		a.start()
		b.start()
		w.inSync()
		w.serves(a)
		wr.finish(a, b)
	})
}

// Both have served alone: the two histories become one and nothing is lost.
func TestSplitAndMerge(t *testing.T) {
	w := newWorld(t, "gateway")
	w.pairUp()
	a, b := w.nodes[0], w.nodes[1]
	w.serves(a)
	wr := w.write(2)
	// A LAN in two halves, each with something that answers: the rule is fooled.
	w.Cut("a", "b")
	w.wait("a is alone", func() bool { return a.book.Facts().State == pair.Solo })
	w.waitNoHolders("b does not hear of a any more", func() bool { return b.ctl.Status().PeerSilence > 2*quick.Silent })
	if err := b.ctl.Recover(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	w.waitNoHolders("both serve", func() bool { return b.book.Facts().State == pair.Solo && b.cluster.IsLeader() })
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, n := range w.nodes {
		if _, _, err := n.cluster.Propose(ctx, []byte("only on "+n.id)); err != nil {
			t.Fatal(err)
		}
	}
	w.Heal("a", "b")
	// The administrator's node wins; the other's log is replayed and emptied.
	w.waitNoHolders("both in sync", func() bool {
		return a.book.Facts().State == pair.Paired && b.book.Facts().State == pair.Paired
	})
	w.mu.Lock()
	w.both = ""
	w.mu.Unlock()
	wr.finish(a, b)
	for _, n := range w.nodes {
		found := map[string]bool{}
		for _, e := range n.fsm.Entries() {
			found[e.Data] = true
		}
		if !found["only on a"] || !found["only on b"] {
			t.Errorf("%s lacks what one side had alone", n.id)
		}
	}
}

// waitNoHolders waits while two may hold the address, as in a split.
func (w *world) waitNoHolders(what string, cond func() bool) {
	w.t.Helper()
	w.wait(what, func() bool {
		w.mu.Lock()
		w.both = ""
		w.mu.Unlock()
		return cond()
	})
}
