package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"mailplusd/admin/op"
)

// useFilter reads --filter before anything is asked of the daemon. It chooses among the rows of an
// answer and not what a change is about: ignored there, `queue clear --all --filter …` would clear all.
func (g *globals) useFilter(o op.Any) (err error) {
	if g.filter == "" {
		return nil
	}
	if o.Spec().Effect != op.Read {
		var own []string
		for _, f := range op.Fields(o.In()) {
			if f.Flag != "" {
				own = append(own, "--"+f.Flag)
			}
		}
		e := op.Errorf(op.Usage, "--filter chooses what is shown, not what %s is about; nothing was done", o.Name())
		if len(own) > 0 {
			e.Message += ". It has " + strings.Join(own, ", ")
		}
		return e
	}
	g.keep, err = parseFilter(g.filter, rowFields(o))
	return err
}

// rowFields names the fields of an answer's rows, as JSON has them.
func rowFields(o op.Any) []string {
	t := rowType(o.Out())
	if t.Kind() != reflect.Struct {
		return nil
	}
	var out []string
	for _, sf := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(sf.Tag.Get("json"), ","); name != "" && name != "-" && !sf.Anonymous {
			out = append(out, name)
		}
	}
	return out
}

// rowType is the type of a row: see rowsOf.
func rowType(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Struct && len(op.Columns(t)) == 0 {
		for _, sf := range reflect.VisibleFields(t) {
			if sf.Type.Kind() == reflect.Slice && len(op.Columns(sf.Type)) > 0 {
				t = sf.Type
				break
			}
		}
	}
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// parseFilter reads `field=value and other~part`.
func parseFilter(expr string, known []string) (func(row) bool, error) {
	type cond struct{ field, op, value string }
	var conds []cond
	for _, part := range strings.Split(expr, " and ") {
		part = strings.TrimSpace(part)
		i := strings.IndexAny(part, "=!~<>")
		if i <= 0 {
			return nil, fail("filter %q: write field=value, field!=value, field~part, field>n or field<n", part)
		}
		c := cond{field: strings.TrimSpace(part[:i]), op: part[i : i+1]}
		if !slices.Contains(known, c.field) {
			return nil, fail("filter %q: there is no field %s; there are %s", part, c.field, strings.Join(known, ", "))
		}
		rest := part[i+1:]
		if c.op == "!" {
			if !strings.HasPrefix(rest, "=") {
				return nil, fail("filter %q: after ! comes =", part)
			}
			rest = rest[1:]
		}
		c.value = strings.TrimSpace(rest)
		conds = append(conds, c)
	}
	return func(r row) bool {
		for _, c := range conds {
			text := r.text(c.field)
			var ok bool
			switch c.op {
			case "=":
				ok = strings.EqualFold(text, c.value)
			case "!":
				ok = !strings.EqualFold(text, c.value)
			case "~":
				ok = strings.Contains(strings.ToLower(text), strings.ToLower(c.value))
			default:
				ok = compare(text, c.value) == map[string]int{"<": -1, ">": 1}[c.op]
			}
			if !ok {
				return false
			}
		}
		return true
	}, nil
}

// compare orders numbers as numbers and everything else as text.
func compare(a, b string) int {
	var x, y float64
	if _, err := fmt.Sscan(a, &x); err == nil {
		if _, err := fmt.Sscan(b, &y); err == nil {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	}
	return strings.Compare(a, b)
}
