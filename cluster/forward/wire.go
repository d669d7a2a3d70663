package forward

import (
	"encoding/binary"
	"errors"
	"fmt"

	"mailplusd/cluster"
)

// version begins each request and answer. A node that doesn't know it refuses.
const version = 1

// Kinds of requests.
const (
	kindPropose  = 1
	kindIndex    = 2
	kindProgress = 3
)

const (
	maxBatch = 256     // entries in a request
	maxBytes = 1 << 20 // octets of entries in a request, unless it has only one
	// maxRequest leaves room for the longest single entry that a node may allow.
	maxRequest = 8 << 20
)

// Outcomes of an entry, as they go over the line.
const (
	statusOK        = 0
	statusNotLeader = 1 // text: ID of the leader, or empty
	statusBusy      = 2
	statusTooLarge  = 3
	statusUncertain = 4
	statusFailed    = 5 // text: why; may have happened
)

// errWire says that a message is not what this package sends.
var errWire = errors.New("forward: malformed message")

// outcome is the fate of one entry.
type outcome struct {
	status byte
	index  uint64
	data   []byte // result, or text
}

func appendEntries(b []byte, entries [][]byte) []byte {
	b = append(b, version, kindPropose)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for _, e := range entries {
		b = binary.AppendUvarint(b, uint64(len(e)))
		b = append(b, e...)
	}
	return b
}

// cut takes a length and so many octets off b.
func cut(b []byte) (data, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, nil, errWire
	}
	return b[k : k+int(n)], b[k+int(n):], nil
}

func number(b []byte) (n uint64, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 {
		return 0, nil, errWire
	}
	return n, b[k:], nil
}

// parseEntries reads what follows the kind. The entries share b.
func parseEntries(b []byte) ([][]byte, error) {
	n, b, err := number(b)
	if err != nil || n == 0 || n > maxBatch {
		return nil, errWire
	}
	out := make([][]byte, n)
	for i := range out {
		if out[i], b, err = cut(b); err != nil {
			return nil, err
		}
	}
	if len(b) > 0 {
		return nil, errWire
	}
	return out, nil
}

func appendOutcomes(b []byte, out []outcome) []byte {
	b = append(b, version)
	for i := range out {
		b = append(b, out[i].status)
		b = binary.AppendUvarint(b, out[i].index)
		b = binary.AppendUvarint(b, uint64(len(out[i].data)))
		b = append(b, out[i].data...)
	}
	return b
}

// parseOutcomes reads exactly n outcomes.
func parseOutcomes(b []byte, n int) ([]outcome, error) {
	if len(b) == 0 || b[0] != version {
		return nil, errWire
	}
	b = b[1:]
	out := make([]outcome, n)
	for i := range out {
		if len(b) == 0 || b[0] > statusFailed {
			return nil, errWire
		}
		var err error
		out[i].status = b[0]
		if out[i].index, b, err = number(b[1:]); err != nil {
			return nil, err
		}
		if out[i].data, b, err = cut(b); err != nil {
			return nil, err
		}
	}
	if len(b) > 0 {
		return nil, errWire
	}
	return out, nil
}

// outcomeOf turns what Node.Propose returned into an outcome.
func outcomeOf(result []byte, index uint64, err error) outcome {
	var not cluster.ErrNotLeader
	switch {
	case err == nil:
		return outcome{statusOK, index, result}
	case errors.As(err, &not):
		return outcome{statusNotLeader, 0, []byte(not.Leader)}
	case errors.Is(err, cluster.ErrBusy):
		return outcome{status: statusBusy}
	case errors.Is(err, cluster.ErrTooLarge):
		return outcome{statusTooLarge, 0, []byte(err.Error())}
	case errors.Is(err, cluster.ErrUncertain):
		return outcome{status: statusUncertain}
	}
	return outcome{statusFailed, 0, []byte(err.Error())}
}

// err is the reverse of outcomeOf.
func (o *outcome) err() error {
	switch o.status {
	case statusOK:
		return nil
	case statusNotLeader:
		return cluster.ErrNotLeader{Leader: string(o.data), Addr: string(o.data)}
	case statusBusy:
		return cluster.ErrBusy
	case statusTooLarge:
		return fmt.Errorf("%w: %s", cluster.ErrTooLarge, o.data)
	case statusUncertain:
		return cluster.ErrUncertain
	}
	return fmt.Errorf("%w: the leader: %s", cluster.ErrUncertain, o.data)
}
