package main

import "testing"

// TestCommandLine: the remedy that is printed can be pasted.
func TestCommandLine(t *testing.T) {
	for want, args := range map[string][]string{
		"mpctl user delete bob":      {"user", "delete", "bob"},
		`mpctl a 'b c' 'it'\''s' ''`: {"a", "b c", "it's", ""},
		"mpctl x '--format=<a>'":     {"x", "--format=<a>"},
	} {
		if got := commandLine(args); got != want {
			t.Errorf("%q: %s, want %s", args, got, want)
		}
	}
}
