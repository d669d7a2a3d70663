package message

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold gives the form in which texts are compared by searches: without letter case, accents,
// widths and other compatibility forms (Unicode NFKC), every run of white space one space, and
// without characters that are not seen. What isn't UTF-8 becomes U+FFFD. A text contains another
// one for a search when its folded form contains the other's folded form. Folding twice changes
// nothing.
//
// Marks are taken off letters of scripts that have upper and lower case only: a Japanese voiced
// mark or an Indian vowel sign makes another word, an accent doesn't.
func Fold(s string) string {
	ascii := true
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if ascii {
		return foldASCII(s)
	}
	b := make([]rune, 0, len(s))
	for _, r := range norm.NFKD.String(strings.ToValidUTF8(s, "\uFFFD")) {
		b = foldRune(b, r)
	}
	return norm.NFC.String(string(b))
}

func foldASCII(s string) string {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		c := s[i]
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			if n := len(b); n == 0 || b[n-1] != ' ' {
				b = append(b, ' ')
			}
		case c < ' ' || c == 0x7f:
		case c >= 'A' && c <= 'Z':
			b = append(b, c+'a'-'A')
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func foldRune(b []rune, r rune) []rune {
	switch {
	case unicode.IsSpace(r):
		if n := len(b); n > 0 && b[n-1] == ' ' {
			return b
		}
		return append(b, ' ')
	case unicode.IsControl(r), unseen(r), accent(r):
		return b
	case r == 'ß', r == 'ẞ':
		return append(b, 's', 's')
	}
	return append(b, unicode.ToLower(unicode.ToUpper(r))) // both ways: ς and σ are one letter
}

// unseen tells about soft hyphens, joiners, marks of direction and of variation.
func unseen(r rune) bool {
	return r == 0xad || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060 && r <= 0x2064 ||
		r == 0xfeff || r >= 0xfe00 && r <= 0xfe0f
}

// accent tells about combining diacritical marks (the Unicode blocks of this name).
func accent(r rune) bool {
	return r >= 0x300 && r <= 0x36f || r >= 0x1ab0 && r <= 0x1aff || r >= 0x1dc0 && r <= 0x1dff ||
		r >= 0x20d0 && r <= 0x20ff || r >= 0xfe20 && r <= 0xfe2f
}
