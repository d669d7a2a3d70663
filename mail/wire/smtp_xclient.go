package wire

import (
	"net/netip"
	"strconv"
	"strings"
)

// mayXClient reports whether the peer of the socket is trusted with XCLIENT.
func (s *SMTPConn) mayXClient() bool {
	return contains(s.cfg.XClientFrom, addrIP(s.PeerAddr()))
}

// xclientCommand takes over what a trusted proxy says about the real client and
// begins the session anew, as Postfix defines XCLIENT.
func (s *SMTPConn) xclientCommand(arg string) {
	switch {
	case !s.mayXClient():
		s.answer(&Reply{Code: 550, Enh: "5.7.0", Text: "Error: insufficient authorization"})
		return
	case s.mail:
		s.answer(errInMail)
		return
	case s.authed: // who has logged in is not another client's login
		s.answer(errAuthed)
		return
	}
	attrs, ok := parseXClient(arg)
	if !ok || !s.applyXClient(attrs) {
		s.answer(errSyntax)
		return
	}
	if ip := s.RemoteIP(); attrs["ADDR"] != "" && s.recount != nil {
		if why := s.recount(ip); why != Accepted {
			s.Log().Info("connection refused", "remote", ip.String(), "proxy", addrIP(s.PeerAddr()).String(), "reason", why.String())
			s.end(&Reply{Code: 421, Enh: "4.7.0", Text: s.cfg.Hostname + " Error: too many connections from your address"}, why.String())
			return
		}
	}
	s.reset("RSET", s.banner(), func() error {
		s.forget("XCLIENT")
		return nil
	})
}

// parseXClient reads NAME=value pairs; values are xtext (RFC 3461 §4). A client without a known address is
// refused: it would be taken for the proxy, which may do more than others. LOGIN is taken and means nothing: who
// sends logs in here.
func parseXClient(arg string) (map[string]string, bool) {
	attrs := make(map[string]string)
	for f := range strings.FieldsSeq(arg) {
		k, v, ok := strings.Cut(f, "=")
		k = strings.ToUpper(k)
		switch k {
		case "NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT":
		default:
			return nil, false
		}
		if v, ok = unxtext(v, ok); !ok {
			return nil, false
		}
		if strings.EqualFold(v, "[UNAVAILABLE]") || strings.EqualFold(v, "[TEMPUNAVAIL]") {
			if v = ""; k == "ADDR" {
				return nil, false
			}
		}
		attrs[k] = v
	}
	return attrs, len(attrs) > 0
}

func unxtext(v string, ok bool) (string, bool) {
	if !ok || !strings.Contains(v, "+") {
		return v, ok
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] != '+' {
			b.WriteByte(v[i])
			continue
		}
		if i+3 > len(v) {
			return "", false
		}
		n, err := strconv.ParseUint(v[i+1:i+3], 16, 8)
		if err != nil || n < ' ' || n == 0x7f {
			return "", false
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), true
}

func (s *SMTPConn) applyXClient(attrs map[string]string) bool {
	remote, ok1 := override(s.RemoteIP(), attrs["ADDR"], attrs["PORT"])
	local, ok2 := override(addrIP(s.LocalAddr()), attrs["DESTADDR"], attrs["DESTPORT"])
	if !ok1 || !ok2 {
		return false
	}
	if attrs["ADDR"] != "" {
		s.SetRemoteAddr(remote)
	}
	if attrs["DESTADDR"] != "" {
		s.SetLocalAddr(local)
	}
	s.xclient = attrs
	return true
}

func override(old netip.Addr, addr, port string) (netip.AddrPort, bool) {
	var n uint64
	if port != "" {
		var err error
		if n, err = strconv.ParseUint(port, 10, 16); err != nil {
			return netip.AddrPort{}, false
		}
	}
	if addr == "" {
		return netip.AddrPortFrom(old, uint16(n)), true
	}
	if len(addr) > 5 && strings.EqualFold(addr[:5], "IPV6:") {
		addr = addr[5:]
	}
	ip, err := netip.ParseAddr(addr)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), err == nil
}
