package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"mailplusd/admin/op"

	"github.com/charmbracelet/lipgloss"
	"golang.org/x/term"
	"gopkg.in/yaml.v3"
)

var outputs = []string{"table", "wide", "json", "jsonl", "yaml", "csv", "name"}

func validOutput(o string) bool {
	for _, x := range outputs {
		if x == o {
			return true
		}
	}
	return false
}

// print writes a result in the chosen form, in few calls: a list may have 100,000 rows.
func (g *globals) print(o op.Any, raw json.RawMessage) error {
	w := bufio.NewWriterSize(os.Stdout, 64<<10)
	return errors.Join(g.printTo(w, o, raw), w.Flush())
}

func (g *globals) printTo(w io.Writer, o op.Any, raw json.RawMessage) error {
	if text, ok := rawText(o, raw); ok && (g.output == "table" || g.output == "wide") {
		_, err := io.WriteString(w, text)
		return err
	}
	if view := views[o.Name()]; view != nil && g.filter == "" && (g.output == "table" || g.output == "wide") {
		return view(w, raw, g.output == "wide")
	}
	rows, cols, list := rowsOf(o, raw)
	if g.filter != "" {
		rows = slices.DeleteFunc(rows, func(r row) bool { return !g.keep(r) })
		if list {
			raw, _ = json.Marshal(objects(rows))
		}
	}
	switch g.output {
	case "json":
		var b bytes.Buffer
		if err := json.Indent(&b, raw, "", "  "); err != nil {
			return err
		}
		b.WriteByte('\n')
		_, err := b.WriteTo(w)
		return err
	case "jsonl":
		for _, r := range rows {
			if _, err := fmt.Fprintf(w, "%s\n", r.raw); err != nil {
				return err
			}
		}
		return nil
	case "yaml":
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			return err
		}
		return yaml.NewEncoder(w).Encode(v)
	case "csv":
		return writeCSV(w, cols, rows)
	case "name":
		for _, r := range rows {
			if len(cols) > 0 {
				fmt.Fprintln(w, r.text(cols[0].Name))
			}
		}
		return nil
	}
	if !list && len(rows) == 1 {
		return g.writeRecord(w, cols, rows[0])
	}
	return g.writeTable(w, cols, rows)
}

// row is one object of a result.
type row struct {
	raw json.RawMessage
	m   map[string]any // see fields
}

// fields gives the object's fields, decoded when they are asked for.
func (r *row) fields() map[string]any {
	if r.m == nil {
		r.m = map[string]any{}
		json.Unmarshal(r.raw, &r.m)
	}
	return r.m
}

func objects(rows []row) []json.RawMessage {
	out := []json.RawMessage{}
	for _, r := range rows {
		out = append(out, r.raw)
	}
	return out
}

func (r *row) text(name string) string {
	switch v := r.fields()[name].(type) {
	case nil:
		return ""
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case float64:
		if v == float64(int64(v)) {
			return fmt.Sprintf("%d", int64(v))
		}
		return fmt.Sprint(v)
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = fmt.Sprint(v[i])
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		if m, ok := v["message"]; ok {
			return fmt.Sprint(m)
		}
		b, _ := json.Marshal(v)
		return string(b)
	default:
		return fmt.Sprint(v)
	}
}

// rowsOf finds the rows of a result: a list, the only list in an object, or the object itself.
func rowsOf(o op.Any, raw json.RawMessage) (rows []row, cols []op.Column, list bool) {
	t := o.Out()
	cols = op.Columns(t)
	if t.Kind() == reflect.Struct && len(cols) == 0 {
		for _, sf := range reflect.VisibleFields(t) {
			if sf.Type.Kind() == reflect.Slice && len(op.Columns(sf.Type)) > 0 {
				name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
				var m map[string]json.RawMessage
				if json.Unmarshal(raw, &m) == nil {
					raw, cols, t = m[name], op.Columns(sf.Type), sf.Type
				}
				break
			}
		}
	}
	if t.Kind() == reflect.Slice {
		var all []json.RawMessage
		json.Unmarshal(raw, &all)
		for _, x := range all {
			rows = append(rows, row{raw: x})
		}
		return rows, cols, true
	}
	return []row{{raw: raw}}, cols, false
}

