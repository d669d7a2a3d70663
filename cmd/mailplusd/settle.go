package main

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"mailplusd/cluster/pair"
)

const (
	settleMethod = "state.settle" // an index of the log: answered when what is before it has been applied and taken effect
	settleTime   = 2 * time.Second
)

// settleThere waits until the other node has done what follows from the changes so far.
func (n *node) settleThere(ctx context.Context) {
	f := n.book.Facts()
	if f.State != pair.Paired {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if _, err := n.link.Call(ctx, f.Peer.ID, settleMethod, binary.BigEndian.AppendUint64(nil, n.cluster.Applied())); err != nil {
		n.log.Debug("the other node may not know the latest changes", "err", err)
	}
}

func (n *node) settle(ctx context.Context, _ string, req []byte) ([]byte, error) {
	if len(req) != 8 {
		return nil, errors.New("index of the log")
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := n.cluster.WaitApplied(ctx, binary.BigEndian.Uint64(req)); err != nil {
		return nil, err
	}
	n.mail.Settled()
	return nil, nil
}
