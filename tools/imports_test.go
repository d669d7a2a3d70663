package tools

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImportDirections: imports point one way.
func TestImportDirections(t *testing.T) {
	for _, rule := range []struct {
		pkg  string
		bad  []string
		why  string
		deep bool // also through other packages
	}{
		{"mailplusd/cmd/mpctl", []string{"github.com/hashicorp/raft", "github.com/cockroachdb/pebble", "modernc.org/sqlite", "mailplusd/cluster", "mailplusd/mail/state", "mailplusd/admin/server"}, "mpctl starts fast and stays small", true},
		{"mailplusd/cluster", []string{"mailplusd/mail", "mailplusd/admin"}, "cluster knows bytes, not mail", true},
		{"mailplusd/mail/model", []string{"mailplusd/", "."}, "the nouns import the standard library only", true},
		{"mailplusd/admin/op", []string{"mailplusd/", "."}, "declarations import the standard library only", true},
		{"mailplusd/mail", []string{"mailplusd/admin", "mailplusd/cluster"}, "mail knows neither its administration nor its replication", true},
		{"mailplusd/mail/view", []string{"mailplusd/mail/wire", "mailplusd/mail/imapd"}, "the view knows nothing of the wire", true},
		{"mailplusd/mail/imapd/imapparse", []string{"mailplusd/"}, "the parser knows no session", true},
	} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", rule.pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range strings.Fields(string(out)) {
			if dep == rule.pkg {
				continue
			}
			for _, bad := range rule.bad {
				if bad == "." || strings.HasPrefix(dep, bad) {
					t.Errorf("%s imports %s: %s", rule.pkg, dep, rule.why)
				}
			}
		}
	}
}

// TestPackageComments: every package says what it is.
func TestPackageComments(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}\t{{.Doc}}", "mailplusd/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if pkg, doc, _ := strings.Cut(line, "\t"); doc == "" {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}
