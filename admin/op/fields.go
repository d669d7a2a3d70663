package op

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Field is one field of an input with what its tags say.
type Field struct {
	Name     string // of the JSON field
	Arg      int    // position of the word, from 1; 0: none
	Rest     bool   // takes all words from Arg on
	Flag     string
	Secret   string
	File     string
	Help     string
	Unit     string
	Default  string
	Complete string
	Enum     []string
	Min, Max *int64
	Optional bool
	Required bool
	Type     reflect.Type
	Index    []int
}

var fieldCache sync.Map // reflect.Type → []Field

// Fields lists an input's fields in the order of their declaration.
func Fields(t reflect.Type) []Field {
	if t.Kind() != reflect.Struct {
		return nil
	}
	if c, ok := fieldCache.Load(t); ok {
		return c.([]Field)
	}
	var out []Field
	for _, sf := range reflect.VisibleFields(t) {
		if sf.Anonymous || !sf.IsExported() {
			continue
		}
		out = append(out, field(sf))
	}
	fieldCache.Store(t, out)
	return out
}

func field(sf reflect.StructField) Field {
	tag := sf.Tag.Get
	f := Field{
		Flag: tag("flag"), Secret: tag("secret"), File: tag("file"), Help: tag("help"), Unit: tag("unit"),
		Default: tag("default"), Complete: tag("complete"), Optional: tag("optional") == "true",
		Required: tag("required") == "true", Type: sf.Type, Index: sf.Index,
	}
	f.Name, _, _ = strings.Cut(tag("json"), ",")
	if a := tag("arg"); a != "" {
		a, f.Rest = strings.CutSuffix(a, "...")
		f.Arg, _ = strconv.Atoi(a)
	}
	if e := tag("enum"); e != "" {
		f.Enum = strings.Split(e, ",")
	}
	bound := func(s string) *int64 {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return &n
		}
		return nil
	}
	f.Min, f.Max = bound(tag("min")), bound(tag("max"))
	return f
}

// Label is how messages name the field.
func (f *Field) Label() string {
	if f.Flag != "" {
		return f.Flag
	}
	return f.Name
}

func (f *Field) check(v reflect.Value) error {
	bad := func(format string, args ...any) error {
		e := Errorf(Usage, format, args...)
		e.Field = f.Label()
		return e
	}
	if f.Arg > 0 && !f.Optional && v.IsZero() {
		return bad("is missing")
	}
	if f.Secret != "" && !f.Optional && v.IsZero() {
		return bad("is missing; give --%s-file, or - to read standard input", f.Secret)
	}
	given := v.Kind() == reflect.Pointer || f.Required // a zero that means zero, not "not given"
	v = reflect.Indirect(v)
	if !v.IsValid() {
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); s != "" && len(f.Enum) > 0 && !slices.Contains(f.Enum, s) {
			return bad("%q is not one of %s", s, strings.Join(f.Enum, ", "))
		}
	case reflect.Int, reflect.Int64:
		if n := v.Int(); (f.Min != nil && n < *f.Min || f.Max != nil && n > *f.Max) && (n != 0 || given) {
			return bad("%d is outside %s", n, f.bounds())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String && len(f.Enum) > 0 {
			for i := range v.Len() {
				if s := v.Index(i).String(); !slices.Contains(f.Enum, s) {
					return bad("%q is not one of %s", s, strings.Join(f.Enum, ", "))
				}
			}
		}
	}
	return nil
}

// bounds says what a number may be.
func (f *Field) bounds() string {
	switch {
	case f.Min == nil:
		return fmt.Sprintf("what is allowed, at most %d", *f.Max)
	case f.Max == nil:
		return fmt.Sprintf("what is allowed, at least %d", *f.Min)
	}
	return fmt.Sprintf("%d to %d", *f.Min, *f.Max)
}

// Column is one column of a table.
type Column struct {
	Title string
	Name  string // of the JSON field
	Wide  bool
	Index []int
}

// Columns lists the columns of an output's rows.
func Columns(t reflect.Type) []Column {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var out []Column
	for _, sf := range reflect.VisibleFields(t) {
		col := sf.Tag.Get("col")
		if col == "" {
			continue
		}
		title, wide, _ := strings.Cut(col, ",")
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		out = append(out, Column{Title: title, Name: name, Wide: wide == "wide", Index: sf.Index})
	}
	return out
}

// Masked gives an input for the admin log: what was given, secrets hidden.
func Masked(in any) map[string]any {
	v := reflect.Indirect(reflect.ValueOf(in))
	out := map[string]any{}
	for _, f := range Fields(v.Type()) {
		x := v.FieldByIndex(f.Index)
		if x.IsZero() {
			continue
		}
		x = reflect.Indirect(x)
		switch {
		case f.Secret != "" || x.Type() == reflect.TypeFor[Secret]():
			out[f.Name] = "********"
		case x.Kind() == reflect.String && len(x.String()) > 200:
			out[f.Name] = x.String()[:200] + "…"
		default:
			out[f.Name] = x.Interface()
		}
	}
	return out
}
