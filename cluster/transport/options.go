package transport

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Limits of Options.
const (
	DefaultHandshakes       = 64
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultDialTimeout      = 10 * time.Second
	DefaultBacklog          = 128
)

// Options describe a transport. ID, Identity and Listen must be set.
type Options struct {
	ID       string       // this node's name, as its peers call it
	Identity *Identity    // its key
	Listen   string       // host:port to listen on; port 0 takes a free one
	Logger   *slog.Logger // nil: no log

	// Handshakes bounds the connections that have not yet shown a pinned key, of all
	// strange addresses together; one address may have an eighth of it. Addresses of peers
	// have as many places again for themselves, so that strangers can't keep a peer out.
	// 0: DefaultHandshakes.
	Handshakes       int
	HandshakeTimeout time.Duration // from accept to the end of the handshake; 0: 10 s
	DialTimeout      time.Duration // of Dial without a deadline and of Call's dial; 0: 10 s
	Backlog          int           // connections of one protocol that wait for Accept; 0: 128

	Pairing Pairing // what pairing needs; see AcceptPairing

	clock clock // tests set it wrong
}

// Peer is another node and the key pinned for it.
type Peer struct {
	ID    string
	Addrs []string // host:port, tried in this order: replication link, service LAN
	Key   ed25519.PublicKey
}

func (o *Options) setDefaults() error {
	switch {
	case !validName(o.ID):
		return fmt.Errorf("transport: node ID %q: 1 to 64 letters, digits, '.', '-' or '_' are needed", o.ID)
	case o.Identity == nil:
		return errors.New("transport: no identity given")
	case o.Listen == "":
		return errors.New("transport: no address to listen on given")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.clock == nil {
		o.clock = wallClock
	}
	orDefault(&o.Handshakes, DefaultHandshakes)
	orDefault(&o.HandshakeTimeout, DefaultHandshakeTimeout)
	orDefault(&o.DialTimeout, DefaultDialTimeout)
	orDefault(&o.Backlog, DefaultBacklog)
	return nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// validName is true for 1 to 64 letters, digits, '.', '-' and '_': a name is also printed
// on terminals and used in file names.
func validName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return true
}
