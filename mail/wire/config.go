package wire

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"
)

// Config is what the connections of a listener share.
type Config struct {
	// Protocol decides what Accept returns and the texts of refusals; nil is Plain.
	Protocol Protocol
	// TLS returns the settings for a client, by its SNI. Nil: no TLS at all.
	TLS func(*tls.ClientHelloInfo) (*tls.Config, error)
	// ImplicitTLS starts TLS before the first byte (RFC 8314).
	ImplicitTLS bool
	Timeouts    Timeouts
	Limits      Limits
	// Clients holds the counts by client, for listeners that have them together; empty: its own.
	Clients Clients
	// Proxy says whether connections start with a PROXY header.
	Proxy ProxyMode
	// ProxyFrom gives the addresses that may send a PROXY header, at the moment; nil: none.
	ProxyFrom func() []netip.Prefix
	// Steer gives sessions to another machine; nil: all are served here.
	Steer Steerer
	// Log gets the transcript at LevelTrace and below; nil discards.
	Log *slog.Logger
	// OnClose is told of each connection that ended.
	OnClose func(*Conn)
}

func (c *Config) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return discard
}

var discard = slog.New(slog.DiscardHandler)

// Timeouts limit how long a client may take. Zero fields take DefaultTimeouts.
type Timeouts struct {
	// Idle is the wait for the first byte of a command (RFC 5321 §4.5.3.2.7:
	// at least 5 minutes; RFC 9051 §5.4: at least 30).
	Idle time.Duration
	// Command is the time for a command line from its first byte to its end.
	Command time.Duration
	// Data is the longest gap within a message or literal (RFC 5321 §4.5.3.2.5).
	Data time.Duration
	// MinRate is the lowest mean rate of a message or literal in bytes per
	// second, after a first Data of grace.
	MinRate int64
	// Write is the time for the client to take 32 KiB.
	Write time.Duration
	// Handshake is the time for a TLS handshake.
	Handshake time.Duration
	// Proxy is the time for a PROXY header.
	Proxy time.Duration
}

// DefaultTimeouts suit SMTP and POP3; IMAP wants Idle at 30 minutes or more.
var DefaultTimeouts = Timeouts{
	Idle: 5 * time.Minute, Command: time.Minute, Data: 3 * time.Minute, MinRate: 64,
	Write: 5 * time.Minute, Handshake: 30 * time.Second, Proxy: 5 * time.Second,
}

func (t Timeouts) orDefault() Timeouts {
	d := DefaultTimeouts
	set := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&t.Idle, d.Idle)
	set(&t.Command, d.Command)
	set(&t.Data, d.Data)
	set(&t.Write, d.Write)
	set(&t.Handshake, d.Handshake)
	set(&t.Proxy, d.Proxy)
	if t.MinRate <= 0 {
		t.MinRate = d.MinRate
	}
	return t
}
