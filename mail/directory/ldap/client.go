// Package ldap reads accounts and groups from an LDAP directory (RFC 4510) and checks passwords
// by a bind. It follows no referrals, waits no longer than it is told, and reads no more than
// its limits, whatever the server sends.
package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"mailplusd/mail/model"

	ber "github.com/go-asn1-ber/asn1-ber"
	goldap "github.com/go-ldap/ldap/v3"
)

// Limits of what a directory may send.
const (
	MaxUsers    = 100_000
	MaxGroups   = 20_000
	MaxMembers  = 50_000    // of one group
	maxGroup    = 700 << 10 // octets of the names in one group: it must fit an entry of the log
	maxPacket   = 16 << 20
	maxLogin    = 4 << 20   // octets read for one login or test
	maxFetch    = 512 << 20 // octets read for one synchronisation
	fetchTime   = 10 * time.Minute
	pageSize    = 500
	maxPages    = 2 * (MaxUsers + MaxGroups) / pageSize
	maxRawName  = 256
	maxPassword = 1024
)

func init() { ber.MaxPacketLengthBytes = maxPacket }

// ErrUnavailable says that the directory could not be asked, or did not say anything about the
// matter: nobody's password is wrong because of it.
var ErrUnavailable = errors.New("the directory can't be asked")

func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, fmt.Errorf(format, args...))
}

// Client asks one directory. It keeps no connection between calls.
type Client struct {
	conf   model.LDAP
	secret string
	last   atomic.Pointer[string] // address of the server that answered last
	found  found
	// Resolvers gives the DNS servers to ask; nil or empty: those of the host. Before first use.
	Resolvers func() []string
}

// New makes a client; secret is the password of conf.BindDN in clear.
func New(conf model.LDAP, secret string) *Client { return &Client{conf: conf, secret: secret} }

// Validate checks a binding, its filters and certificates too.
func Validate(l *model.LDAP) error {
	if err := l.Validate(); err != nil {
		return err
	}
	for field, f := range map[string]string{"user-filter": l.UserFilter, "group-filter": l.GroupFilter, "disabled-filter": l.DisabledFilter} {
		if f == "" {
			continue
		}
		if _, err := goldap.CompileFilter(f); err != nil {
			return model.Invalid(field, "%q is no LDAP filter (RFC 4515): %v", f, err)
		}
	}
	for field, dn := range map[string]string{"bind-dn": l.BindDN, "base-dn": l.BaseDN} {
		if l.AD() && field == "bind-dn" {
			continue // any name of the account
		}
		if _, err := goldap.ParseDN(dn); err != nil {
			return model.Invalid(field, "%q is no distinguished name: %v", dn, err)
		}
	}
	if l.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(l.CA)) {
		return model.Invalid("ldap-ca", "the file has no PEM certificate")
	}
	return nil
}

// timeout is how long one answer may take.
func (c *Client) timeout() time.Duration { return time.Duration(c.conf.TimeoutSec) * time.Second }

// session is a connection with its limits.
type session struct {
	*goldap.Conn
	net  *limited
	stop func() bool
	each time.Duration
	uri  string
}

// close ends the connection without waiting for the server.
func (s *session) close() {
	s.stop()
	s.net.SetDeadline(time.Unix(1, 0))
	s.Conn.Close()
}

// extend gives the next answer its time.
func (s *session) extend() { s.net.SetDeadline(time.Now().Add(s.each)) }

// connect opens a connection to the first server that answers, protected as the binding says,
// and logs in when bind is set. It starts with the server that answered last.
func (c *Client) connect(ctx context.Context, octets int64, bind bool) (*session, error) {
	uris, err := c.Servers(ctx)
	if err != nil {
		return nil, err
	}
	if last := c.last.Load(); last != nil {
		if i := slices.Index(uris, *last); i > 0 {
			uris = slices.Concat(uris[i:i+1], uris[:i], uris[i+1:])
		}
	}
	var errs []error
	for _, uri := range uris {
		s, err := c.open(ctx, uri, octets)
		if err == nil && bind {
			if err = c.bindService(s); err != nil {
				s.close()
			}
		}
		if err == nil {
			c.last.Store(&uri)
			return s, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", uri, err))
		if ctx.Err() != nil {
			break
		}
	}
	c.found.stale()
	return nil, unavailable("%w", errors.Join(errs...))
}

// bindService logs in as the binding says.
func (c *Client) bindService(s *session) error {
	if c.conf.BindDN == "" {
		return nil
	}
	name := c.conf.BindDN
	if c.conf.AD() && !strings.ContainsAny(name, `@\=`) {
		name += "@" + c.conf.Realm
	}
	s.extend()
	if err := s.Bind(name, c.secret); err != nil {
		if why := reason(err); why != "" {
			return fmt.Errorf("bind as %s: %s: %w", name, why, err)
		}
		return fmt.Errorf("bind as %s: %w", name, err)
	}
	return nil
}

func (c *Client) open(ctx context.Context, uri string, octets int64) (*session, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]
	}
	d := net.Dialer{Timeout: c.timeout(), Resolver: c.resolver()}
	raw, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	conn := &limited{Conn: raw, left: octets}
	conn.SetDeadline(time.Now().Add(c.timeout()))
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	conf, err := c.tls(u.Hostname())
	if err != nil {
		raw.Close()
		return nil, err
	}
	s := &session{net: conn, stop: stop, each: c.timeout(), uri: uri}
	if u.Scheme == "ldaps" {
		t := tls.Client(conn, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		s.Conn = goldap.NewConn(t, true)
	} else {
		s.Conn = goldap.NewConn(conn, false)
	}
	s.SetTimeout(c.timeout())
	s.Start()
	if u.Scheme == "ldap" && c.conf.TLS != model.LDAPNoTLS {
		if err := s.StartTLS(conf); err != nil {
			s.close()
			return nil, fmt.Errorf("STARTTLS: %w", err)
		}
	}
	return s, nil
}

func (c *Client) tls(host string) (*tls.Config, error) {
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if c.conf.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(c.conf.CA)) {
			return nil, errors.New("the CA of the binding has no PEM certificate")
		}
	}
	return conf, nil
}

// limited is a connection from which no more than left octets are read.
type limited struct {
	net.Conn
	left int64
}

var errTooMuch = errors.New("the directory sends more than is read of it")

// Read is called by one goroutine at a time.
func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooMuch
	}
	n, err := l.Conn.Read(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	return n, err
}
