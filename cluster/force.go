package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// nodeBitShift: the bit below the epoch says which node has forced it. The 23 bits
	// below count elections, each of which raises the term by one: an epoch has room for
	// 8,388,607 of them. One a second, without end, takes 97 days; pre-vote keeps a node
	// that nobody hears from counting at all.
	nodeBitShift = epochShift - 1
	maxEpoch     = 1<<(64-epochShift) - 1
)

// Forced is a configuration that a node gives itself.
type Forced struct {
	Epoch   uint64   // above that of the present term, below 2^40
	NodeBit uint8    // number of this node, 0 or 1: both may force the same epoch
	Others  []string // IDs of the nodes that become non-voters
}

// term is the first of the epoch. Terms of two nodes differ although the epochs don't.
func (f *Forced) term() uint64 { return f.Epoch<<epochShift | uint64(f.NodeBit)<<nodeBitShift }

// Steps of Force, as Config.ForceStep gets them.
const (
	ForceStopped  = "stopped"  // raft has stopped; nothing has been written
	ForceAppended = "appended" // the configuration is in the log: from here on it is in force
	ForceTerm     = "term"     // the term is stored
	ForceStarted  = "started"  // raft runs again
)

// Force makes this node the only voter, under a new epoch, and waits until it leads and is
// ready. Everything in its log is committed by that: what other nodes hold beyond it is
// given up. The caller must be sure that no other node acknowledges anything any more, and
// must have stored the epoch, as a Branch of its History, before.
//
// The Node stays the same; proposals meanwhile get ErrNotLeader or, if they were under way,
// ErrUncertain. It takes as long as raft needs to read the log since the last snapshot,
// some 5 µs for an entry. Nothing in it waits for another node.
//
// A crash leaves the log as it was or with the forced configuration. Repeated with the same
// Epoch and NodeBit it goes on where it was; ErrEpoch if another epoch came in between. If
// ctx ends while the node waits for its leadership, the configuration is in force all the
// same. After a fault of the disk the node has failed.
func (n *Node) Force(ctx context.Context, f Forced) error {
	if f.NodeBit > 1 || f.Epoch == 0 || f.Epoch > maxEpoch {
		return fmt.Errorf("%w: epoch %d of node number %d", ErrEpoch, f.Epoch, f.NodeBit)
	}
	for _, id := range f.Others {
		if id == n.cfg.ID || id == "" {
			return fmt.Errorf("cluster: %q can't be a non-voter beside node %s", id, n.cfg.ID)
		}
	}
	e, err := n.force(ctx, &f)
	if err != nil {
		return err
	}
	return n.takeOver(ctx, e)
}

// force replaces the engine. It isn't interrupted by ctx once raft has stopped.
func (n *Node) force(ctx context.Context, f *Forced) (*engine, error) {
	n.life.Lock()
	defer n.life.Unlock()
	if err := n.mayForce(ctx); err != nil {
		return nil, err
	}
	e := n.eng.Load()
	done, err := n.checkEpoch(f, e.raft.CurrentTerm(), e.raft.GetConfiguration().Configuration())
	if done || err != nil {
		return e, err
	}
	start := time.Now()
	n.shut(e, settle)
	if err := e.ended(); err != nil {
		return nil, n.fail(fmt.Errorf("cluster: raft has not stopped: %w", err))
	}
	n.lead.set(Leadership{})
	index, err := n.appendForced(f)
	if fault := n.failure(); fault != nil {
		return nil, fault
	}
	// Without the forced configuration, too, the node goes on.
	fresh, rerr := n.run()
	if rerr != nil {
		return nil, n.fail(fmt.Errorf("cluster: raft does not start again: %w", rerr))
	}
	n.eng.Store(fresh)
	n.boundLog()
	select {
	case n.events <- raft.Observation{}: // for follow
	default:
	}
	if n.failure() != nil {
		fresh.halt() // the fault has found the old engine
	}
	if err != nil {
		return nil, err
	}
	n.forceStep(ForceStarted)
	n.log.Warn("this node decides alone from now on", "epoch", f.Epoch, "term", f.term(), "index", index, "others", f.Others, "took", time.Since(start))
	return fresh, n.failure()
}

