// Command mpctl administers mailplusd. Its tree of commands is derived from admin/api.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
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
	g := &globals{}
	root := tree(g, api.All)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var e *op.Error
	if !errors.As(err, &e) {
		e = op.Errorf(op.Usage, "%v", err)
	}
	g.printError(e)
	return e.Exit()
}

// printError writes an error to standard error: as JSON when the output is JSON.
func (g *globals) printError(e *op.Error) {
	if g.output == "json" || g.output == "jsonl" {
		json.NewEncoder(os.Stderr).Encode(map[string]any{"error": e, "exit": e.Exit()})
		return
	}
	fmt.Fprintln(os.Stderr, "mpctl:", e.Error())
	if e.Remedy != "" {
		fmt.Fprintln(os.Stderr, "try:  ", e.Remedy)
	}
}
