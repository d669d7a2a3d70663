// Package order sorts and threads messages (RFC 5256, RFC 5957). It knows neither the wire nor
// the store: what it needs of a message is in an Item.
package order

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Collate gives a key whose octets compare as i;unicode-casemap compares the text (RFC 5051).
func Collate(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return norm.NFKD.String(strings.Map(unicode.ToTitle, strings.ToValidUTF8(s, "\uFFFD")))
		}
	}
	return strings.ToUpper(s)
}

// BaseSubject gives the base subject of a decoded Subject field (RFC 5256 §2.1), and whether what
// was taken off says that the message is a reply or a forwarded one.
func BaseSubject(s string) (base string, reply bool) {
	if strings.ContainsAny(s, "\t\r\n") || strings.Contains(s, "  ") {
		s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }), " ")
	}
	for {
		for {
			if s = strings.TrimRight(s, " "); !hasSuffixFold(s, "(fwd)") {
				break
			}
			s, reply = s[:len(s)-len("(fwd)")], true
		}
		for {
			s = strings.TrimLeft(s, " ")
			if n := refwd(s); n > 0 {
				s, reply = s[n:], true
				continue
			}
			// Behind the blobs there is no reply then: they needn't be looked through again after each.
			for n := blob(s); n > 0 && n < len(s); n = blob(s) {
				s = s[n:]
			}
			break
		}
		if !hasPrefixFold(s, "[fwd:") || !strings.HasSuffix(s, "]") {
			return s, reply
		}
		s, reply = s[len("[fwd:"):len(s)-1], true
	}
}

// refwd is the length of *subj-blob subj-refwd at the start of s; 0 when there is none.
func refwd(s string) int {
	i := 0
	for n := blob(s[i:]); n > 0; n = blob(s[i:]) {
		i += n
	}
	switch {
	case hasPrefixFold(s[i:], "re"):
		i += 2
	case hasPrefixFold(s[i:], "fwd"):
		i += 3
	case hasPrefixFold(s[i:], "fw"):
		i += 2
	default:
		return 0
	}
	for i < len(s) && s[i] == ' ' {
		i++
	}
	i += blob(s[i:])
	if i < len(s) && s[i] == ':' {
		return i + 1
	}
	return 0
}

// blob is the length of "[" text "]" with the white space behind it; 0 when there is none.
func blob(s string) int {
	if !strings.HasPrefix(s, "[") {
		return 0
	}
	end := strings.IndexAny(s[1:], "[]")
	if end < 0 || s[1+end] == '[' {
		return 0
	}
	i := end + 2
	for i < len(s) && s[i] == ' ' {
		i++
	}
	return i
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}
