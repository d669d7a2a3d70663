package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"mailplusd/mail/wire"
)

// newLogger writes text or JSON to standard error. The levels below debug carry transcripts:
// trace without secrets and bodies, traceauth and tracedata with them.
func newLogger(c Config) (*slog.Logger, error) {
	var level slog.Level
	switch strings.ToLower(c.LogLevel) {
	case "trace":
		level = wire.LevelTrace
	case "traceauth":
		level = wire.LevelTraceAuth
	case "tracedata":
		level = wire.LevelTraceData
	default:
		if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
			return nil, fmt.Errorf("log-level is %q; use trace, debug, info, warn or error", c.LogLevel)
		}
	}
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(os.Stderr, opts)
	if c.LogJSON {
		h = slog.NewJSONHandler(os.Stderr, opts)
	}
	return slog.New(h), nil
}
