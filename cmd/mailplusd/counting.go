package main

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"time"

	"mailplusd/cluster/pair"
)

const (
	clientsMethod = "clients.report"      // what the asking node has counted: the number of this run
	unblockMethod = "clients.unblock"     // an address: was it blocked?
	countPause    = time.Second           // between two reports
	countWait     = 50 * time.Millisecond // from a block to its report
)

// counting tells the other node what this one counts of its clients, and whom it blocks: each second what
// is new, at once when a block begins. No entry in the log and no question for a connection: a report that
// is lost leaves each node with its own counts and the blocks that there are.
type counting struct {
	n    *node
	mu   sync.Mutex // one report at a time
	all  bool       // the next one says everything
	peer uint64     // run of the other node that was told everything
}

// shareCounts takes in the other node's reports and sends reports.
func (n *node) shareCounts() {
	c := &counting{n: n, all: true}
	n.link.Handle(clientsMethod, n.fromPeer(c.learn))
	n.link.Handle(unblockMethod, n.fromPeer(c.unblock))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.run(ctx) })
	n.later(func() { cancel(); wg.Wait() })
}

func (c *counting) run(ctx context.Context) {
	tick := time.NewTicker(countPause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.n.mail.Clients.Wake():
			select { // in a flood one report tells of many blocks
			case <-time.After(countWait):
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
		if err := c.report(ctx); err != nil && ctx.Err() == nil {
			c.n.log.Debug("what clients do was not told to the other node", "err", err)
		}
	}
}

// report sends what is new; who has just started is then told everything.
func (c *counting) report(ctx context.Context) error {
	f := c.n.book.Facts()
	paired := f.State != pair.Single && f.Peer.ID != ""
	c.n.mail.Clients.Share(paired)
	if !paired {
		c.all = true
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 2 {
		raw, err := c.n.mail.ReportClients(c.all)
		if err != nil {
			return err
		}
		answer, err := c.call(ctx, f.Peer.ID, clientsMethod, raw)
		if err == nil && len(answer) != 8 {
			err = errors.New("the answer is no number of a run")
		}
		if err != nil {
			c.all = true
			return err
		}
		run := binary.BigEndian.Uint64(answer)
		if c.all {
			c.peer = run
		}
		if c.all = run != c.peer; !c.all {
			return nil
		}
	}
	return nil
}

func (c *counting) call(ctx context.Context, node, method string, req []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	return c.n.link.Call(ctx, node, method, req)
}

func (c *counting) learn(_ context.Context, _ string, req []byte) ([]byte, error) {
	if err := c.n.mail.LearnClients(req); err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(nil, c.n.mail.Clients.Run()), nil
}

// unblock lets a client in. A report that is under way is waited for, so that it can't bring back what
// the other node forgets.
func (c *counting) unblock(_ context.Context, _ string, req []byte) ([]byte, error) {
	a, ok := netip.AddrFromSlice(req)
	if !ok {
		return nil, errors.New("address")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n.mail.UnblockHere(a) {
		return []byte{1}, nil
	}
	return []byte{0}, nil
}

// unblockThere has the other node let a client in.
func (n *node) unblockThere(ctx context.Context, a netip.Addr) (found bool, err error) {
	f := n.book.Facts()
	if f.State == pair.Single || f.Peer.ID == "" {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*peerTime)
	defer cancel()
	answer, err := n.link.Call(ctx, f.Peer.ID, unblockMethod, a.AsSlice())
	return err == nil && len(answer) == 1 && answer[0] == 1, err
}
