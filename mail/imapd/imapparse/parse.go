// Package imapparse reads the arguments of IMAP commands (RFC 3501 §9, RFC 9051 §9). It
// knows no session: text in, values or an error out. Nesting, lengths and numbers are bounded.
package imapparse

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits of a command.
const (
	MaxNesting = 50
	MaxSetSize = 100_000 // ranges in a set
)

// Parser reads a command. A literal stands in the text as NUL, its index in Literals, NUL;
// the reader of lines refuses NUL from the client.
type Parser struct {
	s        string
	i        int
	Literals [][]byte
}

// New makes a parser of a command's text.
func New(s string, literals [][]byte) *Parser { return &Parser{s: s, Literals: literals} }

// Errors of the parser are answered with BAD.
var errEnd = errors.New("the command ends too early")

// Rest gives what has not been read.
func (p *Parser) Rest() string { return p.s[p.i:] }

// End makes sure that nothing is left.
func (p *Parser) End() error {
	if p.i < len(p.s) {
		return fmt.Errorf("unexpected %.20q", p.s[p.i:])
	}
	return nil
}

// Space reads exactly one space.
func (p *Parser) Space() error { return p.Byte(' ') }

// Byte reads one given octet.
func (p *Parser) Byte(c byte) error {
	if p.i >= len(p.s) {
		return errEnd
	}
	if p.s[p.i] != c {
		return fmt.Errorf("%q expected, not %.20q", c, p.s[p.i:])
	}
	p.i++
	return nil
}

// Peek gives the next octet, 0 at the end.
func (p *Parser) Peek() byte {
	if p.i >= len(p.s) {
		return 0xff
	}
	return p.s[p.i]
}

// More tells whether there is anything left.
func (p *Parser) More() bool { return p.i < len(p.s) }

func isAtomChar(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`(){%*"\]`, c) < 0
}

// Atom reads an atom.
func (p *Parser) Atom() (string, error) { return p.while(isAtomChar, "a word") }

// AString characters also allow ].
func isAStringChar(c byte) bool { return isAtomChar(c) || c == ']' }

// listChar allows wildcards and UTF-8 too.
func isListChar(c byte) bool { return isAStringChar(c) || c == '%' || c == '*' || c >= 0x80 }

func (p *Parser) while(ok func(byte) bool, what string) (string, error) {
	start := p.i
	for p.i < len(p.s) && ok(p.s[p.i]) {
		p.i++
	}
	if p.i == start {
		if p.i >= len(p.s) {
			return "", errEnd
		}
		return "", fmt.Errorf("%s expected, not %.20q", what, p.s[p.i:])
	}
	return p.s[start:p.i], nil
}

// String reads a quoted string or a literal.
func (p *Parser) String() (string, error) {
	switch p.Peek() {
	case '"':
		return p.quoted()
	case 0:
		b, err := p.Literal()
		return string(b), err
	}
	return "", fmt.Errorf("a string expected, not %.20q", p.Rest())
}

func (p *Parser) quoted() (string, error) {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case '"':
			p.i++
			return b.String(), nil
		case '\\':
			if p.i++; p.i >= len(p.s) || p.s[p.i] != '"' && p.s[p.i] != '\\' {
				return "", errors.New("bad escape in a quoted string")
			}
			b.WriteByte(p.s[p.i])
		case 0:
			return "", errors.New("literal inside a quoted string")
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a quoted string has no end")
}

// Literal reads a literal.
func (p *Parser) Literal() ([]byte, error) {
	if p.Peek() != 0 {
		return nil, fmt.Errorf("a literal expected, not %.20q", p.Rest())
	}
	end := strings.IndexByte(p.s[p.i+1:], 0)
	if end < 0 {
		return nil, errEnd
	}
	n, err := strconv.Atoi(p.s[p.i+1 : p.i+1+end])
	if err != nil || n < 0 || n >= len(p.Literals) {
		return nil, errEnd
	}
	p.i += end + 2
	return p.Literals[n], nil
}

// AString reads an atom or a string.
func (p *Parser) AString() (string, error) {
	if c := p.Peek(); c == '"' || c == 0 {
		return p.String()
	}
	return p.while(isAStringChar, "a word or string")
}

