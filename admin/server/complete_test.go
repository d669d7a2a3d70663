package server

import (
	"testing"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
)

// Every kind of word that a declaration completes has values, and none has that nobody asks for.
func TestCompletions(t *testing.T) {
	asked := map[string]bool{}
	for _, o := range api.All {
		for _, f := range op.Fields(o.In()) {
			if f.Complete == "" {
				continue
			}
			if asked[f.Complete] = true; completions[f.Complete] == nil {
				t.Errorf("%s completes %q, which has no values", o.Name(), f.Complete)
			}
		}
	}
	for kind := range completions {
		if !asked[kind] {
			t.Errorf("nobody asks for %q", kind)
		}
	}
}
