package wire

import (
	"fmt"
	"time"
)

// phase is what the client is expected to send.
type phase uint8

const (
	phaseIdle    phase = iota // the first byte of a command
	phaseCommand              // the rest of a command line
	phaseData                 // a message or a literal
)

// TimeoutError says that the client was too slow. It is a net.Error.
type TimeoutError struct {
	// Reason is one of ReasonIdle, ReasonCommand, ReasonData.
	Reason string
}

func (e *TimeoutError) Error() string   { return fmt.Sprintf("wire: %s", e.Reason) }
func (e *TimeoutError) Timeout() bool   { return true }
func (e *TimeoutError) Temporary() bool { return false }

// progress measures how a command or a message comes in.
type progress struct {
	phase phase
	since time.Time // start of the command line or of the data
	bytes int64     // data bytes so far
}

// enter moves to a phase. Moving to the present one changes nothing, so that a
// client cannot win time by sending byte by byte.
func (p *progress) enter(ph phase) {
	if p.phase != ph {
		*p = progress{phase: ph}
	}
}

// restart begins the phase anew: the next command line, the next literal.
func (p *progress) restart(ph phase) { *p = progress{phase: ph} }

// deadline returns until when the next bytes must come.
func (p *progress) deadline(t *Timeouts, now time.Time) time.Time {
	switch p.phase {
	case phaseCommand:
		if p.since.IsZero() {
			p.since = now
		}
		return p.since.Add(t.Command)
	case phaseData:
		if p.since.IsZero() {
			p.since = now
		}
		// Seconds and the rest apart, so that terabytes do not overflow.
		earned := time.Duration(p.bytes/t.MinRate)*time.Second +
			time.Duration(p.bytes%t.MinRate)*time.Second/time.Duration(t.MinRate)
		return earlier(now.Add(t.Data), p.since.Add(t.Data+earned))
	default:
		return now.Add(t.Idle)
	}
}

func (p *progress) reason() string {
	switch p.phase {
	case phaseCommand:
		return ReasonCommand
	case phaseData:
		return ReasonData
	default:
		return ReasonIdle
	}
}
