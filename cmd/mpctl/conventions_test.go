package main

import (
	"context"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"mailplusd/admin/api"
	"mailplusd/admin/op"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unasked are deletions that ask nothing, and why they need not.
var unasked = map[string]string{
	"token delete":               "another one is made in a second; a lost one must go at once",
	"me forward delete":          "one command sets it again",
	"user forward delete":        "one command sets it again",
	"me autoreply delete":        "one command sets it again",
	"user autoreply delete":      "one command sets it again",
	"delivery block delete":      "lets a client in, loses nothing",
	"domain alias delete":        "one command sets it again",
	"domain autobcc delete":      "one command sets it again",
	"domain user delete":         "one command sets it again; the user's mail stays",
	"delivery tls delete":        "one command sets it again",
	"delivery tls ca delete":     "one command sets it again",
	"relay rule delete":          "one command sets it again",
	"relay trusted delete":       "one command sets it again",
	"relay domain delete":        "one command sets it again; what is queued still goes out",
	"queue hold-rule delete":     "one command sets it again; what is held stays held",
	"delivery postmaster delete": "one command sets it again",
}

// TestConventions holds every declared operation to the conventions that a user learns once.
func TestConventions(t *testing.T) {
	// covers: I.84
	root := tree(&globals{}, api.All)
	root.InitDefaultCompletionCmd()
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	left := map[string]bool{}
	for name := range unasked {
		left[name] = true
	}
	for _, o := range api.All {
		name, spec := o.Name(), o.Spec()
		c, rest, err := root.Find(strings.Fields(name))
		if err != nil || len(rest) > 0 || !c.Runnable() {
			t.Errorf("%s can't be called: %v", name, err)
			continue
		}
		if !strings.Contains(c.Long, "Exit status: 0 ok, 1 failed, 2 wrong usage, 3 refused") {
			t.Errorf("%s: the help names no exit status", name)
		}
		for _, flag := range []string{"output", "dry-run", "yes", "confirm", "if-exists", "if-not-exists", "filter"} {
			if c.InheritedFlags().Lookup(flag) == nil {
				t.Errorf("%s has no --%s", name, flag)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !kebab.MatchString(f.Name) || f.Usage == "" {
				t.Errorf("%s: flag --%s: %q", name, f.Name, f.Usage)
			}
		})
		if spec.Effect == op.Delete && spec.Confirm == op.ConfirmNone {
			if unasked[name] == "" {
				t.Errorf("%s deletes without asking: give it Confirm, or excuse it here", name)
			}
			delete(left, name)
		}
		if spec.Effect == op.Read && spec.Confirm != op.ConfirmNone {
			t.Errorf("%s only reads, but asks", name)
		}
		if noun, ok := strings.CutSuffix(name, " set"); ok && !shown(noun) {
			t.Errorf("%s has no matching show or list", name)
		}
		secrets(t, o)
		if op.Verb(o) == "list" {
			listed(t, o)
		}
	}
	for name := range left {
		t.Errorf("%s is excused but asks, or is gone", name)
	}
}

// shown tells whether what a verb sets can be looked at.
func shown(noun string) bool {
	for _, o := range api.All {
		if n := o.Name(); n == noun+" show" || n == noun+" list" || strings.HasPrefix(noun, "service ") && n == "service show" {
			return true
		}
	}
	return false
}

// secrets never stand in a flag or a word, where other processes can read them.
func secrets(t *testing.T, o op.Any) {
	for _, f := range op.Fields(o.In()) {
		secret := f.Type == reflect.TypeFor[op.Secret]() || f.Type == reflect.TypeFor[*op.Secret]()
		if secret && (f.Flag != "" || f.Arg > 0) {
			t.Errorf("%s takes the secret %s on the command line", o.Name(), f.Name)
		}
		if f.Secret != "" && !secret {
			t.Errorf("%s: %s is secret, but of a type that is logged", o.Name(), f.Name)
		}
	}
}

// listed: a list has rows with columns, the first of which is a name for -o name.
func listed(t *testing.T, o op.Any) {
	row := rowType(o.Out())
	cols := op.Columns(row)
	if len(cols) == 0 {
		t.Errorf("%s has no columns", o.Name())
		return
	}
	for _, c := range cols {
		if c.Name == "" || c.Title != strings.ToUpper(c.Title) {
			t.Errorf("%s: column %q of field %q", o.Name(), c.Title, c.Name)
		}
	}
	if cols[0].Wide {
		t.Errorf("%s: the first column is not in the table", o.Name())
	}
	if fields := rowFields(o); len(fields) < len(cols) {
		t.Errorf("%s: --filter knows %v", o.Name(), fields)
	}
}

// TestMistakes: a slip of the pen is told apart, fails with status 2, and gets the command that would work.
func TestMistakes(t *testing.T) {
	for line, want := range map[string]string{
		"usr list":                                     "try:   mpctl user list",
		"user lst":                                     "try:   mpctl user list",
		"domain alias ad example.test x y":             "try:   mpctl domain alias add example.test x y",
		"user frobnicate":                              "try:   mpctl user --help",
		"-o json user lst":                             `"remedy":"mpctl -o json user list"`,
		"user delete bob --confrim=bob":                "try:   mpctl user delete bob --confirm=bob",
		"user list --serach x":                         "try:   mpctl user list --search x",
		"user add carol --password secret":             "--password-file FILE",
		"user add":                                     "user add needs NAME, or --file",
		"user list extra":                              "takes no word",
		"user show":                                    "user show needs NAME",
		"-o xml user list":                             "is not one of table",
		"user list --filter nonsense=x":                "there is no field nonsense; there are name",
		"user list --filter name":                      "write field=value",
		"queue clear --all --yes --filter sender=x":    "--sender",
		"user add carol --password-file /nowhere/file": "/nowhere/file: no such file",
		"service smtp set --port 99999 --yes":          "outside 1 to 65535",
		"relay set --mode singel":                      "is not one of direct",
	} {
		code, errs := runMistake(t, "--socket /nowhere/admin.sock "+line)
		errs = strings.ReplaceAll(strings.ReplaceAll(errs, " --socket /nowhere/admin.sock", ""), "mpctl  ", "mpctl ")
		if code != 2 || !strings.Contains(errs, want) {
			t.Errorf("mpctl %s: exit %d\n%swant %s", line, code, errs, want)
		}
	}
	if code, errs := runMistake(t, "--socket /nowhere/admin.sock status"); code != 5 || !strings.Contains(errs, "systemctl status mailplusd") {
		t.Errorf("no daemon: exit %d\n%s", code, errs)
	}
}

// runMistake runs a command line and gives its status and what it wrote to standard error.
func runMistake(t *testing.T, line string) (int, string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stderr
	os.Stderr = w
	defer func() { os.Stderr = old }()
	text := make(chan string)
	go func() { b, _ := io.ReadAll(r); text <- string(b) }()
	code := run(context.Background(), strings.Fields(line))
	w.Close()
	return code, <-text
}

// TestCompletion: words and flags that take one of a set, or the name of a thing, complete to it.
func TestCompletion(t *testing.T) {
	root := tree(&globals{}, api.All)
	for _, o := range api.All {
		c, _, err := root.Find(strings.Fields(o.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range op.Fields(o.In()) {
			if f.Flag == "" {
				continue
			}
			fn, ok := c.GetFlagCompletionFunc(f.Flag)
			if !ok {
				t.Errorf("%s --%s does not complete", o.Name(), f.Flag)
				continue
			}
			want := len(f.Enum)
			if kind(f.Type) == reflect.Bool {
				want = 2
			}
			if want == 0 {
				continue
			}
			if got, dir := fn(c, nil, ""); len(got) != want || dir&cobra.ShellCompDirectiveNoFileComp == 0 {
				t.Errorf("%s --%s completes to %v", o.Name(), f.Flag, got)
			}
		}
	}
}

// TestNearest: a slip is found, another word is not.
func TestNearest(t *testing.T) {
	words := []string{"list", "show", "delete", "delivery.max-size", "delivery.max-hops"}
	for word, want := range map[string]string{"lst": "list", "lsit": "list", "delte": "delete", "delivery.max-siz": "delivery.max-size", "frobnicate": "", "": ""} {
		if got := op.Nearest(word, words); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

// TestTyped: a remedy repeats what was typed where it says so.
func TestTyped(t *testing.T) {
	g := &globals{line: "mpctl -o json user delete 'b c'"}
	for remedy, want := range map[string]string{
		"sudo mpctl user delete …":     "sudo mpctl -o json user delete 'b c'",
		"mpctl user delete … --yes":    "mpctl -o json user delete 'b c' --yes",
		"mpctl --server HOST:PORT …":   "mpctl --server HOST:PORT …",
		"mpctl user list":              "mpctl user list",
		"mpctl --socket PATH … or not": "mpctl --socket PATH … or not",
	} {
		if got := g.typed(remedy); got != want {
			t.Errorf("%q: %q, want %q", remedy, got, want)
		}
	}
}
