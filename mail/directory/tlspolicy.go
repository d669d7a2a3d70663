package directory

import (
	"crypto/x509"
	"strings"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (p *Picture) addTLS(r state.Reader) error {
	p.TLSPolicies = map[string]*model.TLSPolicy{}
	for t, err := range state.TLSPolicies.All(r, "") {
		if err != nil {
			return err
		}
		p.TLSPolicies[t.Domain] = t
	}
	for ca, err := range state.TrustedCAs.All(r, "") {
		if err != nil {
			return err
		}
		list, err := ca.Certificates()
		if err != nil {
			continue // checked when it came in
		}
		if p.Roots == nil {
			if p.Roots, err = x509.SystemCertPool(); err != nil {
				p.Roots = x509.NewCertPool()
			}
		}
		for _, c := range list {
			p.Roots.AddCert(c)
		}
	}
	return nil
}

// TLSPolicy gives what the administrator demands of connections to a destination: its own policy,
// that of the nearest domain above it, or the one for all; nil: nothing.
func (p *Picture) TLSPolicy(domain string) *model.TLSPolicy {
	if t := p.TLSPolicies[domain]; t != nil {
		return t
	}
	for rest := domain; ; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		if t := p.TLSPolicies["."+parent]; t != nil {
			return t
		}
		rest = parent
	}
	return p.TLSPolicies[model.AnyDestination]
}
