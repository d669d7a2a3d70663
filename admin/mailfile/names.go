package mailfile

import (
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxComponent keeps a file name below the 255 octets of common file systems, with room for endings.
const maxComponent = 200

// pathOf gives the relative path of a mailbox: its levels as directories. What a file name can't
// be, or would be read as something else, is written as %XX.
func pathOf(mailbox string) string {
	levels := strings.Split(mailbox, "/")
	for i, l := range levels {
		levels[i] = escape(l)
	}
	return filepath.Join(levels...)
}

func escape(level string) string {
	var b strings.Builder
	for i := range len(level) {
		c := level[i]
		first, last := i == 0, i == len(level)-1
		if c < 0x20 || c == 0x7f || c == '%' || c == '\\' || c == ':' || first && (c == '.' || c == ' ') || last && (c == ' ' || c == '.') {
			const hex = "0123456789ABCDEF"
			b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
			continue
		}
		b.WriteByte(c)
	}
	s := b.String()
	switch s {
	case "cur", "new", "tmp": // directories of a Maildir
		s = "%" + strconv.FormatInt(int64(s[0]), 16) + s[1:]
	}
	if len(s) > maxComponent { // cut, but two names that differ in the rest stay two
		cut := maxComponent
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = fmt.Sprintf("%s~%08x", s[:cut], crc32.ChecksumIEEE([]byte(s)))
	}
	return s
}

// unescape reads what escape wrote; other names stay as they are.
func unescape(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '%' && i+2 < len(name) {
			if n, err := strconv.ParseUint(name[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(name[i])
	}
	if s := b.String(); utf8.ValidString(s) && !strings.Contains(s, "/") {
		return s
	}
	return name
}

var errUTF7 = errors.New("no modified UTF-7")

var utf7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// fromUTF7 decodes the names of Maildir++ folders, modified UTF-7 (RFC 3501 §5.1.3); a name that
// is none stays as it is.
func fromUTF7(s string) string {
	var b strings.Builder
	for s != "" {
		plain, rest, found := strings.Cut(s, "&")
		b.WriteString(plain)
		if !found {
			return b.String()
		}
		code, after, closed := strings.Cut(rest, "-")
		text, err := utf7Run(code)
		if !closed || err != nil {
			b.WriteString("&" + rest)
			return b.String()
		}
		b.WriteString(text)
		s = after
	}
	return b.String()
}

func utf7Run(code string) (string, error) {
	if code == "" {
		return "&", nil
	}
	raw, err := utf7.DecodeString(code)
	if err != nil || len(raw)%2 != 0 {
		return "", errUTF7
	}
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
	}
	return string(utf16.Decode(units)), nil
}
