// Package tlsrpt reads what domains say about where they want to hear how TLS towards them went,
// and writes the reports (RFC 8460).
package tlsrpt

import (
	"errors"
	"net/url"
	"strings"
)

// maxRUA bounds the addresses of one record that are looked at.
const maxRUA = 10

// ErrNone: the domain wants no reports.
var ErrNone = errors.New("there is no TLSRPT record")

// ParseRecord reads the TXT records at _smtp._tls.DOMAIN and gives the mail addresses that reports go
// to, and how many other places (https) they would go to. Two records don't count (RFC 8460 §3).
func ParseRecord(txts []string) (mailto []string, other int, err error) {
	found := ""
	for _, t := range txts {
		if version, _, _ := strings.Cut(t, ";"); strings.TrimRight(version, " \t") != "v=TLSRPTv1" {
			continue
		}
		if found != "" {
			return nil, 0, errors.New("there are two TLSRPT records")
		}
		found = t
	}
	if found == "" {
		return nil, 0, ErrNone
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
		default:
			other++
		}
	}
	if len(mailto)+other == 0 {
		return nil, 0, errors.New("the TLSRPT record has no address (rua)")
	}
	return mailto, other, nil
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