// rawText is the text of a result that is one, such as an exported file.
func rawText(o op.Any, raw json.RawMessage) (string, bool) {
	t := o.Out()
	if t.Kind() != reflect.Struct {
		return "", false
	}
	for _, sf := range reflect.VisibleFields(t) {
		if sf.Tag.Get("raw") == "true" {
			name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
			s, ok := (&row{raw: raw}).fields()[name].(string)
			return s, ok
		}
	}
	return "", false
}

func (g *globals) shown(cols []op.Column) []op.Column {
	var out []op.Column
	for _, c := range cols {
		if !c.Wide || g.output == "wide" {
			out = append(out, c)
		}
	}
	return out
}

func (g *globals) writeTable(out io.Writer, cols []op.Column, rows []row) error {
	cols = g.shown(cols)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var head []string
	for _, c := range cols {
		head = append(head, c.Title)
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, r := range rows {
		var cells []string
		for _, c := range cols {
			cells = append(cells, oneLine(r.text(c.Name), g.output == "wide"))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// oneLine keeps a cell on one line, and in the narrow table short.
func oneLine(s string, wide bool) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
	if wide || utf8.RuneCountInString(s) <= 80 {
		return s
	}
	return string([]rune(s)[:79]) + "…"
}

// writeRecord shows one object, a line per field.
func (g *globals) writeRecord(out io.Writer, cols []op.Column, r row) error {
	if len(cols) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range cols {
		fmt.Fprintf(w, "%s\t%s\n", strings.ToLower(c.Title), oneLine(r.text(c.Name), true))
	}
	return w.Flush()
}

func writeCSV(out io.Writer, cols []op.Column, rows []row) error {
	w := csv.NewWriter(out)
	var head []string
	for _, c := range cols {
		head = append(head, c.Name)
	}
	w.Write(head)
	for _, r := range rows {
		var cells []string
		for _, c := range cols {
			cells = append(cells, r.text(c.Name))
		}
		w.Write(cells)
	}
	w.Flush()
	return w.Error()
}

// printRow writes one row of a stream.
func (g *globals) printRow(o op.Any, raw json.RawMessage, first bool) error {
	if g.output == "json" || g.output == "jsonl" {
		_, err := fmt.Fprintln(os.Stdout, string(raw))
		return err
	}
	cols := g.shown(op.Columns(o.Out()))
	r := &row{raw: raw}
	var cells []string
	for _, c := range cols {
		cells = append(cells, oneLine(r.text(c.Name), g.output == "wide"))
	}
	_, err := fmt.Fprintln(os.Stdout, strings.Join(cells, "  "))
	return err
}

// printBulk writes the line of one row.
func (g *globals) printBulk(raw json.RawMessage, first bool) error {
	if g.output == "json" || g.output == "jsonl" {
		_, err := fmt.Fprintln(os.Stdout, string(raw))
		return err
	}
	r := &row{raw: raw}
	line := fmt.Sprintf("%s\t%s\t%s", r.text("row"), r.text("key"), r.text("status"))
	if why := r.text("error"); why != "" {
		line += "\t" + oneLine(why, true)
	}
	_, err := fmt.Fprintln(os.Stdout, line)
	return err
}

func (g *globals) printDiff(diff []op.FieldDiff) error {
	if g.output == "json" || g.output == "jsonl" {
		if diff == nil {
			diff = []op.FieldDiff{}
		}
		return json.NewEncoder(os.Stdout).Encode(map[string]any{"dry_run": true, "diff": diff})
	}
	if len(diff) == 0 {
		fmt.Println("nothing would change")
		return nil
	}
	minus, plus := g.style("1"), g.style("2")
	for _, d := range diff {
		if d.Old != "" {
			fmt.Println(minus.Render(fmt.Sprintf("- %s: %s", d.Field, d.Old)))
		}
		if d.New != "" {
			fmt.Println(plus.Render(fmt.Sprintf("+ %s: %s", d.Field, d.New)))
		}
	}
	return nil
}

// style is a colour on a terminal and nothing elsewhere.
func (g *globals) style(colour string) lipgloss.Style {
	if g.noColor || os.Getenv("NO_COLOR") != "" || !term.IsTerminal(int(os.Stdout.Fd())) {
		return lipgloss.NewStyle()
	}
	return lipgloss.NewStyle().Foreground(lipgloss.Color(colour))
}
