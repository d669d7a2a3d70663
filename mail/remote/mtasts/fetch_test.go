package mtasts

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestFetch: only a plain text from the right host with a valid certificate is a policy.
func TestFetch(t *testing.T) {
	var answer http.HandlerFunc
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate()) // for example.com and *.example.com
	f := &Fetcher{Roots: func() *x509.CertPool { return pool }, Dial: func(ctx context.Context, host string, port uint16) (net.Conn, error) {
		if port != 443 || !strings.HasPrefix(host, "mta-sts.") {
			return nil, errors.New("who is that")
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}}
	give := func(kind, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/.well-known/mta-sts.txt" || r.Host != "mta-sts.example.com" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", kind)
			w.Write([]byte(text))
		}
	}
	for _, x := range []struct {
		name, domain string
		answer       http.HandlerFunc
		kind         string // of the failure; empty: none
	}{
		{"good", "example.com", give("text/plain; charset=utf-8", plain), ""},
		{"HTML", "example.com", give("text/html", plain), PolicyInvalid},
		{"no type", "example.com", give("", plain), PolicyInvalid},
		{"64 KB", "example.com", give("text/plain", strings.Repeat("x", MaxPolicy)), ""},
		{"too large", "example.com", give("text/plain", strings.Repeat("x", MaxPolicy+1)), PolicyInvalid},
		{"redirect", "example.com", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.com/", http.StatusFound)
		}, FetchError},
		{"error", "example.com", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, FetchError},
		{"cut off", "example.com", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("version"))
		}, FetchError},
		{"huge header", "example.com", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Huge", strings.Repeat("x", 1<<20))
		}, FetchError},
		{"wrong name", "example.org", give("text/plain", plain), WebPKIInvalid},
	} {
		answer = x.answer
		raw, err := f.Fetch(context.Background(), x.domain)
		var fail *Failure
		switch {
		case x.kind == "" && (err != nil || len(raw) == 0):
			t.Errorf("%s: %v", x.name, err)
		case x.kind != "" && (!errors.As(err, &fail) || fail.Kind != x.kind):
			t.Errorf("%s: %v, want %s", x.name, err, x.kind)
		}
	}
	pool = x509.NewCertPool()
	answer = give("text/plain", plain)
	var fail *Failure
	if _, err := f.Fetch(context.Background(), "example.com"); !errors.As(err, &fail) || fail.Kind != WebPKIInvalid {
		t.Errorf("signed by nobody: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	f.Dial = func(ctx context.Context, _ string, _ uint16) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	if _, err := f.Fetch(ctx, "example.com"); err == nil {
		t.Error("a server that never answers gives a policy")
	}
}
