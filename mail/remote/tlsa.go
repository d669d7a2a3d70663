package remote

import (
	"context"
	"errors"
	"fmt"

	"mailplusd/mail/remote/dane"

	"github.com/miekg/dns"
)

// tlsa looks up what DNSSEC says about a host's certificate, and gives the name that it was found
// under: that of an alias's end first (RFC 7672 §2.2.3). No records: it says nothing. An error
// means that it may have said something, so nothing can be sent (RFC 7672 §2.1.1).
func (c *Client) tlsa(ctx context.Context, t target) (base string, list []dane.Record, err error) {
	names := []string{t.host}
	if t.base != "" && t.base != t.host {
		names = []string{t.base, t.host}
	}
	for _, name := range names {
		a, err := c.ask(ctx, fmt.Sprintf("_%d._tcp.%s", t.port, name), dns.TypeTLSA)
		if err != nil {
			if errors.As(err, new(*permanent)) {
				continue // no such name
			}
			return "", nil, err
		}
		if list = dane.FromAnswer(a.rrs); a.secure && len(list) > 0 {
			return name, list, nil
		}
	}
	return t.host, nil, nil
}

// TXT looks up the texts of a name. An error says that DNS does not answer; a name that doesn't
// exist has none.
func (c *Client) TXT(ctx context.Context, name string) ([]string, error) {
	ascii, err := ascii(name)
	if err != nil {
		return nil, nil
	}
	a, err := c.ask(ctx, ascii, dns.TypeTXT)
	if errors.As(err, new(*permanent)) {
		return nil, nil
	}
	var out []string
	for _, rr := range a.rrs {
		if t, ok := rr.(*dns.TXT); ok && len(out) < maxHosts {
			text := ""
			for _, part := range t.Txt {
				text += part
			}
			out = append(out, text)
		}
	}
	return out, err
}
