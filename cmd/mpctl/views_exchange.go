package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"mailplusd/admin/api"
)

// maxExchangeValues bounds what a line shows of a list; -o wide and -o json show all of it.
const maxExchangeValues = 400

// viewExchange writes what becomes of the settings of Exchange, section by section.
func viewExchange(w io.Writer, raw json.RawMessage, wide bool) error {
	var rows []api.ExchangeRow
	if err := json.Unmarshal(raw, &rows); err != nil {
		return err
	}
	for _, s := range []struct{ section, title string }{
		{"set-up", "Set-up"}, {"general", "General settings"}, {"conditions", "Conditions (trusted servers, relays, TLS policies, black and white lists)"},
	} {
		head := s.title + "\n"
		for _, r := range rows {
			if r.Section == s.section && r.Result != api.ExchangeLeft {
				fmt.Fprint(w, head, exchangeLine(&r, wide))
				head = ""
			}
		}
	}
	head := "Not taken over\n"
	for _, r := range rows {
		if r.Result == api.ExchangeLeft {
			fmt.Fprint(w, head, exchangeLine(&r, wide))
			head = ""
		}
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "the file has no settings")
	}
	return nil
}

func exchangeLine(r *api.ExchangeRow, wide bool) string {
	values := strings.Join(r.Values, ", ")
	if cut := []rune(values); len(cut) > maxExchangeValues && !wide {
		values = string(cut[:maxExchangeValues]) + fmt.Sprintf("… (%d in all; -o wide)", len(r.Values))
	}
	from := r.From
	if values != "" {
		from += " = " + values
	}
	from = strings.Map(func(c rune) rune { // nothing in the file is to look like a line of ours
		if unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return '?'
		}
		return c
	}, from)
	var b strings.Builder
	switch {
	case r.Result == api.ExchangeLeft:
		fmt.Fprintf(&b, "  %s\n      not taken over: %s\n", from, r.Note)
		return b.String()
	case r.Result == api.ExchangeSame:
		fmt.Fprintf(&b, "    %s: %s, as it is", r.Setting, r.New)
	case r.Old != "":
		fmt.Fprintf(&b, "  + %s: %s, now %s", r.Setting, r.New, r.Old)
	default:
		fmt.Fprintf(&b, "  + %s: %s", r.Setting, r.New)
	}
	if r.Note != "" {
		fmt.Fprintf(&b, " (%s)", r.Note)
	}
	b.WriteByte('\n')
	if from != "" {
		fmt.Fprintf(&b, "      %s\n", from)
	}
	return b.String()
}
