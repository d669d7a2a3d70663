package cluster

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// minTrailing is how many entries stay in the log however large they are.
const minTrailing = 1024

// snapshots writes a pointer whenever enough entries or octets have come, but not more
// often than SnapshotGap: a flush costs tens of milliseconds.
func (n *Node) snapshots() {
	defer n.wg.Done()
	gap := time.NewTimer(0)
	defer gap.Stop()
	for {
		select {
		case <-n.done:
			return
		case <-gap.C:
		}
		select {
		case <-n.done:
			return
		case <-n.snapWanted:
		}
		if err := n.Snapshot(); err != nil && !errors.Is(err, ErrClosed) {
			n.log.Warn("no snapshot", "error", err)
		}
		gap.Reset(n.cfg.SnapshotGap)
	}
}

// Snapshot makes the state durable and cuts the log now. It is not needed in normal
// work.
func (n *Node) Snapshot() error {
	e, err := n.enter()
	if err != nil {
		return err
	}
	defer e.gate.leave()
	if n.fsm.sinceSnap.Load() == 0 {
		return nil
	}
	err = e.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return n.translate(err)
}

// snapshotNow is Snapshot for the library's own goroutines, which end before the engine does.
func (n *Node) snapshotNow() error {
	err := n.raft().Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

// KeepLogs sets how many entries stay in the log after a snapshot, as long as they take
// no more than Config.LogDiskCap octets: many while a peer is away, so that it can catch
// up without receiving the whole state.
func (n *Node) KeepLogs(entries uint64) {
	n.trailMu.Lock()
	n.trailing = entries
	n.trailMu.Unlock()
	n.boundLog()
}

// KeepSince keeps every entry from index on in the log, whatever KeepLogs and
// Config.LogDiskCap say, until it is called again: with 0 for no such bound. A node alone
// keeps what its peer has not seen, from the branch index on. The caller watches
// Status.LogBytes. The bound isn't stored: see Config.KeepSince.
func (n *Node) KeepSince(index uint64) { n.store.keep.Store(index) }

// boundLog tells raft how many entries the disk cap allows, by their average size.
func (n *Node) boundLog() {
	n.trailMu.Lock()
	defer n.trailMu.Unlock()
	keep := max(n.trailing, 1) // a cut at the front always leaves something
	if first, last, octets := n.store.measure(); first > 0 {
		average := octets/int64(last-first+1) + 1
		if fit := uint64(n.cfg.LogDiskCap / average); keep > fit {
			keep = max(fit, min(n.trailing, minTrailing))
		}
	}
	r := n.raft()
	rc := r.ReloadableConfig()
	if rc.TrailingLogs == keep {
		return
	}
	rc.TrailingLogs = keep
	if err := r.ReloadConfig(rc); err != nil {
		n.log.Warn("the log's length was not changed", "error", err)
	}
}
