package cluster

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// engine is one run of the library. Force ends it and starts another on the same log,
// state and connections' listener; the Node stays.
type engine struct {
	raft     *raft.Raft
	trans    raft.Transport
	layer    *layer // nil without Config.Stream
	observer *raft.Observer
	halt     func() raft.Future
	gate     gate
	inflight chan *proposal

	halted    chan struct{} // closed when the library has stopped
	completed chan struct{} // closed when complete has ended
	gone      chan struct{} // closed when what has no answer yet gets none
	ended     func() error
}

// gate counts the calls that use an engine. Opening is guarded by Node.gateMu.
type gate struct {
	calls  atomic.Int64
	closed atomic.Bool
	once   sync.Once
	idle   chan struct{} // closed when the gate is closed and the calls are answered
}

func (g *gate) leave() {
	if g.calls.Add(-1) == 0 && g.closed.Load() {
		g.once.Do(func() { close(g.idle) })
	}
}

// run starts the library on what open has prepared.
func (n *Node) run() (*engine, error) {
	e := &engine{
		inflight:  make(chan *proposal, maxInflight),
		gate:      gate{idle: make(chan struct{})},
		halted:    make(chan struct{}),
		completed: make(chan struct{}),
		gone:      make(chan struct{}),
	}
	e.trans, e.layer = newTransport(&n.cfg, n.ports)
	net, _ := e.trans.(*network)
	if net != nil {
		net.has = n.has
	}
	r, err := newRaft(n.cfg.raft(), n.fsm, n.logs, &stable{logStore: n.store}, n.snaps, e.trans)
	if err != nil {
		if net != nil {
			net.abort()
		}
		if c, ok := e.trans.(raft.WithClose); ok {
			c.Close()
		}
		return nil, fmt.Errorf("cluster: %w", err)
	}
	e.raft = r
	e.halt = sync.OnceValue(r.Shutdown)
	e.ended = sync.OnceValue(func() error { return e.end() })
	e.observer = raft.NewObserver(n.events, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	r.RegisterObserver(e.observer)
	go n.complete(e)
	return e, nil
}

// newRaft makes an error of the panic with which the library answers a failing disk.
func newRaft(conf *raft.Config, fsm raft.FSM, logs raft.LogStore, st raft.StableStore, snaps raft.SnapshotStore, t raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("raft does not start: %v", p)
		}
	}()
	return raft.NewRaft(conf, fsm, logs, st, snaps, t)
}

// end stops the library. It does not wait for a peer: connections are closed first.
func (e *engine) end() error {
	stopped := e.halt()
	net, _ := e.trans.(*network)
	if net != nil {
		e.layer.abort()
		net.abort()
	}
	err := stopped.Error()
	e.raft.DeregisterObserver(e.observer)
	if net != nil {
		net.CloseStreams()
	}
	close(e.halted)
	// Every proposal that reached the log has been answered by now. One that was still
	// in the library's queue never will be; its caller is released by gone.
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case <-e.completed:
	case <-t.C:
	}
	close(e.gone)
	return err
}

// complete answers proposals in the order in which the log took them, so that a caller
// can stop waiting without a goroutine of its own for each call.
func (n *Node) complete(e *engine) {
	defer close(e.completed)
	for {
		select {
		case p := <-e.inflight:
			n.answer(e, p)
			continue
		case <-e.halted:
		}
		for {
			select {
			case p := <-e.inflight:
				n.answer(e, p)
			default:
				return
			}
		}
	}
}

func (n *Node) answer(e *engine, p *proposal) {
	err := p.future.Error()
	if err == nil {
		switch r := p.future.Response().(type) {
		case *[]byte:
			p.result = *r
		case error:
			err = r
		}
		p.index = p.future.Index()
	}
	if err != nil {
		p.err = n.translateProposal(err, p.future.Index())
	}
	p.future = nil
	p.done <- struct{}{}
	e.gate.leave()
}

// enter counts a call that the engine's end waits for. The error says that nothing happened.
func (n *Node) enter() (*engine, error) {
	n.gateMu.RLock()
	defer n.gateMu.RUnlock()
	e := n.eng.Load()
	switch {
	case n.closing:
		return nil, n.orFailure(ErrClosed)
	case e.gate.closed.Load():
		return nil, n.orFailure(ErrNotLeader{}) // between two runs
	}
	e.gate.calls.Add(1)
	return e, nil
}

// shut refuses new calls to the engine and waits until those under way have an answer,
// or until drain is over.
func (n *Node) shut(e *engine, drain time.Duration) {
	g := &e.gate
	n.gateMu.Lock()
	g.closed.Store(true)
	n.gateMu.Unlock()
	if g.calls.Load() == 0 {
		g.once.Do(func() { close(g.idle) })
	}
	t := time.NewTimer(drain)
	defer t.Stop()
	select {
	case <-g.idle:
	case <-t.C:
	}
}

// refuse takes no more calls, for good.
func (n *Node) refuse() {
	n.gateMu.Lock()
	n.closing = true
	n.gateMu.Unlock()
}

func (n *Node) isClosing() bool {
	n.gateMu.RLock()
	defer n.gateMu.RUnlock()
	return n.closing
}

// raft is the present run of the library.
func (n *Node) raft() *raft.Raft { return n.eng.Load().raft }
