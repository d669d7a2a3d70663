package pair

import "reflect"

// KeptSetup is a Setup in the book.
type KeptSetup struct {
	At uint64 `json:"at"` // entry with which the state says so; one that has not come so far is older
	Setup
}

// setup is the newest set-up that this node has ever had. The state has no journal of its own: after a
// crash it lags behind until a leader says what is committed, which a node that may have to
// decide alone must not wait for, nor decide by the arbiter of yesterday.
func (c *Controller) setup() Setup {
	at := c.cfg.Node.Applied()
	s := c.cfg.Hooks.Setup()
	if k := c.cfg.Book.Facts().Setup; k != nil && at < k.At {
		return k.Setup
	}
	return s
}

// keepSetup writes the set-up down when it has changed.
func (c *Controller) keepSetup() {
	before := c.cfg.Node.Applied()
	s := c.cfg.Hooks.Setup()
	k := c.cfg.Book.Facts().Setup
	if k != nil && (before < k.At || reflect.DeepEqual(k.Setup, s)) {
		return
	}
	if err := c.cfg.Book.Update(func(f *Facts) error {
		f.Setup = &KeptSetup{At: c.cfg.Node.Applied(), Setup: s}
		return nil
	}); err != nil {
		c.log.Error("pair", "err", err)
	}
}
