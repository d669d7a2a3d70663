package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"mailplusd/cluster/pair"
	"mailplusd/mail/maillog"

	"github.com/fxamacker/cbor/v2"
)

const (
	callLog   = "mail.log"             // a logPlace: a maillog.Batch from there on
	logPause  = 500 * time.Millisecond // between two questions
	logAnswer = 2 * time.Second        // how long one answer may take
)

// logPlace is a place in a node's mail log.
type logPlace struct {
	Log   string
	After int64
}

// logs brings the other node's mail log here.
type logs struct {
	n  *node
	mu sync.Mutex // one pull at a time
}

// shareLogs answers the other node's questions for this node's log, and asks for its log.
func (n *node) shareLogs() {
	log := n.mail.MailLog
	n.link.Handle(callLog, n.fromPeer(func(ctx context.Context, _ string, req []byte) ([]byte, error) {
		var p logPlace
		if err := cbor.Unmarshal(req, &p); err != nil {
			return nil, errors.New("a place in the mail log is wanted")
		}
		b, err := log.Own(ctx, p.Log, p.After)
		if err != nil {
			return nil, err
		}
		return cbor.Marshal(b)
	}))
	l := &logs{n: n}
	log.SetPull(l.pull)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx) })
	n.later(func() { log.SetPull(nil); cancel(); wg.Wait() })
}

// run keeps asking. A silent node is no news here: the pair tells of it.
func (l *logs) run(ctx context.Context) {
	tick := time.NewTicker(logPause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := l.pull(ctx); err != nil && ctx.Err() == nil {
			l.n.log.Debug("mail log of the other node", "err", err)
		}
	}
}

// pull takes over what the other node has logged up to now.
func (l *logs) pull(ctx context.Context) error {
	f := l.n.book.Facts()
	if f.State == pair.Single || f.Peer.ID == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		n, err := l.step(ctx, f.Peer.ID)
		if n == 0 || err != nil {
			return err
		}
	}
}

// step takes over one piece.
func (l *logs) step(ctx context.Context, peer string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, logAnswer)
	defer cancel()
	var p logPlace
	var err error
	if p.Log, p.After, err = l.n.mail.MailLog.Position(peer); err != nil {
		return 0, err
	}
	req, err := cbor.Marshal(p)
	if err != nil {
		return 0, err
	}
	raw, err := l.n.link.Call(ctx, peer, callLog, req)
	if err != nil {
		return 0, err
	}
	var b maillog.Batch
	if err := cbor.Unmarshal(raw, &b); err != nil {
		return 0, err
	}
	return len(b.Events), l.n.mail.MailLog.Take(peer, b)
}
