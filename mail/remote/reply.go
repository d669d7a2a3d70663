package remote

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of one reply. RFC 5321 §4.5.3.1.5 has lines of 512 octets; longer ones are read, as
// far as these go.
const (
	maxReply      = 64 << 10 // octets
	maxReplyLines = 200
	maxReason     = 500 // octets kept of a reply
)

// reply is a server's answer.
type reply struct {
	code  int
	lines []string
}

// text is the reply on one line, its code in front, as people and notifications see it.
func (r *reply) text() string {
	return oneLine(fmt.Sprintf("%d %s", r.code, strings.Join(r.lines, " ")))
}

// Errors of replies.
var (
	errTooMuch = errors.New("the other server's reply is longer than 64 KiB or 200 lines")
	errNotSMTP = errors.New("the other server doesn't speak SMTP")
)

// readReply reads one reply of one or more lines (RFC 5321 §4.2.1).
func readReply(r *bufio.Reader) (rep reply, err error) {
	left := maxReply
	for len(rep.lines) < maxReplyLines {
		line, err := readLine(r, &left)
		if err != nil {
			return rep, err
		}
		code, more, text, ok := parseLine(line)
		if !ok || rep.code != 0 && code != rep.code {
			return rep, fmt.Errorf("%w: %s", errNotSMTP, oneLine(line))
		}
		rep.code = code
		rep.lines = append(rep.lines, text)
		if !more {
			return rep, nil
		}
	}
	return rep, errTooMuch
}

// readLine gives a line without its end. A line that the connection ends in is none.
func readLine(r *bufio.Reader, left *int) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if *left -= len(part); *left < 0 {
			return "", errTooMuch
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return strings.TrimRight(string(line), "\r\n"), nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return "", io.ErrUnexpectedEOF
		default:
			return "", err
		}
	}
}

// parseLine takes a line apart: three digits, a hyphen when more lines follow, and text.
func parseLine(line string) (code int, more bool, text string, ok bool) {
	if len(line) < 3 {
		return 0, false, "", false
	}
	for _, c := range []byte(line[:3]) {
		if c < '0' || c > '9' {
			return 0, false, "", false
		}
		code = code*10 + int(c-'0')
	}
	if code < 200 || code > 599 {
		return 0, false, "", false
	}
	if len(line) == 3 {
		return code, false, "", true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, false, "", false
	}
	return code, line[3] == '-', strings.TrimSpace(line[4:]), true
}

// refusal is a reply that isn't what its command wants.
type refusal struct{ reply }

func (r *refusal) Error() string { return r.text() }

// oneLine makes foreign words fit for logs and headers: printable, one line, not too long.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r' {
			return '?'
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxReason {
		cut := maxReason
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return s
}

// lostError: the connection is of no use any more.
type lostError struct {
	words   string
	timeout bool // nothing has come, though it is there
}

func (l *lostError) Error() string { return l.words }

// lost says in words what has ended a connection.
func lost(err error, while string) error {
	var timeout net.Error
	switch {
	case errors.Is(err, errTooMuch), errors.Is(err, errNotSMTP):
		return fmt.Errorf("%w (%s)", err, while)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &lostError{fmt.Sprintf("the other server did not answer in time (%s)", while), true}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &lostError{fmt.Sprintf("the other server closed the connection (%s)", while), false}
	}
	return &lostError{fmt.Sprintf("connection lost (%s): %v", while, cause(err)), false}
}

func cause(err error) error {
	for {
		u := errors.Unwrap(err)
		if u == nil {
			return err
		}
		err = u
	}
}
