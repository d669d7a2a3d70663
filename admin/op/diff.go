package op

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// DiffValues compares two values as their JSON shows them, field by field. nil is nothing.
func DiffValues(before, after any) []FieldDiff {
	a, b := flat(before), flat(after)
	var out []FieldDiff
	for _, k := range slices.Sorted(maps.Keys(union(a, b))) {
		if a[k] != b[k] {
			out = append(out, FieldDiff{Field: k, Old: a[k], New: b[k]})
		}
	}
	return out
}

func union(a, b map[string]string) map[string]bool {
	out := map[string]bool{}
	for k := range a {
		out[k] = true
	}
	for k := range b {
		out[k] = true
	}
	return out
}

func flat(v any) map[string]string {
	out := map[string]string{}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // <a> is to look like <a>
	if enc.Encode(v) != nil {
		return out
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(b.Bytes(), &m) != nil {
		return out
	}
	for k, x := range m {
		var text string
		switch {
		case string(x) == "null" || string(x) == "[]":
		case json.Unmarshal(x, &text) == nil:
			out[k] = text
		default:
			out[k] = string(x)
		}
	}
	return out
}
