package main

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"mailplusd/cluster/pair"
	"mailplusd/mail"
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
	mail *mail.Server
	book *pair.Book
	log  *slog.Logger
	call func(ctx context.Context, node, method string, req []byte) ([]byte, error)

	mu   sync.Mutex // one report at a time
	all  bool       // the next one says everything
	told uint64     // run of the other node that was told everything
}

// shareCounts takes in the other node's reports and sends reports.
func (n *node) shareCounts() {
	c := &counting{mail: n.mail, book: n.book, log: n.log, call: n.link.Call, all: true}
	n.counting = c
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
		case <-c.mail.Clients.Wake():
			select { // in a flood one report tells of many blocks
			case <-time.After(countWait):
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
		if err := c.report(ctx); err != nil && ctx.Err() == nil {
			c.log.Debug("what clients do was not told to the other node", "err", err)
		}
	}
}

// peer is the other node, if there is one.
func (c *counting) peer() (id string, paired bool) {
	f := c.book.Facts()
	return f.Peer.ID, f.State != pair.Single && f.Peer.ID != ""
}

// report sends what is new; who has just started is then told everything.
func (c *counting) report(ctx context.Context) error {
	peer, paired := c.peer()
	c.mail.Clients.Share(paired)
	if !paired {
		c.all = true
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 2 {
		raw, err := c.mail.ReportClients(c.all)
		if err != nil {
			return err
		}
		answer, err := c.ask(ctx, peer, clientsMethod, raw)
		if err == nil && len(answer) != 8 {
			err = errors.New("the answer is no number of a run")
		}
		if err != nil {
			c.all = true
			return err
		}
		run := binary.BigEndian.Uint64(answer)
		if c.all {
			c.told = run
		}
		if c.all = run != c.told; !c.all {
			return nil
		}
	}
	return nil
}

func (c *counting) ask(ctx context.Context, node, method string, req []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	return c.call(ctx, node, method, req)
}

func (c *counting) learn(_ context.Context, _ string, req []byte) ([]byte, error) {
	if err := c.mail.LearnClients(req); err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(nil, c.mail.Clients.Run()), nil
}

// settle waits for a report that is under way. It must not be held during a call: the other node may be
// unblocking, too, and waits for its own reports.
func (c *counting) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
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
	if c.mail.UnblockHere(a) {
		return []byte{1}, nil
	}
	return []byte{0}, nil
}

// unblockThere has the other node let a client in that this one has let in already. A report that tells of the
// block may be under way: the other node must have it before, or it would block the client anew.
func (n *node) unblockThere(ctx context.Context, a netip.Addr) (found bool, err error) {
	return n.counting.unblockThere(ctx, a)
}

func (c *counting) unblockThere(ctx context.Context, a netip.Addr) (found bool, err error) {
	peer, paired := c.peer()
	if !paired {
		return false, nil
	}
	c.settle()
	ctx, cancel := context.WithTimeout(ctx, 2*peerTime)
	defer cancel()
	answer, err := c.call(ctx, peer, unblockMethod, a.AsSlice())
	return err == nil && len(answer) == 1 && answer[0] == 1, err
}
