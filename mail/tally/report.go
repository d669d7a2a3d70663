package tally

import (
	"errors"
	"net/netip"

	"github.com/fxamacker/cbor/v2"
)

// Limits of a report.
const (
	maxEntries = 20_000
	maxNames   = 64
	maxName    = 64
	maxCount   = 1 << 30
	maxKey     = 512
	maxReport  = 4 << 20 // octets
)

// Report is what a node tells the other one of its clients. It names no points in time: the nodes'
// clocks may differ.
type Report struct {
	All    bool      `cbor:"1,keyasint,omitempty"` // everything that is in force, not only what is new
	Counts []Named   `cbor:"2,keyasint,omitempty"` // done since the last report
	Blocks []Blocked `cbor:"3,keyasint,omitempty"`
	Open   []Named   `cbor:"4,keyasint,omitempty"` // open now; a name that is not there: as before
	Locks  []Lock    `cbor:"5,keyasint,omitempty"` // after wrong passwords; only with All
}

// Named are counts of a name.
type Named struct {
	Name   string  `cbor:"1,keyasint"`
	Counts []Count `cbor:"2,keyasint"`
}

// Count is a number of a client.
type Count struct {
	Network netip.Prefix `cbor:"1,keyasint"`
	N       int          `cbor:"2,keyasint"`
}

// Blocked is a client that is refused.
type Blocked struct {
	Name    string       `cbor:"1,keyasint"`
	Network netip.Prefix `cbor:"2,keyasint"`
	Left    int64        `cbor:"3,keyasint"` // milliseconds
}

// Lock is an address that is locked out for an account.
type Lock struct {
	Key  string `cbor:"1,keyasint"` // as login has it
	Left int64  `cbor:"2,keyasint"` // milliseconds
}

var errReport = errors.New("tally: malformed report")

// Marshal writes a report for the other node. Lock-outs that don't fit are left out.
func (r Report) Marshal() ([]byte, error) {
	r.Locks = r.Locks[:min(len(r.Locks), maxEntries/8)]
	return cbor.Marshal(r)
}

var decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{MaxArrayElements: maxEntries, MaxMapPairs: 16, MaxNestedLevels: 8, IndefLength: cbor.IndefLengthForbidden}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// ParseReport reads what Marshal has written.
func ParseReport(raw []byte) (r Report, err error) {
	if len(raw) > maxReport {
		return r, errors.New("tally: report too long")
	}
	if err := decoding.Unmarshal(raw, &r); err != nil {
		return Report{}, err
	}
	if len(r.Counts) > maxNames || len(r.Open) > maxNames {
		return Report{}, errReport
	}
	names := map[string]bool{}
	for _, s := range append(append([]Named(nil), r.Counts...), r.Open...) {
		names[s.Name] = true
		for _, c := range s.Counts {
			if !isClient(c.Network) || c.N < 1 || c.N > maxCount {
				return Report{}, errReport
			}
		}
	}
	for _, b := range r.Blocks {
		names[b.Name] = true
		if !isClient(b.Network) || b.Left < 0 || b.Left > blockTime.Milliseconds() {
			return Report{}, errReport
		}
	}
	for name := range names {
		if name == "" || len(name) > maxName || len(names) > maxNames {
			return Report{}, errReport
		}
	}
	for _, k := range r.Locks {
		if k.Key == "" || len(k.Key) > maxKey || k.Left < 0 || k.Left > 1<<40 {
			return Report{}, errReport
		}
	}
	return r, nil
}

// isClient tells whether a network is one that Client gives.
func isClient(p netip.Prefix) bool { return p.IsValid() && Client(p.Addr()) == p }
