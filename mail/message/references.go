package message

import "strings"

// maxReferences bounds the message IDs that are kept of a References field: the first and the last.
const maxReferences = 100

// MessageIDs finds the message IDs <…> in a field's value, without the brackets. A quoted left
// side is written without quotes where it needs none, so that two forms of one ID are equal.
func MessageIDs(s string) (out []string) {
	for {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			return out
		}
		s = s[i+1:]
		end := strings.IndexByte(s, '>')
		if end < 0 {
			return out
		}
		if id := normalID(s[:end]); id != "" {
			out = append(out, id)
		}
		s = s[end+1:]
	}
}

func normalID(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		s = strings.Map(func(r rune) rune {
			if r <= ' ' {
				return -1
			}
			return r
		}, s)
	}
	if strings.HasPrefix(s, `"`) {
		if local, host, ok := strings.Cut(s[1:], `"@`); ok && isDotString(local, true) {
			return local + "@" + host
		}
	}
	return s
}

// references gives the message IDs of the References fields, separated by spaces.
func references(h *Header) []byte {
	ids := MessageIDs(h.Get("References"))
	if n := len(ids); n > maxReferences {
		ids = append(ids[:maxReferences/4:maxReferences/4], ids[n-maxReferences*3/4:]...)
	}
	out := strings.Join(ids, " ")
	if len(out) > 16<<10 {
		out = out[len(out)-16<<10:]
		_, out, _ = strings.Cut(out, " ")
	}
	return []byte(out)
}
