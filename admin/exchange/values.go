package exchange

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Unlimited is what Exchange writes for a limit that isn't there.
func Unlimited(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "unlimited") }

// Octets reads a size such as `36 MB (37,748,736 bytes)`, whatever the digits are grouped by, or a
// plain number of octets.
func Octets(s string) (int64, error) {
	inner := s
	if i := strings.IndexByte(s, '('); i >= 0 {
		inner = strings.TrimSuffix(s[i+1:], ")")
		var ok bool
		if inner, ok = strings.CutSuffix(strings.TrimSpace(inner), " bytes"); !ok {
			return 0, fmt.Errorf("%.60q is no size", s)
		}
	}
	var digits strings.Builder
	for _, r := range inner {
		switch {
		case r >= '0' && r <= '9':
			digits.WriteRune(r)
		case strings.ContainsRune(",.' \u00a0\u2019\u202f", r) && inner != s: // how locales group digits
		default:
			return 0, fmt.Errorf("%.60q is no size", s)
		}
	}
	n, err := strconv.ParseInt(digits.String(), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%.60q is no size", s)
	}
	return n, nil
}

// Duration reads a time span of .NET: [d.]hh:mm:ss[.fffffff].
func Duration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%.60q is no time span", s)
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return 0, bad
	}
	days, hours, ok := strings.Cut(parts[0], ".")
	if !ok {
		days, hours = "0", parts[0]
	}
	seconds, _, _ := strings.Cut(parts[2], ".")
	var n [4]int64
	for i, text := range []string{days, hours, parts[1], seconds} {
		v, err := strconv.ParseUint(text, 10, 32)
		if err != nil || i == 0 && v > 36500 || i == 1 && v > 23 || i > 1 && v > 59 {
			return 0, bad
		}
		n[i] = int64(v)
	}
	return time.Duration(n[0]*86400+n[1]*3600+n[2]*60+n[3]) * time.Second, nil
}

// Port reads the port of a binding such as `0.0.0.0:25` or `[::]:25`.
func Port(binding string) (int, bool) {
	i := strings.LastIndexByte(binding, ':')
	if i < 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(binding[i+1:], 10, 16)
	return int(n), err == nil && n > 0
}

// maxPrefixes bounds the networks that one range is cut into.
const maxPrefixes = 32

// Networks reads a range of addresses as Exchange writes it: an address, a network, or first-last.
func Networks(s string) ([]netip.Prefix, error) {
	s = strings.TrimSpace(s)
	bad := fmt.Errorf("%.80q is no range of addresses", s)
	if p, err := netip.ParsePrefix(s); err == nil {
		return []netip.Prefix{p.Masked()}, nil
	}
	first, last, ranged := strings.Cut(s, "-")
	a, err := netip.ParseAddr(strings.TrimSpace(first))
	if err != nil || a.Zone() != "" {
		return nil, bad
	}
	b := a
	if ranged {
		if b, err = netip.ParseAddr(strings.TrimSpace(last)); err != nil || b.Zone() != "" {
			return nil, bad
		}
	}
	if a.Is4() != b.Is4() || b.Less(a) {
		return nil, bad
	}
	var out []netip.Prefix
	for {
		p := widest(a, b)
		if out = append(out, p); len(out) > maxPrefixes {
			return nil, fmt.Errorf("%.80q is more than %d networks", s, maxPrefixes)
		}
		end := lastOf(p)
		if !end.Less(b) {
			return out, nil
		}
		a = end.Next()
	}
}

// widest gives the largest network that begins with a and does not go beyond b.
func widest(a, b netip.Addr) netip.Prefix {
	for bits := range a.BitLen() + 1 {
		if p := netip.PrefixFrom(a, bits); p.Masked().Addr() == a && !b.Less(lastOf(p)) {
			return p
		}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// lastOf gives the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		raw := p.Addr().As4()
		v := binary.BigEndian.Uint32(raw[:]) | uint32(1<<(32-p.Bits())-1)
		binary.BigEndian.PutUint32(raw[:], v)
		return netip.AddrFrom4(raw)
	}
	raw := p.Addr().As16()
	for bit := p.Bits(); bit < 128; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom16(raw)
}

// Space is one address space of a send connector, such as `SMTP:*.example.com;1`.
type Space struct {
	Domain string // *: all; may begin with *.
	Cost   int
}

// ParseSpace reads an address space; ok is false when it isn't one of SMTP.
func ParseSpace(s string) (sp Space, ok bool) {
	if kind, rest, found := strings.Cut(s, ":"); found {
		if !strings.EqualFold(kind, "smtp") {
			return sp, false
		}
		s = rest
	}
	domain, cost, _ := strings.Cut(s, ";")
	sp.Domain = strings.ToLower(strings.TrimSpace(domain))
	sp.Cost, _ = strconv.Atoi(strings.TrimSpace(cost))
	return sp, sp.Domain != ""
}
