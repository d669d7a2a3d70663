// Package acme orders certificates from an ACME server (RFC 8555). The protocol itself is acmez's,
// the client under certmagic; what is here is how this system uses it: limits, the account, the
// proof that a name is ours, and the server's own words when it says no.
package acme

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"mailplusd/mail/certs"
	"mailplusd/mail/model"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// Limits of one order.
const (
	Timeout     = 4 * time.Minute // from the directory to the certificate
	pollTime    = 90 * time.Second
	requestTime = 30 * time.Second
	maxAnswer   = 1 << 20 // octets of one answer
)

// Challenge is what the server will look for: see model.ACMEChallenge.
type Challenge = acme.Challenge

// Solver shows the server that a name is ours. Present returns at once, Wait when the server may
// look, and CleanUp takes back what Present did, whatever became of it.
type Solver interface {
	Present(context.Context, Challenge) error
	Wait(context.Context, Challenge) error
	CleanUp(context.Context, Challenge) error
}

// Account is an account at the server.
type Account struct {
	Location string
	Key      crypto.Signer
}

// Client orders from one server.
type Client struct {
	Settings  model.ACME // secrets in clear
	Version   string
	Resolvers []string // address or address:port; none: those of the host
	Log       *slog.Logger
	Solver    Solver

	retryAfter atomic.Int64 // of the last refusal, Unix seconds
	acme       *acmez.Client
}

// Error is why an order failed.
type Error struct {
	Words   string    // in one line, with the server's own
	Type    string    // such as rateLimited (RFC 8555 §6.7); empty: no answer of the server
	Retry   time.Time // the server wants no attempt before; zero: it did not say
	Account bool      // the server does not know the account any more
}

func (e *Error) Error() string { return e.Words }

// Open reads the directory. Error: *Error.
func (c *Client) Open(ctx context.Context) error {
	roots, err := c.roots()
	if err != nil {
		return &Error{Words: err.Error()}
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.DialContext = (&net.Dialer{Timeout: 15 * time.Second, Resolver: c.resolver()}).DialContext
	tr.ResponseHeaderTimeout = requestTime
	tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots} // nil: the host's
	c.acme = &acmez.Client{
		Client: &acme.Client{
			Directory: c.Settings.Directory, UserAgent: "mailplusd/" + c.Version, PollTimeout: pollTime, Logger: slog.New(quiet{c.Log.Handler()}),
			HTTPClient: &http.Client{Timeout: requestTime, Transport: &limited{c: c, next: tr}},
		},
		ChallengeSolvers: map[string]acmez.Solver{c.Settings.Challenge: c.Solver},
	}
	dir, err := c.acme.GetDirectory(ctx)
	if err != nil {
		return c.explain("no directory at "+c.Settings.Directory, err)
	}
	if dir.Meta != nil && dir.Meta.TermsOfService != "" && c.Settings.Agreed != c.Settings.Directory {
		return &Error{Words: "the ACME server wants its terms of service agreed to: " + oneLine(dir.Meta.TermsOfService) + " (mpctl cert acme set --agree-terms)"}
	}
	if dir.Meta != nil && dir.Meta.ExternalAccountRequired && c.Settings.EABKeyID == "" {
		return &Error{Words: "the ACME server wants an external account (mpctl cert acme set --eab-key-id ID --eab-key-file FILE)"}
	}
	return nil
}

// Close ends idle connections.
func (c *Client) Close() {
	if c.acme != nil {
		c.acme.HTTPClient.CloseIdleConnections()
	}
}

