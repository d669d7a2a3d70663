package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Kinds of snapshot files.
const (
	// kindPointer: the state itself is in the FSM.
	kindPointer = "pointer"
	// kindReceived: the state lies beside the file and the FSM must still take it over.
	kindReceived = "received"
)

// keepSnapshots is how many snapshot files stay; only the newest is used.
const keepSnapshots = 2

// snapMeta is the content of a snapshot file.
type snapMeta struct {
	Format  int               `json:"format"`
	Kind    string            `json:"kind"`
	Epoch   uint64            `json:"epoch"`
	Applied uint64            `json:"applied"` // index up to which the FSM has been durable
	Time    time.Time         `json:"time"`
	Raft    raft.SnapshotMeta `json:"raft"`
	// Of a received state: it replaces one of another history, whose index says nothing;
	// and how much must lie beside the file for it to be complete.
	Replaces bool  `json:"replaces,omitempty"`
	Files    int   `json:"files,omitempty"`
	Octets   int64 `json:"octets,omitempty"`
}

// snapStore is raft's snapshot store: pointers for itself, whole states for peers.
type snapStore struct {
	dir string
	fsm FSM
	log *slog.Logger
	// fresh takes a snapshot now, if there is anything new.
	fresh func() error
	sent  *sendBound // keeps the log that goes with what is sent
	// foreign says whether the FSM's state is of another history than what is received.
	foreign func() bool

	mu    sync.Mutex
	metas []*snapMeta // newest first
	seq   int
}

var _ raft.SnapshotStore = (*snapStore)(nil)

// openSnapshots reads dir and removes what a crash has left in it.
func openSnapshots(dir string, fsm FSM, log *slog.Logger) (*snapStore, error) {
	s := &snapStore{dir: dir, fsm: fsm, log: log, sent: &sendBound{}, foreign: func() bool { return false }}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		m, err := s.read(id)
		if err != nil {
			return nil, err
		}
		s.metas = append(s.metas, m)
	}
	slices.SortFunc(s.metas, func(a, b *snapMeta) int {
		if a.newer(b) {
			return -1
		}
		return 1
	})
	for _, f := range files {
		id, isState := strings.CutSuffix(f.Name(), ".state")
		keep := strings.HasSuffix(f.Name(), ".json")
		if isState {
			m := s.newest()
			keep = m != nil && m.Raft.ID == id && m.Kind == kindReceived
		}
		if !keep {
			if err := os.RemoveAll(filepath.Join(dir, f.Name())); err != nil {
				return nil, fmt.Errorf("cluster: %w", err)
			}
		}
	}
	return s, nil
}

func (m *snapMeta) newer(o *snapMeta) bool {
	if m.Raft.Term != o.Raft.Term {
		return m.Raft.Term > o.Raft.Term
	}
	if m.Raft.Index != o.Raft.Index {
		return m.Raft.Index > o.Raft.Index
	}
	return m.Raft.ID > o.Raft.ID
}

func (s *snapStore) read(id string) (*snapMeta, error) {
	name := s.file(id)
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	m := &snapMeta{}
	if err := json.Unmarshal(b, m); err != nil || m.Raft.ID != id {
		return nil, fmt.Errorf("cluster: %s is damaged: restore a backup, or move this node's data directory away and join the cluster again", name)
	}
	if m.Format > Format {
		return nil, fmt.Errorf("%w: %s has format %d, this program knows formats up to %d; start the newer program that wrote it", ErrNewer, name, m.Format, Format)
	}
	return m, nil
}

func (s *snapStore) file(id string) string  { return filepath.Join(s.dir, id+".json") }
func (s *snapStore) state(id string) string { return filepath.Join(s.dir, id+".state") }

// newest gives the snapshot in force, nil if there is none. It must not be changed.
func (s *snapStore) newest() *snapMeta {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.metas) == 0 {
		return nil
	}
	return s.metas[0]
}

// put makes m durable, puts it first and removes what is no longer kept.
func (s *snapStore) put(m *snapMeta) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := writeDurable(s.file(m.Raft.ID), append(b, '\n')); err != nil {
		return err
	}
	s.mu.Lock()
	s.metas = slices.DeleteFunc(s.metas, func(o *snapMeta) bool { return o.Raft.ID == m.Raft.ID })
	s.metas = slices.Insert(s.metas, 0, m)
	var old []*snapMeta
	if len(s.metas) > keepSnapshots {
		old = slices.Clone(s.metas[keepSnapshots:])
		s.metas = s.metas[:keepSnapshots]
	}
	s.mu.Unlock()
	for _, o := range old {
		if err := errors.Join(os.RemoveAll(s.state(o.Raft.ID)), os.Remove(s.file(o.Raft.ID))); err != nil {
			s.log.Warn("old snapshot not removed", "error", err)
		}
	}
	return nil
}

// meta prepares a snapshot of this moment.
func (s *snapStore) meta(index, term uint64, conf raft.Configuration, confIndex uint64) *snapMeta {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	now := time.Now()
	return &snapMeta{
		Format: Format, Kind: kindPointer, Epoch: EpochOf(term), Time: now.UTC(),
		Raft: raft.SnapshotMeta{
			Version: raft.SnapshotVersionMax, Index: index, Term: term,
			ID:            fmt.Sprintf("%016x-%016x-%016x%04x", term, index, now.UnixNano(), s.seq&0xffff),
			Configuration: conf, ConfigurationIndex: confIndex,
		},
	}
}

