package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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
	fsm   *machine
	ports *ports // nil without Config.Stream

	life       sync.Mutex // one start, Force or stop at a time
	eng        atomic.Pointer[engine]
	events     chan raft.Observation // something about the leadership has changed
	waiters    waiters
	lead       leadership
	snapWanted chan struct{}

	gateMu  sync.RWMutex // closing and the engine's gate
	closing bool
	wg      sync.WaitGroup // own goroutines
	ready   chan struct{}  // closed when raft runs
	done    chan struct{}  // closed when the node stops
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
		events:     make(chan raft.Observation, 1),
		snapWanted: make(chan struct{}, 1),
		ready:      make(chan struct{}),
		done:       make(chan struct{}),
		failed:     make(chan struct{}),
	}
	n.lead.watchers = map[chan Leadership]struct{}{}
	n.fsm = &machine{n: n, fsm: cfg.FSM}
	if cfg.Stream != nil {
		n.ports = newPorts(cfg.ID, cfg.Stream)
	}
	if err := n.open(); err != nil {
		close(n.done)
		if n.store != nil {
			n.store.Close()
		}
		if n.lock != nil {
			n.lock.Close()
		}
		if n.ports != nil {
			n.ports.close()
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
	n.store.fail, n.store.ok, n.store.room = n.fail, n.failure, n.cfg.NoRoom
	n.store.keep.Store(n.cfg.KeepSince)
	n.store.limit, n.store.sent.grace = n.cfg.LogDiskCap, n.cfg.Timeouts.CatchUp
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
	n.snaps.foreign = n.fsm.foreign.Load
	n.snaps.fresh = n.snapshotNow
	n.snaps.sent = &n.store.sent
	if err := n.snaps.finishInstall(n.cfg.FSM); err != nil {
		return err
	}
	if err := n.bootstrap(); err != nil {
		return err
	}
	if err := n.fit(); err != nil {
		return err
	}
	if err := n.raiseTerm(); err != nil {
		return err
	}
	return n.start(start)
}

// start runs raft and the node's own goroutines.
func (n *Node) start(begin time.Time) error {
	if !n.fsm.foreign.Load() {
		n.fsm.applied.Store(n.cfg.FSM.Applied())
	}
	if m := n.snaps.newest(); m != nil {
		n.fsm.applied.Store(max(m.Raft.Index, n.cfg.FSM.Applied()))
	}
	e, err := n.run()
	if err != nil {
		return err
	}
	n.eng.Store(e)
	close(n.ready)
	n.wg.Add(2)
	go n.follow()
	go n.snapshots()

	servers := e.raft.GetConfiguration().Configuration().Servers
	if onlyVoter(servers, n.cfg.ID) {
		if err := n.campaign(e); err != nil {
			n.log.Warn("no immediate election", "error", err) // the time-out brings one
		}
	}
	n.log.Info("cluster node started", "node", n.cfg.ID, "members", len(servers),
		"last", e.raft.LastIndex(), "applied", n.cfg.FSM.Applied(), "took", time.Since(begin))
	return nil
}

// onlyVoter says whether id decides alone.
func onlyVoter(servers []raft.Server, id string) bool {
	self := false
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		if string(s.ID) != id {
			return false
		}
		self = true
	}
	return self
}

// Close ends the node without loss of time at the next start: it waits for proposals
// under way, makes the state durable and writes a snapshot, so that nothing is replayed.
// The FSM stays open. Further calls give the first one's result.
func (n *Node) Close() error {
	n.closed.Do(func() {
		n.refuse()
		n.life.Lock()
		defer n.life.Unlock()
		e := n.eng.Load()
		n.shut(e, n.cfg.Timeouts.Drain)
		var errs []error
		if n.failure() == nil && n.fsm.sinceSnap.Load() > 0 {
			err := e.raft.Snapshot().Error()
			if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
				n.log.Info("no snapshot at the end", "reason", err)
			}
		}
		errs = append(errs, n.stop(e))
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
		n.refuse()
		n.life.Lock()
		defer n.life.Unlock()
		e := n.eng.Load()
		n.shut(e, settle)
		n.stop(e)
		n.store.Close()
		n.lock.Close()
	})
}

// stop ends raft and the node's goroutines.
func (n *Node) stop(e *engine) error {
	close(n.done)
	err := e.ended()
	if n.ports != nil {
		n.ports.close()
	}
	n.wg.Wait()
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
			n.refuse()
			e := n.eng.Load()
			n.shut(e, settle)
			e.halt()
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
