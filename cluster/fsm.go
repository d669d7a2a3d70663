package cluster

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// FSM is the state machine that all nodes feed with the same entries. Apply and Restore
// are never called at the same time; the others may be called while Apply runs.
type FSM interface {
	// Apply applies committed entries in order and gives one result for each. All of
	// them are above Applied. The entries' Data must not be changed or kept after the
	// call unless copied. An error stops the node: the entry can't be understood or
	// stored here. What an entry's author did wrong belongs in the result.
	Apply(entries []Entry) ([][]byte, error)
	// Applied is the index of the last entry that Apply or Restore brought, 0 for none.
	// It is stored in the same transaction as the entry's effect.
	Applied() uint64
	// Flush makes all applied entries durable. The log may be cut up to them afterwards.
	Flush() error
	// Checkpoint writes a complete, durable copy to dir, which does not exist yet in an
	// existing directory of the same file system. Hard links are expected.
	Checkpoint(dir string) error
	// Restore replaces the whole state by a checkpoint and may move its files away. It
	// is atomic: after a crash in it, the state is the old or the new one, and if it is
	// the old one dir is complete. The new state is durable when Restore returns.
	Restore(dir string) error
}

// Entry is one committed entry of the log.
type Entry struct {
	Index      uint64
	Term       uint64
	Data       []byte
	AppendedAt time.Time // when the leader took it; wall clock of the leader, for display only
}

// Epoch is the epoch under which the entry was proposed.
func (e *Entry) Epoch() uint64 { return EpochOf(e.Term) }

// epochShift is the number of low bits of a term that count elections.
const epochShift = 24

// EpochOf gives the epoch that a raft term belongs to.
func EpochOf(term uint64) uint64 { return term >> epochShift }

// machine is the FSM as raft sees it. Its methods run in raft's FSM goroutine; the
// snapshot it hands out is persisted in another.
type machine struct {
	n     *Node
	fsm   FSM
	batch []Entry

	// foreign: the FSM's state is of another history; only Restore may change it.
	foreign   atomic.Bool
	applied   atomic.Uint64 // highest index handled here, configurations included
	sinceSnap atomic.Int64  // entries since the last snapshot
	bytesSnap atomic.Int64  // their octets
}

var _ raft.BatchingFSM = (*machine)(nil)

// ApplyBatch gives new entries to the FSM. The response of an entry is nil, an error or
// a *[]byte.
func (m *machine) ApplyBatch(logs []*raft.Log) []interface{} {
	out := make([]interface{}, len(logs))
	if err := m.n.failure(); err != nil {
		for i := range out {
			out[i] = err
		}
		return out
	}
	if m.foreign.Load() {
		err := m.n.fail(fmt.Errorf("%w: the leader sends entries from %d on to a node whose state is of another history; it has to be added by a program that sends the state", ErrMismatch, logs[0].Index))
		for i := range out {
			out[i] = err
		}
		return out
	}
	done := m.fsm.Applied()
	m.batch = m.batch[:0]
	size := 0
	for _, l := range logs {
		size += len(l.Data)
		if l.Type == raft.LogCommand && l.Index > done {
			m.batch = append(m.batch, Entry{Index: l.Index, Term: l.Term, Data: l.Data, AppendedAt: l.AppendedAt})
		}
	}
	if len(m.batch) > 0 {
		results, err := m.fsm.Apply(m.batch)
		if err == nil && len(results) != len(m.batch) {
			err = fmt.Errorf("%d results for %d entries", len(results), len(m.batch))
		}
		if err != nil {
			err = m.n.fail(fmt.Errorf("cluster: the state machine can't apply entries %d to %d: %w",
				m.batch[0].Index, m.batch[len(m.batch)-1].Index, err))
			for i := range out {
				out[i] = err
			}
			return out
		}
		k := 0
		for i, l := range logs {
			if l.Type == raft.LogCommand && l.Index > done {
				out[i] = &results[k]
				k++
			}
		}
		clear(m.batch)
	}
	m.applied.Store(max(logs[len(logs)-1].Index, m.applied.Load()))
	m.n.waiters.wake()
	entries := m.sinceSnap.Add(int64(len(logs)))
	octets := m.bytesSnap.Add(int64(size))
	if entries >= int64(m.n.cfg.SnapshotThreshold) || octets >= m.n.cfg.LogDiskCap/4 {
		kick(m.n.snapWanted)
	}
	return out
}

// Apply is only there to complete raft.FSM: a BatchingFSM gets batches.
func (m *machine) Apply(l *raft.Log) interface{} { return m.ApplyBatch([]*raft.Log{l})[0] }

// Snapshot remembers how far the state is. It is quick: entries wait for it.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if err := m.n.failure(); err != nil {
		return nil, err
	}
	m.sinceSnap.Store(0)
	m.bytesSnap.Store(0)
	return &pointer{m: m, applied: m.fsm.Applied()}, nil
}

// Restore takes over the state that a snapshot sink has received and checked.
func (m *machine) Restore(rc io.ReadCloser) error {
	id, err := io.ReadAll(io.LimitReader(rc, 256))
	if err != nil {
		return err
	}
	meta, err := m.n.snaps.install(string(id), m.fsm)
	if err != nil {
		return m.n.fail(fmt.Errorf("cluster: the state received from the leader can't be installed: %w", err))
	}
	m.foreign.Store(false)
	m.n.store.keep.Store(0)
	m.n.store.sent.forget()
	// What lies before the snapshot is of no use and would leave a gap in the log.
	if first, err := m.n.logs.FirstIndex(); err == nil && first != 0 && first <= meta.Raft.Index {
		if err := m.n.logs.DeleteRange(first, meta.Raft.Index); err != nil {
			return err
		}
	}
	m.applied.Store(max(m.fsm.Applied(), meta.Raft.Index))
	m.n.waiters.wake()
	m.n.log.Info("state received from the leader", "index", meta.Raft.Index, "applied", m.fsm.Applied())
	return nil
}

// pointer is a snapshot that copies nothing.
type pointer struct {
	m       *machine
	applied uint64
}

// Persist flushes the FSM and writes the pointer. raft cuts its log after it returned.
func (p *pointer) Persist(sink raft.SnapshotSink) error {
	s, ok := sink.(*pointerSink)
	if !ok {
		return errors.New("cluster: snapshot sink of another kind")
	}
	if err := p.m.fsm.Flush(); err != nil {
		return p.m.n.fail(fmt.Errorf("cluster: the state can't be made durable: %w", err))
	}
	s.meta.Applied = p.applied
	p.m.n.boundLog()
	return nil
}

// Release has nothing to give back.
func (p *pointer) Release() {}
