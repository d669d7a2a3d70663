package vip

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// The guard's pipe carries one JSON object a line, each of at most maxGuardLine octets: requests
// one way, answers and conflicts the other.
const (
	maxGuardLine    = 16 << 10
	maxFarewell     = 8 << 10 // octets of what Guard.Farewell may leave
	maxGuardAddrs   = 8       // floating addresses of one guard
	maxGuardProbes  = 8       // at a time
	guardAnswerTime = 3 * time.Second
)

type guardOp string

const (
	opOpen     guardOp = "open" // the first
	opAdd      guardOp = "add"
	opRenew    guardOp = "renew"
	opDelete   guardOp = "delete"
	opHas      guardOp = "has"
	opClean    guardOp = "clean"
	opProbe    guardOp = "probe"
	opAsk      guardOp = "ask"
	opAnnounce guardOp = "announce"
	opWatch    guardOp = "watch"
	opUnwatch  guardOp = "unwatch"
	opFarewell guardOp = "farewell"
	opClose    guardOp = "close"
)

// guardRequest is what the main process wants.
type guardRequest struct {
	ID        uint64        `json:"id"`
	Op        guardOp       `json:"op"`
	Addrs     []netip.Addr  `json:"addrs,omitempty"`
	End       time.Duration `json:"end,omitempty"`
	Driver    DriverKind    `json:"driver,omitempty"`
	Interface string        `json:"interface,omitempty"`
	Data      []byte        `json:"data,omitempty"`
	PID       int           `json:"pid,omitempty"` // of open: the main process
}

func (r guardRequest) validate() error {
	if len(r.Addrs) > maxGuardAddrs || len(r.Data) > maxFarewell {
		return errors.New("vip: guard request is too large")
	}
	for _, a := range r.Addrs {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			return fmt.Errorf("vip: guard request with address %q", a)
		}
	}
	switch r.Op {
	case opAdd, opRenew, opDelete, opHas, opProbe, opAsk, opAnnounce, opWatch, opUnwatch:
		if len(r.Addrs) != 1 {
			return fmt.Errorf("vip: guard request %q with %d addresses", r.Op, len(r.Addrs))
		}
	case opOpen, opClean, opFarewell, opClose:
	default:
		return fmt.Errorf("vip: guard request %q is unknown", r.Op)
	}
	return nil
}

// guardAnswer is an answer to the request with the same ID, or, with ID 0, a conflict.
type guardAnswer struct {
	ID    uint64     `json:"id,omitempty"`
	Code  string     `json:"code,omitempty"` // of an error that callers tell apart
	Error string     `json:"error,omitempty"`
	Yes   bool       `json:"yes,omitempty"`
	MAC   string     `json:"mac,omitempty"`
	Addr  netip.Addr `json:"addr,omitzero"`
}

// guardCodes are the errors that keep their identity over the pipe.
var guardCodes = map[string]error{"gone": ErrGone, "expired": ErrExpired, "foreign": ErrForeign}

const codeInUse = "in-use"

// setError writes err into the answer.
func (a *guardAnswer) setError(err error) {
	if err == nil {
		return
	}
	a.Error = err.Error()
	if len(a.Error) > 1024 {
		a.Error = a.Error[:1024]
	}
	if use, ok := errors.AsType[*InUseError](err); ok {
		a.Code, a.Addr, a.MAC = codeInUse, use.Addr, use.MAC.String()
	}
	for code, e := range guardCodes {
		if errors.Is(err, e) {
			a.Code = code
		}
	}
}

// err is the error that the answer carries.
func (a guardAnswer) err() error {
	if a.Error == "" && a.Code == "" {
		return nil
	}
	if a.Code == codeInUse {
		return &InUseError{Addr: a.Addr, MAC: a.mac()}
	}
	if known := guardCodes[a.Code]; known != nil {
		if a.Error == known.Error() {
			return known
		}
		return fmt.Errorf("%w (guard: %s)", known, a.Error)
	}
	return errors.New(a.Error)
}

func (a guardAnswer) mac() net.HardwareAddr {
	mac, err := net.ParseMAC(a.MAC)
	if err != nil {
		return nil
	}
	return mac
}

// lines reads objects from the pipe.
type lines struct{ s *bufio.Scanner }

func newLines(r io.Reader) lines {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 1024), maxGuardLine)
	return lines{s}
}

// next reads one object; io.EOF at the end of the pipe.
func (l lines) next(v any) error {
	if !l.s.Scan() {
		if err := l.s.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	return json.Unmarshal(l.s.Bytes(), v)
}

// lineWriter writes objects, each in one piece.
type lineWriter struct {
	mu    sync.Mutex
	w     io.Writer
	limit time.Duration // for one object; 0: none
}

func (l *lineWriter) put(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) >= maxGuardLine {
		return errors.New("vip: line for the guard's pipe is too long")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.w.(interface{ SetWriteDeadline(time.Time) error }); ok && l.limit > 0 {
		d.SetWriteDeadline(time.Now().Add(l.limit)) // a pipe that can't have one only blocks
	}
	_, err = l.w.Write(append(b, '\n'))
	return err
}
