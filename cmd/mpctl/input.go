package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"mailplusd/admin/op"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// input gathers an operation's input from words, flags and files.
type input struct {
	op     op.Any
	fields []op.Field
	flags  map[string]*flagValue // by field name
	secret map[string]*string    // file of a secret, by field name
	file   map[string]*string    // file of a content, by field name
	bulk   *string
}

func newInput(o op.Any) *input {
	return &input{op: o, fields: op.Fields(o.In()), flags: map[string]*flagValue{}, secret: map[string]*string{}, file: map[string]*string{}}
}

// usage is the words behind the verb.
func (in *input) usage() string {
	var b strings.Builder
	for n := 1; ; n++ {
		f := in.arg(n)
		if f == nil {
			return b.String()
		}
		word := strings.ToUpper(f.Name)
		if f.File != "" {
			word = strings.ToUpper(f.File)
		}
		if f.Rest {
			word = strings.TrimSuffix(word, "S") + "..."
		}
		if f.Optional || in.op.Spec().Bulk {
			word = "[" + word + "]"
		}
		b.WriteString(" " + word)
	}
}

func (in *input) arg(n int) *op.Field {
	for i := range in.fields {
		if f := &in.fields[i]; f.Arg == n {
			return f
		}
	}
	return nil
}

func (in *input) checkArgs(args []string) error {
	need, rest, most := 0, false, 0
	for _, f := range in.fields {
		if f.Arg == 0 {
			continue
		}
		most++
		if !f.Optional {
			need++
		}
		rest = rest || f.Rest
	}
	if in.bulk != nil && *in.bulk != "" {
		if len(args) > 0 {
			return fail("with --file the names come from the file, not from the command line")
		}
		return nil
	}
	if len(args) < need {
		if in.bulk != nil {
			return fail("%s needs%s, or --file with many", in.op.Name(), strings.NewReplacer("[", "", "]", "").Replace(in.usage()))
		}
		return fail("%s needs%s", in.op.Name(), in.usage())
	}
	if len(args) > most && !rest {
		if most == 0 {
			return fail("%q is too much: %s takes no word", args[0], in.op.Name())
		}
		return fail("%q is too much: %s takes%s", args[most], in.op.Name(), in.usage())
	}
	return nil
}

// flagValue is a flag whose text is kept until the input is built.
type flagValue struct {
	field *op.Field
	set   bool
	texts []string
}

func (v *flagValue) String() string { return strings.Join(v.texts, ",") }

func (v *flagValue) Type() string {
	t := v.field.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case len(v.field.Enum) > 0:
		return strings.Join(v.field.Enum, "|")
	case t.Kind() == reflect.Bool:
		return "on|off"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		if v.field.Unit != "" {
			return v.field.Unit
		}
		return "number"
	}
	return "text"
}

func (v *flagValue) Set(s string) error {
	v.set = true
	if kind(v.field.Type) == reflect.Slice {
		v.texts = append(v.texts, s)
		return nil
	}
	v.texts = []string{s}
	_, err := parseValue(v.field, s)
	return err
}

func kind(t reflect.Type) reflect.Kind {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind()
}

func (in *input) addFlags(c *cobra.Command) {
	for i := range in.fields {
		f := &in.fields[i]
		switch {
		case f.Flag != "":
			v := &flagValue{field: f}
			in.flags[f.Name] = v
			help := f.Help
			if f.Default != "" {
				help += " (default " + f.Default + ")"
			}
			if f.Min != nil && f.Max != nil {
				help += fmt.Sprintf(" (%d–%d)", *f.Min, *f.Max)
			}
			flag := c.Flags().VarPF(v, f.Flag, "", help)
			if kind(f.Type) == reflect.Bool {
				flag.NoOptDefVal = "on"
			}
			if len(f.Enum) > 0 {
				registerEnum(c, f.Flag, f.Enum)
			}
		case f.Secret != "":
			in.secret[f.Name] = c.Flags().String(f.Secret+"-file", "", f.Help+": file with it, - for standard input; asked for on a terminal")
		case f.File != "" && f.Arg == 0:
			in.file[f.Name] = c.Flags().String(f.File, "", f.Help)
		}
	}
	if in.op.Spec().Bulk {
		in.bulk = c.Flags().StringP("file", "f", "", "many rows from a file, - for standard input: CSV with a header line, or JSON lines")
	}
}

