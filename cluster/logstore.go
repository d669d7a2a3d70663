package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

const (
	logFile = "raft.db"
	// A file above compactAbove octets of which less than 1/compactRatio is in use is
	// rewritten at start: bbolt never gives space back.
	compactAbove = 256 << 20
	compactRatio = 4
	// deleteChunk bounds how long appending waits for a deletion, in entries.
	deleteChunk = 16384
)

// logStore is the log, the term and the vote in bbolt. The first failed write makes
// every later one fail: after a failed fsync nobody knows what is on the disk.
type logStore struct {
	*raftboltdb.BoltStore
	path  string
	fail  func(error) error // records the fault, gives it back
	ok    func() error      // the recorded fault
	room  func() bool       // Config.NoRoom, or nil
	keep  atomic.Uint64     // entries from here on are not removed from the front; 0: no bound
	sent  sendBound
	limit int64 // octets of log up to which sent counts

	writes, entries atomic.Uint64 // calls of StoreLogs, and what they brought
}

func boltOptions() *bbolt.Options {
	return &bbolt.Options{
		NoFreelistSync:  true, // half the pages per commit; rebuilt by a scan at open
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: 256 << 20, // address space, not memory: growing stops all readers
		Timeout:         time.Second,
	}
}

// openLog opens dir's log and first compacts it if that is worth it.
func openLog(dir string, above int64, log *slog.Logger) (*logStore, error) {
	path := filepath.Join(dir, logFile)
	if err := compactLog(path, above, log); err != nil {
		return nil, fmt.Errorf("cluster: compact %s: %w", path, err)
	}
	b, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(), MsgpackUseNewTimeFormat: true})
	if err != nil {
		return nil, fmt.Errorf("cluster: open %s: %w; if it is damaged, move this node's data directory away and join the cluster again, or restore a backup", path, err)
	}
	if err := syncDir(dir); err != nil {
		b.Close()
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return &logStore{BoltStore: b, path: path}, nil
}

// compactLog rewrites the file at path if it is larger than above and mostly free.
func compactLog(path string, above int64, log *slog.Logger) error {
	tmp := path + ".compact"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // left by a crash: the original was still in use
	}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Size() <= above {
		return nil
	}
	start := time.Now()
	src, err := bbolt.Open(path, 0o600, boltOptions())
	if err != nil {
		return err
	}
	defer src.Close()
	if live := liveBytes(src); live*compactRatio >= st.Size() {
		return nil
	}
	opts := boltOptions()
	opts.NoSync = true // one sync at the end
	dst, err := bbolt.Open(tmp, 0o600, opts)
	if err != nil {
		return err
	}
	err = bbolt.Compact(dst, src, 16<<20)
	if err == nil {
		err = dst.Sync()
	}
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	now, err := os.Stat(path)
	if err != nil {
		return err
	}
	log.Info("log compacted", "from", st.Size(), "to", now.Size(), "took", time.Since(start))
	return nil
}

// liveBytes is the part of an open file that isn't free pages.
func liveBytes(db *bbolt.DB) int64 {
	var size int64
	// A write transaction brings the statistics up to date; rolled back, it writes nothing.
	if tx, err := db.Begin(true); err == nil {
		size = tx.Size()
		_ = tx.Rollback()
	}
	return size - int64(db.Stats().FreeAlloc)
}

// samples is from how many entries the size of the log is estimated.
const samples = 64

// entryOverhead is what an entry takes besides its data: key, encoding, page slack.
const entryOverhead = 128

// measure gives the range of the log and an estimate of the octets it takes, from
// samples spread evenly over it: bbolt doesn't count. An empty log gives zeros.
func (s *logStore) measure() (first, last uint64, octets int64) {
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	if err1 != nil || err2 != nil || first == 0 {
		return 0, 0, 0
	}
	step := max((last-first)/samples, 1)
	var sum, count int64
	for i := last; i >= first; i -= step {
		var l raft.Log
		if s.GetLog(i, &l) == nil {
			sum += int64(len(l.Data)) + entryOverhead
			count++
		}
		if i < step {
			break
		}
	}
	if count == 0 {
		return first, last, 0
	}
	return first, last, sum * int64(last-first+1) / count
}

