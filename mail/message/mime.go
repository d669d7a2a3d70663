package message

import (
	"bytes"
	"strings"
)

// Limits bound what is looked at of a message.
type Limits struct {
	MaxHeaderBytes int // of the message's own header
	MaxParts       int
	MaxDepth       int
}

// DefaultLimits are far above what honest mail needs.
func DefaultLimits() Limits { return Limits{MaxHeaderBytes: 256 << 10, MaxParts: 1000, MaxDepth: 100} }

// Part is a part of a message with its place in it, in octets from the start.
type Part struct {
	Header      Header
	HeaderStart int
	BodyStart   int // behind the empty line
	End         int
	Lines       int // of the body

	Type, Subtype string // upper case
	Params        []Param
	ID, Desc      string
	Encoding      string
	MD5           string
	Disposition   string
	DispParams    []Param
	Language      []string
	Location      string

	Parts   []*Part // of a multipart
	Message *Part   // of a message/rfc822
}

// Param is a parameter of Content-Type or Content-Disposition.
type Param struct{ Name, Value string }

// Tree is a message's structure, and whether a limit cut it short.
type Tree struct {
	Root  *Part
	Parts int
	Depth int
	Limit string // which limit was passed; empty: none
}

// Walk reads the structure of a message. What passes a limit is one opaque part.
func Walk(raw []byte, lim Limits) Tree {
	w := walker{raw: raw, lim: lim}
	root := w.part(0, len(raw), 0, false)
	return Tree{Root: root, Parts: w.parts, Depth: w.depth, Limit: w.limit}
}

type walker struct {
	raw   []byte
	lim   Limits
	parts int
	depth int
	limit string
}

func (w *walker) over(limit string) {
	if w.limit == "" {
		w.limit = limit
	}
}

// part reads the part in raw[start:end]. digest: the default type is message/rfc822.
func (w *walker) part(start, end, depth int, digest bool) *Part {
	w.parts++
	w.depth = max(w.depth, depth)
	p := &Part{HeaderStart: start, End: end}
	p.BodyStart = start + headerEnd(w.raw[start:end])
	header := w.raw[start:p.BodyStart]
	if depth == 0 && len(header) > w.lim.MaxHeaderBytes {
		w.over("the header is larger than allowed")
		header = header[:w.lim.MaxHeaderBytes]
	}
	p.Header = ParseHeader(header)
	p.describe(digest)
	deeper := depth < w.lim.MaxDepth
	switch {
	case p.Type == "MULTIPART" && p.param("BOUNDARY") != "":
		if !deeper {
			w.over("parts are nested deeper than allowed")
			break
		}
		w.multipart(p, depth)
	case p.Type == "MESSAGE" && (p.Subtype == "RFC822" || p.Subtype == "GLOBAL") && identity(p.Encoding):
		if !deeper {
			w.over("parts are nested deeper than allowed")
			break
		}
		p.Message = w.part(p.BodyStart, end, depth+1, false)
	}
	if p.Type == "MULTIPART" && len(p.Parts) == 0 { // no boundary, or none found: text
		p.Type, p.Subtype, p.Params = "TEXT", "PLAIN", nil
	}
	p.Lines = bytes.Count(w.raw[p.BodyStart:end], []byte{'\n'})
	return p
}

func identity(enc string) bool { return enc == "7BIT" || enc == "8BIT" || enc == "BINARY" }

// headerEnd is behind the empty line that ends a header, or the end.
func headerEnd(b []byte) int {
	for off := 0; off < len(b); {
		i := bytes.IndexByte(b[off:], '\n')
		if i < 0 {
			return len(b)
		}
		if i == 0 || i == 1 && b[off] == '\r' {
			return off + i + 1
		}
		off += i + 1
	}
	return len(b)
}

