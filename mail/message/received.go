package message

import (
	"net/netip"
	"strings"
	"time"
)

// Received is a trace field (RFC 5321 §4.4).
type Received struct {
	From   string // HELO name
	FromIP netip.Addr
	By     string
	With   string // ESMTP, ESMTPS, ESMTPSA … (RFC 3848)
	TLS    string // version and cipher
	ID     string
	For    string // only with a single recipient
	At     time.Time
}

// String gives the folded field with its line end.
func (r Received) String() string {
	var b strings.Builder
	b.WriteString("Received: from " + printable(r.From))
	if r.FromIP.IsValid() {
		ip := r.FromIP.Unmap()
		lit := "[" + ip.String() + "]"
		if ip.Is6() {
			lit = "[IPv6:" + ip.String() + "]"
		}
		b.WriteString(" (" + lit + ")")
	}
	b.WriteString("\r\n\tby " + printable(r.By) + " with " + r.With)
	if r.TLS != "" {
		b.WriteString(" (" + r.TLS + ")")
	}
	b.WriteString(" id " + r.ID)
	if r.For != "" {
		b.WriteString("\r\n\tfor <" + printable(r.For) + ">")
	}
	b.WriteString(";\r\n\t" + r.At.Format("Mon, 2 Jan 2006 15:04:05 -0700") + "\r\n")
	return b.String()
}

// printable keeps what a client said from breaking the field.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune("();", r) {
			return '_'
		}
		return r
	}, s)
	if len(s) > 255 {
		s = s[:255]
	}
	if s == "" {
		return "unknown"
	}
	return s
}
