package tlsrpt

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// postTime is for handing over one report.
const postTime = 30 * time.Second

// Poster hands reports over by HTTPS (RFC 8460 §5.4), without proxies. Redirects are not followed:
// who is named in DNS is to take the report. Certificates are verified, so that the report goes to
// that host and the name of one in our own network leads nowhere.
type Poster struct {
	Roots func() *x509.CertPool // nil, or a nil pool: the system's
	Dial  func(ctx context.Context, host string, port uint16) (net.Conn, error)
}

// Post hands a report over to an address that ParseRecord has given. It has arrived when there is no
// error.
func (p *Poster) Post(ctx context.Context, to string, r *Report) error {
	body, err := r.packed()
	if err != nil {
		return err
	}
	u, err := url.Parse(to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, postTime)
	defer cancel()
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if p.Roots != nil {
		cfg.RootCAs = p.Roots()
	}
	tr := &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return p.Dial(ctx, u.Hostname(), 443) },
		TLSClientConfig: cfg, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 32 << 10,
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/tlsrpt+gzip")
	req.Header.Set("User-Agent", "mailplusd")
	resp, err := tr.RoundTrip(req)
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert):
		return fmt.Errorf("the certificate of %s is not valid: %w", u.Hostname(), cert.Err)
	case err != nil:
		return fmt.Errorf("%s can't be reached: %w", u.Hostname(), err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // what it says is not used
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answers %d to the report", u.Hostname(), resp.StatusCode)
	}
	return nil
}
