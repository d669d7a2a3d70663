package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Errors of Dial, Call and Pair.
var (
	ErrClosed = errors.New("transport: closed")
	// ErrUnreachable says that no connection came about, so nothing happened at the peer.
	ErrUnreachable = errors.New("transport: peer unreachable")
	// ErrUnknownPeer is an ErrUnreachable: no key is pinned for that node.
	ErrUnknownPeer = fmt.Errorf("%w: no such peer", ErrUnreachable)
	// ErrConnLost says that the connection broke while a call was under way: it may have
	// happened or not.
	ErrConnLost = errors.New("transport: connection lost during the call")
	// ErrTooLarge says that a request or an answer is longer than MaxMessage.
	ErrTooLarge = errors.New("transport: message too large")
	// ErrNoMethod says that the peer has no handler of that name: nothing happened.
	ErrNoMethod = errors.New("transport: the peer knows no such method")
	// ErrKey says that the other side has another key than the one expected.
	ErrKey = errors.New("transport: the other side has not the expected key")
	// ErrInternal is what Listen's listener gives for a protocol that this package serves.
	ErrInternal = errors.New("transport: this protocol is served by the transport itself")
)

// RemoteError is an error that a handler of the peer returned. It unwraps to the error
// that RegisterError knows under its code.
type RemoteError struct {
	Node string // who answered
	Code string // empty: not registered there
	Text string
	is   error
}

func (e *RemoteError) Error() string { return e.Text }

// Unwrap gives the registered error, nil if the code is not known here.
func (e *RemoteError) Unwrap() error { return e.is }

const (
	maxErrorCode = 64
	maxErrorText = 4 << 10
)

// sentinels are the errors that keep their identity on the way to the peer.
var sentinels = struct {
	sync.RWMutex
	byCode map[string]error
	order  []string
}{byCode: map[string]error{}}

func init() {
	RegisterError("canceled", context.Canceled)
	RegisterError("deadline", context.DeadlineExceeded)
	RegisterError("transport.closed", ErrClosed)
	RegisterError("transport.large", ErrTooLarge)
	RegisterError("transport.method", ErrNoMethod)
}

// RegisterError lets err pass to the peer under code, 1 to 64 octets: where a handler
// returns an error that wraps err, the caller's error wraps err too. Both nodes must
// register the same codes; it belongs into the program's start. The first registered
// error that matches gives the code. A code given twice takes the later error.
func RegisterError(code string, err error) {
	if code == "" || len(code) > maxErrorCode || err == nil {
		panic("transport: RegisterError needs a code of 1 to 64 octets and an error")
	}
	sentinels.Lock()
	defer sentinels.Unlock()
	if _, ok := sentinels.byCode[code]; !ok {
		sentinels.order = append(sentinels.order, code)
	}
	sentinels.byCode[code] = err
}

// errorCode gives what travels: a code, perhaps empty, and a text.
func errorCode(err error) (code, text string) {
	text = err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	sentinels.RLock()
	defer sentinels.RUnlock()
	for _, c := range sentinels.order {
		if errors.Is(err, sentinels.byCode[c]) {
			return c, text
		}
	}
	return "", text
}

func remoteError(node, code, text string) *RemoteError {
	sentinels.RLock()
	defer sentinels.RUnlock()
	return &RemoteError{Node: node, Code: code, Text: text, is: sentinels.byCode[code]}
}