func (n *Node) mayForce(ctx context.Context) error {
	switch {
	case n.failure() != nil:
		return n.failure()
	case n.isClosing():
		return ErrClosed
	case n.fsm.foreign.Load():
		return fmt.Errorf("%w: the state belongs to another history, and no leader has replaced it yet", ErrMismatch)
	}
	return ctx.Err()
}

// checkEpoch compares f with the present term. done says that f is in force already.
func (n *Node) checkEpoch(f *Forced, term uint64, conf raft.Configuration) (done bool, err error) {
	if term>>nodeBitShift == f.term()>>nodeBitShift && onlyVoter(conf.Servers, n.cfg.ID) {
		return true, nil
	}
	if EpochOf(term) >= f.Epoch {
		return false, fmt.Errorf("%w: epoch %d is asked for, the term is already of epoch %d", ErrEpoch, f.Epoch, EpochOf(term))
	}
	return false, nil
}

// appendForced writes the configuration and then the term. The entry alone is the step
// that counts: after a crash in between, Open raises the term to it. An old vote stays: it
// is for an older term and nobody can ask for it again.
func (n *Node) appendForced(f *Forced) (index uint64, err error) {
	n.forceStep(ForceStopped)
	term, err := n.store.GetUint64(keyTerm)
	if err != nil {
		return 0, fmt.Errorf("%w: there is no term; nothing to go on from: %w", ErrEpoch, err)
	}
	if _, err := n.checkEpoch(f, term, raft.Configuration{}); err != nil {
		return 0, err // it has changed before raft stopped
	}
	last, err := n.logs.LastIndex()
	if err != nil {
		return 0, n.fail(fmt.Errorf("cluster: %w", err))
	}
	if m := n.snaps.newest(); m != nil {
		last = max(last, m.Raft.Index)
	}
	if last == 0 {
		return 0, fmt.Errorf("%w: this node has no log to go on from", ErrMismatch)
	}
	index = last + 1
	conf := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(n.cfg.ID), Address: raft.ServerAddress(n.cfg.ID),
	}}}
	for _, id := range f.Others {
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Nonvoter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	entry := &raft.Log{Index: index, Term: f.term(), Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf), AppendedAt: time.Now()}
	if err := n.logs.StoreLog(entry); err != nil {
		return 0, n.orFailure(err)
	}
	n.forceStep(ForceAppended)
	if err := n.store.SetUint64(keyTerm, f.term()); err != nil {
		return 0, err
	}
	n.forceStep(ForceTerm)
	return index, nil
}

func (n *Node) forceStep(step string) {
	if n.cfg.ForceStep != nil {
		n.cfg.ForceStep(step)
	}
}

// takeOver elects this node and waits until it is ready. Nobody else has a vote.
func (n *Node) takeOver(ctx context.Context, e *engine) error {
	ch, stop := n.Watch()
	defer stop()
	if !n.IsLeader() {
		if err := n.await(ctx, n.campaign); err != nil {
			n.log.Warn("no immediate election", "error", err) // the time-out brings one
		}
	}
	for !n.IsLeader() {
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.failed:
			return n.failure()
		case <-e.gone:
			return n.orFailure(n.endedAs())
		}
	}
	return nil
}

// raiseTerm repairs a crash in Force: a term is never below that of the newest entry.
func (n *Node) raiseTerm() error {
	last, err := n.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if last == 0 {
		return nil
	}
	var l raft.Log
	if err := n.logs.GetLog(last, &l); err != nil {
		return fmt.Errorf("cluster: entry %d: %w", last, err)
	}
	term, err := n.store.GetUint64(keyTerm)
	if err != nil && !errors.Is(err, errNoKey) {
		return fmt.Errorf("cluster: %w", err)
	}
	if term >= l.Term {
		return nil
	}
	n.log.Info("term raised to that of the newest entry", "from", term, "to", l.Term, "index", last)
	return n.store.SetUint64(keyTerm, l.Term)
}
