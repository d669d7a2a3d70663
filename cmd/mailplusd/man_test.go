package main

import (
	"strings"
	"testing"
)

// TestManPageNamesEveryOption keeps mailplusd(8) and the configuration together.
func TestManPageNamesEveryOption(t *testing.T) {
	page := read(t, "../../packaging/mailplusd.8")
	for _, o := range options {
		if !strings.Contains(page, `\-\-`+strings.ReplaceAll(o.name, "-", `\-`)) {
			t.Errorf("--%s is missing", o.name)
		}
	}
	for _, c := range root().Commands() {
		if !c.Hidden && !strings.Contains(page, ".B mailplusd "+c.Name()) {
			t.Errorf("mailplusd %s is missing", c.Name())
		}
	}
}
