package message

import (
	"bytes"
	"strconv"
)

// The fields of an ENVELOPE, in its order.
const (
	EnvDate = iota
	EnvSubject
	EnvFrom
	EnvSender
	EnvReplyTo
	EnvTo
	EnvCc
	EnvBcc
	EnvInReplyTo
	EnvMessageID
	envFields
)

// EnvelopeFields is an ENVELOPE cut into its fields, each in its wire form.
type EnvelopeFields [envFields][]byte

// SplitEnvelope cuts what appendEnvelope made; false when it isn't one. The fields point into b.
func SplitEnvelope(b []byte) (f EnvelopeFields, ok bool) {
	if len(b) < 2 || b[0] != '(' {
		return f, false
	}
	b = b[1:]
	for i := range f {
		n := valueLen(b)
		if n <= 0 || n >= len(b) {
			return f, false
		}
		f[i] = b[:n]
		if want := byte(' '); i == envFields-1 && b[n] != ')' || i < envFields-1 && b[n] != want {
			return f, false
		}
		b = b[n+1:]
	}
	return f, true
}

// valueLen is the length of the NIL, string or list at the start of b; 0 when there is none.
func valueLen(b []byte) int {
	depth, i := 0, 0
	for i < len(b) {
		switch c := b[i]; c {
		case '(':
			depth++
			i++
		case ')':
			depth--
			i++
		case ' ':
			i++
		case 'N':
			i += len("NIL")
		case '"', '{':
			n := stringLen(b[i:])
			if n == 0 {
				return 0
			}
			i += n
		default:
			return 0
		}
		if depth == 0 {
			return min(i, len(b))
		}
	}
	return 0
}

// stringLen is the length of the quoted string or literal at the start of b.
func stringLen(b []byte) int {
	if b[0] == '{' {
		end := bytes.Index(b, []byte("}\r\n"))
		if end < 0 {
			return 0
		}
		n, err := strconv.Atoi(string(b[1:end]))
		if err != nil || n < 0 || n > len(b)-end-3 {
			return 0
		}
		return end + 3 + n
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// NString gives the text of a NIL, quoted string or literal; NIL is empty.
func NString(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	switch b[0] {
	case '{':
		if i := bytes.Index(b, []byte("}\r\n")); i >= 0 {
			return string(b[i+3:])
		}
	case '"':
		b = b[1 : len(b)-1]
		if bytes.IndexByte(b, '\\') < 0 {
			return string(b)
		}
		out := make([]byte, 0, len(b))
		for i := 0; i < len(b); i++ {
			if b[i] == '\\' && i+1 < len(b) {
				i++
			}
			out = append(out, b[i])
		}
		return string(out)
	}
	return ""
}

// EnvelopeAddresses gives the addresses of a field, up to limit (0: all).
func EnvelopeAddresses(b []byte, limit int) (out []Mailbox) {
	if len(b) < 2 || b[0] != '(' {
		return nil
	}
	b = b[1 : len(b)-1]
	for len(b) > 0 && b[0] == '(' && (limit == 0 || len(out) < limit) {
		n := valueLen(b)
		if n < 2 {
			break
		}
		var parts [4][]byte // name, route, local, host
		rest := b[1 : n-1]
		for i := range parts {
			l := valueLen(rest)
			if l == 0 {
				break
			}
			parts[i], rest = rest[:l], bytes.TrimPrefix(rest[l:], []byte(" "))
		}
		out = append(out, Mailbox{Name: NString(parts[0]), Local: NString(parts[2]), Host: NString(parts[3]), IsGroup: bytes.Equal(parts[3], []byte("NIL"))})
		b = b[n:]
	}
	return out
}
