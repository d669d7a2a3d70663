// Package dnsask sends one question to one DNS server: what the check of clients and senders, and the
// delivery to other servers, have in common. What an answer means is theirs.
package dnsask

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Exchange asks a server by UDP, and by TCP when the answer does not fit (RFC 7766 §5). Each of both may take
// timeout; ctx bounds them together.
func Exchange(ctx context.Context, m *dns.Msg, server string, timeout time.Duration) (*dns.Msg, error) {
	c := &dns.Client{Timeout: timeout}
	resp, _, err := c.ExchangeContext(ctx, m, server)
	if err == nil && resp.Truncated {
		c.Net = "tcp"
		resp, _, err = c.ExchangeContext(ctx, m, server)
	}
	return resp, err
}

// Servers gives the servers to ask as address and port: those that are set, otherwise those of this host.
// None when neither is there.
func Servers(set []string) []string {
	if len(set) == 0 {
		cfg, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil
		}
		set = cfg.Servers
	}
	out := make([]string, 0, len(set))
	for _, s := range set {
		if _, err := netip.ParseAddrPort(s); err != nil {
			s = net.JoinHostPort(s, "53")
		}
		out = append(out, s)
	}
	return out
}
