package message

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// inline are the elements that don't end a word: <b>w</b>ord is one.
var inline = map[atom.Atom]bool{
	atom.A: true, atom.Abbr: true, atom.Acronym: true, atom.B: true, atom.Bdi: true, atom.Bdo: true, atom.Big: true, atom.Cite: true,
	atom.Code: true, atom.Del: true, atom.Dfn: true, atom.Em: true, atom.Font: true, atom.I: true, atom.Ins: true, atom.Kbd: true,
	atom.Mark: true, atom.S: true, atom.Samp: true, atom.Small: true, atom.Span: true, atom.Strike: true, atom.Strong: true,
	atom.Sub: true, atom.Sup: true, atom.Tt: true, atom.U: true, atom.Var: true, atom.Wbr: true,
}

// hidden are the elements whose content nobody reads.
var hidden = map[atom.Atom]bool{atom.Script: true, atom.Style: true, atom.Noscript: true, atom.Template: true}

// StripHTML gives the text that a reader of an HTML document sees, with the alternative texts of
// its pictures. It takes any input: what isn't HTML is text.
func StripHTML(doc string) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(doc))
	skip := atom.Atom(0) // inside of this hidden element
	for {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			if skip == 0 {
				b.Write(z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			a := atom.Lookup(name)
			if skip == 0 && hidden[a] {
				skip = a
			}
			if skip != 0 || inline[a] {
				continue
			}
			b.WriteByte('\n')
			if a == atom.Img && more {
				writeAlt(&b, z)
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			a := atom.Lookup(name)
			switch {
			case skip != 0:
				if a == skip {
					skip = 0
				}
			case !inline[a]:
				b.WriteByte('\n')
			}
		}
	}
}

func writeAlt(b *strings.Builder, z *html.Tokenizer) {
	for more := true; more; {
		var key, value []byte
		key, value, more = z.TagAttr()
		if string(key) == "alt" {
			b.Write(value)
			b.WriteByte('\n')
		}
	}
}
