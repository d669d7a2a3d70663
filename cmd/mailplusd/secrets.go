package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"mailplusd/cluster/pair"
	"mailplusd/mail/vault"

	"github.com/fxamacker/cbor/v2"
)

const (
	callKeys  = "vault.keys" // the digest of the caller's keys: this node's, if they are others
	keysSoon  = time.Second
	keysLater = 30 * time.Second // once both had the same
)

// shareKeys gives the keys of secrets to the other node, over the link that both have pinned, and
// brings its keys here: what one has sealed, the other must be able to use when it serves alone.
func (n *node) shareKeys() {
	v := n.mail.Vault
	n.link.Handle(callKeys, n.fromPeer(func(_ context.Context, _ string, req []byte) ([]byte, error) {
		var digest string
		if err := cbor.Unmarshal(req, &digest); err != nil {
			return nil, errors.New("the digest of keys is wanted")
		}
		if digest == v.Digest() {
			return cbor.Marshal([]vault.Key{})
		}
		return cbor.Marshal(v.Keys())
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		wait := keysSoon
		for {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			same, err := n.takeKeys(ctx)
			if err != nil && ctx.Err() == nil {
				n.log.Debug("keys of secrets", "err", err)
			}
			if wait = keysSoon; same {
				wait = keysLater
			}
		}
	})
	n.later(func() { cancel(); wg.Wait() })
}

// takeKeys brings the other node's keys here and tells whether it had the same.
func (n *node) takeKeys(ctx context.Context) (same bool, err error) {
	f := n.book.Facts()
	if f.State == pair.Single || f.Peer.ID == "" {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	v := n.mail.Vault
	req, err := cbor.Marshal(v.Digest())
	if err != nil {
		return false, err
	}
	raw, err := n.link.Call(ctx, f.Peer.ID, callKeys, req)
	if err != nil {
		return false, err
	}
	var keys []vault.Key
	if err := cbor.Unmarshal(raw, &keys); err != nil {
		return false, err
	}
	return len(keys) == 0, v.Add(keys)
}
