package message

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"

	"golang.org/x/net/html/charset"
)

// maxText bounds the decoded text of one message that a search looks at.
const maxText = 4 << 20

// Text gives the decoded text parts of a message as UTF-8, for searching.
func Text(raw []byte, p *Part) string {
	var b strings.Builder
	gather(&b, raw, p)
	return b.String()
}

func gather(b *strings.Builder, raw []byte, p *Part) {
	if b.Len() > maxText {
		return
	}
	for _, c := range p.Parts {
		gather(b, raw, c)
	}
	if p.Message != nil {
		for i := range p.Message.Header.Fields {
			b.WriteString(Decode(p.Message.Header.Fields[i].Value) + "\n")
		}
		gather(b, raw, p.Message)
		return
	}
	if p.Type == "TEXT" {
		b.WriteString(decodeText(raw[p.BodyStart:p.End], p))
		b.WriteByte('\n')
	}
}

func decodeText(raw []byte, p *Part) string {
	var r io.Reader = bytes.NewReader(raw)
	switch p.Encoding {
	case "BASE64":
		r = base64.NewDecoder(base64.StdEncoding, &base64Only{r: r})
	case "QUOTED-PRINTABLE":
		r = quotedprintable.NewReader(r)
	}
	r = io.LimitReader(r, maxText)
	if cs := p.param("CHARSET"); cs != "" && !strings.EqualFold(cs, "utf-8") && !strings.EqualFold(cs, "us-ascii") {
		if d, err := charset.NewReaderLabel(cs, r); err == nil {
			r = d
		}
	}
	out, _ := io.ReadAll(r) // what can be decoded counts
	return strings.ToValidUTF8(string(out), "\uFFFD")
}

// base64Only passes over what isn't base64, as real mail needs.
type base64Only struct{ r io.Reader }

func (b *base64Only) Read(p []byte) (int, error) {
	for {
		n, err := b.r.Read(p)
		k := 0
		for _, c := range p[:n] {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '=' {
				p[k] = c
				k++
			}
		}
		if k > 0 || err != nil {
			return k, err
		}
	}
}
