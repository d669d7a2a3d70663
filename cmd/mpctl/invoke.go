package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/client"
	"mailplusd/admin/op"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// connect makes the client that flags, environment and context ask for.
func (g *globals) connect() (*client.Client, error) {
	if g.context == "" {
		g.context = os.Getenv("MPCTL_CONTEXT")
	}
	if g.socket == "" && g.server == "" && g.context == "" {
		g.socket = os.Getenv("MPCTL_SOCKET")
	}
	if err := g.applyContext(); err != nil {
		return nil, err
	}
	o := client.Options{Socket: g.socket, Server: g.server, CA: g.ca, Cert: g.clientCert, Key: g.clientKey, User: g.login, Wait: 3 * time.Second}
	if g.server != "" && g.tokenFile != "" {
		text, err := readFile(g.tokenFile, "token-file")
		if err != nil {
			return nil, err
		}
		o.Token = strings.TrimSpace(text)
	} else if g.login != "" {
		f := &op.Field{Secret: "login-password", Help: "password of " + g.login}
		var err error
		if o.Password, err = readSecret(f, g.loginFile); err != nil {
			return nil, err
		}
		o.Code = func() (string, error) {
			return readSecret(&op.Field{Secret: "login-code", Help: "one-time code of " + g.login}, g.codeFile)
		}
	}
	return client.New(o)
}

