package ldap

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailplusd/mail/dnsask"
	"mailplusd/mail/model"
)

const (
	maxServers = 16
	foundFor   = 5 * time.Minute // how long an answer of DNS is used
	notFound   = 5 * time.Second // how long a failure counts, so that logins don't queue for DNS
)

// found are the domain controllers that DNS has named.
type found struct {
	mu    sync.Mutex
	uris  []string
	err   error // of the last question
	until time.Time
}

// stale has DNS asked again the next time: none of the controllers answers.
func (f *found) stale() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.until = time.Time{}
	}
}

// resolver asks the DNS servers of the settings; nil: those of the host.
func (c *Client) resolver() *net.Resolver {
	if c.Resolvers == nil || len(c.Resolvers()) == 0 {
		return nil
	}
	servers := dnsask.Servers(c.Resolvers())
	var next atomic.Uint32
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, servers[int(next.Add(1)-1)%len(servers)])
	}}
}

// Servers gives the addresses of the servers in the order in which they are tried: those of the binding, or the
// domain controllers that DNS names, by priority and weight (RFC 2782, MS-ADTS §6.3.2.3).
func (c *Client) Servers(ctx context.Context) ([]string, error) {
	if len(c.conf.URIs) > 0 || !c.conf.AD() {
		return c.conf.URIs, nil
	}
	f := &c.found
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().Before(f.until) {
		return f.uris, f.err
	}
	uris, err := c.lookUp(ctx)
	switch {
	case err == nil:
		f.uris, f.err, f.until = uris, nil, time.Now().Add(foundFor)
	case len(f.uris) > 0: // DNS is down: those of before
		f.until = time.Now().Add(notFound)
	case ctx.Err() == nil:
		f.err, f.until = err, time.Now().Add(notFound)
	default:
		return nil, err
	}
	return f.uris, f.err
}

func (c *Client) lookUp(ctx context.Context) (uris []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	var foreign []string
	name := "dc._msdcs." + c.conf.Realm + "."
	_, list, err := c.resolver().LookupSRV(ctx, "ldap", "tcp", name)
	for _, srv := range list[:min(len(list), maxServers)] {
		host := strings.ToLower(strings.TrimSuffix(srv.Target, "."))
		switch {
		case host != c.conf.Realm && !strings.HasSuffix(host, "."+c.conf.Realm):
			// The certificate is that of the name, and DNS is not to say who gets passwords.
			foreign = append(foreign, host)
		case c.conf.TLS == model.LDAPS:
			uris = append(uris, "ldaps://"+host)
		default:
			uris = append(uris, fmt.Sprintf("ldap://%s:%d", host, srv.Port))
		}
	}
	switch {
	case len(uris) > 0:
		return uris, nil
	case err != nil:
		return nil, unavailable("DNS names no domain controller (SRV _ldap._tcp.%s): %w", name, err)
	}
	if len(foreign) > 0 {
		return nil, unavailable("DNS names no domain controller in %s (SRV _ldap._tcp.%s: %s); name those of another domain yourself with --uri", c.conf.Realm, name, strings.Join(foreign, ", "))
	}
	return nil, unavailable("DNS names no domain controller (SRV _ldap._tcp.%s)", name)
}
