package message

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// Meta is what a listing needs of a message, made when it is stored. The wire forms are
// IMAP text (RFC 3501 §7.4.2), so that FETCH only copies them.
type Meta struct {
	Envelope      []byte // ENVELOPE
	BodyStructure []byte // BODYSTRUCTURE
	Body          []byte // BODY: BODYSTRUCTURE without extension data
	HeaderSize    int    // octets up to and with the empty line
	References    []byte // message IDs of References, without brackets, separated by spaces
	NoReferences  bool   // stored by a version that kept no References: look into the message
	// Whole has a bit for each field of the ENVELOPE (1<<EnvSubject) that tells all there is to
	// know of the header: it has no second field of this name, and of one with addresses none at all.
	// Above them are three bits for each field with addresses that is there once and is written as
	// writeAddresses does: see addressBits.
	Whole uint32
}

const metaVersion = 1

// EncodeMeta appends the stored form of a Meta.
func EncodeMeta(b []byte, m *Meta) []byte {
	b = append(b, metaVersion)
	b = binary.AppendUvarint(b, uint64(m.HeaderSize))
	var whole []byte
	if m.Whole != 0 {
		whole = binary.AppendUvarint(nil, uint64(m.Whole))
	}
	fields := [][]byte{m.Envelope, m.BodyStructure, m.Body, m.References, whole}
	if m.NoReferences {
		fields = fields[:3]
	}
	for _, f := range fields {
		b = binary.AppendUvarint(b, uint64(len(f)))
		b = append(b, f...)
	}
	return b
}

var errMeta = errors.New("stored message headers can't be read")

// DecodeMeta reads what EncodeMeta wrote; the result points into b.
func DecodeMeta(b []byte) (m Meta, err error) {
	if len(b) == 0 || b[0] != metaVersion {
		return m, errMeta
	}
	b = b[1:]
	size, n := binary.Uvarint(b)
	if n <= 0 {
		return m, errMeta
	}
	m.HeaderSize, b = int(size), b[n:]
	var whole []byte
	for i, f := range []*[]byte{&m.Envelope, &m.BodyStructure, &m.Body, &m.References, &whole} {
		if i >= 3 && len(b) == 0 { // the fields behind Body came later
			m.NoReferences = i == 3
			break
		}
		l, n := binary.Uvarint(b)
		if n <= 0 || l > uint64(len(b)-n) {
			return m, errMeta
		}
		*f, b = b[n:n+int(l)], b[n+int(l):]
	}
	if bits, n := binary.Uvarint(whole); n > 0 {
		m.Whole = uint32(bits)
	}
	return m, nil
}

// Summarize makes the Meta of a message whose text is prefix and raw.
func Summarize(prefix, raw []byte, lim Limits) Meta {
	t := Walk(raw, lim)
	h := t.Root.Header
	if len(prefix) > 0 {
		h.Fields = append(ParseHeader(prefix).Fields, h.Fields...)
	}
	env := appendEnvelope(nil, &h)
	shape := bounded(t.Root)
	return Meta{
		Envelope:      env,
		BodyStructure: appendStructure(nil, shape, true),
		Body:          appendStructure(nil, shape, false),
		HeaderSize:    len(prefix) + t.Root.BodyStart,
		References:    references(&h),
		Whole:         wholeFields(&h, env),
	}
}

// envelopeNames are the header fields that an ENVELOPE is made of.
var envelopeNames = [envFields]string{"Date", "Subject", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "In-Reply-To", "Message-ID"}

func wholeFields(h *Header, envelope []byte) (bits uint32) {
	if h.Truncated {
		return 0
	}
	env, ok := SplitEnvelope(envelope)
	for i, name := range envelopeNames {
		n := h.Count(name)
		text := i == EnvDate || i == EnvSubject || i == EnvInReplyTo || i == EnvMessageID
		switch shift := addressBits(i); {
		case n == 0 || n == 1 && text && strings.IndexByte(h.Get(name), 0) < 0:
			bits |= 1 << i
		case n == 1 && shift > 0 && ok:
			if form, known := addressForm(h.Get(name), env[i]); known {
				bits |= (1 | uint32(form)<<1) << shift
			}
		}
	}
	return bits
}

