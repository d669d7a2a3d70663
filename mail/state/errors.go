package state

import (
	"errors"
	"fmt"
)

// Refusals of the state machine. They are the same on every node, so they travel as codes.
var (
	ErrConflict   = errors.New("changed by somebody else meanwhile")
	ErrNotFound   = errors.New("no such thing")
	ErrExists     = errors.New("exists already")
	ErrLimit      = errors.New("limit reached")
	ErrReadOnly   = errors.New("settings are read-only on this node")
	ErrInvalid    = errors.New("invalid")
	ErrUIDs       = errors.New("the mailbox has no UIDs left")
	ErrDuplicate  = errors.New("applied already")
	ErrLevel      = errors.New("needs a newer feature level")
	ErrClosed     = errors.New("state: closed")
	errUnknownOp  = errors.New("unknown operation")
	refusalByCode = map[string]error{
		"conflict": ErrConflict, "notfound": ErrNotFound, "exists": ErrExists, "limit": ErrLimit,
		"readonly": ErrReadOnly, "invalid": ErrInvalid, "uids": ErrUIDs, "level": ErrLevel,
		"over": ErrOver,
	}
)

// Errors of a Proposer that Do understands; see OnceProposer.
var (
	ErrUncertain = errors.New("state: whether the change was made is not known")
	ErrNoLeader  = errors.New("state: no node leads")
)

func codeOf(err error) string {
	for code, e := range refusalByCode {
		if errors.Is(err, e) {
			return code
		}
	}
	return ""
}

func errorOf(code, text string) error {
	e, ok := refusalByCode[code]
	if !ok {
		return errors.New(text)
	}
	if text == "" || text == e.Error() {
		return e
	}
	if e == ErrOver {
		return overOf(text)
	}
	return &refusal{text: text, is: e}
}

// refusal is a refusal with its own words.
type refusal struct {
	text string
	is   error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.is }

func refuse(is error, format string, args ...any) error {
	return &refusal{text: fmt.Sprintf(format, args...), is: is}
}
