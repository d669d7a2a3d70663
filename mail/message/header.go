package message

import (
	"bytes"
	"io"
	"mime"
	"strings"

	"golang.org/x/net/html/charset"
)

// Field is one header field as it stands in the message.
type Field struct {
	Name  string // as written
	Value string // unfolded, not decoded
	Start int    // octets from the start of the header
	End   int    // behind its line end
}

// Header is the fields of a message or part in their order.
type Header struct {
	Fields    []Field
	Truncated bool // more fields or octets than the limits allow
}

const maxFields = 2000

// ParseHeader reads fields up to the empty line or the end. It never fails: a line without
// a colon is passed over.
func ParseHeader(raw []byte) Header {
	var h Header
	for off := 0; off < len(raw); {
		end := fieldEnd(raw, off)
		line := raw[off:end]
		if body := bytes.TrimRight(line, "\r\n"); len(body) == 0 {
			break
		} else if i := bytes.IndexByte(body, ':'); i > 0 {
			if len(h.Fields) >= maxFields {
				h.Truncated = true
				break
			}
			name := strings.TrimRight(string(body[:i]), " \t")
			if isFieldName(name) {
				h.Fields = append(h.Fields, Field{Name: name, Value: unfold(body[i+1:]), Start: off, End: end})
			}
		}
		off = end
	}
	return h
}

func isFieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// fieldEnd is behind the last line of the field that starts at off, continuations included.
func fieldEnd(raw []byte, off int) int {
	for {
		i := bytes.IndexByte(raw[off:], '\n')
		if i < 0 {
			return len(raw)
		}
		off += i + 1
		if off >= len(raw) || raw[off] != ' ' && raw[off] != '\t' {
			return off
		}
		if rest := bytes.TrimLeft(raw[off:], " \t"); len(rest) > 0 && (rest[0] == '\r' || rest[0] == '\n') {
			continue
		}
	}
}

func unfold(b []byte) string {
	s := string(bytes.TrimSpace(b))
	if !strings.ContainsAny(s, "\r\n") {
		return s
	}
	return strings.NewReplacer("\r\n", "", "\n", "", "\r", "").Replace(s)
}

// Get gives the first field of a name; empty when there is none.
func (h *Header) Get(name string) string {
	for i := range h.Fields {
		if strings.EqualFold(h.Fields[i].Name, name) {
			return h.Fields[i].Value
		}
	}
	return ""
}

// Has tells whether there is a field of a name.
func (h *Header) Has(name string) bool { return h.Count(name) > 0 }

// Count counts the fields of a name.
func (h *Header) Count(name string) (n int) {
	for i := range h.Fields {
		if strings.EqualFold(h.Fields[i].Name, name) {
			n++
		}
	}
	return n
}

var words = &mime.WordDecoder{CharsetReader: func(cs string, r io.Reader) (io.Reader, error) { return charset.NewReaderLabel(cs, r) }}

// Decode decodes the encoded words of a value (RFC 2047); what can't be decoded stays.
func Decode(s string) string {
	if !strings.Contains(s, "=?") {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	d, err := words.DecodeHeader(s)
	if err != nil {
		d = s
	}
	return strings.ToValidUTF8(d, "\uFFFD")
}

// Mailbox is an address in a header field.
type Mailbox struct {
	Name    string // display name, as written (encoded words kept)
	Local   string
	Host    string
	IsGroup bool // start of a group (Local is its name), or its end (Local empty)
}

// ParseAddresses reads an address list (RFC 5322 §3.4) as leniently as mail is written.
func ParseAddresses(s string) []Mailbox {
	p := addressParser{s: s}
	return p.list()
}

type addressParser struct {
	s   string
	i   int
	out []Mailbox
}

const maxAddressList = 5000

func (p *addressParser) list() []Mailbox {
	for p.i < len(p.s) && len(p.out) < maxAddressList {
		p.space()
		if p.i >= len(p.s) {
			break
		}
		switch p.s[p.i] {
		case ',':
			p.i++
			continue
		case ';':
			p.i++
			p.out = append(p.out, Mailbox{IsGroup: true})
			continue
		}
		p.one()
	}
	return p.out
}

// one reads a mailbox, or the start of a group.
func (p *addressParser) one() {
	var phrase []string
	var comment string
	spec := ""
	for p.i < len(p.s) {
		comment = or(p.space(), comment)
		if p.i >= len(p.s) {
			break
		}
		switch c := p.s[p.i]; c {
		case ',', ';':
			p.add(phrase, spec, comment)
			return
		case ':':
			p.i++
			p.out = append(p.out, Mailbox{IsGroup: true, Local: strings.Join(phrase, " ")})
			return
		case '<':
			p.i++
			end := strings.IndexByte(p.s[p.i:], '>')
			if end < 0 {
				end = len(p.s) - p.i
			}
			spec = p.s[p.i : p.i+end]
			p.i = min(p.i+end+1, len(p.s))
			if j := strings.LastIndexByte(spec, ':'); strings.HasPrefix(spec, "@") && j >= 0 {
				spec = spec[j+1:] // source route
			}
		case '"':
			w := p.quoted()
			if p.i < len(p.s) && p.s[p.i] == '@' {
				w = `"` + w + `"` + p.word()
			}
			phrase = append(phrase, w)
		default:
			if w := p.word(); w != "" {
				phrase = append(phrase, w)
			} else {
				p.i++
			}
		}
	}
	p.add(phrase, spec, comment)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (p *addressParser) add(phrase []string, spec, comment string) {
	name := strings.Join(phrase, " ")
	if spec == "" {
		if name == "" {
			return
		}
		spec, name = strings.Join(phrase, ""), comment
	}
	m := Mailbox{Name: name}
	spec = strings.TrimSpace(spec)
	if i := strings.LastIndexByte(spec, '@'); i >= 0 {
		m.Local, m.Host = strings.Trim(strings.TrimSpace(spec[:i]), `"`), strings.TrimSpace(spec[i+1:])
	} else {
		m.Local = spec
	}
	p.out = append(p.out, m)
}

// space passes over white space and comments and gives the last comment.
func (p *addressParser) space() (comment string) {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\r', '\n':
			p.i++
		case '(':
			start, depth := p.i+1, 0
			for ; p.i < len(p.s); p.i++ {
				if c := p.s[p.i]; c == '\\' {
					p.i++
				} else if c == '(' {
					depth++
				} else if c == ')' {
					if depth--; depth == 0 {
						break
					}
				}
			}
			if p.i > len(p.s) {
				p.i = len(p.s)
			}
			comment = p.s[start:p.i]
			p.i = min(p.i+1, len(p.s))
		default:
			return comment
		}
	}
	return comment
}

func (p *addressParser) quoted() string {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case '\\':
			if p.i++; p.i < len(p.s) {
				b.WriteByte(p.s[p.i])
			}
		case '"':
			p.i++
			return b.String()
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (p *addressParser) word() string {
	start := p.i
	for p.i < len(p.s) && !strings.ContainsRune(" \t\r\n,;:<\"(", rune(p.s[p.i])) {
		p.i++
	}
	return p.s[start:p.i]
}
