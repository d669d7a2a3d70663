package body

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
)

// ID is the SHA-256 of a body's octets.
type ID [32]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Errors that a Store answers with and that travel to the peer as codes.
var (
	ErrNotFound = errors.New("body: not there")
	ErrCorrupt  = errors.New("body: octets do not match their name")
	ErrNoSpace  = errors.New("body: no space left")
	ErrFault    = errors.New("body: the store can't write any more")
	ErrTooLarge = errors.New("body: larger than allowed")
	ErrBusy     = errors.New("body: too much at once")
	ErrClosed   = errors.New("body: closed")
)

// Record is a body with its name.
type Record struct {
	ID   ID
	Size int64 // octets of the body
	// Form says how Data keeps the body. Only the stores know what it means; 0 is the octets as they are.
	Form uint8
	// Data is what is stored, in pieces. Together they are MaxWhole octets at most.
	Data [][]byte
	// Octets is the body itself when it is too large to go whole; Data and Form are empty then.
	Octets io.ReaderAt
	// Close lets go of Octets; nil: nothing to do.
	Close func()
}

func (r *Record) stored() (n int64) {
	for _, p := range r.Data {
		n += int64(len(p))
	}
	return n
}

// Store is where a node keeps its bodies.
type Store interface {
	// Put stores a body that came whole and calls done once, when it is durable or refused.
	// The octets are compared with the name first: ErrCorrupt. rec.Data is one piece and is
	// not used after done. Put may wait for room in a queue, never for the disk.
	Put(rec Record, done func(error))
	// Has tells whether a body is durable here. A negative size is any; with the right one
	// the body also is kept from being removed soon, because an entry that names it is on its way.
	Has(id ID, size int64) bool
	// Load reads a body: in its stored form when that is MaxWhole octets at most, else as
	// Octets. ErrNotFound; ErrCorrupt when it is damaged.
	Load(id ID) (Record, error)
	// Spool takes in a body whose name is not known yet.
	Spool() Spool
}

// Spool is a body that comes in pieces. It is for one goroutine at a time.
type Spool interface {
	io.Writer
	// Spill moves to disk what is held in memory.
	Spill() error
	// Commit stores prefix and what was written under the name, if they match: ErrCorrupt.
	Commit(ctx context.Context, prefix []byte, id ID, size int64) error
	Abort()
}

// code is an answer on the wire.
type code byte

const (
	codeOK code = iota
	codeNotFound
	codeCorrupt
	codeNoSpace
	codeFault
	codeTooLarge
	codeBusy
	codeClosed
)

var codes = []struct {
	code code
	err  error
}{
	{codeNotFound, ErrNotFound}, {codeCorrupt, ErrCorrupt}, {codeNoSpace, ErrNoSpace},
	{codeTooLarge, ErrTooLarge}, {codeBusy, ErrBusy}, {codeClosed, ErrClosed}, {codeFault, ErrFault},
}

// codeOf gives an error's code; what has none is a fault.
func codeOf(err error) code {
	if err == nil {
		return codeOK
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return codeFault
}

// err gives a code's error; a code that is not known is a fault.
func (c code) err() error {
	if c == codeOK {
		return nil
	}
	for _, e := range codes {
		if e.code == c {
			return e.err
		}
	}
	return ErrFault
}