// build makes the JSON input.
func (in *input) build(args []string) (map[string]any, error) {
	out := map[string]any{}
	for i := range in.fields {
		f := &in.fields[i]
		switch {
		case f.Arg > 0 && f.Rest:
			if len(args) >= f.Arg {
				out[f.Name] = args[f.Arg-1:]
			}
		case f.Arg > 0 && f.File != "":
			if len(args) < f.Arg {
				continue
			}
			text, err := readFile(args[f.Arg-1], f.File)
			if err != nil {
				return nil, err
			}
			out[f.Name] = text
		case f.Arg > 0:
			if len(args) >= f.Arg {
				v, err := parseValue(f, args[f.Arg-1])
				if err != nil {
					return nil, err
				}
				out[f.Name] = v
			}
		case f.Flag != "":
			if err := in.fromFlag(f, out); err != nil {
				return nil, err
			}
		case f.Secret != "":
			s, err := readSecret(f, *in.secret[f.Name])
			if err != nil {
				return nil, err
			}
			if s != "" {
				out[f.Name] = s
			}
		case f.File != "" && f.Optional && *in.file[f.Name] == "":
		case f.File != "":
			text, err := readFile(*in.file[f.Name], f.File)
			if err != nil {
				return nil, err
			}
			out[f.Name] = text
		}
	}
	return out, nil
}

func (in *input) fromFlag(f *op.Field, out map[string]any) error {
	v := in.flags[f.Name]
	if !v.set {
		if f.Required {
			return fail("--%s is needed: %s", f.Flag, f.Help)
		}
		if f.Default != "" && f.Type.Kind() != reflect.Pointer {
			x, err := parseValue(f, f.Default)
			out[f.Name] = x
			return err
		}
		return nil
	}
	if kind(f.Type) == reflect.Slice {
		out[f.Name] = v.texts
		return nil
	}
	x, err := parseValue(f, v.texts[0])
	out[f.Name] = x
	return err
}

// parseValue reads one value as its field's type wants it.
func parseValue(f *op.Field, s string) (any, error) {
	switch kind(f.Type) {
	case reflect.Bool:
		switch strings.ToLower(s) {
		case "on", "true", "yes", "1":
			return true, nil
		case "off", "false", "no", "0":
			return false, nil
		}
		return nil, fail("%q is neither on nor off", s)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fail("%q is no whole number", s)
		}
		if f.Min != nil && n < *f.Min || f.Max != nil && n > *f.Max {
			return nil, fail("%d is outside %d to %d", n, *f.Min, *f.Max)
		}
		return n, nil
	}
	return s, nil
}

const maxInputFile = 64 << 20

// readSecret takes a secret from a file, standard input or a prompt without echo. It is
// never taken from a flag or the environment.
func readSecret(f *op.Field, path string) (string, error) {
	if path != "" {
		text, err := readFile(path, f.Secret+"-file")
		return strings.TrimRight(text, "\r\n"), err
	}
	if f.Optional || !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", nil
	}
	fmt.Fprintf(os.Stderr, "%s: ", f.Help)
	first, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(f.Help, "new") {
		fmt.Fprint(os.Stderr, "once more: ")
		second, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return "", err
		}
		if string(first) != string(second) {
			return "", fail("the two passwords differ")
		}
	}
	return string(first), nil
}

func readFile(path, flag string) (string, error) {
	var r io.Reader = os.Stdin
	switch path {
	case "":
		if term.IsTerminal(int(os.Stdin.Fd())) {
			return "", fail("--%s FILE is needed, - for standard input", flag)
		}
	case "-":
	default:
		f, err := os.Open(path)
		if err != nil {
			return "", fail("%v", rootCause(err))
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxInputFile+1))
	if err == nil && len(b) > maxInputFile {
		err = fmt.Errorf("%s is larger than %d MB", path, maxInputFile>>20)
	}
	if err != nil {
		return "", fail("%v", err)
	}
	return string(b), nil
}

func rootCause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return err
}

// check validates the input with the operation's own types before anything is sent.
func (in *input) check(values map[string]any) error {
	raw, err := json.Marshal(values)
	if err != nil {
		return err
	}
	v := reflect.New(in.op.In())
	if err := json.Unmarshal(raw, v.Interface()); err != nil {
		return fail("%v", err)
	}
	return op.Check(v.Interface())
}
