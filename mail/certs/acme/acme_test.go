package acme

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/model"

	"pgregory.net/rapid"
)

// TestBadServer: whatever calls itself an ACME server, the reason is one line of bounded length.
func TestBadServer(t *testing.T) {
	for name, x := range map[string]struct {
		serve http.HandlerFunc
		words string
	}{
		"no directory": {func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) }, "HTTP 404"},
		"HTML":         {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>\r\n\x00welcome") }, "Content-Type"},
		"empty": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{}")
		}, "missing"},
		"endless":        {endless, ""},
		"a long problem": {func(w http.ResponseWriter, _ *http.Request) { problem(w, strings.Repeat("no\nno ", 1000)) }, "no no"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "{")
		}, "EOF"},
	} {
		srv := httptest.NewUnstartedServer(x.serve)
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		set := model.DefaultCerts().ACME
		set.Directory = srv.URL + "/" + strings.ReplaceAll(name, " ", "-")
		roots, err := RootsOf(string(pemOf(srv.Certificate().Raw)))
		if err != nil {
			t.Fatal(err)
		}
		set.Root = roots
		c := &Client{Settings: set, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err = c.Open(ctx)
		cancel()
		c.Close()
		srv.Close()
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Words, x.words) || len(e.Words) > maxWords+200 || strings.ContainsAny(e.Words, "\r\n\x00") {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"x":"`)
	b := []byte(strings.Repeat("x", 1<<16))
	for r.Context().Err() == nil {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

func problem(w http.ResponseWriter, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusForbidden)
	fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:unauthorized","detail":%q}`, detail)
}

func TestRetryTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"120": 2 * time.Minute, " 5 ": 5 * time.Second, "Fri, 02 Jan 2026 04:04:05 GMT": time.Hour, "99999999": maxRetry, "Fri, 02 Jan 2099 04:04:05 GMT": maxRetry,
	} {
		if got := retryTime(v, now).Sub(now); got != want {
			t.Errorf("%q: %s, want %s", v, got, want)
		}
	}
	for _, v := range []string{"", "soon", "-1", "1e9", "99999999999999999999"} {
		if got := retryTime(v, now); !got.IsZero() {
			t.Errorf("%q: %s", v, got)
		}
	}
}

// TestOneLine: what a server says can't break a line of the log, nor fill it.
func TestOneLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := oneLine(string(rapid.SliceOf(rapid.Byte()).Draw(t, "text")))
		if len(s) > maxWords+10 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
			t.Fatalf("%q", s)
		}
	})
}

func TestRootsOf(t *testing.T) {
	for _, bad := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if got, err := RootsOf(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
