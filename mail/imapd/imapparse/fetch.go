package imapparse

import (
	"errors"
	"fmt"
	"strings"
)

// Item is one thing that FETCH asks for.
type Item struct {
	Name    string // FLAGS, UID, ENVELOPE …, BODY[ for a section, BINARY[ and BINARY.SIZE[ for a decoded one
	Peek    bool
	Path    []int    // part numbers of a section
	What    string   // "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT, MIME
	Fields  []string // of HEADER.FIELDS
	Label   string   // how the answer names it
	Partial bool
	Offset  uint64
	Length  uint64
}

var macros = map[string][]string{
	"ALL":  {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"},
	"FAST": {"FLAGS", "INTERNALDATE", "RFC822.SIZE"},
	"FULL": {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"},
}

const maxItems = 100

// Fetch reads the items of a FETCH.
func (p *Parser) Fetch() ([]Item, error) {
	if p.Peek() != '(' {
		start := p.i
		if a, err := p.Atom(); err == nil {
			if m, ok := macros[strings.ToUpper(a)]; ok {
				var out []Item
				for _, n := range m {
					out = append(out, Item{Name: n, Label: n})
				}
				return out, nil
			}
		}
		p.i = start
		it, err := p.item()
		return []Item{it}, err
	}
	var out []Item
	err := p.List(func() error {
		if len(out) >= maxItems {
			return errors.New("too many items")
		}
		it, err := p.item()
		out = append(out, it)
		return err
	})
	if err == nil && len(out) == 0 {
		err = errors.New("nothing to fetch")
	}
	return out, err
}

func (p *Parser) item() (Item, error) {
	name, err := p.while(func(c byte) bool { return isAtomChar(c) && c != '[' && c != '<' }, "an item")
	if err != nil {
		return Item{}, err
	}
	it := Item{Name: strings.ToUpper(name)}
	it.Label = it.Name
	switch it.Name {
	case "FLAGS", "UID", "ENVELOPE", "INTERNALDATE", "RFC822.SIZE", "BODYSTRUCTURE", "MODSEQ", "EMAILID", "THREADID":
		return it, nil
	case "PREVIEW":
		return it, p.previewModifiers()
	case "BINARY", "BINARY.PEEK", "BINARY.SIZE":
		err := p.binary(&it)
		return it, err
	case "RFC822":
		it.Name = "BODY["
	case "RFC822.HEADER":
		it.Name, it.What, it.Peek = "BODY[", "HEADER", true
	case "RFC822.TEXT":
		it.Name, it.What = "BODY[", "TEXT"
	case "BODY", "BODY.PEEK":
		if p.Peek() != '[' {
			if it.Name == "BODY.PEEK" {
				return it, errors.New("BODY.PEEK needs a section")
			}
			return it, nil
		}
		it.Peek = it.Name == "BODY.PEEK"
		it.Name = "BODY["
		err := p.section(&it)
		return it, err
	default:
		return it, fmt.Errorf("unknown item %.40s", name)
	}
	return it, nil
}

// section reads [path.what (fields)]<offset.length>.
func (p *Parser) section(it *Item) error {
	start := p.i
	if err := p.path(it); err != nil {
		return err
	}
	if p.Peek() != ']' {
		what, err := p.while(func(c byte) bool { return isAtomChar(c) && c != ']' }, "a section")
		if err != nil {
			return err
		}
		it.What = strings.ToUpper(what)
		switch it.What {
		case "HEADER", "TEXT":
		case "MIME":
			if len(it.Path) == 0 {
				return errors.New("MIME needs a part number")
			}
		case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
			if err := p.fieldNames(it); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown section %.40s", what)
		}
	}
	if err := p.Byte(']'); err != nil {
		return err
	}
	it.Label = "BODY" + label(p.s[start:p.i], it)
	if p.Peek() == '<' {
		return p.partial(it)
	}
	return nil
}

// path reads [ and the part numbers behind it.
func (p *Parser) path(it *Item) error {
	p.i++
	for c := p.Peek(); c >= '1' && c <= '9'; c = p.Peek() {
		n, err := p.Number()
		if err != nil {
			return err
		}
		if it.Path = append(it.Path, int(n)); len(it.Path) > MaxNesting {
			return errors.New("the section is nested too deep")
		}
		if p.Peek() != '.' {
			break
		}
		p.i++
		if p.Peek() == ']' {
			return errors.New("a section ends with a dot")
		}
	}
	return nil
}

// binary reads [path]<offset.length> behind BINARY, BINARY.PEEK and BINARY.SIZE (RFC 3516 §4.2).
func (p *Parser) binary(it *Item) error {
	if p.Peek() != '[' {
		return errors.New(it.Name + " needs a section")
	}
	start := p.i
	if err := p.path(it); err != nil {
		return err
	}
	if err := p.Byte(']'); err != nil {
		return err
	}
	it.Peek = it.Name != "BINARY"
	word := strings.TrimSuffix(it.Name, ".PEEK")
	it.Name, it.Label = word+"[", word+p.s[start:p.i]
	if word == "BINARY" && p.Peek() == '<' {
		return p.partial(it)
	}
	return nil
}

// previewModifiers reads (LAZY) (RFC 8970 §3.1), which changes nothing: a preview is always at hand.
func (p *Parser) previewModifiers() error {
	if rest := p.Rest(); len(rest) < 7 || !strings.EqualFold(rest[:7], " (LAZY)") && !strings.EqualFold(rest[:7], " (LAZY ") {
		return nil // nothing, or modifiers of FETCH itself
	}
	p.i++
	return p.List(func() error {
		a, err := p.Atom()
		if err == nil && !strings.EqualFold(a, "LAZY") {
			err = fmt.Errorf("unknown modifier %.20s", a)
		}
		return err
	})
}

// label writes the section as an answer names it: canonical, literals resolved.
func label(raw string, it *Item) string {
	if len(it.Fields) == 0 {
		return strings.ToUpper(raw)
	}
	var b strings.Builder
	b.WriteString(strings.ToUpper(raw[:strings.IndexByte(raw, '(')+1]))
	for i, f := range it.Fields {
		if i > 0 {
			b.WriteByte(' ')
		}
		if f = strings.ToUpper(f); strings.ContainsFunc(f, func(r rune) bool { return !isAStringChar(byte(r)) }) {
			f = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(f) + `"`
		}
		b.WriteString(f)
	}
	b.WriteString(")]")
	return b.String()
}

func (p *Parser) fieldNames(it *Item) error {
	if err := p.Space(); err != nil {
		return err
	}
	err := p.List(func() error {
		f, err := p.AString()
		for i := range len(f) {
			if f[i] <= ' ' || f[i] >= 0x7f || f[i] == ':' {
				return fmt.Errorf("%.40q is no field name", f)
			}
		}
		if it.Fields = append(it.Fields, f); len(it.Fields) > 200 {
			return errors.New("too many fields")
		}
		return err
	})
	if err == nil && len(it.Fields) == 0 {
		err = errors.New("no field is named")
	}
	return err
}

func (p *Parser) partial(it *Item) (err error) {
	p.i++
	it.Partial = true
	if it.Offset, err = p.Number64(); err != nil { // RFC 9051 §9
		return err
	}
	if err = p.Byte('.'); err != nil {
		return err
	}
	if it.Length, err = p.Number64(); err != nil {
		return err
	}
	if it.Length == 0 {
		return errors.New("a partial fetch of nothing")
	}
	return p.Byte('>')
}
