package remote

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailplusd/mail/dnsask"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// Limits of what DNS may make us do for one attempt.
const (
	maxHosts     = 20              // mail servers looked up, the most preferred ones
	maxAddresses = 10              // addresses tried
	dnsTime      = 5 * time.Second // for one answer
)

var errNullMX = errors.New("the domain accepts no mail (null MX)")

// target is one address to try.
type target struct {
	host   string
	addr   netip.Addr
	port   uint16
	secure bool   // DNSSEC vouches for the way from the domain to the address
	base   string // name that the host is an alias of, if that is known for sure
}

// answer is what DNS says.
type answer struct {
	rrs    []dns.RR
	secure bool // a server that validates and is trusted says that it is authentic
}

// permanent marks an error that trying again won't mend.
type permanent struct {
	code   int
	status string // RFC 3463
	err    error
}

func (p *permanent) Error() string { return p.err.Error() }

// targets gives the addresses to try, in order; an error ends them. Names are looked up when
// their turn comes, so a dead name server of the second host doesn't hold up the first.
func (c *Client) targets(ctx context.Context, j *Job) iter.Seq2[target, error] {
	port, name, mx := uint16(c.Port()), j.Domain, true
	if r := j.Route; r != nil {
		name, mx = r.Host, r.MX
		if r.Port != 0 {
			port = uint16(r.Port)
		}
	}
	return func(yield func(target, error) bool) {
		switch r := j.Route; {
		case r != nil && r.Wait != "":
			yield(target{}, errors.New(r.Wait))
			return
		case r != nil && r.Both:
			c.both(ctx, r.Host, port, yield)
			return
		}
		if ip, ok, err := literal(name); ok {
			yield(target{host: name, addr: ip, port: port}, err)
			return
		}
		name, err := ascii(name)
		if err != nil {
			yield(target{}, err)
			return
		}
		levels, secure := [][]string{{name}}, true
		if mx {
			if levels, secure, err = c.mx(ctx, name); err != nil {
				yield(target{}, err)
				return
			}
		}
		c.walk(ctx, name, levels, port, func(t target, err error) bool {
			t.secure = t.secure && secure
			return yield(t, err)
		})
	}
}

// walk yields the addresses of hosts, level by level of preference. From the level on that this
// server is in, mail would go round in circles: those are left out (RFC 5321 §5.1).
func (c *Client) walk(ctx context.Context, name string, levels [][]string, port uint16, yield func(target, error) bool) {
	var last error
	found := 0
	for _, hosts := range levels {
		var list []target
		for _, host := range hosts {
			found, err := c.find(ctx, host, port)
			if err != nil {
				last = err
			}
			list = append(list, found...)
		}
		if slices.ContainsFunc(list, c.mine) {
			if found == 0 {
				yield(target{}, &permanent{554, "5.4.6", fmt.Errorf("mail for %s loops back to this server; check its MX, or add it with mpctl domain add", name)})
			}
			return
		}
		for _, t := range list {
			if found++; found > maxAddresses || !yield(t, nil) {
				return
			}
		}
	}
	var gone *permanent
	switch {
	case found > 0:
	case last == nil || errors.As(last, &gone):
		yield(target{}, &permanent{550, "5.4.4", fmt.Errorf("the mail servers of %s have no address", name)})
	default:
		yield(target{}, last)
	}
}

func lowerHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func (c *Client) mine(t target) bool {
	return c.Ours != nil && c.Ours(netip.AddrPortFrom(t.addr, t.port))
}

// literal reads an address, or an address literal in brackets.
func literal(name string) (ip netip.Addr, ok bool, err error) {
	bare, bracket := strings.CutPrefix(name, "[")
	bare = strings.TrimSuffix(bare, "]")
	if len(bare) > 5 && strings.EqualFold(bare[:5], "IPv6:") {
		bare = bare[5:]
	}
	if ip, err = netip.ParseAddr(bare); err == nil {
		return ip, true, nil
	}
	if bracket {
		return ip, true, &permanent{553, "5.1.3", fmt.Errorf("bad address literal %s", name)}
	}
	return ip, false, nil
}