// Create begins a snapshot: raft's own, which stays a pointer, or one received from the
// leader, which is unpacked as it is written.
func (s *snapStore) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != raft.SnapshotVersionMax {
		return nil, fmt.Errorf("cluster: unknown snapshot version %d", version)
	}
	return &pointerSink{s: s, meta: s.meta(index, term, conf, confIndex)}, nil
}

// List gives the snapshot in force. Older ones are of no use: the log starts at it.
func (s *snapStore) List() ([]*raft.SnapshotMeta, error) {
	if m := s.newest(); m != nil {
		r := m.Raft
		return []*raft.SnapshotMeta{&r}, nil
	}
	return nil, nil
}

// Open gives what the library passes on: to our FSM the name of a received state, to a
// peer a stream of the present state, under a snapshot of this moment in place of id: with an
// old one the peer would get an old configuration, too, in which it may have been the only
// voter, and after a crash before it has the log it would lead. The state may be ahead of the
// snapshot's index; the receiver's FSM skips the entries it then gets a second time.
func (s *snapStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m := s.newest()
	if m == nil || m.Raft.ID != id {
		return nil, nil, fmt.Errorf("cluster: there is no snapshot %s", id)
	}
	if m.Kind == kindReceived {
		r := m.Raft
		return &r, io.NopCloser(strings.NewReader(id)), nil
	}
	// The new snapshot, too, cuts the log; the entry at its index must stay: raft compares
	// the peer's log with it before it sends the next.
	s.sent.begin(s.fsm.Applied())
	r, rc, err := s.open()
	if err != nil {
		s.sent.end()
		return nil, nil, err
	}
	return r, rc, nil
}

// open makes the stream for a peer.
func (s *snapStore) open() (*raft.SnapshotMeta, io.ReadCloser, error) {
	if s.fresh != nil {
		if err := s.fresh(); err != nil {
			return nil, nil, err
		}
	}
	m := s.newest()
	r := m.Raft
	s.mu.Lock()
	s.seq++
	dir := filepath.Join(s.dir, fmt.Sprintf("send-%d", s.seq))
	s.mu.Unlock()
	applied := s.fsm.Applied()
	start := time.Now()
	if err := s.fsm.Checkpoint(dir); err != nil {
		os.RemoveAll(dir)
		return nil, nil, fmt.Errorf("cluster: checkpoint: %w", err)
	}
	a, err := newArchive(dir, applied, m.Epoch)
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	r.Size = a.size
	s.log.Info("sending the whole state to a peer", "index", r.Index, "applied", applied, "octets", a.size, "checkpoint", time.Since(start))
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(a.writeTo(pw))
	}()
	return &r, &sending{PipeReader: pr, done: done, dir: dir, sent: s.sent}, nil
}

// sending is a checkpoint on its way to a peer.
type sending struct {
	*io.PipeReader
	done chan struct{}
	dir  string
	sent *sendBound
}

// Close stops the stream and removes the checkpoint.
func (s *sending) Close() error {
	s.PipeReader.Close()
	<-s.done
	s.sent.end()
	return os.RemoveAll(s.dir)
}

// install lets the FSM take over the received state id.
func (s *snapStore) install(id string, fsm FSM) (*snapMeta, error) {
	m := s.newest()
	if m == nil || m.Raft.ID != id || m.Kind != kindReceived {
		return nil, fmt.Errorf("cluster: there is no received state %s", id)
	}
	if err := fsm.Restore(s.state(id)); err != nil {
		return nil, err
	}
	if got := fsm.Applied(); got < m.Applied {
		return nil, fmt.Errorf("%w: the received state was said to reach entry %d, it reaches %d", ErrMismatch, m.Applied, got)
	}
	return s.installed(m, fsm)
}

// installed notes that the FSM has the received state m.
func (s *snapStore) installed(m *snapMeta, fsm FSM) (*snapMeta, error) {
	done := *m
	done.Kind, done.Applied = kindPointer, fsm.Applied()
	done.Replaces, done.Files, done.Octets = false, 0, 0
	if err := s.put(&done); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(s.state(m.Raft.ID)); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return &done, nil
}

// finishInstall repairs a crash between the arrival of a state and its take-over.
func (s *snapStore) finishInstall(fsm FSM) error {
	m := s.newest()
	if m == nil || m.Kind != kindReceived {
		return nil
	}
	if m.Replaces && s.complete(m) {
		// Taken over or not: the old state's index may be any. Twice does no harm.
		_, err := s.install(m.Raft.ID, fsm)
		return err
	}
	if fsm.Applied() >= m.Applied {
		_, err := s.installed(m, fsm) // the crash came after the take-over
		return err
	}
	if _, err := os.Stat(s.state(m.Raft.ID)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: a state received up to entry %d is gone before it was taken over; move this node's data directory away and join the cluster again", ErrMismatch, m.Applied)
	}
	s.log.Info("taking over the state received before the last stop", "applied", m.Applied)
	_, err := s.install(m.Raft.ID, fsm)
	return err
}

// complete says whether the whole of a received state lies beside its file.
func (s *snapStore) complete(m *snapMeta) bool {
	a, err := newArchive(s.state(m.Raft.ID), m.Applied, m.Epoch)
	if err != nil {
		return false
	}
	var octets int64
	for _, f := range a.man.Files {
		octets += f.Size
	}
	return len(a.man.Files) == m.Files && octets == m.Octets
}
