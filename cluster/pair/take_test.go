package pair

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"mailplusd/cluster/lease"
)

// TestTakeIsASignOfLife: under load nothing but the hand-over itself may have come of the other node for a while.
// Who is made the primary by it has heard of the other node, and does not go on alone.
func TestTakeIsASignOfLife(t *testing.T) {
	book, err := OpenBook(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := book.Update(func(f *Facts) error {
		f.State, f.Primary, f.Epoch, f.Turn, f.Self.ID, f.Peer.ID = Paired, "a", 1, 7, "b", "a"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var now time.Duration
	c := &Controller{cfg: Config{Book: book}, log: slog.New(slog.DiscardHandler), now: func() time.Duration { return now },
		ask: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	c.cfg.Timing.Defaults()
	set := c.cfg.Timing.Settings
	c.lease, c.promise, c.detect = lease.NewPrimary(set), lease.NewSecondary(set, 0, 0), lease.NewDetector(set, 0)
	c.align(book.Facts())
	step := func(d time.Duration) {
		for end := now + d; now < end; now += set.Frame {
			c.detect.Tick(now)
		}
	}
	step(set.Silent + set.Frame)
	if _, dead := c.dead(); !dead {
		t.Fatal("the other node is not silent: nothing is proved")
	}
	word, err := lease.Frame{Kind: lease.Released}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(handOver{Epoch: 1, Turn: 8, Word: word})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.take(t.Context(), "a", raw); err != nil {
		t.Fatal(err)
	}
	if f := book.Facts(); f.Primary != "b" || f.Turn != 8 {
		t.Errorf("%+v", f)
	}
	if silence, dead := c.dead(); dead {
		t.Errorf("the other node counts as dead after %s, though it has just spoken", silence)
	}
	if _, fresh := c.view(); !fresh {
		t.Error("what it said is not fresh")
	}
	step(set.Silent + set.Frame)
	if _, dead := c.dead(); !dead {
		t.Error("it never counts as dead any more")
	}
}