// ListMailbox reads a mailbox pattern.
func (p *Parser) ListMailbox() (string, error) {
	if c := p.Peek(); c == '"' || c == 0 {
		return p.String()
	}
	return p.while(isListChar, "a mailbox pattern")
}

// Mailbox reads a mailbox name; UTF-8 atoms are let through, the session decodes.
func (p *Parser) Mailbox() (string, error) {
	if c := p.Peek(); c == '"' || c == 0 {
		return p.String()
	}
	return p.while(func(c byte) bool { return isAStringChar(c) || c >= 0x80 }, "a mailbox name")
}

// Number reads a decimal number of 32 bits.
func (p *Parser) Number() (uint32, error) {
	s, err := p.while(func(c byte) bool { return c >= '0' && c <= '9' }, "a number")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("the number %.20s is too large", s)
	}
	return uint32(n), nil
}

// Number64 reads a decimal number of 63 bits, such as a mod-sequence (RFC 7162 §7).
func (p *Parser) Number64() (uint64, error) {
	s, err := p.while(func(c byte) bool { return c >= '0' && c <= '9' }, "a number")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("the number %.30s is too large", s)
	}
	return n, nil
}

// Range is from:to, both ends included; 0 stands for *.
type Range struct {
	From, To uint32
	saved    bool
}

// Set is a sequence set (RFC 3501 §9).
type Set []Range

// Saved tells whether the set is $, what the last SEARCH has saved (RFC 5182).
func (s Set) Saved() bool { return len(s) == 1 && s[0].saved }

// Set reads a sequence set.
func (p *Parser) Set() (Set, error) {
	if p.Peek() == '$' {
		p.i++
		return Set{{saved: true}}, nil
	}
	var out Set
	for {
		if len(out) >= MaxSetSize {
			return nil, errors.New("the set has too many parts")
		}
		from, err := p.setNumber()
		if err != nil {
			return nil, err
		}
		r := Range{From: from, To: from}
		if p.Peek() == ':' {
			p.i++
			if r.To, err = p.setNumber(); err != nil {
				return nil, err
			}
		}
		out = append(out, r)
		if p.Peek() != ',' {
			return out, nil
		}
		p.i++
	}
}

func (p *Parser) setNumber() (uint32, error) {
	if p.Peek() == '*' {
		p.i++
		return 0, nil
	}
	n, err := p.Number()
	if err == nil && n == 0 {
		return 0, errors.New("0 is no message number")
	}
	return n, err
}

// Bounds resolves * and the order of each range against the largest number in use. What $ stands
// for only the session knows.
func (s Set) Bounds(largest uint32, fn func(from, to uint32)) {
	for _, r := range s {
		if r.saved {
			continue
		}
		from, to := r.From, r.To
		if from == 0 {
			from = largest
		}
		if to == 0 {
			to = largest
		}
		if from > to {
			from, to = to, from
		}
		fn(from, to)
	}
}

// List reads a parenthesised list whose items fn reads.
func (p *Parser) List(fn func() error) error {
	if err := p.Byte('('); err != nil {
		return err
	}
	for n := 0; p.Peek() != ')'; n++ {
		if n > 0 {
			if err := p.Space(); err != nil {
				return err
			}
		}
		if err := fn(); err != nil {
			return err
		}
	}
	p.i++
	return nil
}

// Flag reads a flag or keyword.
func (p *Parser) Flag() (string, error) {
	back := ""
	if p.Peek() == '\\' {
		p.i++
		back = `\`
	}
	a, err := p.Atom()
	return back + a, err
}

// Flags reads a parenthesised list of flags.
func (p *Parser) Flags() ([]string, error) {
	out := []string{}
	err := p.List(func() error {
		if len(out) > 500 {
			return errors.New("too many flags")
		}
		f, err := p.Flag()
		out = append(out, f)
		return err
	})
	return out, err
}

// DateTime reads a quoted date-time (RFC 3501 §9).
func (p *Parser) DateTime() (time.Time, error) {
	s, err := p.String()
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", s)
	if err != nil {
		return t, fmt.Errorf("%.40q is no date-time", s)
	}
	return t, nil
}

// Date reads a date such as 1-Feb-2024, quoted or not.
func (p *Parser) Date() (time.Time, error) {
	s, err := p.AString()
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("2-Jan-2006", s)
	if err != nil {
		return t, fmt.Errorf("%.40q is no date", s)
	}
	return t, nil
}
