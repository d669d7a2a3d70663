package pair_test

import (
	"strings"
	"testing"

	"mailplusd/cluster/pair"
)

// The nodes hear each other and the log does not get from one to the other, while the arbiter refuses: nobody
// goes on alone. When the log gets there again, the same node serves, in the same epoch.
func TestStalledAndRefused(t *testing.T) {
	w := newWorld(t, "manual")
	w.pairUp()
	a, b := w.nodes[0], w.nodes[1]
	w.serves(a)
	epoch := a.book.Facts().Epoch
	wr := w.write(4)
	for range 2 { // what was noted the first time must not count the second time
		w.raft.Cut("a", "b")
		w.wait("a has asked to serve alone and was refused", func() bool {
			return strings.Contains(a.ctl.Status().Alarm, "the log does not get there")
		})
		w.raft.Heal("a", "b")
		w.serves(a)
		w.wait("nothing is wrong any more", func() bool { return a.ctl.Status().Alarm == "" })
	}
	for _, n := range w.nodes {
		if f := n.book.Facts(); f.State != pair.Paired || f.Epoch != epoch || f.Primary != "a" {
			t.Errorf("%s: %+v", n.id, f)
		}
	}
	wr.finish(a, b)
}
