// Package client calls the admin plane over the Unix socket or TLS.
package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"mailplusd/admin/op"
)

// DefaultSocket is where the daemon of a package listens.
const DefaultSocket = "/run/mailplusd/admin.sock"

// Options say which daemon is called, and as whom.
type Options struct {
	Socket   string // Unix socket; used when Server is empty
	Server   string // host:port of the TLS listener
	CA       string // file with the certificate to trust; empty: the system's
	User     string // with Server: login name
	Password string
	Token    string                 // instead of User and Password
	Code     func() (string, error) // asks for the one-time code of User; nil: there is none
	Cert     string                 // with Server: PEM file of a client certificate
	Key      string                 // PEM file of its key; empty: in Cert
	Wait     time.Duration          // how long to retry while the daemon starts
}

// Client is a connection to one daemon.
type Client struct {
	o    Options
	http *http.Client
	base string
	code string // of the login that is under way
	// ServerVersion is the daemon's, known after the first call.
	ServerVersion string
}

// New makes a client; nothing is sent before the first call.
func New(o Options) (*Client, error) {
	c := &Client{o: o, base: "http://mailplusd"}
	tr := &http.Transport{DisableCompression: true, ResponseHeaderTimeout: 5 * time.Minute}
	if o.Server == "" {
		if o.Socket == "" {
			c.o.Socket = DefaultSocket
		}
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.o.Socket)
		}
	} else {
		c.base = "https://" + o.Server
		cfg := &tls.Config{MinVersion: tls.VersionTLS12}
		if o.CA != "" {
			pem, err := os.ReadFile(o.CA)
			if err != nil {
				return nil, op.Errorf(op.Usage, "the CA file can't be read: %v", err)
			}
			cfg.RootCAs = x509.NewCertPool()
			if !cfg.RootCAs.AppendCertsFromPEM(pem) {
				return nil, op.Errorf(op.Usage, "%s has no PEM certificate", o.CA)
			}
		}
		if o.Cert != "" {
			pair, err := tls.LoadX509KeyPair(o.Cert, cmp.Or(o.Key, o.Cert))
			if err != nil {
				return nil, op.Errorf(op.Usage, "the client certificate can't be used: %v", err)
			}
			cfg.Certificates = []tls.Certificate{pair}
		}
		tr.TLSClientConfig = cfg
	}
	c.http = &http.Client{Transport: tr}
	return c, nil
}

func (c *Client) request(ctx context.Context, path string, body io.Reader, dryRun bool) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if dryRun {
		req.Header.Set("X-Dry-Run", "1")
	}
	switch {
	case c.o.Token != "":
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	case c.o.User != "":
		req.SetBasicAuth(c.o.User, c.o.Password)
		if c.code != "" {
			req.Header.Set(op.CodeHeader, c.code)
		}
	}
	return req, nil
}