// Register makes an account with a key, or finds the one that the server has for it. Error: *Error.
func (c *Client) Register(ctx context.Context, key crypto.Signer) (Account, error) {
	a := acme.Account{PrivateKey: key, TermsOfServiceAgreed: c.Settings.Agreed == c.Settings.Directory}
	if c.Settings.Contact != "" {
		a.Contact = []string{"mailto:" + c.Settings.Contact}
	}
	if c.Settings.EABKeyID != "" {
		if err := a.SetExternalAccountBinding(ctx, c.acme.Client, acme.EAB{KeyID: c.Settings.EABKeyID, MACKey: c.Settings.EABKey}); err != nil {
			return Account{}, c.explain("the external account can't be used", err)
		}
	}
	a, err := c.acme.NewAccount(ctx, a)
	if err != nil {
		return Account{}, c.explain("no account was given", err)
	}
	return Account{Location: a.Location, Key: key}, nil
}

// SetContact tells the server the address of the settings. Error: *Error.
func (c *Client) SetContact(ctx context.Context, a Account) error {
	update := acme.Account{Location: a.Location, PrivateKey: a.Key, Contact: []string{"mailto:" + c.Settings.Contact}}
	if _, err := c.acme.UpdateAccount(ctx, update); err != nil {
		return c.explain("the contact can't be changed", err)
	}
	return nil
}

// Order gets a certificate for names and a key. Error: *Error.
func (c *Client) Order(ctx context.Context, a Account, key crypto.Signer, names []string) (chainPEM []byte, err error) {
	account := acme.Account{Status: acme.StatusValid, Location: a.Location, PrivateKey: a.Key}
	chains, err := c.acme.ObtainCertificateForSANs(ctx, account, key, names)
	if err != nil {
		return nil, c.explain("", err)
	}
	if len(chains) == 0 {
		return nil, &Error{Words: "the ACME server sent no certificate"}
	}
	info, err := certs.Read(chains[0].ChainPEM) // the server's own choice comes first
	if err != nil {
		return nil, &Error{Words: "what the ACME server sent can't be used: " + err.Error()}
	}
	if time.Now().After(info.NotAfter) {
		return nil, &Error{Words: "the ACME server sent a certificate that expired on " + info.NotAfter.Format(time.RFC3339)}
	}
	return chains[0].ChainPEM, nil
}

func (c *Client) roots() (*x509.CertPool, error) {
	if len(c.Settings.Root) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, r := range c.Settings.Root {
		if !pool.AppendCertsFromPEM([]byte("-----BEGIN CERTIFICATE-----\n" + r + "\n-----END CERTIFICATE-----\n")) {
			return nil, errors.New("the root certificate of the ACME server can't be read (mpctl cert acme set --root FILE)")
		}
	}
	return pool, nil
}

// RootsOf makes the setting of a PEM file.
func RootsOf(text string) ([]string, error) {
	var out []string
	for rest := []byte(text); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(b.Bytes); err != nil {
			return nil, fmt.Errorf("certificate %d of the file can't be read", len(out)+1)
		}
		whole := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Bytes}))
		lines := strings.Split(strings.TrimSpace(whole), "\n")
		out = append(out, strings.Join(lines[1:len(lines)-1], ""))
	}
	if len(out) == 0 || len(out) > 10 {
		return nil, fmt.Errorf("the file has %d certificates; 1 to 10 are possible", len(out))
	}
	return out, nil
}

// resolver asks the servers of the settings, as sending does.
func (c *Client) resolver() *net.Resolver {
	if len(c.Resolvers) == 0 {
		return nil
	}
	var next atomic.Uint32
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		srv := c.Resolvers[int(next.Add(1)-1)%len(c.Resolvers)] // the other one after a failure
		return (&net.Dialer{}).DialContext(ctx, network, withPort(srv, "53"))
	}}
}

// withPort adds a port to a name or address that has none.
func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// limited bounds answers, and notes when the server wants to be asked again.
type limited struct {
	c    *Client
	next http.RoundTripper
}

// CloseIdleConnections passes on to the transport.
func (l *limited) CloseIdleConnections() { l.next.(*http.Transport).CloseIdleConnections() }

// RoundTrip implements http.RoundTripper.
func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		if at := retryTime(resp.Header.Get("Retry-After"), time.Now()); !at.IsZero() {
			l.c.retryAfter.Store(at.Unix())
		}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}
