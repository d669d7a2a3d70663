package message

import (
	"fmt"
	"strings"
	"testing"
)

// TestParameterFlood: parameters without end, in every form that RFC 2231 knows, make neither more
// than maxParams of them nor a long name, and take time that grows as the header does.
func TestParameterFlood(t *testing.T) {
	const many = 100_000
	repeat := func(format string) string {
		var b strings.Builder
		for i := range many {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, params := range map[string]string{
		"pieces":           repeat("; filename*%d=x"),
		"encoded pieces":   repeat("; filename*%d*=%%41"),
		"pieces backwards": strings.ReplaceAll(repeat("; filename*%d=x"), "*0=", "*999999="),
		"large numbers":    "; filename*99999999999999999999=x; filename*-1=y; filename*00=z" + repeat("; x%d=y"),
		"the same":         strings.Repeat("; filename=x", many),
		"no names":         strings.Repeat("; =x", many),
		"no values":        strings.Repeat("; filename", many),
		"semicolons":       strings.Repeat(";", many),
		"open quotes":      strings.Repeat(`; filename="`, many),
		"escapes":          `; filename="` + strings.Repeat(`\`, many),
		"no charset":       "; filename*='''" + strings.Repeat("%", many),
		"a long charset":   "; filename*=" + strings.Repeat("x", many) + "''%41",
	} {
		for _, field := range []string{"Content-Disposition: attachment", "Content-Type: text/plain"} {
			raw := []byte(field + params + "\r\n\r\ntext\r\n")
			p := Walk(raw, Limits{MaxHeaderBytes: 4 << 20, MaxParts: 10, MaxDepth: 10}).Root
			if n := len(p.Params) + len(p.DispParams); n > maxParams {
				t.Errorf("%s, %s: %d parameters", name, field, n)
			}
			if got := p.FileName(); len(got) > len(raw) {
				t.Errorf("%s, %s: a name of %d octets out of %d", name, field, len(got), len(raw))
			}
			appendStructure(nil, p, true)
		}
	}
	// As many pieces as are read are put together in the order of their numbers.
	_, params := parseParams("x/y; filename*2=c; filename*0*=utf-8''%C3%A4; filename*1=%41; filename*4=e")
	if got := decodedParam(params, "FILENAME"); got != "ä%41c" {
		t.Errorf("%q", got)
	}
}
