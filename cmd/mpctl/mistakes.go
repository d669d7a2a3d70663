package main

import (
	"errors"
	"regexp"
	"strings"

	"mailplusd/admin/op"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unknownVerb finds a word behind a noun that is none of its verbs. cobra would print the noun's help
// and succeed, and a script with a slip of the pen would go on as if it had been done.
func (g *globals) unknownVerb(root *cobra.Command, args []string) error {
	c, rest, err := root.Find(args)
	if err != nil || c == root || c.Runnable() || !c.HasSubCommands() || c.ParseFlags(rest) != nil {
		return nil // cobra says what is wrong
	}
	word := c.Flags().Arg(0)
	if word == "" {
		return nil
	}
	return g.unknownCommand(c, word)
}

func (g *globals) unknownCommand(parent *cobra.Command, word string) error {
	var verbs []string
	for _, c := range parent.Commands() {
		if !c.Hidden {
			verbs = append(verbs, c.Name())
		}
	}
	e := op.Errorf(op.Usage, "there is no command %q", parent.CommandPath()+" "+word)
	if near := op.Nearest(word, verbs); near != "" {
		return e.With(g.instead(word, near))
	}
	return e.With(parent.CommandPath() + " --help")
}

// instead is what was typed with one word put right.
func (g *globals) instead(word, right string) string {
	for _, end := range []string{" ", "=", ""} {
		if i := strings.Index(g.line, " "+word+end); i >= 0 && (end != "" || strings.HasSuffix(g.line, " "+word)) {
			return g.line[:i+1] + right + g.line[i+1+len(word):]
		}
	}
	return g.line
}

var (
	rootWord = regexp.MustCompile(`^unknown command "(.+?)" for "mpctl"`)
	noFlag   = regexp.MustCompile(`^unknown flag: --(.+)$`)
)

// ofCobra turns what cobra complains about into our form of an error.
func (g *globals) ofCobra(root *cobra.Command, err error) *op.Error {
	var e *op.Error
	if errors.As(err, &e) {
		return e
	}
	if m := rootWord.FindStringSubmatch(err.Error()); m != nil {
		errors.As(g.unknownCommand(root, m[1]), &e)
		return e
	}
	return op.Errorf(op.Usage, "%v", err)
}

// badFlag names the flag that an unknown one was meant to be. A secret has none: others could read it.
func (g *globals) badFlag(c *cobra.Command, err error) error {
	m := noFlag.FindStringSubmatch(err.Error())
	if m == nil {
		return op.Errorf(op.Usage, "%v", err).With(c.CommandPath() + " --help")
	}
	var all []string
	add := func(f *pflag.Flag) {
		if !f.Hidden {
			all = append(all, f.Name)
		}
	}
	c.Flags().VisitAll(add)
	c.InheritedFlags().VisitAll(add)
	if file := m[1] + "-file"; c.Flags().Lookup(file) != nil {
		return op.Errorf(op.Usage, "--%s: what is secret is no word of a command line, which others can read", m[1]).With(c.CommandPath() + " --" + file + " FILE, or - for standard input")
	}
	e := op.Errorf(op.Usage, "%s has no flag --%s", strings.TrimPrefix(c.CommandPath(), "mpctl "), m[1])
	if near := op.Nearest(m[1], all); near != "" {
		return e.With(g.instead("--"+m[1], "--"+near))
	}
	return e.With(c.CommandPath() + " --help")
}

// typed puts what was typed in the place of "…" in a remedy that names the same command.
func (g *globals) typed(remedy string) string {
	before, after, found := strings.Cut(remedy, " …")
	if !found {
		return remedy
	}
	sudo, words := "", before
	if rest, ok := strings.CutPrefix(before, "sudo "); ok {
		sudo, words = "sudo ", rest
	}
	line := g.line + " "
	for _, w := range strings.Fields(words) {
		i := strings.Index(line, w+" ")
		if i < 0 {
			return remedy
		}
		line = line[i+len(w):]
	}
	return sudo + g.line + after
}
