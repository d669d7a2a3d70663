package acme

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

const maxWords = 1000 // octets of a reason

// explain makes an error one for the administrator: the server's own words, when it has spoken.
func (c *Client) explain(what string, err error) *Error {
	e := &Error{}
	if at := c.retryAfter.Swap(0); at != 0 {
		e.Retry = time.Unix(at, 0)
	}
	var p acme.Problem
	var ue *url.Error
	switch {
	case errors.As(err, &p):
		e.Type = strings.TrimPrefix(p.Type, acme.ProblemTypeNamespace)
		e.Account = p.Type == acme.ProblemTypeAccountDoesNotExist
		e.Words = problemWords(&p)
	case errors.As(err, &ue):
		e.Words = oneLine("the ACME server does not answer: " + ue.Error())
	case errors.Is(err, context.DeadlineExceeded):
		e.Words = oneLine("not done in time: " + err.Error())
	default:
		e.Words = oneLine(err.Error())
	}
	if what != "" {
		e.Words = what + ": " + e.Words
	}
	return e
}

// problemWords gives what the server said (RFC 8555 §6.7), and about which names.
func problemWords(p *acme.Problem) string {
	text := "the ACME server says"
	if a, ok := p.Resource.(acme.Authorization); ok {
		text += " about " + a.IdentifierValue()
	}
	text += ": " + p.Detail
	if p.Detail == "" {
		text += p.Title
	}
	for _, s := range p.Subproblems {
		text += "; " + s.Detail
		if s.Identifier.Value != "" {
			text += " (" + s.Identifier.Value + ")"
		}
	}
	if t := strings.TrimPrefix(p.Type, acme.ProblemTypeNamespace); t != "" {
		text += " [" + t + "]"
	}
	return oneLine(text)
}

// oneLine makes what came from elsewhere fit for a line of a log or table.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "") + " …"
	}
	return s
}

// maxRetry bounds for how long a server can keep us from asking.
const maxRetry = 7 * 24 * time.Hour

// retryTime reads a Retry-After header (RFC 9110 §10.2.3); zero: none.
func retryTime(v string, now time.Time) time.Time {
	var at time.Time
	if n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 31); err == nil {
		at = now.Add(time.Duration(n) * time.Second)
	} else if t, err := http.ParseTime(v); err == nil {
		at = t
	} else {
		return time.Time{}
	}
	if limit := now.Add(maxRetry); at.After(limit) {
		at = limit
	}
	return at
}

// quiet lets acmez log below its own level: what fails is reported once, by who ordered.
type quiet struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "http request" { // carries tokens of the account in its headers
		return nil
	}
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