// invoke does one operation: input, confirmation, call, output.
func invoke(cmd *cobra.Command, g *globals, o op.Any, in *input, args []string) error {
	if !validOutput(g.output) {
		return fail("-o %s is not one of %s", g.output, strings.Join(outputs, ", "))
	}
	if err := g.useFilter(o); err != nil {
		return err
	}
	c, err := g.connect()
	if err != nil {
		return err
	}
	if in.bulk != nil && *in.bulk != "" {
		if o.Spec().Confirm == op.ConfirmYes && !g.yes && !g.dryRun { // the rows may come from where the answer would
			return op.Errorf(op.Refused, "%s wants a confirmation; nothing was done", o.Name()).With(g.line + " --yes")
		}
		return g.bulk(cmd.Context(), c, o, *in.bulk)
	}
	if err := g.chooseInterface(cmd.Context(), c, o, in); err != nil {
		return err
	}
	if err := g.chooseMove(o, in, args); err != nil {
		return err
	}
	values, err := in.build(args)
	if err != nil {
		return err
	}
	if err := in.check(values); err != nil {
		return err
	}
	if err := g.confirmed(cmd.Context(), c, o, args, values); err != nil {
		return err
	}
	if o == op.Any(api.JobWait) {
		return g.jobWait(cmd.Context(), c, values)
	}
	switch o {
	case op.Any(api.MailboxExport):
		return g.mailboxExport(cmd.Context(), c, values)
	case op.Any(api.MailboxImport):
		return g.mailboxImport(cmd.Context(), c, values)
	case op.Any(api.SetupFromMailServer):
		return g.setupFromMailServer(cmd.Context(), c, values)
	}
	if o.Spec().Stream {
		return g.stream(cmd.Context(), c, o, values)
	}
	r, err := c.Call(cmd.Context(), op.Path(o), values, g.dryRun)
	if err = g.tolerate(err); err != nil && !errors.As(err, new(*op.Error)) {
		return err
	}
	if r == nil {
		return err
	}
	for _, w := range r.Warning {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	if g.dryRun && r.Error == nil && o.Spec().Effect != op.Read && !o.Spec().Review {
		return g.printDiff(r.Diff)
	}
	if o.Spec().Job && err == nil {
		return g.finishJob(cmd.Context(), c, o, r.Result)
	}
	if r.Result != nil && (r.Error == nil || r.Error.Code == op.Partial) {
		if perr := g.print(o, r.Result); perr != nil {
			return perr
		}
	}
	if err == nil && strings.HasPrefix(o.Name(), "check ") {
		return verdict(o, r.Result)
	}
	return err
}

// verdict makes a check that has found an error fail, so that a script or cron learns of it.
func verdict(o op.Any, raw json.RawMessage) error {
	var list []api.Finding
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	n := 0
	for _, f := range list {
		if f.Level == "error" {
			n++
		}
	}
	switch n {
	case 0:
		return nil
	case 1:
		return op.Errorf(op.Failed, "%s has found an error", o.Name())
	}
	return op.Errorf(op.Failed, "%s has found %d errors", o.Name(), n)
}

// tolerate turns "exists already" and "no such thing" into success when asked to.
func (g *globals) tolerate(err error) error {
	var e *op.Error
	if errors.As(err, &e) && (e.Code == op.Exists && g.ifNotExists || e.Code == op.NotFound && g.ifExists) {
		return nil
	}
	return err
}

// confirmed asks before a change that wants it, and shows the change first; without a terminal it
// never asks.
func (g *globals) confirmed(ctx context.Context, c *client.Client, o op.Any, args []string, values map[string]any) error {
	spec := o.Spec()
	all, _ := values["all"].(bool)
	if spec.Confirm == op.ConfirmNone || spec.Confirm == op.ConfirmAll && !all || g.dryRun {
		return nil
	}
	if spec.Confirm == op.ConfirmName && len(args) > 0 {
		if g.confirm == args[0] {
			return nil
		}
		if g.confirm != "" {
			return op.Errorf(op.Refused, "--confirm=%s does not match %s", g.confirm, args[0])
		}
		if !interactive() {
			return op.Errorf(op.Refused, "%s can't be undone; nothing was done", o.Name()).With(g.line + " --confirm=" + args[0])
		}
		return ask(fmt.Sprintf("%s can't be undone. Type %s to go on: ", o.Name(), args[0]), args[0])
	}
	if g.yes {
		return nil
	}
	if !interactive() {
		if spec.Review {
			if err := g.review(ctx, c, o, values); err != nil {
				return err
			}
		}
		return op.Errorf(op.Refused, "%s wants a confirmation; nothing was done", o.Name()).With(g.line + " --yes")
	}
	if err := g.review(ctx, c, o, values); err != nil {
		return err
	}
	return ask(spec.Summary+". Go on? Type yes: ", "yes")
}

// review prints what a change would do: the daemon's own dry run, its differences on standard error
// or, where it is made to be read, its answer.
func (g *globals) review(ctx context.Context, c *client.Client, o op.Any, values map[string]any) error {
	if o.Spec().Job || o.Spec().Upload {
		return nil
	}
	r, err := c.Call(ctx, op.Path(o), values, true)
	if err != nil {
		return err
	}
	if o.Spec().Review {
		for _, w := range r.Warning {
			fmt.Fprintln(os.Stderr, "warning:", w)
		}
		return g.print(o, r.Result)
	}
	for _, d := range r.Diff {
		if d.Old != "" {
			fmt.Fprintf(os.Stderr, "- %s: %s\n", d.Field, d.Old)
		}
		fmt.Fprintf(os.Stderr, "+ %s: %s\n", d.Field, d.New)
	}
	return nil
}

// chooseInterface lets a person at a terminal pick the interface of a new system; elsewhere the
// flag and its default count.
func (g *globals) chooseInterface(ctx context.Context, c *client.Client, o op.Any, in *input) error {
	flag := in.flags["interface"]
	if o != op.Any(api.SetupNew) || flag == nil || flag.set || g.yes || g.dryRun || !interactive() {
		return nil
	}
	r, err := c.Call(ctx, op.Path(api.NetInterfaceList), op.None{}, false)
	if err != nil {
		return err
	}
	var list []api.InterfaceRow
	if err := json.Unmarshal(r.Result, &list); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "Where shall the services listen?\n   0  all interfaces")
	for i, f := range list {
		fmt.Fprintf(os.Stderr, "  %2d  %s (%s)\n", i+1, f.Name, strings.Join(f.Addresses, ", "))
	}
	fmt.Fprint(os.Stderr, "Number [0]: ")
	line, _ := stdin.ReadString('\n')
	n, err := strconv.Atoi(strings.TrimSpace(line))
	switch {
	case strings.TrimSpace(line) == "":
		n = 0
	case err != nil || n < 0 || n > len(list):
		return fail("%q is none of 0 to %d", strings.TrimSpace(line), len(list))
	}
	if n > 0 {
		return flag.Set(list[n-1].Name)
	}
	return nil
}

// chooseMove asks a person at a terminal what becomes of the mail when accounts come from elsewhere.
func (g *globals) chooseMove(o op.Any, in *input, args []string) error {
	flag := in.flags["move_mail"]
	if o != op.Any(api.AccountSourceSet) || flag == nil || flag.set || len(args) == 0 || args[0] == "local" || !interactive() {
		return nil
	}
	fmt.Fprint(os.Stderr, "Shall the mail of each local account go to the directory account of the same name? yes or no: ")
	line, _ := stdin.ReadString('\n')
	return flag.Set(strings.TrimSpace(line))
}

// stdin is shared by all questions, so that one doesn't swallow the answer to the next.
var stdin = bufio.NewReader(os.Stdin)

