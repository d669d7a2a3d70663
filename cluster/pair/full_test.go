package pair_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"mailplusd/cluster/pair"
)

var errDisk = errors.New("no room")

// full says of a node that its disk has no room, again and again until the end.
func (n *node) full(t *testing.T) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.ctl.OwnFault(errDisk)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			n.ctl.OwnFault(errDisk)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// The primary's disk is full: it hands over, in order. No epoch, nothing lost, nobody serves alone.
func TestPrimaryFull(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.nodes[0], w.nodes[1]
		epoch := a.book.Facts().Epoch
		wr := w.write(4)
		end := a.full(t)
		w.serves(b)
		end()
		if f := b.book.Facts(); f.Epoch != epoch || f.State != pair.Paired || f.Primary != "b" {
			t.Errorf("%+v", f)
		}
		wr.finish(a, b)
	})
}

// A node whose disk is full comes back: it follows, and counts only when it can store mail again.
func TestFullIsNoVoter(t *testing.T) {
	w := newWorld(t, "gateway")
	w.pairUp()
	w.serves(w.nodes[0])
	a, b := w.nodes[0], w.nodes[1]
	wr := w.write(4)
	b.kill(false)
	w.wait("a is alone", func() bool { return a.book.Facts().State == pair.Solo })
	b.start()
	end := b.full(t)
	w.wait("b follows", func() bool {
		return b.book.Facts().State == pair.Joining && b.cluster.Status().AppliedIndex+10 > a.cluster.Status().AppliedIndex
	})
	copies := func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.mirror != "" }
	w.wait("mail of a waits for no copy at b", func() bool { return !copies() })
	for began := time.Now(); time.Since(began) < 4*quick.Stable+2*quick.Term; time.Sleep(10 * time.Millisecond) { // longer than it takes to be made a voter
		if slices.Contains(a.cluster.Status().Voters, "b") {
			t.Fatal("a node without room for mail was made a voter")
		}
		if copies() {
			t.Fatal("new mail waits for a copy at a node that has no room for it")
		}
	}
	end()
	w.within(time.Minute, "both in sync again", func() bool { return a.book.Facts().State == pair.Paired })
	wr.finish(a, b)
}
