package message

import (
	"bytes"
	"strings"
	"unicode"

	"golang.org/x/net/html"
)

// MaxPreview is how many characters a preview has at most (RFC 8970 §4.1: 200).
const MaxPreview = 200

// previewFrom is how much of a part is looked at for its preview.
const previewFrom = 64 << 10

// Preview gives the beginning of a message's text on one line: of its first plain text, or else of its
// HTML without the tags. Empty when it has none.
func Preview(raw []byte, root *Part) string {
	p := findText(root, "PLAIN")
	if p == nil {
		p = findText(root, "HTML")
	}
	if p == nil {
		return ""
	}
	cut := raw[p.BodyStart:p.End]
	text := decodeText(cut[:min(len(cut), previewFrom)], p)
	if p.Subtype == "HTML" {
		text = stripHTML(text)
	}
	return firstCharacters(text)
}

// findText finds the first text part of a subtype that isn't an attachment.
func findText(p *Part, subtype string) *Part {
	if p.Type == "TEXT" && p.Subtype == subtype && p.Disposition != "ATTACHMENT" {
		return p
	}
	for _, c := range p.Parts {
		if t := findText(c, subtype); t != nil {
			return t
		}
	}
	return nil
}

func stripHTML(text string) string {
	z := html.NewTokenizer(strings.NewReader(text))
	z.SetMaxBuf(previewFrom)
	var b strings.Builder
	hidden := ""
	for {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			if hidden == "" {
				b.Write(bytes.ReplaceAll(z.Text(), []byte("\u00a0"), []byte(" ")))
			}
		case html.StartTagToken:
			name, _ := z.TagName()
			if n := string(name); hidden == "" && (n == "script" || n == "style" || n == "title" || n == "head") {
				hidden = n
			}
			b.WriteByte(' ')
		case html.EndTagToken:
			if name, _ := z.TagName(); string(name) == hidden {
				hidden = ""
			}
			b.WriteByte(' ')
		}
	}
}

// firstCharacters puts a text on one line and cuts it.
func firstCharacters(text string) string {
	var b strings.Builder
	n, gap := 0, false
	for _, r := range text {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			gap = n > 0
			continue
		}
		if gap {
			if n++; n >= MaxPreview {
				break
			}
			b.WriteByte(' ')
			gap = false
		}
		if n++; n > MaxPreview {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
