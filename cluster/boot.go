package cluster

import (
	"fmt"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// keyTerm is where the library keeps its term in the stable store.
var keyTerm = []byte("CurrentTerm")

// errNoKey is the stable store's answer before the first term.
var errNoKey = raftboltdb.ErrKeyNotFound

// bootstrap makes a new history with this node as the only voter, if that is wanted and
// there is none.
func (n *Node) bootstrap() error {
	last, err := n.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if last > 0 || n.snaps.newest() != nil {
		return nil // a term alone is no history: a crash in a first start leaves it
	}
	applied := n.cfg.FSM.Applied()
	if n.cfg.Join {
		n.fsm.foreign.Store(applied > 0)
		return nil
	}
	if applied > 0 && !(n.cfg.Bootstrap && n.cfg.AdoptState) {
		return fmt.Errorf("%w: the state reaches entry %d, but %s holds no log; put the log directory back, or restore a backup", ErrMismatch, applied, n.cfg.DataDir)
	}
	if !n.cfg.Bootstrap {
		return nil
	}
	conf := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(n.cfg.ID), Address: raft.ServerAddress(n.cfg.ID),
	}}}
	if err := n.store.SetUint64(keyTerm, 1); err != nil {
		return err
	}
	if applied > 0 {
		// New entries must come after those that the state already has.
		if err := n.cfg.FSM.Flush(); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		m := n.snaps.meta(applied, 1, conf, 1)
		m.Applied = applied
		return n.snaps.put(m)
	}
	return n.logs.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)})
}

// fit makes sure that state, snapshot and log belong together, and brings a state that
// is older than the snapshot up to it.
func (n *Node) fit() error {
	if n.fsm.foreign.Load() {
		return nil // the state goes; there is nothing it could fit
	}
	first, err := n.logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	last, err := n.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	applied := n.cfg.FSM.Applied()
	var snap snapMeta
	if m := n.snaps.newest(); m != nil {
		snap = *m
	}
	if known := max(last, snap.Raft.Index, snap.Applied); applied > known {
		return fmt.Errorf("%w: the state reaches entry %d, the log in %s only %d; one of them was restored without the other", ErrMismatch, applied, n.cfg.DataDir, known)
	}
	if last > snap.Raft.Index && first > snap.Raft.Index+1 {
		return fmt.Errorf("%w: the log in %s begins at entry %d, the snapshot ends at %d", ErrMismatch, n.cfg.DataDir, first, snap.Raft.Index)
	}
	if applied >= snap.Applied {
		return nil
	}
	// An older copy of the state was put in place. Everything up to the snapshot is
	// committed, so what the log still has of it can be applied again.
	if first == 0 || first > applied+1 || last < snap.Applied {
		return fmt.Errorf("%w: the state reaches entry %d, but entries are only known from %d on; restore a newer backup, or move this node's data directory away and join the cluster again", ErrMismatch, applied, max(first, snap.Applied))
	}
	n.log.Info("bringing an older state up to date", "from", applied, "to", snap.Applied)
	return n.reapply(applied+1, snap.Applied)
}

// reapply gives the commands of a range of the log to the FSM.
func (n *Node) reapply(from, to uint64) error {
	var batch []Entry
	for i := from; i <= to; i++ {
		var l raft.Log
		if err := n.logs.GetLog(i, &l); err != nil {
			return fmt.Errorf("%w: entry %d: %w", ErrMismatch, i, err)
		}
		if l.Type == raft.LogCommand {
			batch = append(batch, Entry{Index: l.Index, Term: l.Term, Data: l.Data, AppendedAt: l.AppendedAt})
		}
		if len(batch) == 512 || i == to && len(batch) > 0 {
			if _, err := n.cfg.FSM.Apply(batch); err != nil {
				return fmt.Errorf("cluster: the state machine can't apply entries up to %d: %w", i, err)
			}
			batch = batch[:0]
		}
	}
	if err := n.cfg.FSM.Flush(); err != nil {
		return fmt.Errorf("cluster: the state can't be made durable: %w", err)
	}
	return nil
}
