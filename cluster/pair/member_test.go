package pair_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/pair"
)

func (w *world) state(n *node) pair.State { return n.book.Facts().State }

// A living node that is removed is told, and says so before the pair is ended; the arbiter has been
// told that the other one goes on alone. What was removed never serves again by itself.
func TestRemoveTells(t *testing.T) {
	// covers: R11.49
	each(t, func(t *testing.T, w *world) {
		a, b := w.nodes[0], w.nodes[1]
		told, err := a.ctl.Remove(context.Background(), false)
		if err != nil || !told {
			t.Fatal(told, err)
		}
		if f := b.book.Facts(); f.State != pair.Single || !strings.HasPrefix(f.Aside, "removed-") {
			t.Errorf("b is %s and puts aside %q", f.State, f.Aside)
		}
		if r := w.witness.Record(); w.arbiter == "witness" && (r.Holder != "a" || !slices.Equal(r.InSync, []string{"a"})) {
			t.Errorf("the witness could grant b: %+v", r)
		}
		if err := a.ctl.Disband(context.Background()); err != nil {
			t.Fatal(err)
		}
		// Cut off from a, whose address is silent for it: what takes over in a pair.
		w.Cut("a", "b")
		a.kill(true)
		w.again()
		time.Sleep(2 * (quick.Term + quick.Margin)) // b must stay as it is for longer than a take-over takes
		if b.addr.Held() != nil || w.state(b) != pair.Single {
			t.Errorf("the removed node is %s and holds %v", w.state(b), b.addr.Held())
		}
	})
}

// A node that does not say that it has left is not removed: the pair goes on.
func TestRemoveUntold(t *testing.T) {
	w := newWorld(t, "witness")
	w.pairUp()
	a, b := w.nodes[0], w.nodes[1]
	w.serves(a)
	// The witness can't be told: it could let b take over.
	w.Cut("a", "witness")
	var no *pair.Refusal
	if _, err := a.ctl.Remove(context.Background(), false); !errors.As(err, &no) || !strings.Contains(no.Why, "witness was not told") {
		t.Fatalf("without the witness: %v", err)
	}
	if w.state(a) != pair.Paired {
		t.Fatalf("a is %s", w.state(a))
	}
	w.Heal("a", "witness")
	// The word is lost.
	link{w, "b"}.Handle("pair.remove", func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("the disk is full") })
	if _, err := a.ctl.Remove(context.Background(), false); !errors.As(err, &no) || !strings.Contains(no.Why, "could take over later") || !strings.Contains(no.Remedy, "--dead") {
		t.Fatalf("not told: %v", err)
	}
	w.inSync()
	w.serves(a)
	if told, err := a.ctl.Remove(context.Background(), true); err != nil || told {
		t.Errorf("on the administrator's word: told %v, %v", told, err)
	}
	_ = b
}

// A witness that the state names no more is given up on both nodes.
func TestWitnessFollowsSetup(t *testing.T) {
	w := newWorld(t, "gateway")
	w.pairUp()
	a, b := w.nodes[0], w.nodes[1]
	named := func(want bool) func() bool {
		return func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, n := range w.nodes {
				if (n.book.Facts().Witness != nil) != want || slices.Contains(w.pinned[n.id], "w") != want {
					return false
				}
			}
			return true
		}
	}
	set := func(s pair.Setup) { w.mu.Lock(); w.setup = s; w.mu.Unlock() }
	member := &pair.Member{ID: "w", Addrs: []string{"192.0.2.9:1"}, Key: a.pub}
	set(pair.Setup{Known: true, Witness: member})
	w.wait("both know the witness", named(true))
	set(pair.Setup{}) // the state can't be read: nothing is concluded
	w.wait("some steps", func() bool { return a.ctl.Status().PeerFresh && b.ctl.Status().PeerFresh })
	if !named(true)() {
		t.Error("the witness was given up without a word of the state")
	}
	set(pair.Setup{Known: true})
	w.wait("both have given it up", named(false))
	if err := a.ctl.Introduce(member); err != nil {
		t.Fatal(err)
	}
	w.wait("some steps", func() bool { return a.ctl.Status().PeerFresh })
	if w.mu.Lock(); !slices.Contains(w.pinned["a"], "w") {
		t.Error("a witness that is being added is not reached")
	}
	w.mu.Unlock()
}

// What goes on for a while is one line in the log, and making a pair is no reason for a warning.
func TestLogIsQuiet(t *testing.T) {
	w := newWorld(t, "witness")
	w.pairUp()
	a, b := w.nodes[0], w.nodes[1]
	w.serves(a)
	b.kill(false)
	w.wait("a is alone", func() bool { return w.state(a) == pair.Solo })
	b.start()
	w.inSync()
	for _, n := range w.nodes {
		if k := n.said.lines("was not told that both nodes are in sync"); k > 0 {
			t.Errorf("%s complained %d times while the other was joining", n.id, k)
		}
		if k := n.said.lines("does not know yet"); k > 0 {
			t.Errorf("%s raised an alarm %d times while the other was joining", n.id, k)
		}
	}
	// a dies, and the witness does not let b take over.
	if err := w.witness.Forget(); err != nil {
		t.Fatal(err)
	}
	before := b.said.lines("alarm=")
	a.kill(true)
	w.wait("b is refused", func() bool { return b.said.lines("does not let this node take over") > 0 })
	time.Sleep(4 * quick.Silent) // some dozens of steps, refusals and contacts
	if k := b.said.lines("does not let this node take over"); k != 1 {
		t.Errorf("the same alarm %d times", k)
	}
	if k := b.said.lines("alarm=") - before; k > 4 {
		t.Errorf("%d alarms for one state", k)
	}
	if k := b.said.lines("not allowed to serve alone"); k > 3 {
		t.Errorf("the refusal was logged %d times", k)
	}
}
