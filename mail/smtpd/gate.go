package smtpd

import (
	"net"
	"strings"
	"sync/atomic"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/wire"
)

// gate is the SMTP gate of a listener with the settings of the moment: each connection
// keeps those it started with.
type gate struct {
	srv  *Server
	kind Kind
	cfg  atomic.Pointer[gateConfig]
}

type gateConfig struct {
	set   *model.Settings
	proto wire.Protocol
}

// Gate makes the protocol of a listener's connections.
func (s *Server) Gate(kind Kind) wire.Protocol { return &gate{srv: s, kind: kind} }

func (g *gate) now() wire.Protocol {
	set := g.srv.Settings()
	if c := g.cfg.Load(); c != nil && c.set == set {
		return c.proto
	}
	c := &gateConfig{set: set, proto: wire.SMTP(g.srv.gateSettings(g.kind, set))}
	g.cfg.Store(c)
	return c.proto
}

func (g *gate) Name() string                 { return string(g.kind) }
func (g *gate) Refuse(r wire.Refusal) []byte { return g.now().Refuse(r) }
func (g *gate) Bye() []byte                  { return g.now().Bye() }
func (g *gate) Wrap(c *wire.Conn) net.Conn   { return g.now().Wrap(c) }

// gateSettings turns settings into the gate's.
func (s *Server) gateSettings(kind Kind, set *model.Settings) *wire.SMTPConfig {
	host := set.System.Hostname
	banner := strings.TrimSpace(strings.ReplaceAll(set.Delivery.Banner, "$hostname", host))
	if first, rest, _ := strings.Cut(banner, " "); strings.EqualFold(first, host) {
		banner = rest
	}
	cfg := &wire.SMTPConfig{
		Hostname: host, Banner: banner, MaxMessage: int64(set.Delivery.MaxSizeMB) << 20,
		MaxBodyLine: maxBodyLine, Tarpit: time.Second,
		EHLO:          func(c *wire.SMTPConn, caps []string) []string { return s.capabilities(kind, c, caps) },
		AuthOverPlain: true, // mayAuth decides, by address
		OnReset:       func(*wire.SMTPConn, string) {},
		XClientFrom:   model.Prefixes(set.Network.XClient),
	}
	if set.Delivery.BareNewline == "normalise" {
		cfg.BareNewline = wire.BareNormalise
	}
	return cfg
}

// maxBodyLine is far above RFC 5321 §4.5.3.1.6 (1,000 octets): real mail has longer lines, and losing it is worse.
const maxBodyLine = 1 << 20

// capabilities drops what this server doesn't offer.
func (s *Server) capabilities(_ Kind, _ *wire.SMTPConn, caps []string) []string {
	out := caps[:0]
	for _, c := range caps {
		if !strings.HasPrefix(c, "LIMITS") {
			out = append(out, c)
		}
	}
	return out
}
