// Command mpctl administers mailplusd. Its tree of commands is derived from admin/api.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// run does one command and gives the exit status.
func run(ctx context.Context, args []string) int {
	g := &globals{line: commandLine(args)}
	root := tree(g, api.All)
	args = joinSwitches(args)
	root.SetArgs(args)
	err := g.unknownVerb(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return 0
	}
	e := g.ofCobra(root, err)
	g.printError(e)
	return e.Exit()
}

// commandLine is what was typed, quoted for a shell where it has to be.
func commandLine(args []string) string {
	words := []string{"mpctl"}
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\n\"'`$\\|&;<>()*?[]{}~#!") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// printError writes an error to standard error: as JSON when the output is JSON.
func (g *globals) printError(e *op.Error) {
	if e.Remedy != "" {
		told := *e
		told.Remedy = g.typed(e.Remedy)
		e = &told
	}
	if g.output == "json" || g.output == "jsonl" {
		json.NewEncoder(os.Stderr).Encode(map[string]any{"error": e, "exit": e.Exit()})
		return
	}
	fmt.Fprintln(os.Stderr, "mpctl:", e.Error())
	if e.Remedy != "" {
		fmt.Fprintln(os.Stderr, "try:  ", e.Remedy)
	}
}

// joinSwitches lets a switch stand apart from its value (--enable on), although it may also
// stand alone (--enable).
func joinSwitches(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if i+1 < len(args) && strings.HasPrefix(a, "--") && !strings.Contains(a, "=") && !plainSwitch[a] && (args[i+1] == "on" || args[i+1] == "off") {
			i++
			a += "=" + args[i]
		}
		out = append(out, a)
	}
	return out
}

// plainSwitch are switches that take no value at all.
var plainSwitch = map[string]bool{"--": true, "--yes": true, "--dry-run": true, "--if-exists": true, "--if-not-exists": true, "--no-color": true, "--no-wait": true, "--help": true}
