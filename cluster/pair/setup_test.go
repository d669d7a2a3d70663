package pair_test

import (
	"context"
	"testing"
	"time"

	"mailplusd/cluster/pair"
)

// After a crash the state is older than what the node knew. It must not decide by the arbiter of then:
// here by the gateway rule, while the witness that was added since may have granted the other.
func TestArbiterAfterCrash(t *testing.T) {
	w := newWorld(t, "witness")
	w.replicated = true
	w.pairUp()
	a, b := w.nodes[0], w.nodes[1]
	w.serves(a)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, _, err := a.cluster.Propose(ctx, []byte("arbiter witness")); err != nil {
		t.Fatal(err)
	}
	w.wait("the witness decides", func() bool { f := a.book.Facts(); return f.Told == "witness" && !f.Report })
	b.kill(false)
	w.wait("a is alone", func() bool { return a.book.Facts().State == pair.Solo && a.cluster.IsLeader() })
	a.kill(false)
	b.start()
	if n := b.fsm.Applied(); n >= b.book.Facts().Setup.At {
		t.Fatalf("the state of b is at %d and lacks nothing: nothing is proved", n)
	}
	end := time.Now().Add(2 * quick.Cold)
	w.wait("b is refused by the witness", func() bool {
		if b.book.Facts().State == pair.Solo {
			t.Fatal("b serves although the witness has granted a")
		}
		return b.ctl.Status().Arbiter != "" && time.Now().After(end)
	})
	a.start()
	w.inSync()
	w.serves(a)
}
