package op

import (
	"errors"
	"fmt"
)

// Code is the kind of an error; each has an exit status.
type Code string

// The codes.
const (
	Failed      Code = "failed"      // 1
	Usage       Code = "usage"       // 2
	Refused     Code = "refused"     // 3
	Exists      Code = "exists"      // 3
	Conflict    Code = "conflict"    // 3
	Forbidden   Code = "forbidden"   // 4
	Unreachable Code = "unreachable" // 5
	Partial     Code = "partial"     // 6
	NotFound    Code = "notfound"    // 7
)

var exits = map[Code]int{Failed: 1, Usage: 2, Refused: 3, Exists: 3, Conflict: 3, Forbidden: 4, Unreachable: 5, Partial: 6, NotFound: 7}

// Error is an error that an administrator can act on.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
	Remedy  string `json:"remedy,omitempty"` // the command that would work
}

func (e *Error) Error() string {
	if e.Field != "" {
		return e.Field + ": " + e.Message
	}
	return e.Message
}

// Exit is the exit status of mpctl.
func (e *Error) Exit() int {
	if n, ok := exits[e.Code]; ok {
		return n
	}
	return 1
}

// Errorf makes an error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// With adds the command that would work.
func (e *Error) With(remedy string) *Error {
	e.Remedy = remedy
	return e
}

// AsUsage turns any error into one of wrong usage, unless it is an Error already.
func AsUsage(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: Usage, Message: err.Error()}
}
