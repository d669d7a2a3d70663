package remote

import (
	"errors"
	"net"
	"net/netip"

	"mailplusd/mail/remote/mtasts"
)

// Kinds of policies that a connection was held to (RFC 8460 §4.4).
const (
	PolicyTLSA = "tlsa"
	PolicySTS  = "sts"
	PolicyNone = "no-policy-found"
)

// TLSAttempt is how the protection of one connection went, as the domain's reports tell it
// (RFC 8460 §4).
type TLSAttempt struct {
	Domain  string
	Kind    string   // PolicyTLSA, PolicySTS or PolicyNone
	Policy  []string // the records or lines of the policy
	MX      []string // patterns of an MTA-STS policy
	Failure string   // result type of RFC 8460 §4.3; empty: success
	Detail  string   // in words, of a failure
	Host    string   // the other server
	Addr    netip.Addr
	Local   netip.Addr // ours
}

// maxTold bounds the lines and patterns of a policy that are told.
const maxTold = 50

// tried tells how a connection went. What has nothing to do with TLS is not told: it is not known
// how it would have gone.
func (c *Client) tried(p *protection, g *guard, t target, s *session, err error) {
	if c.Tried == nil || p.route != nil || p.row != nil {
		return
	}
	a := TLSAttempt{Domain: p.domain, Kind: PolicyNone, Host: t.host, Addr: t.addr}
	switch {
	case len(g.tlsa) > 0:
		a.Kind = PolicyTLSA
		for _, r := range g.tlsa[:min(len(g.tlsa), maxTold)] {
			a.Policy = append(a.Policy, r.String())
		}
	case g.sts:
		a.Kind, a.Policy, a.MX = PolicySTS, p.sts.Lines(), p.sts.MX[:min(len(p.sts.MX), maxTold)]
	}
	switch {
	case err != nil:
		if a.Failure = failureKind(err); a.Failure == "" {
			return
		}
		if a.Detail = oneLine(err.Error()); a.Failure == failDNSSEC || a.Failure == failTLSA {
			a.Kind = PolicyTLSA
		}
	case s.wrong != nil:
		a.Failure, a.Detail = failureKind(s.wrong), oneLine(s.wrong.Error())
	case s.protection == "":
		a.Failure = failNoTLS
	}
	if s != nil {
		if l, ok := s.conn.LocalAddr().(*net.TCPAddr); ok {
			a.Local = l.AddrPort().Addr().Unmap()
		}
	}
	c.Tried(a)
	var f *mtasts.Failure
	if errors.As(p.stsErr, &f) && p.sts == nil { // the domain wants to know that it can't be protected
		c.Tried(TLSAttempt{Domain: p.domain, Kind: PolicySTS, Failure: f.Kind, Detail: oneLine(f.Error()), Host: t.host, Addr: t.addr})
	}
}

func failureKind(err error) string {
	var cert *certFailure
	if errors.As(err, &cert) {
		return cert.kind
	}
	if errors.As(err, new(*tlsFailure)) {
		return failValidation
	}
	return ""
}
