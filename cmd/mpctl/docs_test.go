package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
)

// TestDocsAreCurrent fails when a declaration has changed and `make docs` was not run.
func TestDocsAreCurrent(t *testing.T) {
	dir := t.TempDir()
	ref, man := filepath.Join(dir, "reference"), filepath.Join(dir, "man")
	if err := genDocs(tree(&globals{}, api.All), ref, man); err != nil {
		t.Fatal(err)
	}
	for made, kept := range map[string]string{ref: "../../docs/reference", man: "../../docs/man"} {
		compareDirs(t, made, kept)
	}
}

func compareDirs(t *testing.T, made, kept string) {
	t.Helper()
	names := map[string]bool{}
	for _, dir := range []string{made, kept} {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatalf("%v; run make docs", err)
		}
		for _, e := range list {
			names[e.Name()] = true
		}
	}
	for n := range names {
		a, aerr := os.ReadFile(filepath.Join(made, n))
		b, berr := os.ReadFile(filepath.Join(kept, n))
		if aerr != nil || berr != nil || string(a) != string(b) {
			t.Errorf("%s/%s is not what the declarations say; run make docs", kept, n)
		}
	}
}

// TestEveryOperationIsDescribed keeps the declarations complete.
func TestEveryOperationIsDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range api.All {
		if seen[o.Name()] {
			t.Errorf("%s is declared twice", o.Name())
		}
		seen[o.Name()] = true
		if o.Spec().Summary == "" {
			t.Errorf("%s has no summary", o.Name())
		}
		for _, f := range op.Fields(o.In()) {
			if f.Help == "" || f.Name == "" {
				t.Errorf("%s: field %q has no help or no JSON name", o.Name(), f.Label())
			}
			if f.Arg == 0 && f.Flag == "" && f.Secret == "" && f.File == "" && o.Name() != "complete" {
				t.Errorf("%s: %s can't be given on the command line", o.Name(), f.Name)
			}
		}
		words := strings.Fields(o.Name())
		for n := 1; n < len(words); n++ {
			if noun := strings.Join(words[:n], " "); nouns[noun] == "" {
				t.Errorf("%q has no description", noun)
			}
		}
	}
}

func TestRowsToJSON(t *testing.T) {
	fields := bulkFields(api.UserAdd)
	for _, c := range []struct{ in, want string }{
		{"name,password,groups\na,b,\"x,y\"\n", `{"groups":["x","y"],"name":"a","password":"b"}` + "\n"},
		{"\ufeffname\na\n", `{"name":"a"}` + "\n"},
		{"{\"name\":\"a\"}\n", "{\"name\":\"a\"}\n"},
		{"anna\nben\n", "{\"name\":\"anna\"}\n{\"name\":\"ben\"}\n"},
		{"name\na,b\n", `{"name":"a","surplus column":"b"}` + "\n"},
	} {
		var b writer
		if err := rowsToJSON(reader(c.in), fields, &b); err != nil || string(b) != c.want {
			t.Errorf("%q: %q %v", c.in, b, err)
		}
	}
	var b writer
	if err := rowsToJSON(reader("nope,what\n"), fields, &b); err == nil {
		t.Error("unknown columns were accepted")
	}
}

func FuzzRows(f *testing.F) {
	f.Add("name,groups\na,b\n")
	f.Fuzz(func(t *testing.T, s string) {
		var b writer
		rowsToJSON(reader(s), bulkFields(api.UserAdd), &b)
	})
}
