package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"mailplusd/cluster/transport"
	"mailplusd/cluster/witness"
	"mailplusd/mail/model"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
)

// witnessCommand runs the third machine of a pair.
func witnessCommand() *cobra.Command {
	var data, listen, name, lease, level string
	var ttl time.Duration
	c := &cobra.Command{
		Use: "witness", Short: "run the witness of a pair: it decides which node may serve alone", Args: cobra.NoArgs,
		Long: "Run a witness on a third machine. It keeps one small record and sees no mail. Started without a\n" +
			"pair it prints a token; `mpctl ha witness add ADDRESS --invite-file -` on the primary takes it in.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runWitness(cmd.Context(), witnessConfig{data, listen, name, lease, level, ttl})
		},
	}
	c.Flags().StringVar(&data, "data", "/var/lib/mailplusd-witness", "directory of its record and key")
	c.Flags().StringVar(&listen, "listen", ":2827", "address on which the nodes reach it")
	c.Flags().StringVar(&name, "name", "witness", "its name among the nodes")
	c.Flags().StringVar(&lease, "lease", "default", "times of the pair's lease: default or short, as on the nodes")
	c.Flags().StringVar(&level, "log-level", "info", "trace, debug, info, warn or error")
	c.Flags().DurationVar(&ttl, "token-time", time.Hour, "how long the token is good for")
	return c
}

type witnessConfig struct {
	data, listen, name, lease, level string
	ttl                              time.Duration
}

func runWitness(ctx context.Context, cfg witnessConfig) error {
	log, err := newLogger(Config{LogLevel: cfg.level, Name: cfg.name})
	if err != nil {
		return err
	}
	settings, err := leaseSettings(cfg.lease)
	if err != nil {
		return err
	}
	w, err := witness.Open(witness.Options{Dir: cfg.data, Lease: settings, Logger: log})
	if err != nil {
		return err
	}
	identity, err := transport.LoadIdentity(cfg.data)
	if err != nil {
		return err
	}
	link, err := transport.Open(transport.Options{ID: cfg.name, Identity: identity, Listen: cfg.listen, Logger: log})
	if err != nil {
		return err
	}
	defer link.Close()
	pin := func(extra ...transport.Peer) error {
		peers := map[string]transport.Peer{}
		for _, n := range w.Record().Nodes {
			peers[n.ID] = transport.Peer{ID: n.ID, Addrs: n.Addrs, Key: n.Key}
		}
		for _, p := range extra {
			peers[p.ID] = p
		}
		list := make([]transport.Peer, 0, len(peers))
		for _, p := range peers {
			list = append(list, p)
		}
		return link.SetPeers(list...)
	}
	if err := pin(); err != nil {
		return err
	}
	link.AcceptPairing(transport.Pairing{
		Hello: func() transport.Hello {
			return transport.Hello{Node: cfg.name, Number: -1, Version: model.Version, Addrs: []string{link.Addr().String()}}
		},
		Check: func(_ context.Context, r transport.PairResult) error {
			if c := w.Record().Cluster; c != "" && c != r.Hello.Cluster {
				return errors.New("this witness belongs to another pair")
			}
			return nil
		},
		Paired: func(_ context.Context, r transport.PairResult) error {
			return pin(transport.Peer{ID: r.ID, Addrs: r.Hello.Addrs, Key: r.Key})
		},
	})
	w.Serve(witnessLink{link, func() {
		if err := pin(); err != nil {
			log.Error("nodes can't be pinned", "err", err)
		}
	}})
	fmt.Printf("witness %s listens on %s, key %s\n", cfg.name, link.Addr(), transport.Fingerprint(identity.PublicKey()))
	if w.Record().Cluster == "" {
		token, err := link.Invite(cfg.ttl)
		if err != nil {
			return err
		}
		host, port, _ := net.SplitHostPort(link.Addr().String())
		if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
			host, _ = os.Hostname()
		}
		fmt.Printf("take it in, on the primary, within %s:\n  echo %s | mpctl ha witness add %s --invite-file -\n", cfg.ttl, token, net.JoinHostPort(host, port))
	}
	daemon.SdNotify(false, daemon.SdNotifyReady)
	<-ctx.Done()
	return nil
}

// witnessLink pins the nodes anew after each enrolment.
type witnessLink struct {
	*transport.Transport
	changed func()
}

func (l witnessLink) Handle(method string, h func(context.Context, string, []byte) ([]byte, error)) {
	l.Transport.Handle(method, func(ctx context.Context, node string, req []byte) ([]byte, error) {
		out, err := h(ctx, node, req)
		if err == nil && method == "witness.enrol" {
			l.changed()
		}
		return out, err
	})
}
