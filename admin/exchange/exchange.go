// Package exchange reads the settings that were exported from Microsoft Exchange, and keeps the
// PowerShell script that exports them.
//
// The file is XML of our own making, as nothing is published about what other products write:
//
//	<ExchangeExport version="1" server="EX1" exchange="Version 15.2 (Build 1118.7)" created="2026-01-31T09:00:00Z">
//	  <object type="TransportConfig" name="">
//	    <property name="MaxReceiveSize"><value>36 MB (37,748,736 bytes)</value></property>
//	  </object>
//	</ExchangeExport>
//
// An object is what a cmdlet Get-TYPE of the Exchange Management Shell answers; properties have the
// names that they have there, and a value for each element, as text. An object of type NotExported
// names a cmdlet that failed, its property Reason says why.
package exchange

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Limits of a file.
const (
	MaxSize    = 8 << 20 // octets
	MaxObjects = 20_000
	MaxValues  = 200_000 // of all objects
	MaxValue   = 16 << 10
	maxName    = 256
)

// Root is the file's root element, and Version its format.
const (
	Root    = "ExchangeExport"
	Version = "1"
)

// NotExported is the type of the objects that say what could not be exported.
const NotExported = "NotExported"

// Export is what a file says.
type Export struct {
	Server, Exchange, Created string // of the exporting server; may be empty
	Objects                   []*Object
}

// Object is one thing that a cmdlet of Exchange answered.
type Object struct {
	Type, Name string
	Properties []Property
}

// Property is one value or a list of values, as Exchange writes them.
type Property struct {
	Name   string
	Values []string
}

// All gives the objects of a type in the order of the file.
func (e *Export) All(kind string) (out []*Object) {
	for _, o := range e.Objects {
		if strings.EqualFold(o.Type, kind) {
			out = append(out, o)
		}
	}
	return out
}

// Values gives the values of a property; none when it is missing.
func (o *Object) Values(name string) []string {
	for i := range o.Properties {
		if strings.EqualFold(o.Properties[i].Name, name) {
			return o.Properties[i].Values
		}
	}
	return nil
}

// Value gives the first value of a property.
func (o *Object) Value(name string) string {
	if v := o.Values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// On tells whether a property is true.
func (o *Object) On(name string) bool { return strings.EqualFold(o.Value(name), "true") }

// Parse reads a file. Its errors say what is wrong, and in which line.
func Parse(text string) (*Export, error) {
	switch {
	case len(text) > MaxSize:
		return nil, fmt.Errorf("it has more than %d MB", MaxSize>>20)
	case strings.TrimSpace(text) == "":
		return nil, errors.New("it is empty")
	}
	text = strings.TrimPrefix(text, "\ufeff")
	if !utf8.ValidString(text) || strings.ContainsAny(text[:min(len(text), 64)], "\x00\ufffd") {
		return nil, errors.New("it is not UTF-8 text; a program that changes the encoding must not touch it on its way")
	}
	p := &parser{d: xml.NewDecoder(strings.NewReader(text))}
	p.d.CharsetReader = func(charset string, _ io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("its encoding is %.40q; only UTF-8 is read", charset)
	}
	e, err := p.file()
	if err != nil {
		line, _ := p.d.InputPos()
		var syntax *xml.SyntaxError
		if errors.As(err, &syntax) {
			line, err = syntax.Line, errors.New(syntax.Msg)
		}
		return nil, fmt.Errorf("line %d: %w", line, err)
	}
	return e, nil
}

type parser struct {
	d      *xml.Decoder
	values int
}

// next gives the next start or end of an element, and the text before it.
func (p *parser) next() (xml.Token, string, error) {
	var text strings.Builder
	for {
		t, err := p.d.Token()
		if err != nil {
			return nil, "", err
		}
		switch t := t.(type) {
		case xml.StartElement:
			return t.Copy(), text.String(), nil
		case xml.EndElement:
			return t, text.String(), nil
		case xml.CharData:
			if text.Len()+len(t) > MaxValue {
				return nil, "", fmt.Errorf("a value has more than %d octets", MaxValue)
			}
			text.Write(t)
		case xml.Directive:
			return nil, "", errors.New("it has a DOCTYPE, which an export never has")
		}
	}
}

// elements calls f for each element inside of the one that has begun; its name must be name.
func (p *parser) elements(name string, f func(xml.StartElement) error) error {
	for {
		t, text, err := p.next()
		if err != nil {
			return err
		}
		if strings.TrimSpace(text) != "" {
			return fmt.Errorf("text %.40q stands where <%s> is expected", strings.TrimSpace(text), name)
		}
		start, ok := t.(xml.StartElement)
		if !ok {
			return nil
		}
		if start.Name.Local != name {
			return fmt.Errorf("<%.40s> stands where <%s> is expected", start.Name.Local, name)
		}
		if err := f(start); err != nil {
			return err
		}
	}
}

// attr gives an attribute of an element.
func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (p *parser) file() (*Export, error) {
	t, text, err := p.next()
	if err == io.EOF {
		return nil, errors.New("it is no XML")
	}
	if err != nil {
		return nil, err
	}
	root, ok := t.(xml.StartElement)
	if !ok || strings.TrimSpace(text) != "" {
		return nil, errors.New("it is no XML")
	}
	if root.Name.Local != Root {
		return nil, fmt.Errorf("its root element is <%.40s>, not <%s>: another program or another script has written it", root.Name.Local, Root)
	}
	if v := attr(root, "version"); v != Version {
		return nil, fmt.Errorf("its format has version %.20q; this program reads version %s", v, Version)
	}
	e := &Export{Server: attr(root, "server"), Exchange: attr(root, "exchange"), Created: attr(root, "created")}
	if err := p.elements("object", func(s xml.StartElement) error { return p.object(e, s) }); err != nil {
		return nil, err
	}
	switch _, text, err := p.next(); {
	case err == io.EOF:
		return e, nil
	case err != nil:
		return nil, err
	default:
		return nil, fmt.Errorf("something stands behind </%s>: %.40q", Root, strings.TrimSpace(text))
	}
}

func (p *parser) object(e *Export, s xml.StartElement) error {
	o := &Object{Type: attr(s, "type"), Name: attr(s, "name")}
	if o.Type == "" || len(o.Type) > maxName || len(o.Name) > maxName {
		return fmt.Errorf("an object has no type, or a type or name of more than %d octets", maxName)
	}
	if e.Objects = append(e.Objects, o); len(e.Objects) > MaxObjects {
		return fmt.Errorf("more than %d objects", MaxObjects)
	}
	return p.elements("property", func(s xml.StartElement) error {
		prop := Property{Name: attr(s, "name")}
		if prop.Name == "" || len(prop.Name) > maxName {
			return fmt.Errorf("a property has no name, or one of more than %d octets", maxName)
		}
		err := p.elements("value", func(xml.StartElement) error {
			t, text, err := p.next()
			if err != nil {
				return err
			}
			if s, ok := t.(xml.StartElement); ok {
				return fmt.Errorf("<%.40s> stands inside of a value", s.Name.Local)
			}
			if p.values++; p.values > MaxValues {
				return fmt.Errorf("more than %d values", MaxValues)
			}
			if text = strings.TrimSpace(text); text != "" {
				prop.Values = append(prop.Values, text)
			}
			return nil
		})
		o.Properties = append(o.Properties, prop)
		return err
	})
}
