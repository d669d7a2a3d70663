package pair_test

import (
	"testing"

	"mailplusd/cluster/pair"
)

// TestShare: only the primary of a pair in sync gives sessions away, and none to a peer that is dead.
func TestShare(t *testing.T) {
	w := newWorld(t, "witness")
	w.pairUp()
	a, b := w.nodes[0], w.nodes[1]
	w.serves(a)
	w.wait("a shares", func() bool { peer, ok := a.ctl.Share(); return ok && peer == "b" })
	if peer, ok := b.ctl.Share(); ok {
		t.Errorf("the secondary gives sessions to %s", peer)
	}
	b.kill(false)
	w.wait("a shares no more", func() bool { _, ok := a.ctl.Share(); return !ok })
}

// TestShareNotWithFull: a secondary without room would refuse mail for which the primary has room.
func TestShareNotWithFull(t *testing.T) {
	w := newWorld(t, "witness")
	w.pairUp()
	a, b := w.nodes[0], w.nodes[1]
	w.serves(a)
	w.wait("a shares", func() bool { _, ok := a.ctl.Share(); return ok })
	b.full(t)
	w.wait("a shares no more", func() bool { peer, _ := a.ctl.Share(); return peer == "" })
	if f := a.book.Facts(); f.State != pair.Paired {
		t.Errorf("%+v", f)
	}
}
