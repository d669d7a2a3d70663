package transport

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"time"
)

// SetClock lets a node's wall clock differ from the host's.
func (o *Options) SetClock(ahead time.Duration) {
	o.clock = func() int64 { return wallClock() + int64(ahead) }
}

// FirstFlight is the first message that Pair would send on a new channel to addr.
func FirstFlight(ctx context.Context, t *Transport, addr string, cred Credential) []byte {
	c, done, err := t.pairConnect(ctx, addr, func(ed25519.PublicKey) error { return nil })
	if err != nil {
		return nil
	}
	defer done()
	k, err := parseToken(cred.Token)
	if err != nil {
		return nil
	}
	m, _ := t.credentials(c, k)
	b, _ := json.Marshal(m)
	return b
}
