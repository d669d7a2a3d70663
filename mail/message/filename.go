package message

import (
	"io"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/html/charset"
)

// FileName gives the name under which a part is to be saved, decoded: the filename of its
// Content-Disposition, else the name of its Content-Type (RFC 2183, RFC 2231, and encoded words,
// which many senders put there). Empty: it has none.
func (p *Part) FileName() string {
	if name := decodedParam(p.DispParams, "FILENAME"); name != "" {
		return name
	}
	return decodedParam(p.Params, "NAME")
}

// decodedParam gives a parameter, also one that is cut into pieces or encoded (RFC 2231).
func decodedParam(params []Param, name string) string {
	get := func(n string) (string, bool) {
		for _, p := range params {
			if p.Name == n {
				return p.Value, true
			}
		}
		return "", false
	}
	if v, ok := get(name + "*"); ok {
		return decodeExtended(v)
	}
	if v, ok := get(name); ok {
		return Decode(v)
	}
	var b strings.Builder
	extended := false
	for i := range maxParams {
		n := name + "*" + strconv.Itoa(i)
		if v, ok := get(n + "*"); ok {
			extended = true
			b.WriteString(v)
			continue
		}
		v, ok := get(n)
		if !ok {
			break
		}
		if extended {
			v = url.PathEscape(v) // a plain piece between encoded ones stands for itself
		}
		b.WriteString(v)
	}
	if extended {
		return decodeExtended(b.String())
	}
	return Decode(b.String())
}

// decodeExtended reads charset'language'percent-encoded; what is not so written is taken as it is.
func decodeExtended(v string) string {
	cs, rest, ok := strings.Cut(v, "'")
	if _, text, two := strings.Cut(rest, "'"); ok && two {
		v = text
	} else {
		cs = ""
	}
	if d, err := url.PathUnescape(v); err == nil {
		v = d
	}
	if cs != "" && !strings.EqualFold(cs, "utf-8") && !strings.EqualFold(cs, "us-ascii") {
		if r, err := charset.NewReaderLabel(cs, strings.NewReader(v)); err == nil {
			if d, err := io.ReadAll(r); err == nil {
				v = string(d)
			}
		}
	}
	return strings.ToValidUTF8(v, "\uFFFD")
}
