package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Node is this machine's part of the cluster. Its methods may be called from any
// goroutine.
type Node struct {
	cfg   Config
	log   *slog.Logger
	lock  *os.File
	store *logStore
	logs  raft.LogStore // store behind a cache
	snaps *snapStore
	trans raft.Transport
	fsm   *machine
	raft  *raft.Raft

	inflight   chan *proposal
	waiters    waiters
	lead       leadership
	snapWanted chan struct{}
	observer   *raft.Observer

	gateMu  sync.RWMutex // closing
	closing bool
	calls   sync.WaitGroup // calls that use raft
	wg      sync.WaitGroup // own goroutines
	ready   chan struct{}  // closed when raft runs
	done    chan struct{}  // closed when the node stops
	halt    func() raft.Future
	closed  sync.Once
	closeAs error

	trailMu  sync.Mutex
	trailing uint64 // wanted number of kept entries

	faultMu sync.Mutex
	fault   error
	failed  chan struct{}
}

// maxInflight bounds the proposals under way; more wait in Propose.
const maxInflight = 8192

// settle is how long a node that has failed lets the library answer what is queued: it
// never does after its shutdown.
const settle = 200 * time.Millisecond

// logCache is how many of the newest entries stay in memory for followers.
const logCache = 4096

// Open starts the node in cfg.DataDir. It returns before a leader is known: see
// WaitLeader.
func Open(cfg Config) (*Node, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Logger, trailing: cfg.TrailingLogs,
		inflight:   make(chan *proposal, maxInflight),
		snapWanted: make(chan struct{}, 1),
		ready:      make(chan struct{}),
		done:       make(chan struct{}),
		failed:     make(chan struct{}),
	}
	n.lead.watchers = map[chan Leadership]struct{}{}
	n.fsm = &machine{n: n, fsm: cfg.FSM}
	n.halt = sync.OnceValue(func() raft.Future { return n.raft.Shutdown() })
	if err := n.open(); err != nil {
		close(n.done)
		if n.store != nil {
			n.store.Close()
		}
		if n.lock != nil {
			n.lock.Close()
		}
		if cfg.Stream != nil {
			cfg.Stream.Close()
		}
		return nil, err
	}
	return n, nil
}

// open is the story of a start: lock, check, log, snapshots, fit, raft.
func (n *Node) open() (err error) {
	start := time.Now()
	dir := n.cfg.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if n.lock, err = lockDir(dir); err != nil {
		return err
	}
	if err := checkFormat(dir, n.cfg.ID); err != nil {
		return err
	}
	if n.store, err = openLog(dir, compactAbove, n.log); err != nil {
		return err
	}
	n.store.fail, n.store.ok = n.fail, n.failure
	var inner raft.LogStore = n.store
	if n.cfg.WrapLog != nil {
		inner = wrapped{n.cfg.WrapLog(n.store), n.store}
	}
	if n.logs, err = raft.NewLogCache(logCache, inner); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if n.snaps, err = openSnapshots(filepath.Join(dir, "snapshots"), n.cfg.FSM, n.log); err != nil {
		return err
	}
	if err := n.snaps.finishInstall(n.cfg.FSM); err != nil {
		return err
	}
	if err := n.bootstrap(); err != nil {
		return err
	}
	if err := n.fit(); err != nil {
		return err
	}
	return n.start(start)
}

