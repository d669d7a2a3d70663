package pair

import (
	"testing"

	"mailplusd/cluster/lease"
)

// TestAlignForgets: how long a node has not led the log is about one time as the primary. Kept from an earlier
// time, it made a node that had just been given the address go on alone at once.
func TestAlignForgets(t *testing.T) {
	var set lease.Settings
	c := &Controller{unled: 1, stalled: true, mode: "another", lease: lease.NewPrimary(set), promise: lease.NewSecondary(set, 0, 0), ask: make(chan struct{}, 1)}
	self := Facts{State: Paired, Primary: "a", Epoch: 1, Turn: 2}
	self.Self.ID = "a"
	c.align(self)
	if c.unled != 0 || c.stalled {
		t.Errorf("unled %v, stalled %v", c.unled, c.stalled)
	}
	c.unled = 1
	if c.align(self); c.unled != 1 {
		t.Error("forgotten in the middle of its time")
	}
}