// multipart finds the parts between the boundaries. A missing final boundary ends at the end.
func (w *walker) multipart(p *Part, depth int) {
	boundary := []byte("--" + p.param("BOUNDARY"))
	digest := p.Subtype == "DIGEST"
	start := -1
	for off := p.BodyStart; off < p.End; {
		next := off + bytes.IndexByte(w.raw[off:p.End], '\n') + 1
		if next == off {
			next = p.End
		}
		line := w.raw[off:next]
		if bytes.HasPrefix(line, boundary) {
			rest := bytes.TrimRight(line[len(boundary):], " \t\r\n")
			last := bytes.Equal(rest, []byte("--"))
			if len(rest) == 0 || last {
				if start >= 0 && !w.child(p, start, beforeCRLF(w.raw, start, off), depth, digest) {
					return
				}
				start = next
				if last {
					return
				}
			}
		}
		off = next
	}
	if start >= 0 && start < p.End {
		w.child(p, start, p.End, depth, digest)
	}
}

func (w *walker) child(p *Part, start, end, depth int, digest bool) bool {
	if w.parts >= w.lim.MaxParts {
		w.over("it has more parts than allowed")
		return false
	}
	p.Parts = append(p.Parts, w.part(start, end, depth+1, digest))
	return true
}

// beforeCRLF is before the line end that belongs to the boundary.
func beforeCRLF(raw []byte, start, off int) int {
	if off > start && raw[off-1] == '\n' {
		off--
		if off > start && raw[off-1] == '\r' {
			off--
		}
	}
	return off
}

// describe reads the Content-* fields.
func (p *Part) describe(digest bool) {
	p.Type, p.Subtype = "TEXT", "PLAIN"
	if digest {
		p.Type, p.Subtype = "MESSAGE", "RFC822"
	}
	if ct := p.Header.Get("Content-Type"); ct != "" {
		value, params := parseParams(ct)
		if t, s, ok := strings.Cut(value, "/"); ok && isToken(t) && isToken(s) {
			p.Type, p.Subtype, p.Params = strings.ToUpper(t), strings.ToUpper(s), params
		}
	}
	p.Encoding = strings.ToUpper(strings.TrimSpace(stripComment(p.Header.Get("Content-Transfer-Encoding"))))
	if p.Encoding == "" || !isToken(p.Encoding) {
		p.Encoding = "7BIT"
	}
	p.ID, p.Desc, p.MD5 = p.Header.Get("Content-ID"), p.Header.Get("Content-Description"), p.Header.Get("Content-MD5")
	p.Location = p.Header.Get("Content-Location")
	if d := p.Header.Get("Content-Disposition"); d != "" {
		value, params := parseParams(d)
		if isToken(value) {
			p.Disposition, p.DispParams = strings.ToUpper(value), params
		}
	}
	for _, l := range strings.FieldsFunc(p.Header.Get("Content-Language"), func(r rune) bool { return r == ',' || r == ' ' }) {
		if len(p.Language) < 20 {
			p.Language = append(p.Language, l)
		}
	}
}

func stripComment(s string) string {
	if i := strings.IndexByte(s, '('); i >= 0 {
		return s[:i]
	}
	return s
}

func (p *Part) param(name string) string {
	for _, x := range p.Params {
		if x.Name == name {
			return x.Value
		}
	}
	return ""
}

func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

const maxParams = 64

// parseParams reads `value; name=value; …` (RFC 2045 §5.1) leniently; the first of two
// parameters with one name counts.
func parseParams(s string) (value string, params []Param) {
	value, rest, _ := strings.Cut(s, ";")
	value = strings.TrimSpace(stripComment(value))
	for rest != "" && len(params) < maxParams {
		rest = strings.TrimLeft(rest, " \t\r\n;")
		i := strings.IndexAny(rest, "=;")
		if i < 0 {
			break
		}
		if rest[i] == ';' {
			rest = rest[i+1:]
			continue
		}
		name := strings.ToUpper(strings.TrimSpace(rest[:i]))
		rest = strings.TrimLeft(rest[i+1:], " \t")
		var v string
		if strings.HasPrefix(rest, `"`) {
			v, rest = unquote(rest)
			if j := strings.IndexByte(rest, ';'); j >= 0 {
				rest = rest[j+1:]
			} else {
				rest = ""
			}
		} else {
			v, rest, _ = strings.Cut(rest, ";")
			v = strings.TrimSpace(stripComment(v))
		}
		if isToken(name) && !hasParam(params, name) {
			params = append(params, Param{name, v})
		}
	}
	return value, params
}

func hasParam(params []Param, name string) bool {
	for _, p := range params {
		if p.Name == name {
			return true
		}
	}
	return false
}

func unquote(s string) (v, rest string) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
