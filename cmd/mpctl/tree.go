package main

import (
	"fmt"
	"strings"

	"mailplusd/admin/client"
	"mailplusd/admin/op"
	"mailplusd/mail/model"

	"github.com/spf13/cobra"
)

// globals are the flags of every command.
type globals struct {
	socket, server, ca, login, loginFile, tokenFile string
	clientCert, clientKey, codeFile                 string
	context                                         string
	output, filter                                  string
	keep                                            func(row) bool // what filter says
	dryRun, yes, noWait                             bool
	confirm                                         string
	line                                            string // what was typed
	ifNotExists, ifExists                           bool
	noColor                                         bool
}

const exitHelp = `
Exit status: 0 ok, 1 failed, 2 wrong usage, 3 refused by a rule, 4 not permitted,
5 daemon or leader not reachable, 6 partly done, 7 no such thing.`

// tree derives the commands from the declarations.
func tree(g *globals, ops []op.Any) *cobra.Command {
	root := &cobra.Command{
		Use: "mpctl", Short: "administer mailplusd", SilenceErrors: true, SilenceUsage: true, Version: model.Version,
		Long:              "mpctl does every administrative act of mailplusd: noun, perhaps a second noun, verb.\n" + exitHelp,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetFlagErrorFunc(g.badFlag)
	pf := root.PersistentFlags()
	pf.StringVar(&g.socket, "socket", "", "admin socket (default $MPCTL_SOCKET, or "+client.DefaultSocket+")")
	pf.StringVar(&g.server, "server", "", "HOST:PORT of the daemon's TLS listener instead of the socket")
	pf.StringVar(&g.ca, "ca", "", "with --server: file with the certificate to trust")
	pf.StringVar(&g.login, "login", "", "with --server: account to log in as; the password is asked for")
	pf.StringVar(&g.loginFile, "login-password-file", "", "with --login: file with the password, - for standard input")
	pf.StringVar(&g.codeFile, "login-code-file", "", "with --login: file with a one-time code, - for standard input, for accounts with two-factor login; asked for on a terminal")
	pf.StringVar(&g.tokenFile, "token-file", "", "with --server: file with a login token")
	pf.StringVar(&g.clientCert, "client-cert", "", "with --server: PEM file of a client certificate to log in with")
	pf.StringVar(&g.clientKey, "client-key", "", "with --client-cert: PEM file of its key, when not in the same")
	pf.StringVar(&g.context, "context", "", "named settings of ~/.config/mpctl/config.yaml")
	pf.StringVarP(&g.output, "output", "o", "table", "table, wide, json, jsonl, yaml, csv or name")
	pf.StringVar(&g.filter, "filter", "", "only rows for which this holds: field=value, !=, ~, >, <, joined by and")
	pf.BoolVar(&g.dryRun, "dry-run", false, "show what would change, change nothing")
	pf.BoolVarP(&g.yes, "yes", "y", false, "answer yes to confirmations")
	pf.StringVar(&g.confirm, "confirm", "", "name of what is deleted, where --yes is not enough")
	pf.BoolVar(&g.ifNotExists, "if-not-exists", false, "succeed when the thing exists already")
	pf.BoolVar(&g.ifExists, "if-exists", false, "succeed when the thing is not there")
	pf.BoolVar(&g.noColor, "no-color", false, "no colours; also NO_COLOR")
	registerEnum(root, "output", outputs)
	for _, o := range ops {
		parent := root
		words := strings.Fields(o.Name())
		for _, w := range words[:len(words)-1] {
			parent = child(parent, w)
		}
		c := command(g, o, words[len(words)-1])
		if have := find(parent, c.Name()); have != nil { // a verb whose name is also a noun
			adopt(have, c)
			continue
		}
		parent.AddCommand(c)
	}
	root.AddCommand(contextCommand(g), genDocsCommand(root))
	return root
}

func find(parent *cobra.Command, name string) *cobra.Command {
	for _, c := range parent.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// child finds or makes the command of a noun.
func child(parent *cobra.Command, name string) *cobra.Command {
	if c := find(parent, name); c != nil {
		return c
	}
	c := &cobra.Command{Use: name, Short: nouns[strings.TrimSpace(strings.TrimPrefix(parent.CommandPath()+" "+name, "mpctl "))]}
	parent.AddCommand(c)
	return c
}

func adopt(noun, verb *cobra.Command) {
	noun.Use, noun.Short, noun.Long, noun.Example = verb.Use, verb.Short, verb.Long, verb.Example
	noun.Args, noun.RunE, noun.ValidArgsFunction = verb.Args, verb.RunE, verb.ValidArgsFunction
	noun.Flags().AddFlagSet(verb.Flags())
}

// command makes the command of one operation.
func command(g *globals, o op.Any, verb string) *cobra.Command {
	spec := o.Spec()
	in := newInput(o)
	c := &cobra.Command{
		Use: verb + in.usage(), Short: spec.Summary, Example: indent(spec.Examples),
		Long: strings.TrimSpace(strings.ToUpper(spec.Summary[:1])+spec.Summary[1:]+".\n\n"+spec.Help) + "\n" + exitHelp,
	}
	in.addFlags(c)
	in.completeFlags(c, g)
	if spec.Job {
		c.Flags().BoolVar(&g.noWait, "no-wait", false, "start the job and go; mpctl job wait shows the rest")
	}
	c.Args = func(_ *cobra.Command, args []string) error { return in.checkArgs(args) }
	c.ValidArgsFunction = in.complete(g)
	c.RunE = func(cmd *cobra.Command, args []string) error { return invoke(cmd, g, o, in, args) }
	return c
}

func indent(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return "  " + strings.Join(lines, "\n  ")
}

func fail(format string, args ...any) error {
	return op.Errorf(op.Usage, "%s", fmt.Sprintf(format, args...))
}
