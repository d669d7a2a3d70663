package message

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/net/html/charset"
)

// maxText bounds the decoded text of one message that a search looks at.
const maxText = 4 << 20

// Words is a message as searches see it: decoded, folded (see Fold), HTML without its tags.
type Words struct {
	Fields []FoldedField // of the message's own header
	Body   []string      // a text part, a field of an attached message or the name of an attachment each
}

// FoldedField is a header field as searches see it.
type FoldedField struct {
	Name  string // as in the message
	Value string // decoded and folded
}

// FieldHas tells whether a field of a name contains a folded text; an empty text only asks for the field.
func FieldHas(h *Header, name, folded string) bool {
	for i := range h.Fields {
		if f := &h.Fields[i]; strings.EqualFold(f.Name, name) && (folded == "" || strings.Contains(Fold(Decode(f.Value)), folded)) {
			return true
		}
	}
	return false
}

// BodyHas tells whether the body contains a folded text (SEARCH BODY).
func (w *Words) BodyHas(folded string) bool {
	return slices.ContainsFunc(w.Body, func(s string) bool { return strings.Contains(s, folded) })
}

// AnyHas tells whether the body or the header contains a folded text (SEARCH TEXT).
func (w *Words) AnyHas(folded string) bool {
	if w.BodyHas(folded) {
		return true
	}
	for i := range w.Fields {
		if strings.Contains(Fold(w.Fields[i].Name)+": "+w.Fields[i].Value, folded) {
			return true
		}
	}
	return false
}

// Words gives a message as searches see it; p is the root of its structure.
func (p *Part) Words(raw []byte) Words {
	g := gatherer{raw: raw}
	g.part(p)
	w := Words{Body: g.out, Fields: make([]FoldedField, len(p.Header.Fields))}
	for i := range w.Fields {
		f := &p.Header.Fields[i]
		w.Fields[i] = FoldedField{f.Name, Fold(Decode(f.Value))}
	}
	return w
}

type gatherer struct {
	raw    []byte
	out    []string
	octets int
}

func (g *gatherer) add(s string) {
	if s = Fold(s); s != "" && s != " " && g.octets <= maxText {
		g.out, g.octets = append(g.out, s), g.octets+len(s)
	}
}

func (g *gatherer) part(p *Part) {
	if g.octets > maxText {
		return
	}
	g.add(p.FileName())
	for _, c := range p.Parts {
		g.part(c)
	}
	if p.Message != nil {
		for i := range p.Message.Header.Fields {
			f := &p.Message.Header.Fields[i]
			g.add(f.Name + ": " + Decode(f.Value))
		}
		g.part(p.Message)
		return
	}
	if p.Type != "TEXT" {
		return
	}
	text := decodeText(g.raw[p.BodyStart:p.End], p)
	if p.Subtype == "HTML" {
		text = StripHTML(text)
	}
	g.add(text)
}

// errFull ends the decoding of a text that is long enough.
var errFull = errors.New("message: enough text")

// decodeText gives a part's text in UTF-8. It is as tolerant as DecodeTransfer: what a sloppy program
// wrote is found all the same.
func decodeText(raw []byte, p *Part) string {
	out := make([]byte, 0, min(len(raw), maxText))
	_ = DecodeTransfer(p.Encoding, raw, func(b []byte) error {
		if out = append(out, b[:min(len(b), maxText-len(out))]...); len(out) == maxText {
			return errFull
		}
		return nil
	})
	if cs := p.param("CHARSET"); cs != "" && !strings.EqualFold(cs, "utf-8") && !strings.EqualFold(cs, "us-ascii") {
		if r, err := charset.NewReaderLabel(cs, bytes.NewReader(out)); err == nil {
			out, _ = io.ReadAll(r) // what can be decoded counts
		}
	}
	return strings.ToValidUTF8(string(out), "\uFFFD")
}
