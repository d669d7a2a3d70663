package imapd

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"mailplusd/mail/imapd/imapparse"
)

const (
	maxLine         = 64 << 10  // octets of a command without its literals
	maxLiteral      = 1 << 20   // octets of all literals of a command, APPEND's messages apart
	maxEarlyLiteral = 8 << 10   // the same before login
	maxDiscard      = 200 << 20 // refused non-synchronising literals are read and thrown away up to here
	maxEarlyDiscard = 1 << 20   // the same before login
	maxLiterals     = 200       // in a command
)

// literal is what a line announces at its end (RFC 7888, RFC 3516 §4.4).
type literal struct {
	at     int   // where it stands in the line
	size   int64 // octets; math.MaxInt64 when the number is larger than that
	sync   bool  // the client waits for a go-ahead
	binary bool  // literal8: NUL may be in it
}

// literalAt finds the literal that a line announces.
func literalAt(s string) (l literal, ok bool) {
	if !strings.HasSuffix(s, "}") {
		return l, false
	}
	l.at = strings.LastIndexByte(s, '{')
	if l.at < 0 {
		return l, false
	}
	num, plus := strings.CutSuffix(s[l.at+1:len(s)-1], "+")
	if num == "" || strings.Trim(num, "0123456789") != "" {
		return l, false
	}
	n, err := strconv.ParseInt(num, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	l.size, l.sync = n, !plus
	if l.at > 0 && s[l.at-1] == '~' {
		l.at, l.binary = l.at-1, true
	}
	return l, true
}

// args reads a command's literals and gives a parser of the whole. After an error the client
// is in step all the same.
func (ss *session) args(text string) (*imapparse.Parser, error) {
	var lits [][]byte
	total := int64(0)
	limit := int64(maxEarlyLiteral)
	if ss.account != nil {
		limit = maxLiteral
	}
	var b strings.Builder
	for {
		if strings.IndexByte(text, 0) >= 0 || b.Len()+len(text) > maxLine {
			return nil, ss.refuse(text, bad{"NUL in a command, or the command is too long"})
		}
		l, ok := literalAt(text)
		if !ok {
			b.WriteString(text)
			return imapparse.New(b.String(), lits), nil
		}
		if l.size > limit-total || len(lits) >= maxLiterals {
			return nil, ss.refuse(text, bad{"the literal is too large"})
		}
		b.WriteString(text[:l.at])
		if l.binary {
			b.WriteByte('~')
		}
		b.WriteString("\x00" + strconv.Itoa(len(lits)) + "\x00")
		lit, next, err := ss.literal(l)
		if err != nil {
			return nil, err
		}
		lits = append(lits, lit)
		total += l.size
		text = next
	}
}

// literal reads a literal into memory, and the line behind it.
func (ss *session) literal(l literal) (lit []byte, next string, err error) {
	if l.sync {
		if err := ss.goAhead(); err != nil {
			return nil, "", err
		}
	}
	lit = make([]byte, l.size)
	if _, err := io.ReadFull(ss.c.Literal(l.size), lit); err != nil {
		return nil, "", &connError{err}
	}
	if next, err = ss.nextLine(); err != nil {
		return nil, "", err
	}
	return lit, next, nil
}

// nextLine reads the line behind a literal.
func (ss *session) nextLine() (string, error) {
	line, err := ss.readLine()
	if err != nil {
		return "", err
	}
	return string(line), nil
}

// refuse answers a command with an error before it has been read to its end: what follows of it is
// thrown away, so that no literal is taken for commands.
func (ss *session) refuse(line string, answer error) error {
	if err := ss.skip(line); err != nil {
		return err
	}
	return answer
}

// skip reads away what follows a line that isn't taken. A synchronising literal ends the command: the
// client waits for a go-ahead and gets the tagged answer instead (RFC 3501 §7.5).
func (ss *session) skip(line string) error {
	left := int64(maxDiscard)
	if ss.account == nil {
		left = maxEarlyDiscard
	}
	for {
		l, ok := literalAt(line)
		if !ok || l.sync {
			return nil
		}
		if left -= min(l.size, math.MaxInt64-maxDiscard); left < 0 {
			ss.put("* BYE [TOOBIG] the literal is too large\r\n")
			ss.send()
			ss.c.Flush()
			return &connError{errors.New("literal too large")}
		}
		if err := ss.c.Literal(l.size).Discard(); err != nil {
			return &connError{err}
		}
		var err error
		if line, err = ss.nextLine(); err != nil {
			return err
		}
	}
}

func (ss *session) goAhead() error {
	ss.put("+ OK\r\n")
	if err := ss.send(); err != nil {
		return &connError{err}
	}
	return nil
}

// tagOf gives the tag of a line; empty when it has none.
func tagOf(line []byte) (tag string, rest []byte) {
	t, rest, _ := bytes.Cut(line, []byte(" "))
	if !validTag(t) {
		return "", nil
	}
	return string(t), rest
}
