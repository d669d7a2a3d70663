package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailplusd/cluster/vip"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Config is what a node needs to start; everything else is replicated settings (mpctl config).
type Config struct {
	Name      string        // of this node
	Data      string        // directory of all data
	Bind      string        // address of the mail listeners; empty: as the settings say
	Socket    string        // admin socket
	AdminTLS  string        // address of the admin TLS listener; empty: none
	Metrics   string        // address of /metrics, /healthz and, with Pprof, /debug/pprof; empty: none
	Link      string        // address of the link between nodes; "none": no link
	Lease     string        // times of the lease: default or short
	VIPDriver string        // netlink or loopback
	ColdWait  time.Duration // how long a node that starts without any contact waits before the gateway rule decides; 0: 2 min
	Pprof     bool
	LogLevel  string // trace, debug, info, warn, error
	LogJSON   bool
	Dev       bool // system of the dev command: made at first start

	PortOffset int // of the dev command's ports

	spawner *vip.Spawner // of guards, when this process has dropped what they need
}

// options are the names in the file, MAILPLUSD_* and flags, with their defaults.
var options = []struct{ name, def, help string }{
	{"name", "", "name of this node (default: the host's name)"},
	{"data", "/var/lib/mailplusd", "directory of all data"},
	{"bind", "", "address of the mail listeners (default: as set by mpctl service interface set)"},
	{"admin-socket", "/run/mailplusd/admin.sock", "socket of mpctl"},
	{"admin-tls", "", "address of the admin listener with TLS, such as :2825 (default: none)"},
	{"link", ":2826", "address of the link between the nodes of a pair, TCP and UDP; none: no link"},
	{"lease", "default", "times of the pair's lease: default, or short for a quiet LAN; the same on both nodes"},
	{"cold-wait", "2m", "how long a node that starts and hears nobody waits before the gateway rule decides"},
	{"vip-driver", "netlink", "how the floating address is held: netlink, or loopback to try a pair on one machine"},
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
		Link: v.GetString("link"), Lease: v.GetString("lease"), VIPDriver: v.GetString("vip-driver"), ColdWait: v.GetDuration("cold-wait"),
		LogLevel: v.GetString("log-level"), LogJSON: v.GetString("log-format") == "json",
	}
	if f := v.GetString("log-format"); f != "json" && f != "text" {
		return c, fmt.Errorf("log-format is %q; use text or json", f)
	}
	if _, err := leaseSettings(c.Lease); err != nil {
		return c, err
	}
	if d := c.VIPDriver; d != "netlink" && d != "loopback" {
		return c, fmt.Errorf("vip-driver is %q; use netlink or loopback", d)
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
		Name: "dev", Data: abs, Socket: filepath.Join(data, "admin.sock"),
		AdminTLS: port(2825), Link: port(2826), VIPDriver: "loopback", Metrics: port(2900), Pprof: true, LogLevel: "info", Dev: true, PortOffset: offset,
	}, nil
}
