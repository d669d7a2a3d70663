package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/pair"

	"golang.org/x/sys/unix"
)

const (
	reserveName  = "reserve"
	maxReserve   = 64 << 20 // octets; less on a disk of less than 1 GB
	reserveShare = 16       // of the file system
	lookPause    = 250 * time.Millisecond
	// gaveTime is how long others that had found no room may count on what was given up.
	gaveTime = time.Second
	// shortLogs is how many entries the log of a node alone keeps while there is little space.
	shortLogs = 1024
)

// room sees to it that a full disk ends nothing. When little is left, new mail is refused (452), and a
// primary asks the other node to take over; flags, deletions and what becomes of the queue still need
// room in the log, and have as much as was left then. Whatever else fills the disk leaves a file of the
// same size, which is given up for them.
type room struct {
	dir   string
	keep  int64 // octets that new mail leaves free, and those of the file
	log   *slog.Logger
	full  func()          // told while there is little space
	ended func(less bool) // told when that begins and ends

	mu    sync.Mutex
	held  bool      // the file is there
	able  bool      // this file system can reserve space
	gave  time.Time // when the file was given up
	told  time.Time
	short atomic.Bool
}

// newRoom reserves space on dir's file system, if there is enough.
func newRoom(dir string, log *slog.Logger) *room {
	r := &room{dir: dir, log: log, able: true, full: func() {}, ended: func(bool) {}}
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil {
		r.keep = min(maxReserve, int64(st.Blocks)*st.Bsize/reserveShare)
	}
	if info, err := os.Stat(r.file()); err == nil {
		r.held = info.Size() > 0
	}
	r.look(time.Now())
	return r
}

func (r *room) file() string { return filepath.Join(r.dir, reserveName) }

// Short tells whether new mail is refused.
func (r *room) Short() bool { return r.short.Load() }

// Give gives up what is reserved, for a write that found no room. It tells whether that may be tried again.
func (r *room) Give() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin(0)
	if !r.held {
		return time.Since(r.gave) < gaveTime
	}
	if err := os.Remove(r.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Error("the space set aside can't be given up", "err", err)
		return false
	}
	r.held, r.gave = false, time.Now()
	r.log.Error("the disk is full: the space set aside is used now", "data", r.dir, "octets", r.keep)
	return true
}

func (r *room) begin(free int64) {
	if !r.short.Swap(true) {
		r.log.Error("little space is left on the disk: new mail is refused until there is more", "data", r.dir, "free", free, "wanted", r.keep)
		r.ended(true)
	}
}

// look compares what is free with what should be.
func (r *room) look(now time.Time) {
	var st unix.Statfs_t
	if unix.Statfs(r.dir, &st) != nil {
		return // a disk that does not answer is found by who writes to it
	}
	if full := r.judge(int64(st.Bavail)*st.Bsize, now); full != nil {
		full()
	}
}

// judge gives what is to be called, if somebody is to be told.
func (r *room) judge(free int64, now time.Time) (full func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.held && r.able && free >= 5*r.keep/2 && r.hold() {
		free -= r.keep
	}
	switch {
	case free < r.keep:
		r.begin(free)
	case free >= 3*r.keep/2 && (r.held || !r.able) && r.short.Swap(false):
		r.log.Info("there is space on the disk again: new mail is taken", "data", r.dir, "free", free)
		r.ended(false)
	}
	if r.short.Load() && now.Sub(r.told) >= time.Second {
		r.told = now
		return r.full
	}
	return nil
}

// hold makes the file.
func (r *room) hold() bool {
	f, err := os.OpenFile(r.file(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, max(r.keep, 1)), f.Close())
	}
	switch {
	case err == nil:
		r.held = true
		return true
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		r.able = false
	}
	r.log.Warn("no space could be set aside for a full disk", "err", err)
	os.Remove(r.file())
	return false
}

func (r *room) run(ctx context.Context) {
	tick := time.NewTicker(lookPause)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			r.look(now)
		case <-ctx.Done():
			return
		}
	}
}

// openRoom reserves space before anything is opened that writes.
func (n *node) openRoom(context.Context) error {
	n.room = newRoom(n.cfg.Data, n.log)
	n.book.NoRoom = n.room.Give
	return nil
}

// watchRoom begins when everything is open that is to hear of it.
func (n *node) watchRoom() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wanted := make(chan bool, 1)
	n.room.mu.Lock()
	n.room.full = func() {
		if c := n.pair.Load(); c != nil {
			c.OwnFault(errLittleSpace)
		}
	}
	n.room.ended = func(less bool) {
		select {
		case <-wanted:
		default:
		}
		wanted <- less
	}
	if n.room.Short() {
		n.room.ended(true)
	}
	n.room.mu.Unlock()
	wg.Go(func() { n.room.run(ctx) })
	wg.Go(func() { n.boundLog(ctx, wanted) })
	n.later(func() { cancel(); wg.Wait() })
}

var errLittleSpace = errors.New("little space is left on the disk")

// boundLog cuts the log of a node alone while there is little space, so that its file does not grow any
// more. What a node of a pair has in its log the other one may need.
func (n *node) boundLog(ctx context.Context, wanted <-chan bool) {
	for {
		select {
		case less := <-wanted:
			switch {
			case !less:
				n.cluster.KeepLogs(cluster.DefaultTrailingLogs)
			case n.book.Facts().State == pair.Single:
				n.cluster.KeepLogs(shortLogs)
				if err := n.cluster.Snapshot(); err != nil {
					n.log.Warn("the log was not cut", "err", err)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}
