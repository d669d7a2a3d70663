package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
)

// fetchTime is for a policy as a whole; a message waits for it.
const fetchTime = 30 * time.Second

// Fetcher gets policies by HTTPS, without proxies, redirects or caches (RFC 8461 §3.3).
type Fetcher struct {
	Roots func() *x509.CertPool // nil, or a nil pool: the system's
	Dial  func(ctx context.Context, host string, port uint16) (net.Conn, error)
}

// Fetch gets the policy file of a domain.
func (f *Fetcher) Fetch(ctx context.Context, domain string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	host := "mta-sts." + domain
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if f.Roots != nil {
		cfg.RootCAs = f.Roots()
	}
	tr := &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return f.Dial(ctx, host, 443) },
		TLSClientConfig: cfg, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 32 << 10,
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "mailplusd")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, failure(host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &Failure{FetchError, fmt.Errorf("%s answers %d instead of its MTA-STS policy", host, resp.StatusCode)}
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || !strings.EqualFold(kind, "text/plain") {
		return nil, &Failure{PolicyInvalid, fmt.Errorf("the MTA-STS policy at %s is %q, not text/plain", host, short(resp.Header.Get("Content-Type")))}
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxPolicy+1))
	if err != nil {
		return nil, failure(host, err)
	}
	if len(raw) > MaxPolicy {
		return nil, &Failure{PolicyInvalid, fmt.Errorf("the MTA-STS policy at %s is larger than 64 KB", host)}
	}
	return raw, nil
}

func failure(host string, err error) error {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return &Failure{WebPKIInvalid, fmt.Errorf("the certificate of %s is not valid: %w", host, cert.Err)}
	}
	return &Failure{FetchError, fmt.Errorf("the MTA-STS policy can't be fetched from %s: %w", host, err)}
}
