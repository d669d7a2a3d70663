package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"

	"github.com/miekg/dns"
)

// ntpEpoch is 1900-01-01 in Unix seconds (RFC 5905 §6).
const ntpEpoch = 2208988800

// ntpOffset asks an NTP server how far this clock is off (RFC 5905 §14, an SNTP client).
func ntpOffset(ctx context.Context, server string) (time.Duration, error) {
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "123")
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", server)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	req := make([]byte, 48)
	req[0] = 4<<3 | 3 // version 4, client
	sent := time.Now()
	stamp := ntpTime(sent)
	binary.BigEndian.PutUint64(req[40:], stamp)
	if _, err := c.Write(req); err != nil {
		return 0, err
	}
	resp := make([]byte, 512)
	n, err := c.Read(resp)
	got := time.Now()
	switch {
	case err != nil:
		return 0, err
	case n < 48 || resp[0]&7 != 4 || resp[1] == 0 || resp[1] > 15 || binary.BigEndian.Uint64(resp[24:]) != stamp:
		return 0, errors.New("the answer is none of a synchronised NTP server")
	}
	received, transmitted := fromNTP(binary.BigEndian.Uint64(resp[32:])), fromNTP(binary.BigEndian.Uint64(resp[40:]))
	return (received.Sub(sent) + transmitted.Sub(got)) / 2, nil
}

func ntpTime(t time.Time) uint64 {
	return uint64(t.Unix()+ntpEpoch)<<32 | uint64(t.Nanosecond())<<32/1e9
}

func fromNTP(v uint64) time.Time {
	return time.Unix(int64(v>>32)-ntpEpoch, int64((v&0xffffffff)*1e9>>32))
}

// maxClockOffset is more than any synchronised clock is off, in either direction.
const maxClockOffset = 5 * time.Second

// checkTime asks an NTP server for the time: that it answers shows that the Internet is there (R2.54).
func (s *Server) checkTime(ctx context.Context, _ *Call, _ *op.None) ([]api.Finding, error) {
	f := findings{}
	servers := s.mail.State.Current().Network.NTP
	var last error
	for _, srv := range servers {
		offset, err := s.resolveAnd(ctx, srv, ntpOffset)
		if err != nil {
			last = fmt.Errorf("%s: %w", srv, err)
			continue
		}
		if offset.Abs() > maxClockOffset {
			f.add("warning", "time", srv, "timedatectl set-ntp true", "this machine's clock is off by %s", offset.Round(time.Millisecond))
		} else {
			f.add("ok", "time", srv, "", "the Internet is reachable, and this clock is right to %s", offset.Abs().Round(time.Millisecond))
		}
		return f, nil
	}
	f.add("error", "time", strings.Join(servers, ", "), "check the gateway and the resolvers of this machine; or mpctl config set network.ntp-servers=SERVER", "no time server answers, the Internet may not be reachable: %v", last)
	return f, nil
}

// resolveAnd looks a host up with the resolver of the settings and calls f with its address.
func (s *Server) resolveAnd(ctx context.Context, server string, f func(context.Context, string) (time.Duration, error)) (time.Duration, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = server, "123"
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return f(ctx, net.JoinHostPort(host, port))
	}
	ips, err := s.resolver().addresses(ctx, host)
	if err != nil {
		return 0, err
	}
	if len(ips) == 0 {
		return 0, errors.New("has no address")
	}
	return f(ctx, net.JoinHostPort(ips[0].String(), port))
}

// checkBlocklist asks public block lists about this server's addresses (R2.56, R2.64).
func (s *Server) checkBlocklist(ctx context.Context, _ *Call, _ *op.None) ([]api.Finding, error) {
	f := findings{}
	ips, err := s.publicAddresses(nil)
	if err != nil {
		return f, err
	}
	r := s.resolver()
	for _, ip := range ips {
		if ip.IsPrivate() {
			f.add("info", "blocklist", ip.String(), "mpctl config set network.public-address=ADDRESS", "is a private address; block lists know public ones only")
			continue
		}
		for _, list := range s.mail.State.Current().Network.BlockLists {
			f.blocked(ctx, r, ip, list)
		}
	}
	return f, nil
}

// blocked asks one list about one address (RFC 5782 §2).
func (f *findings) blocked(ctx context.Context, r resolver, ip netip.Addr, list string) {
	rev, err := dns.ReverseAddr(ip.String())
	if err != nil {
		return
	}
	rev = strings.TrimSuffix(strings.TrimSuffix(rev, "in-addr.arpa."), "ip6.arpa.")
	name := rev + list
	codes, err := r.addresses(ctx, name)
	switch {
	case errors.Is(err, errNXDomain) || err == nil && len(codes) == 0:
		f.add("ok", "blocklist", ip.String(), "", "is not on %s", list)
	case err != nil:
		f.add("warning", "blocklist", ip.String(), "", "%s can't be asked: %v", list, err)
	case strings.HasPrefix(codes[0].String(), "127.255.255."):
		f.add("warning", "blocklist", ip.String(), "mpctl config set network.resolvers=YOUR-OWN-RESOLVER", "%s doesn't answer queries that come through a public DNS server (%s)", list, codes[0])
	default:
		why := "no reason given"
		if rrs, err := r.ask(ctx, name, dns.TypeTXT); err == nil {
			for _, rr := range rrs {
				if txt, ok := rr.(*dns.TXT); ok {
					why = strings.Join(txt.Txt, "")
				}
			}
		}
		f.add("error", "blocklist", ip.String(), "find out what was sent, stop it, then ask "+list+" to take the address off", "is on %s (%s): %.200s", list, codes[0], why)
	}
}

// greeted compares the name in the greeting at an address with the address's PTR name (R2.20).
func (f *findings) greeted(ctx context.Context, ip netip.Addr, port int, name string) {
	line, err := greet(ctx, net.JoinHostPort(ip.String(), strconv.Itoa(port)), false)
	if err != nil {
		f.add("info", "rdns", ip.String(), "", "port %d can't be reached from here by the public address (many routers don't let that through): %v", port, err)
		return
	}
	words := strings.Fields(line)
	if len(words) < 2 || !strings.EqualFold(words[1], name) {
		f.add("warning", "rdns", ip.String(), "mpctl delivery general set --hostname "+name, "the greeting at this address is %q, the PTR name is %s", line, name)
		return
	}
	f.add("ok", "rdns", ip.String(), "", "greets as %s", name)
}
