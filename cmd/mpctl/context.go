package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"mailplusd/admin/op"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"
)

// contextFile is where named settings are kept.
func contextFile() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "mpctl", "config.yaml")
}

func contexts() (*viper.Viper, error) {
	v := viper.New()
	v.SetConfigFile(contextFile())
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil && !os.IsNotExist(err) {
		return nil, fail("%s: %v", contextFile(), err)
	}
	return v, nil
}

// applyContext fills in what flags and environment left open.
func (g *globals) applyContext() error {
	if _, err := os.Stat(contextFile()); err != nil && g.context == "" {
		return nil
	}
	v, err := contexts()
	if err != nil {
		return err
	}
	name := g.context
	if name == "" && (g.socket != "" || g.server != "") {
		return nil // a daemon is named already; the current context is for when none is
	}
	if name == "" {
		name = v.GetString("current")
	}
	if name == "" {
		return nil
	}
	if !v.IsSet("contexts." + name) {
		return op.Errorf(op.NotFound, "there is no context %q in %s", name, contextFile()).With("mpctl context list")
	}
	for key, p := range g.contextValues() {
		if *p == "" {
			*p = v.GetString("contexts." + name + "." + key)
		}
	}
	return nil
}

// contextValues are the flags that a context keeps.
func (g *globals) contextValues() map[string]*string {
	return map[string]*string{"socket": &g.socket, "server": &g.server, "ca": &g.ca, "login": &g.login, "token-file": &g.tokenFile, "client-cert": &g.clientCert, "client-key": &g.clientKey}
}

func contextCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "context", Short: "named settings of mpctl itself, in " + "~/.config/mpctl/config.yaml"}
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "list contexts", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			v, err := contexts()
			if err != nil {
				return err
			}
			for name := range v.GetStringMap("contexts") {
				mark := " "
				if name == v.GetString("current") {
					mark = "*"
				}
				fmt.Println(mark, name, v.GetString("contexts."+name+".server")+v.GetString("contexts."+name+".socket"))
			}
			return nil
		}},
		&cobra.Command{Use: "set NAME", Short: "keep --socket, --server, --ca, --login, --token-file, --client-cert and --client-key under a name", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			return editContexts(func(v *viper.Viper) error {
				for key, p := range g.contextValues() {
					if *p != "" {
						v.Set("contexts."+args[0]+"."+key, *p)
					}
				}
				return nil
			})
		}},
		&cobra.Command{Use: "use NAME", Short: "use a context from now on", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			return editContexts(func(v *viper.Viper) error {
				if !v.IsSet("contexts." + args[0]) {
					return op.Errorf(op.NotFound, "there is no context %q", args[0]).With("mpctl context set " + args[0] + " --server HOST:PORT")
				}
				v.Set("current", args[0])
				return nil
			})
		}},
		&cobra.Command{Use: "delete NAME", Short: "forget a context", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			return deleteContext(args[0])
		}},
	)
	return c
}

// deleteContext writes the file anew: viper can't take a key away.
func deleteContext(name string) error {
	v, err := contexts()
	if err != nil {
		return err
	}
	all := v.GetStringMap("contexts")
	name = strings.ToLower(name)
	if _, ok := all[name]; !ok {
		return op.Errorf(op.NotFound, "there is no context %q", name).With("mpctl context list")
	}
	delete(all, name)
	fresh := viper.New()
	fresh.SetConfigType("yaml")
	fresh.Set("contexts", all)
	if cur := v.GetString("current"); cur != name {
		fresh.Set("current", cur)
	}
	return fresh.WriteConfigAs(contextFile())
}

func editContexts(fn func(*viper.Viper) error) error {
	v, err := contexts()
	if err != nil {
		return err
	}
	if err := fn(v); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(contextFile()), 0o700); err != nil {
		return err
	}
	return v.WriteConfigAs(contextFile())
}

func registerEnum(c *cobra.Command, flag string, values []string) {
	c.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values, cobra.ShellCompDirectiveNoFileComp
	})
}

// complete gives the real values of a word: names that the daemon knows, one of a set, or files.
func (in *input) complete(g *globals) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		var f *op.Field
		for i := range in.fields {
			if x := &in.fields[i]; x.Arg == len(args)+1 || x.Rest && x.Arg > 0 && len(args) >= x.Arg {
				f = x
			}
		}
		switch {
		case f == nil:
			return nil, cobra.ShellCompDirectiveNoFileComp
		case f.File != "":
			return nil, cobra.ShellCompDirectiveDefault
		case len(f.Enum) > 0:
			return f.Enum, cobra.ShellCompDirectiveNoFileComp
		}
		return g.values(f, args, prefix)
	}
}

// completeFlags does the same for the values of flags; a flag that takes a file keeps the shell's own way.
func (in *input) completeFlags(c *cobra.Command, g *globals) {
	for i := range in.fields {
		f := &in.fields[i]
		switch {
		case f.Flag == "" || len(f.Enum) > 0: // see addFlags
		case kind(f.Type) == reflect.Bool:
			registerEnum(c, f.Flag, []string{"on", "off"})
		default:
			c.RegisterFlagCompletionFunc(f.Flag, func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
				return g.values(f, args, prefix)
			})
		}
	}
}

// values asks the daemon what a field may be.
func (g *globals) values(f *op.Field, words []string, prefix string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp
	if f.Complete == "" {
		return nil, directive
	}
	c, err := g.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, err := c.Call(ctx, "/v1/complete", map[string]any{"kind": f.Complete, "prefix": prefix, "words": words}, false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out struct {
		Values []string `json:"values"`
	}
	json.Unmarshal(r.Result, &out)
	if f.Complete == "assignment" {
		directive |= cobra.ShellCompDirectiveNoSpace // the value is still to be typed
	}
	return out.Values, directive
}
