package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
)

// ProxyMode says whether connections start with a PROXY protocol header
// (versions 1 and 2). Only addresses in Config.ProxyFrom may send one.
type ProxyMode uint8

// Modes of the PROXY protocol.
const (
	// ProxyOff: no header; one that comes is ordinary input.
	ProxyOff ProxyMode = iota
	// ProxyOptional: a trusted address may send one; without it, the greeting
	// waits until Timeouts.Proxy has passed or other input has come.
	ProxyOptional
	// ProxyRequired: a header must come, and from a trusted address.
	ProxyRequired
	// ProxyListed: a trusted address must send one, for without it all of its clients would be taken for
	// itself; from any other address it is ordinary input.
	ProxyListed
)

// ErrProxy says that the PROXY header is missing, malformed or not allowed.
var ErrProxy = errors.New("wire: the PROXY header is missing, malformed, or not allowed from there")

const (
	proxyV1Max = 107  // the specification's longest v1 line with its CRLF
	proxyV2Max = 4096 // header with TLVs; longer ones are refused
)

var proxyV2Sig = []byte("\r\n\r\n\x00\r\nQUIT\n")

// readProxy reads the header, if one has to or may come, and takes over the
// addresses in it.
func (c *Conn) readProxy() error {
	if !c.proxyComes() {
		return nil
	}
	if !c.fromProxy() {
		return ErrProxy
	}
	// The header comes in clear even when TLS follows it.
	tlsNext := c.needTLS.Swap(false)
	defer c.needTLS.Store(tlsNext)
	present, err := c.proxyHeader()
	if err != nil {
		return err
	}
	if !present && c.cfg.Proxy != ProxyOptional {
		return ErrProxy
	}
	return nil
}

func (c *Conn) fromProxy() bool {
	return c.cfg.ProxyFrom != nil && contains(c.cfg.ProxyFrom(), addrIP(c.raw.RemoteAddr()))
}

// proxyComes tells whether a header has to or may come.
func (c *Conn) proxyComes() bool {
	return c.cfg.Proxy == ProxyRequired || c.cfg.Proxy != ProxyOff && c.fromProxy()
}

// proxyHeader recognises and consumes a header. It decides with the first byte
// that fits neither signature, so other input is never waited for.
func (c *Conn) proxyHeader() (present bool, err error) {
	for n := 1; ; n++ {
		b, err := c.Peek(n)
		if err != nil {
			if n == 1 && isTimeout(err) && c.cfg.Proxy == ProxyOptional {
				return false, nil
			}
			return false, err
		}
		v1 := strings.HasPrefix("PROXY ", string(b))
		v2 := bytes.HasPrefix(proxyV2Sig, b)
		switch {
		case !v1 && !v2:
			return false, nil
		case v1 && n == 6:
			return true, c.proxyV1()
		case v2 && n == len(proxyV2Sig):
			return true, c.proxyV2()
		}
	}
}

func (c *Conn) proxyV1() error {
	line, err := c.rawLine(proxyV1Max - 1)
	if err != nil {
		return ErrProxy
	}
	s, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok {
		return ErrProxy
	}
	f := strings.Split(s, " ")
	if len(f) >= 2 && f[1] == "UNKNOWN" {
		return nil
	}
	if len(f) != 6 || (f[1] != "TCP4" && f[1] != "TCP6") {
		return ErrProxy
	}
	src, err1 := netip.ParseAddrPort(joinPort(f[2], f[4]))
	dst, err2 := netip.ParseAddrPort(joinPort(f[3], f[5]))
	if err1 != nil || err2 != nil || src.Addr().Is4() != (f[1] == "TCP4") || dst.Addr().Is4() != (f[1] == "TCP4") {
		return ErrProxy
	}
	c.SetRemoteAddr(src)
	c.SetLocalAddr(dst)
	return nil
}

func joinPort(ip, port string) string {
	if strings.Contains(ip, ":") {
		return "[" + ip + "]:" + port
	}
	return ip + ":" + port
}

func (c *Conn) proxyV2() error {
	h, err := c.Peek(16)
	if err != nil {
		return ErrProxy
	}
	verCmd, fam := h[12], h[13]
	n := int(binary.BigEndian.Uint16(h[14:]))
	if verCmd>>4 != 2 || verCmd&15 > 1 || n > proxyV2Max {
		return ErrProxy
	}
	b, err := c.ReadN(16 + n)
	if err != nil {
		return ErrProxy
	}
	if verCmd&15 == 0 { // LOCAL: a health check of the proxy itself
		return nil
	}
	b = b[16:]
	size := 0
	switch fam {
	case 0x11:
		size = 4
	case 0x21:
		size = 16
	default: // UNSPEC and others: the specification says to keep the real address
		return nil
	}
	if len(b) < 2*size+4 {
		return ErrProxy
	}
	src, _ := netip.AddrFromSlice(b[:size])
	dst, _ := netip.AddrFromSlice(b[size : 2*size])
	c.SetRemoteAddr(netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[2*size:])))
	c.SetLocalAddr(netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2*size+2:])))
	return nil
}

// AppendProxyV2 appends the version 2 header for a TCP connection from src to
// dst. Addresses of different families are both written as IPv6.
func AppendProxyV2(b []byte, src, dst netip.AddrPort) []byte {
	s, d := src.Addr().Unmap(), dst.Addr().Unmap()
	b = append(b, proxyV2Sig...)
	if s.Is4() && d.Is4() {
		b = append(b, 0x21, 0x11, 0, 12)
		b = append(append(b, s.AsSlice()...), d.AsSlice()...)
	} else {
		s16, d16 := s.As16(), d.As16()
		b = append(b, 0x21, 0x21, 0, 36)
		b = append(append(b, s16[:]...), d16[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, src.Port())
	return binary.BigEndian.AppendUint16(b, dst.Port())
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
