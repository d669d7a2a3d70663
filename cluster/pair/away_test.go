package pair_test

import (
	"testing"

	"mailplusd/cluster/pair"
)

// A node is away, dead or frozen, for longer than the other one's log reaches back: it comes back
// by receiving the whole state. First the secondary, then the primary, after a take-over.
func TestAwayForLongerThanTheLog(t *testing.T) {
	for _, arb := range arbiters {
		w := newWorld(t, arb)
		w.shortLog = true
		w.pairUp()
		w.serves(w.nodes[0])
		a, b := w.nodes[0], w.nodes[1]
		wr := w.write(4)
		for _, pairOf := range [][2]*node{{b, a}, {a, b}} {
			gone, stays := pairOf[0], pairOf[1]
			last := gone.cluster.Status().LastIndex
			gone.kill(true)
			w.wait("the other one is alone", func() bool { return stays.book.Facts().State == pair.Solo })
			w.wait("its log begins behind what the absent node has", func() bool { return stays.cluster.Status().FirstIndex > last+1 })
			gone.start()
			w.inSync()
			if gone.fsm.Restores() == 0 {
				t.Errorf("%s came back without the whole state: nothing was proved", gone.id)
			}
		}
		wr.finish(a, b)
		for _, n := range w.nodes {
			n.stop()
		}
	}
}