// fileSize gives the length of the file.
func (s *logStore) fileSize() int64 {
	st, err := os.Stat(s.path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// write runs one change of the file.
func (s *logStore) write(what string, change func() error) error {
	if err := s.ok(); err != nil {
		return err
	}
	err := change()
	for tries := 0; tries < 2 && noRoom(err) && s.room != nil && s.room(); tries++ {
		err = change()
	}
	if err != nil {
		return s.fail(fmt.Errorf("cluster: %s in %s: %w; check the disk, then restart", what, s.path, err))
	}
	return nil
}

// noRoom tells whether err is a write for which a full disk had no room. The file holds what it held
// before: bbolt writes changed pages to free places, syncs them, and names them in the root last. A sync
// that fails, for whatever reason, is another error: after it nobody knows what is on the disk.
func noRoom(err error) bool {
	var at *fs.PathError
	return errors.As(err, &at) && at.Op == "write" && (errors.Is(at.Err, unix.ENOSPC) || errors.Is(at.Err, unix.EDQUOT))
}

func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *logStore) StoreLogs(logs []*raft.Log) error {
	s.count(logs)
	return s.write("write entries", func() error { return s.BoltStore.StoreLogs(logs) })
}

// count counts a write of entries. Each one is a transaction of bbolt, with two fdatasyncs:
// the pages, then the root.
func (s *logStore) count(logs []*raft.Log) {
	s.writes.Add(1)
	s.entries.Add(uint64(len(logs)))
}

// bound is the first entry that must stay, 0 for none: what the caller wants whatever it
// takes, and what a peer that receives the state will need, within limit octets.
func (s *logStore) bound() uint64 {
	keep, sent := s.keep.Load(), s.sent.first()
	if sent == 0 || keep > 0 && keep <= sent {
		return keep
	}
	if _, _, octets := s.measure(); octets > s.limit {
		return keep
	}
	return sent
}

// DeleteRange removes entries from the front in steps, so that appending goes on
// between them. Removal from the end is one transaction: no gap may be left.
func (s *logStore) DeleteRange(from, to uint64) error {
	return s.write("remove entries", func() error {
		first, err := s.FirstIndex()
		if err != nil {
			return err
		}
		if first == 0 || first > to {
			return nil
		}
		last, err := s.LastIndex()
		if err != nil {
			return err
		}
		// A cut at the front always leaves something; what takes the last entry, too, gives
		// up a tail, and must not be held back.
		if keep := s.bound(); first >= from && to < last && keep > 0 && to >= keep {
			if to = keep - 1; to < first {
				return nil
			}
		}
		if first >= from {
			for from = first; to-from >= deleteChunk; from += deleteChunk {
				if err := s.BoltStore.DeleteRange(from, from+deleteChunk-1); err != nil {
					return err
				}
			}
		}
		return s.BoltStore.DeleteRange(from, to)
	})
}

func (s *logStore) Set(k, v []byte) error {
	return s.write("write the vote", func() error { return s.BoltStore.Set(k, v) })
}

func (s *logStore) SetUint64(k []byte, v uint64) error {
	return s.write("write the term", func() error { return s.BoltStore.SetUint64(k, v) })
}

// stable is the store of term and vote for one run of the library, which panics when the
// term can't be stored. The fault has been recorded by then and ends the node in good order;
// so only the library's own goroutine ends here, before it acts on what is not stored.
type stable struct {
	*logStore
	running atomic.Bool // set by the first write, in NewRaft; later ones come from the library's main goroutine
}

func (s *stable) end(err error) error {
	if err != nil && s.running.Load() {
		runtime.Goexit()
	}
	return err
}

func (s *stable) Set(k, v []byte) error { return s.end(s.logStore.Set(k, v)) }

func (s *stable) SetUint64(k []byte, v uint64) error {
	if err := s.end(s.logStore.SetUint64(k, v)); err != nil {
		return err
	}
	s.running.Store(true)
	return nil
}

// wrapped sends the errors of a Config.WrapLog store the same way as bbolt's.
type wrapped struct {
	raft.LogStore
	s *logStore
}

func (w wrapped) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

func (w wrapped) StoreLogs(logs []*raft.Log) error {
	return w.s.write("write entries", func() error { return w.LogStore.StoreLogs(logs) })
}

func (w wrapped) DeleteRange(from, to uint64) error {
	return w.s.write("remove entries", func() error { return w.LogStore.DeleteRange(from, to) })
}
