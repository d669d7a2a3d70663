package wire

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"strings"
)

// Levels of the transcript, below slog.LevelDebug. LevelTrace shows commands and
// replies; LevelTraceAuth adds secrets; LevelTraceData adds message bodies.
const (
	LevelTrace     = slog.Level(-8)
	LevelTraceAuth = slog.Level(-12)
	LevelTraceData = slog.Level(-16)
)

// TraceKind says what goes over the wire, for the transcript.
type TraceKind int32

// Kinds of content.
const (
	TraceLines  TraceKind = iota // commands and replies
	TraceSecret                  // passwords: hidden above LevelTraceAuth
	TraceBody                    // messages: hidden above LevelTraceData
	traceOff                     // the SMTP gate writes its own transcript
)

type traceDir bool

const (
	traceDirIn  traceDir = true
	traceDirOut traceDir = false
)

// maxTrace is the most of one line that the transcript shows.
const maxTrace = 1024

// TraceIn says what the following input is. Lines that carry a secret by their
// command (LOGIN, PASS, AUTH …) are masked anyway; a parser says TraceSecret
// before the rest of a login that began with a literal.
func (c *Conn) TraceIn(k TraceKind) { c.traceIn.Store(int32(k)) }

// TraceOut says what the following output is.
func (c *Conn) TraceOut(k TraceKind) { c.traceOut.Store(int32(k)) }

// tracing reports whether a transcript is wanted at all.
func (c *Conn) tracing() bool {
	return c.log != discard && c.log.Enabled(context.Background(), LevelTrace)
}

// traceWrite puts output into the transcript.
func (c *Conn) traceWrite(p []byte) {
	if !c.tracing() {
		return
	}
	k := TraceKind(c.traceOut.Load())
	switch k {
	case traceOff:
	case TraceBody:
		c.traceText(traceDirOut, k, p)
	default:
		c.traceLines(k, p)
	}
}

// traceLines writes replies line by line; a literal in them (RFC 9051 §4.3) is a message or a part of one.
func (c *Conn) traceLines(k TraceKind, p []byte) {
	for len(p) > 0 {
		if n := min(c.traceLit, int64(len(p))); n > 0 {
			c.traceText(traceDirOut, TraceBody, p[:n])
			c.traceLit, p = c.traceLit-n, p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n') + 1
		if end == 0 {
			end = len(p)
		}
		c.traceText(traceDirOut, k, p[:end])
		c.traceLit, p = literalSize(p[:end]), p[end:]
	}
}

// literalSize is the number of octets that a line of output announces at its end.
func literalSize(line []byte) int64 {
	line, ok := bytes.CutSuffix(line, []byte("}\r\n"))
	start := bytes.LastIndexByte(line, '{')
	if !ok || start < 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(line[start+1:]), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// traceRead puts input that is no line into the transcript: a body, unless it
// was announced as a secret.
func (c *Conn) traceRead(p []byte) {
	if c.log == discard || len(p) == 0 || !c.tracing() {
		return
	}
	k := TraceKind(c.traceIn.Load())
	if k == TraceLines {
		k = TraceBody
	}
	if k != traceOff {
		c.traceText(traceDirIn, k, p)
	}
}

// traceText writes one record of the transcript, masked as its kind demands.
func (c *Conn) traceText(d traceDir, k TraceKind, p []byte) {
	ctx := context.Background()
	level, text := LevelTrace, ""
	switch {
	case k == TraceSecret && !c.log.Enabled(ctx, LevelTraceAuth):
		text = "***"
	case k == TraceBody && !c.log.Enabled(ctx, LevelTraceData):
		text = "(" + strconv.Itoa(len(p)) + " bytes)"
	default:
		switch k {
		case TraceSecret:
			level = LevelTraceAuth
		case TraceBody:
			level = LevelTraceData
		}
		if d == traceDirIn && k == TraceLines && !c.log.Enabled(ctx, LevelTraceAuth) {
			p = mask(p)
		}
		text = strings.TrimRight(string(p[:min(len(p), maxTrace)]), "\r\n")
	}
	dir := "S"
	if d == traceDirIn {
		dir = "C"
	}
	c.log.LogAttrs(ctx, level, "wire", slog.String("conn", c.id), slog.String("dir", dir), slog.String("text", text))
}

// mask hides what follows a command that carries a secret: AUTH and
// AUTHENTICATE keep the mechanism, LOGIN, PASS and APOP keep nothing. IMAP tags
// may come first.
func mask(line []byte) []byte {
	for start, word := 0, 0; word < 2; word++ {
		end := bytes.IndexAny(line[start:], " \r\n")
		if end < 0 {
			return line
		}
		end += start
		keep := -1
		switch strings.ToUpper(string(line[start:end])) {
		case "LOGIN", "PASS", "APOP":
			keep = end
		case "AUTH", "AUTHENTICATE":
			keep = end
			if i := bytes.IndexByte(line[min(end+1, len(line)):], ' '); i >= 0 {
				keep = end + 1 + i
			} else {
				return line
			}
		}
		if keep >= 0 {
			return append(append([]byte(nil), line[:keep]...), " ***"...)
		}
		start = end + 1
		if start >= len(line) {
			return line
		}
	}
	return line
}
