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
	raw, err := json.Marshal(v)
	if err != nil {
		return out
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return out
	}
	for k, x := range m {
		if s := string(bytes.Trim(x, `"`)); s != "null" && s != "[]" {
			out[k] = s
		}
	}
	return out
}
