package transport

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unicode/utf8"
)

// Hello is what the nodes tell each other when they pair.
type Hello struct {
	Cluster string          `json:"cluster,omitempty"` // name or ID of the cluster; empty: this node is in none
	Node    string          `json:"node"`              // this node's ID
	Number  int             `json:"number"`            // 0: original primary, 1: original secondary, -1: not yet given
	Version string          `json:"version"`           // of the program
	Formats map[string]int  `json:"formats,omitempty"` // newest format it can read, by kind of data
	Addrs   []string        `json:"addrs,omitempty"`   // host:port where its link listens, best first
	Time    time.Time       `json:"time"`              // its clock; set by the transport
	Extra   json.RawMessage `json:"extra,omitempty"`   // whatever else the callers agree on; up to 32 KiB
}

// PairResult is what a pairing leaves: the caller stores it and pins the key.
type PairResult struct {
	ID     string            // the peer's name, from its hello
	Key    ed25519.PublicKey // whose possession the peer has proved
	Hello  Hello             // what it says about itself
	Skew   time.Duration     // its clock minus this node's; positive: it is ahead
	RTT    time.Duration     // of the measurement; the skew is wrong by half of it at most
	Remote netip.AddrPort    // where it was
}

const (
	maxHello   = 64 << 10 // octets of any pairing message
	maxExtra   = 32 << 10
	maxFormats = 64
	maxAddrs   = 16
)

// check finds what is not a hello of any version.
func (h *Hello) check() error {
	switch {
	case !validName(h.Node):
		return errors.New("node name not valid")
	case !printable(h.Cluster, 128), !printable(h.Version, 64):
		return errors.New("cluster name or version not valid")
	case h.Number < -1 || h.Number > 1:
		return errors.New("node number not valid")
	case len(h.Formats) > maxFormats, len(h.Addrs) > maxAddrs, len(h.Extra) > maxExtra:
		return errors.New("too long")
	}
	for name, n := range h.Formats {
		if name == "" || !printable(name, 64) || n < 0 {
			return errors.New("format not valid")
		}
	}
	for _, a := range h.Addrs {
		if a == "" || !printable(a, 256) {
			return errors.New("address not valid")
		}
	}
	return nil
}

// printable is true for up to most octets without control characters: the text comes from
// somewhere else and is shown on terminals.
func printable(s string, most int) bool {
	if len(s) > most || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return false
		}
	}
	return true
}

// parseHello reads a hello from the other node.
func parseHello(b []byte) (Hello, error) {
	var h Hello
	if len(b) > maxHello {
		return h, errors.New("transport: hello too long")
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return Hello{}, fmt.Errorf("transport: hello: %w", err)
	}
	if err := h.check(); err != nil {
		return Hello{}, fmt.Errorf("transport: hello: %w", err)
	}
	return h, nil
}
