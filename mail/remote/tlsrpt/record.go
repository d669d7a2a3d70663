// Package tlsrpt reads what domains say about where they want to hear how TLS towards them went,
// and writes the reports (RFC 8460).
package tlsrpt

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// maxRUA bounds the addresses of one record that are looked at.
const maxRUA = 10

// ErrNone: the domain wants no reports.
var ErrNone = errors.New("there is no TLSRPT record")

// ParseRecord reads the TXT records at _smtp._tls.DOMAIN and gives the mail addresses and the addresses
// of HTTPS that reports go to. Two records don't count, other kinds of addresses are passed over
// (RFC 8460 §3).
func ParseRecord(txts []string) (mailto, https []string, err error) {
	found := ""
	for _, t := range txts {
		if version, _, _ := strings.Cut(t, ";"); strings.TrimRight(version, " \t") != "v=TLSRPTv1" {
			continue
		}
		if found != "" {
			return nil, nil, errors.New("there are two TLSRPT records")
		}
		found = t
	}
	if found == "" {
		return nil, nil, ErrNone
	}
	rua := ""
	for _, f := range strings.Split(found, ";")[1:] {
		if k, v, _ := strings.Cut(strings.TrimSpace(f), "="); k == "rua" && rua == "" {
			rua = v
		}
	}
	for i, u := range strings.Split(rua, ",") {
		u = strings.TrimSpace(u)
		switch scheme, rest, _ := strings.Cut(u, ":"); {
		case i >= maxRUA || u == "":
		case strings.EqualFold(scheme, "mailto"):
			rest, _, _ = strings.Cut(rest, "?")
			if a, err := url.PathUnescape(rest); err == nil && plausible(a) {
				mailto = append(mailto, a)
			}
		case strings.EqualFold(scheme, "https"):
			if a, ok := endpoint(u); ok {
				https = append(https, a)
			}
		}
	}
	if len(mailto)+len(https) == 0 {
		return nil, nil, errors.New("the TLSRPT record has no address that reports can be sent to (rua)")
	}
	return mailto, https, nil
}

// maxURL bounds an address of HTTPS, in octets.
const maxURL = 2000

// endpoint reads an address of HTTPS: a host by its name, on the port of HTTPS. Reports go nowhere
// else, so that no record makes this server ask around in its own network.
func endpoint(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || u.User != nil || u.Port() != "" && u.Port() != "443" || u.Opaque != "" {
		return "", false
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(strings.Trim(host, "."), ".") {
		return "", false
	}
	for _, c := range []byte(host) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return "", false
		}
	}
	u.Scheme, u.Fragment, u.RawFragment = "https", "", ""
	return u.String(), true
}

// plausible leaves out what would break a header or an SMTP command.
func plausible(a string) bool {
	at := strings.LastIndexByte(a, '@')
	if at < 1 || at == len(a)-1 || len(a) > 254 {
		return false
	}
	for _, c := range []byte(a) {
		if c <= ' ' || c >= 0x7f || c == '<' || c == '>' || c == ',' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
