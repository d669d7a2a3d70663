package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"

	"gopkg.in/yaml.v3"
)

// TestOutputForms prints an answer of every operation in every form: JSON is JSON, a line of JSON lines is
// an object, CSV has as many cells as its head, and --filter picks rows.
func TestOutputForms(t *testing.T) {
	// covers: I.84
	for _, o := range api.All {
		if o.Out() == reflect.TypeFor[op.None]() {
			continue
		}
		sample := reflect.New(o.Out()).Elem()
		fill(sample, 0)
		raw, err := json.Marshal(sample.Interface())
		if err != nil {
			t.Errorf("%s: %v", o.Name(), err)
			continue
		}
		for _, form := range outputs {
			g := &globals{output: form, noColor: true}
			var b bytes.Buffer
			if err := g.printTo(&b, o, raw); err != nil {
				if form != "table" && form != "wide" { // a drawn screen may want values that make sense
					t.Errorf("%s -o %s: %v", o.Name(), form, err)
				}
				continue
			}
			formed(t, o, form, b.String())
		}
		fields := rowFields(o)
		if _, _, list := rowsOf(o, raw); !list || len(fields) == 0 {
			continue
		}
		g := &globals{output: "jsonl", filter: fields[0] + "=no such value"}
		if o.Spec().Effect != op.Read {
			continue
		}
		var b bytes.Buffer
		if err := g.useFilter(o); err != nil {
			t.Errorf("%s: %v", o.Name(), err)
		} else if err := g.printTo(&b, o, raw); err != nil || b.Len() > 0 {
			t.Errorf("%s: --filter leaves %q, %v", o.Name(), b.String(), err)
		}
	}
}

// formed checks what was printed.
func formed(t *testing.T, o op.Any, form, text string) {
	t.Helper()
	var v any
	switch form {
	case "json":
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Errorf("%s -o json: %v", o.Name(), err)
		}
	case "jsonl":
		for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Errorf("%s -o jsonl: %v: %s", o.Name(), err, line)
			}
		}
	case "yaml":
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			t.Errorf("%s -o yaml: %v", o.Name(), err)
		}
	case "csv":
		if rows, err := csv.NewReader(strings.NewReader(text)).ReadAll(); err != nil || len(rows) < 2 && len(op.Columns(o.Out())) > 0 {
			t.Errorf("%s -o csv: %v, %q", o.Name(), err, text)
		}
	case "name":
		if len(op.Columns(o.Out())) > 0 && strings.TrimSpace(text) == "" {
			t.Errorf("%s -o name prints nothing", o.Name())
		}
	}
}

// fill gives every field a value.
func fill(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x, \"y\"")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Pointer:
		if depth < 6 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), depth+1)
		}
	case reflect.Slice:
		if depth < 6 && v.Type() != reflect.TypeFor[json.RawMessage]() {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), depth+1)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), depth+1)
			}
		}
	}
}
