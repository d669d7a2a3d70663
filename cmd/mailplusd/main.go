// Command mailplusd is the mail server. `mailplusd serve` runs a node, `mailplusd dev`
// a complete system on loopback to try it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"mailplusd/mail/model"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		if !errors.As(err, new(errLogged)) {
			fmt.Fprintln(os.Stderr, "mailplusd:", err)
		}
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use: "mailplusd", Short: "a mail server for a pair of machines",
		SilenceErrors: true, SilenceUsage: true, Version: model.Version,
	}
	c.AddCommand(serveCommand(), devCommand(), witnessCommand(), guardCommand(), spawnerCommand())
	return c
}

func serveCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "serve", Short: "run a node", Args: cobra.NoArgs,
		Long: "Run a node. What it needs to start comes from --config, MAILPLUSD_* variables and flags,\nthe later ones first; all else is set with mpctl.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file, cmd.Flags())
			if err != nil {
				return err
			}
			return run(cmd.Context(), cfg)
		},
	}
	addFlags(c.Flags())
	c.Flags().StringVar(&file, "config", "", "configuration file (YAML, TOML or JSON)")
	return c
}

func devCommand() *cobra.Command {
	var data, level string
	var offset int
	c := &cobra.Command{
		Use: "dev", Short: "try it: a whole system on loopback, without root", Args: cobra.NoArgs,
		Long: "Run a system for domain example.test with the accounts alice and bob on loopback ports.\n" +
			"An existing data directory is continued. The password is MAILPLUSD_DEV_PASSWORD, or made up and printed.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := devConfig(data, offset)
			if err != nil {
				return err
			}
			cfg.LogLevel = level
			err = run(cmd.Context(), cfg)
			if errors.Is(err, syscall.EADDRINUSE) {
				err = fmt.Errorf("%w: another program has the port, perhaps another mailplusd dev; stop it, or give this one --port-offset and a --data of its own", err)
			}
			return err
		},
	}
	c.Flags().StringVar(&data, "data", "var/dev", "directory of all data")
	c.Flags().IntVar(&offset, "port-offset", 0, "added to every port, to run a second system beside the first (new data directories only)")
	c.Flags().StringVar(&level, "log-level", "warn", "trace, debug, info, warn or error")
	return c
}