func interactive() bool {
	return term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd()))
}

func ask(question, want string) error {
	fmt.Fprint(os.Stderr, question)
	line, _ := stdin.ReadString('\n')
	if strings.TrimSpace(line) != want {
		return op.Errorf(op.Refused, "not confirmed; nothing was done")
	}
	return nil
}

func (g *globals) stream(ctx context.Context, c *client.Client, o op.Any, values any) error {
	first := true
	return c.Stream(ctx, op.Path(o), values, g.dryRun, func(raw json.RawMessage) error {
		if g.keep != nil && !g.keep(row{raw: raw}) {
			return nil
		}
		defer func() { first = false }()
		return g.printRow(o, raw, first)
	})
}

// bulk sends a file's rows and prints a line for each.
func (g *globals) bulk(ctx context.Context, c *client.Client, o op.Any, path string) error {
	var r io.Reader = os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return fail("%v", rootCause(err))
		}
		defer f.Close()
		r = f
	}
	pr, pw := io.Pipe()
	unreadable := make(chan error, 1) // what is wrong with the rows, as against with the daemon
	go func() {
		err := rowsToJSON(r, bulkFields(o), pw)
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			unreadable <- err
		}
		pw.CloseWithError(err)
	}()
	defer pr.Close()
	first := true
	err := c.Bulk(ctx, op.BulkPath(o), pr, g.dryRun, func(raw json.RawMessage) error {
		defer func() { first = false }()
		return g.printBulk(raw, first)
	})
	select {
	case fault := <-unreadable:
		return fault
	default:
		return err
	}
}

// bulkFields are the fields a row may have: the input's, and for a list of names the single name.
func bulkFields(o op.Any) map[string]op.Field {
	out := map[string]op.Field{}
	for _, f := range op.Fields(o.In()) {
		if f.Rest && f.Arg == 1 {
			f.Name, f.Rest, f.Type = strings.TrimSuffix(f.Name, "s"), false, reflect.TypeFor[string]()
		}
		out[f.Name] = f
	}
	return out
}

// rowsToJSON reads CSV with a header line (RFC 4180), JSON lines, or one name a line, and
// writes JSON lines.
func rowsToJSON(r io.Reader, fields map[string]op.Field, w io.Writer) error {
	br := bufio.NewReaderSize(r, 64<<10)
	if b, _ := br.Peek(3); string(b) == "\xef\xbb\xbf" {
		br.Discard(3)
	}
	if b, _ := br.Peek(1); len(b) == 1 && b[0] == '{' {
		_, err := io.Copy(w, br)
		return err
	}
	cr := csv.NewReader(br)
	cr.FieldsPerRecord = -1
	cr.TrimLeadingSpace = true
	header, err := cr.Read()
	if err == io.EOF {
		return nil // an empty list, such as from a pipe, is nothing to do
	}
	if err != nil {
		return fail("the file is no CSV: %v", err)
	}
	enc := json.NewEncoder(w)
	if !known(header, fields) {
		if len(header) > 1 {
			return fail("the first line must name the columns, out of: %s", strings.Join(names(fields), ","))
		}
		only := []string{bulkKey(fields)} // one name a line, no header
		if err := writeRow(enc, only, header, fields); err != nil {
			return err
		}
		header = only
	}
	for {
		rec, err := cr.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fail("%v", err)
		}
		if err := writeRow(enc, header, rec, fields); err != nil {
			return err
		}
	}
}

// bulkKey is the field that a list without header gives: the operation's first word.
func bulkKey(fields map[string]op.Field) string {
	for name, f := range fields {
		if f.Arg == 1 {
			return name
		}
	}
	return "name"
}

func known(header []string, fields map[string]op.Field) bool {
	for _, h := range header {
		if _, ok := fields[strings.ToLower(strings.TrimSpace(h))]; !ok {
			return false
		}
	}
	return true
}

func names(fields map[string]op.Field) []string {
	var out []string
	for n := range fields {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func writeRow(enc *json.Encoder, header, rec []string, fields map[string]op.Field) error {
	row := map[string]any{}
	for i, text := range rec {
		if i >= len(header) {
			row["surplus column"] = text // the daemon refuses it with the row's number
			break
		}
		name := strings.ToLower(strings.TrimSpace(header[i]))
		f := fields[name]
		if text == "" {
			continue
		}
		if kind(f.Type) == reflect.Slice {
			row[name] = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
			continue
		}
		v, err := parseValue(&f, text)
		if err != nil {
			v = text
		}
		row[name] = v
	}
	return enc.Encode(row)
}