// do sends a request; while the daemon starts it is tried again.
func (c *Client) do(ctx context.Context, path string, body []byte, dryRun bool) (*http.Response, error) {
	deadline := time.Now().Add(c.o.Wait)
	for {
		req, err := c.request(ctx, path, bytes.NewReader(body), dryRun)
		if err != nil {
			return nil, err
		}
		resp, err := c.http.Do(req)
		if err == nil {
			return resp, nil
		}
		var oe *net.OpError
		if !errors.As(err, &oe) || oe.Op != "dial" || time.Now().After(deadline) || ctx.Err() != nil {
			return nil, c.unreachable(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *Client) unreachable(err error) error {
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return op.Errorf(op.Unreachable, "the certificate of %s can't be trusted: %v", c.o.Server, rootCause(err)).
			With("mpctl --server NAME:PORT --ca FILE …: a name in its certificate, and a file with that certificate or its authority's")
	}
	if c.o.Server != "" {
		return op.Errorf(op.Unreachable, "the daemon at %s does not answer: %v", c.o.Server, rootCause(err))
	}
	if errors.Is(err, os.ErrPermission) {
		return op.Errorf(op.Forbidden, "you may not open the daemon's socket %s: permission denied", c.o.Socket).With("sudo mpctl …")
	}
	e := op.Errorf(op.Unreachable, "the daemon does not answer at %s: %v", c.o.Socket, rootCause(err))
	return e.With("systemctl status mailplusd; or mpctl --socket PATH …")
}

func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// Raw is a reply with its result still in JSON.
type Raw struct {
	Result  json.RawMessage `json:"result"`
	DryRun  bool            `json:"dry_run"`
	Diff    []op.FieldDiff  `json:"diff"`
	Warning []string        `json:"warning"`
	Error   *op.Error       `json:"error"`
	Done    bool            `json:"done"`
	Version string          `json:"version"`
}

const maxReply = 1 << 30

// Call does an operation. Where the login needs a one-time code it is asked for, and spent on a
// session for this and later calls: a code is good once.
func (c *Client) Call(ctx context.Context, path string, in any, dryRun bool) (*Raw, error) {
	r, err := c.call(ctx, path, in, dryRun)
	var e *op.Error
	if !errors.As(err, &e) || e.Field != op.FieldCode || e.Code != op.Forbidden || c.o.Code == nil || c.o.Token != "" || c.code != "" {
		return r, err
	}
	if path == sessionPath { // the code is for the session that the caller wants
		return c.withCode(ctx, in)
	}
	if err := c.session(ctx); err != nil {
		return nil, err
	}
	return c.call(ctx, path, in, dryRun)
}

const sessionPath = "/v1/login/session/add"

// sessionMinutes is how long the session of one command lasts.
const sessionMinutes = 15

// session logs in with a one-time code.
func (c *Client) session(ctx context.Context) error {
	r, err := c.withCode(ctx, map[string]any{"minutes": sessionMinutes})
	if err != nil {
		return err
	}
	var out struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(r.Result, &out); err != nil || out.Token == "" {
		return op.Errorf(op.Failed, "the answer to the login can't be read")
	}
	c.o.Token = out.Token
	return nil
}

// withCode makes a session of password and one-time code.
func (c *Client) withCode(ctx context.Context, in any) (r *Raw, err error) {
	if c.code, err = c.o.Code(); err != nil {
		return nil, err
	}
	defer func() { c.code = "" }()
	if c.code == "" {
		return nil, op.Errorf(op.Forbidden, "a one-time code is needed").With("--login-code-file FILE, or at a terminal")
	}
	return c.call(ctx, sessionPath, in, false)
}

// ready logs in before a call whose input can be sent only once.
func (c *Client) ready(ctx context.Context) error {
	if c.o.Server == "" || c.o.User == "" || c.o.Token != "" || c.o.Code == nil {
		return nil
	}
	_, err := c.Call(ctx, "/v1/me/2fa/show", struct{}{}, false)
	return err
}

func (c *Client) call(ctx context.Context, path string, in any, dryRun bool) (*Raw, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	resp, err := c.do(ctx, path, body, dryRun)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var r Raw
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(&r); err != nil {
		return nil, op.Errorf(op.Failed, "the answer can't be read: %v", err)
	}
	c.ServerVersion = r.Version
	if r.Error != nil {
		return &r, r.Error
	}
	return &r, nil
}

// Stream does an operation whose rows come one by one.
func (c *Client) Stream(ctx context.Context, path string, in any, dryRun bool, row func(json.RawMessage) error) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, path, body, dryRun)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.rows(ctx, resp.Body, row)
}

// Bulk sends rows, or an upload's messages, as they are read and hands over the rows of the answer.
func (c *Client) Bulk(ctx context.Context, path string, rows io.Reader, dryRun bool, result func(json.RawMessage) error) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	req, err := c.request(ctx, path, rows, dryRun)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	return c.rows(ctx, resp.Body, result)
}

func (c *Client) rows(ctx context.Context, body io.Reader, row func(json.RawMessage) error) error {
	sc := bufio.NewScanner(body)
	sc.Buffer(make([]byte, 64<<10), 64<<20)
	for sc.Scan() {
		var r Raw
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			return op.Errorf(op.Failed, "the answer can't be read: %v", err)
		}
		if r.Done {
			if r.Error != nil {
				return r.Error
			}
			return nil
		}
		if err := row(r.Result); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return op.Errorf(op.Unreachable, "the connection ended before the answer did: %v", fmt.Sprint(sc.Err()))
}
