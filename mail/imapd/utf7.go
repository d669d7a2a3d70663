package imapd

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Mailbox names on the wire are modified UTF-7 (RFC 3501 §5.1.3).
var utf7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

func encodeUTF7(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if c := s[i]; c >= 0x20 && c < 0x7f {
			if b.WriteByte(c); c == '&' {
				b.WriteByte('-')
			}
			i++
			continue
		}
		var units []uint16
		for i < len(s) && (s[i] < 0x20 || s[i] >= 0x7f) {
			r, n := utf8.DecodeRuneInString(s[i:])
			units = utf16.AppendRune(units, r)
			i += n
		}
		raw := make([]byte, 0, 2*len(units))
		for _, u := range units {
			raw = append(raw, byte(u>>8), byte(u))
		}
		b.WriteString("&" + utf7.EncodeToString(raw) + "-")
	}
	return b.String()
}

var (
	errUTF7 = errors.New("the mailbox name is not valid modified UTF-7")
	errUTF8 = errors.New("the mailbox name is not valid UTF-8")
)

// decodeUTF7 also lets valid UTF-8 through, as clients send it.
func decodeUTF7(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errUTF7
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '&' {
			b.WriteByte(s[i])
			continue
		}
		end := strings.IndexByte(s[i:], '-')
		if end < 0 {
			return "", errUTF7
		}
		if end == 1 {
			b.WriteByte('&')
		} else {
			raw, err := utf7.DecodeString(s[i+1 : i+end])
			if err != nil || len(raw)%2 != 0 {
				return "", errUTF7
			}
			units := make([]uint16, len(raw)/2)
			for k := range units {
				units[k] = uint16(raw[2*k])<<8 | uint16(raw[2*k+1])
			}
			for _, r := range utf16.Decode(units) {
				if r == utf8.RuneError || r >= 0x20 && r < 0x7f {
					return "", errUTF7
				}
				b.WriteRune(r)
			}
		}
		i += end
	}
	return b.String(), nil
}
