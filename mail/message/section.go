package message

import (
	"bytes"
	"strings"
)

// Find gives the part of a section number such as 1.2 (RFC 3501 §6.4.5); nil when there is none.
// An empty path is the message itself.
func Find(root *Part, path []int) *Part {
	p := root
	for i, n := range path {
		if p.Message != nil && i > 0 { // the letter that is all of a message is its part 1
			p = p.Message
		}
		switch {
		case p.Type == "MULTIPART" && n >= 1 && n <= len(p.Parts):
			p = p.Parts[n-1]
		case p.Type != "MULTIPART" && n == 1:
		default:
			return nil
		}
	}
	return p
}

// Section gives the octets of a section: of the whole part ("", that is its body for a numbered
// part), "HEADER", "TEXT" or "MIME". ok is false when there is none.
func Section(raw []byte, root *Part, path []int, what string) (out []byte, ok bool) {
	p := Find(root, path)
	if p == nil {
		return nil, false
	}
	if len(path) == 0 {
		switch what {
		case "":
			return raw, true
		case "HEADER":
			return raw[:p.BodyStart], true
		case "TEXT":
			return raw[p.BodyStart:], true
		}
		return nil, false
	}
	switch what {
	case "":
		return raw[p.BodyStart:p.End], true
	case "MIME":
		return raw[p.HeaderStart:p.BodyStart], true
	case "HEADER":
		if p.Message != nil {
			return raw[p.Message.HeaderStart:p.Message.BodyStart], true
		}
	case "TEXT":
		if p.Message != nil {
			return raw[p.Message.BodyStart:p.Message.End], true
		}
	}
	return nil, false
}

// HeaderFields filters a header's octets: only the named fields, or all but them. The empty
// line at the end is kept (RFC 3501 §6.4.5).
func HeaderFields(header []byte, names []string, not bool) []byte {
	h := ParseHeader(header)
	var out []byte
	for _, f := range h.Fields {
		named := false
		for _, n := range names {
			if strings.EqualFold(n, f.Name) {
				named = true
				break
			}
		}
		if named != not {
			out = append(out, header[f.Start:f.End]...)
			if !bytes.HasSuffix(out, []byte("\n")) {
				out = append(out, "\r\n"...)
			}
		}
	}
	return append(out, "\r\n"...)
}