// appendEnvelope writes an ENVELOPE (RFC 3501 §7.4.2).
func appendEnvelope(b []byte, h *Header) []byte {
	b = append(b, '(')
	b = appendNString(b, h.Get("Date"), h.Has("Date"))
	b = append(b, ' ')
	b = appendNString(b, h.Get("Subject"), h.Has("Subject"))
	from := ParseAddresses(h.Get("From"))
	for _, name := range []string{"From", "Sender", "Reply-To", "To", "Cc", "Bcc"} {
		list := from
		if name != "From" {
			list = ParseAddresses(h.Get(name))
		}
		if len(list) == 0 && (name == "Sender" || name == "Reply-To") {
			list = from
		}
		b = append(b, ' ')
		b = appendAddresses(b, list)
	}
	b = append(b, ' ')
	b = appendNString(b, h.Get("In-Reply-To"), h.Has("In-Reply-To"))
	b = append(b, ' ')
	b = appendNString(b, h.Get("Message-ID"), h.Has("Message-ID"))
	return append(b, ')')
}

func appendAddresses(b []byte, list []Mailbox) []byte {
	if len(list) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for _, m := range list {
		b = append(b, '(')
		b = appendNString(b, m.Name, m.Name != "" && !m.IsGroup)
		b = append(b, " NIL "...)
		b = appendNString(b, m.Local, m.Local != "" || !m.IsGroup)
		b = append(b, ' ')
		b = appendNString(b, m.Host, !m.IsGroup)
		b = append(b, ')')
	}
	return append(b, ')')
}

// appendStructure writes BODY, or with ext BODYSTRUCTURE.
func appendStructure(b []byte, p *Part, ext bool) []byte {
	b = append(b, '(')
	if p.Type == "MULTIPART" {
		for _, c := range p.Parts {
			b = appendStructure(b, c, ext)
		}
		b = append(b, ' ')
		b = appendString(b, p.Subtype)
		if ext {
			b = append(b, ' ')
			b = appendParams(b, p.Params)
			b = appendDisposition(b, p)
		}
		return append(b, ')')
	}
	b = appendString(b, p.Type)
	b = append(b, ' ')
	b = appendString(b, p.Subtype)
	b = append(b, ' ')
	b = appendParams(b, p.Params)
	b = append(b, ' ')
	b = appendNString(b, p.ID, p.ID != "")
	b = append(b, ' ')
	b = appendNString(b, p.Desc, p.Desc != "")
	b = append(b, ' ')
	b = appendString(b, p.Encoding)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(p.End-p.BodyStart), 10)
	switch {
	case p.Message != nil:
		b = append(b, ' ')
		b = appendEnvelope(b, &p.Message.Header)
		b = append(b, ' ')
		b = appendStructure(b, p.Message, ext)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(p.Lines), 10)
	case p.Type == "TEXT":
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(p.Lines), 10)
	}
	if ext {
		b = append(b, ' ')
		b = appendNString(b, p.MD5, p.MD5 != "")
		b = appendDisposition(b, p)
	}
	return append(b, ')')
}

func appendDisposition(b []byte, p *Part) []byte {
	if p.Disposition == "" {
		b = append(b, " NIL"...)
	} else {
		b = append(b, " ("...)
		b = appendString(b, p.Disposition)
		b = append(b, ' ')
		b = appendParams(b, p.DispParams)
		b = append(b, ')')
	}
	switch len(p.Language) {
	case 0:
		b = append(b, " NIL"...)
	case 1:
		b = append(b, ' ')
		b = appendString(b, p.Language[0])
	default:
		b = append(b, " ("...)
		for i, l := range p.Language {
			if i > 0 {
				b = append(b, ' ')
			}
			b = appendString(b, l)
		}
		b = append(b, ')')
	}
	b = append(b, ' ')
	return appendNString(b, p.Location, p.Location != "")
}

func appendParams(b []byte, params []Param) []byte {
	if len(params) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for i, p := range params {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendString(b, p.Name)
		b = append(b, ' ')
		b = appendString(b, p.Value)
	}
	return append(b, ')')
}

func appendNString(b []byte, s string, has bool) []byte {
	if !has {
		return append(b, "NIL"...)
	}
	return appendString(b, s)
}

// appendString writes a quoted string, or a literal when it has octets that a quoted string
// can't have. NUL is never sent (RFC 3501 §9: CHAR8).
func appendString(b []byte, s string) []byte {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	simple := len(s) < 1000
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || c == '\r' || c == '\n' {
			simple = false
			break
		}
	}
	if !simple {
		b = append(b, '{')
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, "}\r\n"...)
		return append(b, s...)
	}
	b = append(b, '"')
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
