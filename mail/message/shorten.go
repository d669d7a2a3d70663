package message

import "strings"

// Bounds of a stored structure. What is written is larger than what it is made of: an address of two
// octets becomes twenty, those of From are written three times, and a structure is kept in two forms.
const (
	maxStructure   = 1 << 20 // octets of a BODYSTRUCTURE as written, at most
	shortText      = 200     // octets of a text in a shortened one
	shortParams    = 8
	shortLanguages = 4
)

// bounded gives what the structure of a message is written from: the message itself or, when that
// would be very long, a copy with its texts and lists cut, and in the end one part without anything.
// The numbers of the parts stay what they are, unless there is but one left.
func bounded(p *Part) *Part {
	if structureBound(p) <= maxStructure {
		return p
	}
	if p = shorten(p); structureBound(p) <= maxStructure {
		return p
	}
	return &Part{Type: "APPLICATION", Subtype: "OCTET-STREAM", Encoding: "BINARY", BodyStart: p.BodyStart, End: p.End}
}

// structureBound is at least as large as what appendStructure writes.
func structureBound(p *Part) int {
	text := func(s string) int { return 2*len(s) + 16 } // escaped, or behind the length of a literal
	n := 120 + text(p.Type) + text(p.Subtype) + text(p.ID) + text(p.Desc) + text(p.Encoding) + text(p.MD5) + text(p.Disposition) + text(p.Location)
	for _, list := range [][]Param{p.Params, p.DispParams} {
		for _, x := range list {
			n += text(x.Name) + text(x.Value)
		}
	}
	for _, l := range p.Language {
		n += text(l)
	}
	for _, c := range p.Parts {
		n += structureBound(c)
	}
	if p.Message == nil {
		return n
	}
	h := &p.Message.Header
	for i, name := range envelopeNames {
		v := h.Get(name)
		if i == EnvDate || i == EnvSubject || i == EnvInReplyTo || i == EnvMessageID {
			n += text(v)
			continue
		}
		addresses := min(maxAddressList, strings.Count(v, ",")+strings.Count(v, ";")+strings.Count(v, ":")+1)
		size := text(v) + 32*addresses // each has brackets, NIL and the ends of three texts
		if i == EnvFrom {
			size *= 3 // Sender and Reply-To, when there are none
		}
		n += size
	}
	return n + structureBound(p.Message)
}

// shorten copies a part with everything in it that is written.
func shorten(p *Part) *Part {
	cut := func(s string) string { return s[:min(len(s), shortText)] }
	params := func(list []Param) []Param {
		out := make([]Param, 0, shortParams)
		for _, x := range list[:min(len(list), shortParams)] {
			out = append(out, Param{cut(x.Name), cut(x.Value)})
		}
		return out
	}
	c := &Part{
		BodyStart: p.BodyStart, End: p.End, Lines: p.Lines, Type: cut(p.Type), Subtype: cut(p.Subtype), Params: params(p.Params),
		ID: cut(p.ID), Desc: cut(p.Desc), Encoding: cut(p.Encoding), MD5: cut(p.MD5), Disposition: cut(p.Disposition),
		DispParams: params(p.DispParams), Location: cut(p.Location),
	}
	for _, l := range p.Language[:min(len(p.Language), shortLanguages)] {
		c.Language = append(c.Language, cut(l))
	}
	for _, x := range p.Parts {
		c.Parts = append(c.Parts, shorten(x))
	}
	if p.Message != nil {
		c.Message = shorten(p.Message)
		for _, name := range envelopeNames {
			if h := &p.Message.Header; h.Has(name) {
				c.Message.Header.Fields = append(c.Message.Header.Fields, Field{Name: name, Value: cut(h.Get(name))})
			}
		}
	}
	return c
}