// ascii gives a domain as DNS has it (RFC 5891).
func ascii(domain string) (string, error) {
	if isASCII(domain) {
		return domain, nil
	}
	a, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return "", &permanent{553, "5.1.2", fmt.Errorf("the domain %s is not valid: %v", domain, err)}
	}
	return a, nil
}

// mx gives the hosts of a domain in levels of equal preference, each in disorder; the domain
// itself where there is no MX (RFC 5321 §5.1).
func (c *Client) mx(ctx context.Context, domain string) (levels [][]string, secure bool, err error) {
	a, err := c.ask(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, false, err
	}
	var list []*dns.MX
	for _, rr := range a.rrs {
		if m, ok := rr.(*dns.MX); ok {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return [][]string{{domain}}, a.secure, nil
	}
	rand.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	slices.SortStableFunc(list, func(a, b *dns.MX) int { return int(a.Preference) - int(b.Preference) })
	for i, m := range list[:min(len(list), maxHosts)] {
		host := lowerHost(m.Mx)
		if host == "" {
			if len(list) == 1 {
				return nil, false, &permanent{556, "5.1.10", errNullMX} // RFC 7505
			}
			continue // null among others means nothing
		}
		if len(levels) == 0 || list[i-1].Preference != m.Preference {
			levels = append(levels, nil)
		}
		levels[len(levels)-1] = append(levels[len(levels)-1], host)
	}
	return levels, a.secure, nil
}

// addresses looks up a host, both families.
func (c *Client) addresses(ctx context.Context, host string) (out []netip.Addr, last error) {
	list, last := c.find(ctx, host, 0)
	for _, t := range list {
		out = append(out, t.addr)
	}
	return out, last
}

// find looks up a host, both families.
func (c *Client) find(ctx context.Context, host string, port uint16) (out []target, last error) {
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		a, err := c.ask(ctx, host, kind)
		if err != nil {
			last = err
			if errors.As(err, new(*permanent)) {
				break // no such name, of whatever family
			}
		}
		for _, rr := range a.rrs {
			if ip, ok := address(rr); ok && len(out) < maxAddresses {
				t := target{host: host, addr: ip, port: port, secure: a.secure}
				if name := lowerHost(rr.Header().Name); a.secure && name != lowerHost(host) {
					t.base = name
				}
				out = append(out, t)
			}
		}
	}
	return out, last
}

func address(rr dns.RR) (netip.Addr, bool) {
	switch r := rr.(type) {
	case *dns.A:
		return netip.AddrFromSlice(r.A.To4())
	case *dns.AAAA:
		return netip.AddrFromSlice(r.AAAA)
	}
	return netip.Addr{}, false
}

// query gives the records that ask finds.
func (c *Client) query(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	a, err := c.ask(ctx, name, kind)
	return a.rrs, err
}

// ask asks the resolvers in turn. A name that doesn't exist is permanent, everything else is
// tried again later.
func (c *Client) ask(ctx context.Context, name string, kind uint16) (answer, error) {
	servers := dnsask.Servers(c.Resolvers())
	if len(servers) == 0 {
		return answer{}, errors.New("no DNS server is known; set network.resolvers")
	}
	var last error
	for _, s := range servers {
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(name), kind)
		validates := c.Validates != nil && c.Validates(s)
		m.SetEdns0(1232, validates)
		m.AuthenticatedData = validates // tell us (RFC 6840 §5.7)
		resp, err := c.exchange(ctx, m, s)
		switch {
		case err != nil:
			last = fmt.Errorf("DNS server %s does not answer for %s: %w", s, name, cause(err))
		case resp.Rcode == dns.RcodeNameError:
			return answer{}, &permanent{550, "5.1.2", fmt.Errorf("the domain %s does not exist", name)}
		case resp.Rcode != dns.RcodeSuccess:
			last = fmt.Errorf("DNS server %s answers %s for %s", s, dns.RcodeToString[resp.Rcode], name)
		default:
			return answer{resp.Answer, validates && resp.AuthenticatedData}, nil
		}
	}
	return answer{}, last
}

func (c *Client) exchange(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*dnsTime) // UDP, then perhaps TCP
	defer cancel()
	if c.Exchange != nil {
		return c.Exchange(ctx, m, server)
	}
	return dnsask.Exchange(ctx, m, server, dnsTime)
}
