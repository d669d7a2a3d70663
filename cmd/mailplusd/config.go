package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Config is what a node needs to start; everything else is replicated settings (mpctl config).
type Config struct {
	Name     string // of this node
	Data     string // directory of all data
	Bind     string // address of the mail listeners; empty: as the settings say
	Socket   string // admin socket
	AdminTLS string // address of the admin TLS listener; empty: none
	Metrics  string // address of /metrics, /healthz and, with Pprof, /debug/pprof; empty: none
	Pprof    bool
	LogLevel string // trace, debug, info, warn, error
	LogJSON  bool
	Dev      bool // system of the dev command: made at first start

	PortOffset int // of the dev command's ports
}

// options are the names in the file, MAILPLUSD_* and flags, with their defaults.
var options = []struct{ name, def, help string }{
	{"name", "", "name of this node (default: the host's name)"},
	{"data", "/var/lib/mailplusd", "directory of all data"},
	{"bind", "", "address of the mail listeners (default: as `mpctl service interface` says)"},
	{"admin-socket", "/run/mailplusd/admin.sock", "socket of mpctl"},
	{"admin-tls", "", "address of the admin listener with TLS, such as :2825 (default: none)"},
	{"metrics", "", "address of Prometheus metrics, such as 127.0.0.1:2900 (default: none)"},
	{"pprof", "false", "profiles at the metrics address"},
	{"log-level", "info", "trace, debug, info, warn or error"},
	{"log-format", "text", "text or json"},
}

func addFlags(f *pflag.FlagSet) {
	for _, o := range options {
		if o.def == "false" {
			f.Bool(o.name, false, o.help)
			continue
		}
		f.String(o.name, o.def, o.help)
	}
}

// loadConfig joins file, environment and flags; flags win.
func loadConfig(file string, flags *pflag.FlagSet) (Config, error) {
	v := viper.New()
	v.SetEnvPrefix("MAILPLUSD")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	if err := v.BindPFlags(flags); err != nil {
		return Config{}, err
	}
	if file != "" {
		v.SetConfigFile(file)
		if err := v.ReadInConfig(); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return Config{}, fmt.Errorf("the configuration file %s doesn't exist; write one (docs/guide/install.md) or leave --config away", file)
			}
			return Config{}, fmt.Errorf("configuration file %s: %w", file, err)
		}
		known := map[string]bool{}
		for _, o := range options {
			known[o.name] = true
		}
		only := viper.New() // the file's keys, without those of flags
		only.SetConfigFile(file)
		if err := only.ReadInConfig(); err != nil {
			return Config{}, fmt.Errorf("configuration file %s: %w", file, err)
		}
		for _, k := range only.AllKeys() {
			if !known[k] {
				return Config{}, fmt.Errorf("configuration file %s: unknown key %q", file, k)
			}
		}
	}
	c := Config{
		Name: v.GetString("name"), Data: v.GetString("data"), Bind: v.GetString("bind"), Socket: v.GetString("admin-socket"),
		AdminTLS: v.GetString("admin-tls"), Metrics: v.GetString("metrics"), Pprof: v.GetBool("pprof"),
		LogLevel: v.GetString("log-level"), LogJSON: v.GetString("log-format") == "json",
	}
	if f := v.GetString("log-format"); f != "json" && f != "text" {
		return c, fmt.Errorf("log-format is %q; use text or json", f)
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("the host has no name (%w); give --name", err)
		}
		c.Name = host
	}
	return c, nil
}

// devConfig is the node of `mailplusd dev`: loopback, high ports, no root.
func devConfig(data string, offset int) (Config, error) {
	if offset < 0 || offset > 60000 {
		return Config{}, fmt.Errorf("port-offset %d is outside 0 to 60000", offset)
	}
	port := func(p int) string { return fmt.Sprintf("127.0.0.1:%d", p+offset) }
	abs, err := filepath.Abs(data)
	if err != nil {
		return Config{}, err
	}
	return Config{
		Name: "dev", Data: abs, Bind: "127.0.0.1", Socket: filepath.Join(data, "admin.sock"),
		AdminTLS: port(2825), Metrics: port(2900), Pprof: true, LogLevel: "info", Dev: true, PortOffset: offset,
	}, nil
}
