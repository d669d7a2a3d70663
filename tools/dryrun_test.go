package tools

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// withoutDryRun are changes that don't look at --dry-run, and why they need not.
var withoutDryRun = map[string]string{
	"license issue": "signs a key and stores nothing; license add does",
}

// TestDryRun: every operation that changes something reaches code that asks whether it is a dry run. The
// sources are read, as an input that makes sense can't be made up for each.
func TestDryRun(t *testing.T) {
	effects := declared(t, "../admin/api")
	if len(effects) < 150 {
		t.Fatalf("only %d operations found", len(effects))
	}
	server := sources(t, "../admin/server")
	asks, refers := map[string]bool{}, map[string]map[string]bool{}
	for _, f := range server {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				name := fn.Name.Name
				if fn.Recv != nil {
					name = "." + name
				}
				names, dry := look(fn.Body)
				asks[name] = asks[name] || dry
				if refers[name] == nil {
					refers[name] = map[string]bool{}
				}
				for n := range names {
					refers[name][n] = true
				}
			}
		}
	}
	reaches := func(names map[string]bool) bool {
		seen := map[string]bool{}
		todo := keys(names)
		for len(todo) > 0 {
			n := todo[0]
			todo = todo[1:]
			if seen[n] || refers[n] == nil {
				continue
			}
			seen[n] = true
			if asks[n] {
				return true
			}
			todo = append(todo, keys(refers[n])...)
		}
		return false
	}
	bound := map[string]bool{}
	reads, asking := 0, []string{}
	for _, f := range server {
		ast.Inspect(f, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok || len(c.Args) < 3 || !strings.HasPrefix(called(c), "bind") {
				return true
			}
			sel, ok := c.Args[1].(*ast.SelectorExpr)
			if !ok || effects[sel.Sel.Name].effect == "" {
				return true
			}
			o := effects[sel.Sel.Name]
			bound[o.name] = true
			if called(c) == "bindBulk" { // every batch of rows is a dry run or not: bulk.go
				return true
			}
			names, dry := map[string]bool{}, false
			for _, a := range c.Args[2:] {
				more, d := look(a)
				dry = dry || d
				for n := range more {
					names[n] = true
				}
			}
			ok = dry || reaches(names)
			if o.effect == "Read" {
				reads++
				if ok {
					asking = append(asking, o.name)
				}
				return true
			}
			if ok == (withoutDryRun[o.name] != "") {
				if ok {
					t.Errorf("%s is excused, but knows dry runs", o.name)
				} else {
					t.Errorf("%s never asks whether it is a dry run", o.name)
				}
			}
			return true
		})
	}
	if len(asking)*4 > reads { // what only reads has no reason to ask: then names lead everywhere, and this test can't fail
		t.Errorf("%d of %d operations that only read ask: %v", len(asking), reads, asking)
	}
	if len(bound) < 150 {
		t.Errorf("only %d operations are bound in what was read", len(bound))
	}
}

type operation struct{ name, effect string }

// declared reads the names and effects of all operations, by the variables that hold them.
func declared(t *testing.T, dir string) map[string]operation {
	out := map[string]operation{}
	for _, f := range sources(t, dir) {
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, value := range v.Values {
				c, ok := value.(*ast.CallExpr)
				if !ok || len(c.Args) != 2 {
					continue
				}
				name, ok := c.Args[0].(*ast.BasicLit)
				spec, isSpec := c.Args[1].(*ast.CompositeLit)
				if !ok || !isSpec {
					continue
				}
				o := operation{effect: "Read"}
				o.name, _ = strconv.Unquote(name.Value)
				for _, e := range spec.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Effect" {
						o.effect = kv.Value.(*ast.SelectorExpr).Sel.Name
					}
				}
				out[v.Names[i].Name] = o
			}
			return true
		})
	}
	return out
}

func sources(t *testing.T, dir string) (out []*ast.File) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// look gives the functions that code mentions, and whether it asks for a dry run. Methods have a dot before
// their name; those of s.mail and the like are of other packages.
func look(n ast.Node) (names map[string]bool, dry bool) {
	names = map[string]bool{}
	ast.Inspect(n, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.SelectorExpr:
			dry = dry || x.Sel.Name == "DryRun"
			if on, ok := x.X.(*ast.Ident); ok && on.Name != "op" && on.Name != "model" && on.Name != "state" && on.Name != "tx" {
				names["."+x.Sel.Name] = true
			}
		case *ast.CallExpr:
			if f, ok := x.Fun.(*ast.Ident); ok {
				names[f.Name] = true
			}
			for _, a := range x.Args {
				if f, ok := a.(*ast.Ident); ok {
					names[f.Name] = true
				}
			}
		}
		return true
	})
	return names, dry
}

// called names the function of a call.
func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.IndexExpr:
		if id, ok := f.X.(*ast.Ident); ok {
			return id.Name
		}
	}
	return ""
}

func keys(m map[string]bool) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}