// start runs raft and the node's own goroutines.
func (n *Node) start(begin time.Time) error {
	n.fsm.applied.Store(n.cfg.FSM.Applied())
	if m := n.snaps.newest(); m != nil {
		n.fsm.applied.Store(max(m.Raft.Index, n.cfg.FSM.Applied()))
	}
	n.trans = newTransport(&n.cfg)
	r, err := raft.NewRaft(n.cfg.raft(), n.fsm, n.logs, n.store, n.snaps, n.trans)
	if err != nil {
		if c, ok := n.trans.(raft.WithClose); ok {
			c.Close()
		}
		return fmt.Errorf("cluster: %w", err)
	}
	n.raft = r
	close(n.ready)
	events := make(chan raft.Observation, 1)
	n.observer = raft.NewObserver(events, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	r.RegisterObserver(n.observer)
	n.wg.Add(3)
	go n.complete()
	go n.follow(events)
	go n.snapshots()

	servers := r.GetConfiguration().Configuration().Servers
	alone := len(servers) == 1 && servers[0].Suffrage == raft.Voter && string(servers[0].ID) == n.cfg.ID
	if alone {
		if err := n.campaign(); err != nil {
			n.log.Warn("no immediate election", "error", err) // the time-out brings one
		}
	}
	n.log.Info("cluster node started", "node", n.cfg.ID, "members", len(servers),
		"last", r.LastIndex(), "applied", n.cfg.FSM.Applied(), "took", time.Since(begin))
	return nil
}

// Close ends the node without loss of time at the next start: it waits for proposals
// under way, makes the state durable and writes a snapshot, so that nothing is replayed.
// The FSM stays open. Further calls give the first one's result.
func (n *Node) Close() error {
	n.closed.Do(func() {
		n.shut(n.cfg.Timeouts.Drain)
		var errs []error
		if n.failure() == nil && n.fsm.sinceSnap.Load() > 0 {
			err := n.raft.Snapshot().Error()
			if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
				n.log.Info("no snapshot at the end", "reason", err)
			}
		}
		errs = append(errs, n.stop())
		if n.failure() == nil {
			if err := n.cfg.FSM.Flush(); err != nil {
				errs = append(errs, fmt.Errorf("cluster: the state can't be made durable: %w", err))
			}
		}
		errs = append(errs, n.store.Close(), n.lock.Close())
		n.closeAs = errors.Join(errs...)
	})
	return n.closeAs
}

// Kill ends the node as a crash would, for tests: no waiting, no flush, no snapshot.
// Writes stop at once; entries under way end with an error.
func (n *Node) Kill() {
	n.closed.Do(func() {
		n.setFault(fmt.Errorf("%w: killed", ErrClosed))
		n.shut(settle)
		n.stop()
		n.store.Close()
		n.lock.Close()
	})
}

// stop ends raft and the node's goroutines.
func (n *Node) stop() error {
	close(n.done)
	err := n.halt().Error()
	n.raft.DeregisterObserver(n.observer)
	if t, ok := n.trans.(*raft.NetworkTransport); ok {
		t.CloseStreams()
	}
	// Every proposal that reached the log has been answered by now. One that was still
	// in the library's queue never will be; its caller is released by done.
	if n.shut(time.Second) {
		close(n.inflight)
		n.wg.Wait()
	}
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// fail records the first fault, after which the node does nothing more, and returns it.
func (n *Node) fail(err error) error {
	if first := n.setFault(fmt.Errorf("%w: %w", ErrFailed, err)); !first {
		return n.failure()
	}
	n.log.Error("the node stops: it can't go on after this fault", "error", err)
	go func() {
		if n.cfg.OnFatal != nil {
			n.cfg.OnFatal(n.failure())
		}
		// Stop leading, so that a peer may.
		select {
		case <-n.ready:
			n.shut(settle)
			n.halt()
		case <-n.done:
		}
	}()
	return n.failure()
}

func (n *Node) setFault(err error) (first bool) {
	n.faultMu.Lock()
	defer n.faultMu.Unlock()
	if n.fault != nil {
		return false
	}
	n.fault = err
	close(n.failed)
	return true
}

func (n *Node) failure() error {
	select {
	case <-n.failed:
	default:
		return nil
	}
	n.faultMu.Lock()
	defer n.faultMu.Unlock()
	return n.fault
}

// Failed is closed when a fault has stopped the node; Fault says which.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Fault is the reason why the node has stopped, nil if it has not.
func (n *Node) Fault() error { return n.failure() }
