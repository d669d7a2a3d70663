package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// genDocsCommand writes docs/reference and the man pages from the declarations. A test
// compares what it writes with what is checked in.
func genDocsCommand(root *cobra.Command) *cobra.Command {
	var reference, man string
	c := &cobra.Command{Use: "gen-docs", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return genDocs(root, reference, man)
	}}
	c.Flags().StringVar(&reference, "reference", "docs/reference", "directory of the reference pages")
	c.Flags().StringVar(&man, "man", "docs/man", "directory of the man pages")
	return c
}

func genDocs(root *cobra.Command, reference, man string) error {
	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd()
	for _, dir := range []string{reference, man} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		var b strings.Builder
		referencePage(&b, c, 1)
		if err := os.WriteFile(filepath.Join(reference, c.Name()+".md"), []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	return manPages(root, man)
}

var inherited = regexp.MustCompile(`(?s)\.SH OPTIONS INHERITED FROM PARENT COMMANDS\n.*?(\n\.SH |$)`)

// manPages writes the page of a command and those below it. The options of every command stand
// in mpctl(1) only, so that a new one changes one page and not all.
func manPages(c *cobra.Command, dir string) error {
	if c.Hidden || c.Name() == "help" {
		return nil
	}
	epoch := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) // the same pages whenever they are made
	var b bytes.Buffer
	if err := doc.GenMan(c, &doc.GenManHeader{Section: "1", Source: "mailplusd", Manual: "mailplusd", Date: &epoch}, &b); err != nil {
		return err
	}
	page := inherited.ReplaceAllString(b.String(), ".SH GLOBAL OPTIONS\nSee \\fBmpctl(1)\\fP.\n$1")
	if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"), []byte(page), 0o644); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if err := manPages(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

// referencePage writes a command and those below it.
func referencePage(b *strings.Builder, c *cobra.Command, level int) {
	b.WriteString(strings.Repeat("#", min(level, 4)) + " " + c.CommandPath() + "\n\n")
	if c.Short != "" {
		b.WriteString(c.Short + "\n\n")
	}
	if c.Runnable() {
		b.WriteString("```\n" + c.UseLine() + "\n")
		if f := c.NonInheritedFlags().FlagUsages(); f != "" {
			b.WriteString("\n" + f)
		}
		b.WriteString("```\n\n")
		if c.Example != "" {
			b.WriteString("```sh\n" + strings.ReplaceAll(c.Example, "\n  ", "\n")[2:] + "\n```\n\n")
		}
	}
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			referencePage(b, sub, level+1)
		}
	}
}
