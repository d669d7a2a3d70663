package pair

import (
	"log/slog"
	"testing"
	"time"

	"mailplusd/cluster/lease"
)

// TestHelloOfAnotherCluster: a node with the right key, and the memory of another pair, as after a disk was put into
// another machine, is not taken for the other node: it is no sign of life, and nothing it says is followed.
func TestHelloOfAnotherCluster(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Hello)
		heard  bool
	}{
		"the other node":  {func(*Hello) {}, true},
		"another cluster": {func(h *Hello) { h.Cluster = "theirs" }, false},
		"another node":    {func(h *Hello) { h.Node = "c" }, false},
		"no history": {func(h *Hello) {
			h.History = History{{Epoch: 3, Owner: "b"}, {Epoch: 2, Owner: "b"}}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			book, err := OpenBook(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if err := book.Update(func(f *Facts) error {
				f.State, f.Primary, f.Epoch, f.Turn, f.Self.ID, f.Peer.ID, f.Cluster = Paired, "a", 1, 7, "a", "b", "ours"
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			now := time.Minute
			ctl := &Controller{cfg: Config{Book: book, Wall: time.Now}, log: slog.New(slog.DiscardHandler), now: func() time.Duration { return now }, wake: make(chan struct{}, 1)}
			ctl.cfg.Timing.Defaults()
			ctl.detect = lease.NewDetector(ctl.cfg.Timing.Settings, now-ctl.cfg.Timing.Silent)
			h := Hello{Cluster: "ours", Node: "b", Instance: "i", Seq: 1, State: Paired, Epoch: 1, Turn: 7}
			c.change(&h)
			ctl.met(h, now, true)
			if _, fresh := ctl.view(); fresh != c.heard || ctl.contacted != c.heard {
				t.Errorf("heard: %v, contacted: %v", fresh, ctl.contacted)
			}
			if s := ctl.detect.Silence(now); (s == 0) != c.heard {
				t.Errorf("silent for %s", s)
			}
		})
	}
}
