package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// ErrCompacted says that the log no longer holds an entry that was asked for.
var ErrCompacted = errors.New("cluster: the log does not reach back so far")

// MoveAside renames the raft directory of a node that is not open to name beside it, for
// example "diverged-7", durably. The node then opens with an empty log and Config.Join.
// Without dataDir, or with nothing in it but what an interrupted first start leaves, and
// with name there, it has been done before a crash: nil. ErrLocked: the node is open.
// It never replaces an existing directory.
func MoveAside(dataDir, name string) error {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return fmt.Errorf("cluster: %q is no name for a directory", name)
	}
	parent := filepath.Dir(filepath.Clean(dataDir))
	to := filepath.Join(parent, name)
	_, there := os.Lstat(to)
	if there != nil && !errors.Is(there, fs.ErrNotExist) {
		return fmt.Errorf("cluster: %w", there)
	}
	if _, err := os.Lstat(dataDir); errors.Is(err, fs.ErrNotExist) && there == nil {
		return syncDir(parent)
	}
	lock, err := lockDir(dataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	held, err := holdsLog(dataDir)
	switch {
	case err != nil:
		return err
	case there == nil && !held:
		return syncDir(parent)
	case there == nil:
		return fmt.Errorf("cluster: %s exists already; %s was not moved", to, dataDir)
	}
	if err := os.Rename(dataDir, to); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := syncDir(parent); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// holdsLog says whether a raft directory has a log or a snapshot.
func holdsLog(dir string) (bool, error) {
	snaps, err := filepath.Glob(filepath.Join(dir, "snapshots", "*.json"))
	if err != nil || len(snaps) > 0 {
		return true, err
	}
	if _, err := os.Stat(filepath.Join(dir, logFile)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	s, err := readOnlyLog(dir)
	if err != nil {
		return false, err
	}
	defer s.Close()
	last, err := s.LastIndex()
	if err != nil {
		return false, fmt.Errorf("cluster: %w", err)
	}
	return last > 0, nil
}

func readOnlyLog(dir string) (*raftboltdb.BoltStore, error) {
	o := boltOptions()
	o.ReadOnly = true
	path := filepath.Join(dir, logFile)
	s, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: o, MsgpackUseNewTimeFormat: true})
	if err != nil {
		return nil, fmt.Errorf("cluster: open %s: %w", path, err)
	}
	return s, nil
}

// ReadLog gives the commands from index from up to to to fn, in order; to 0 means up to the
// newest. Entries that are not committed yet are among them: of a log whose node decides
// alone, all are as good as committed. fn must not change or keep Data. ErrCompacted: some
// of the range has been cut. An error of fn ends it and is returned.
func (n *Node) ReadLog(ctx context.Context, from, to uint64, fn func(Entry) error) error {
	n.gateMu.RLock() // the log stays open
	defer n.gateMu.RUnlock()
	if n.closing {
		return n.orFailure(ErrClosed)
	}
	return readLog(ctx, n.logs, from, to, fn)
}

// ReadLogDir is ReadLog for the raft directory of a node that is not open: one moved aside.
func ReadLogDir(ctx context.Context, dataDir string, from, to uint64, fn func(Entry) error) error {
	s, err := readOnlyLog(dataDir)
	if err != nil {
		return err
	}
	defer s.Close()
	return readLog(ctx, s, from, to, fn)
}

func readLog(ctx context.Context, s raft.LogStore, from, to uint64, fn func(Entry) error) error {
	first, err := s.FirstIndex()
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	last, err := s.LastIndex()
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if to == 0 {
		to = last
	}
	if from > to {
		return nil
	}
	if first == 0 || from < first || to > last {
		return fmt.Errorf("%w: entries %d to %d are asked for, it holds %d to %d", ErrCompacted, from, to, first, last)
	}
	for i := from; i <= to; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		var l raft.Log
		if err := s.GetLog(i, &l); errors.Is(err, raft.ErrLogNotFound) {
			return fmt.Errorf("%w: entry %d", ErrCompacted, i)
		} else if err != nil {
			return fmt.Errorf("cluster: entry %d: %w", i, err)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if err := fn(Entry{Index: l.Index, Term: l.Term, Data: l.Data, AppendedAt: l.AppendedAt}); err != nil {
			return err
		}
	}
	return nil
}
