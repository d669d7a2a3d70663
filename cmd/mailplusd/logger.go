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
	return slog.New(logHandler(c.LogJSON, level)), nil
}

func logHandler(json bool, level slog.Level) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	if json {
		return slog.NewJSONHandler(os.Stderr, opts)
	}
	return slog.NewTextHandler(os.Stderr, opts)
}

// envLogFormat tells the guard, which is a process of its own, how this one writes.
const envLogFormat = "MAILPLUSD_LOG_FORMAT"

// shareLog makes libraries and child processes write as this process does.
func shareLog(c Config, log *slog.Logger) error {
	slog.SetDefault(log)
	format := "text"
	if c.LogJSON {
		format = "json"
	}
	return os.Setenv(envLogFormat, format)
}

// errLogged is an end whose reason is in the log already.
type errLogged struct{ error }

// logEnd puts the reason why a node ends into a log of JSON, where a line of plain text would be none.
func logEnd(c Config, log *slog.Logger, err error) error {
	if err == nil || !c.LogJSON {
		return err
	}
	log.Error("ended", "err", err)
	return errLogged{err}
}
