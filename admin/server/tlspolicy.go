package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/dnsask"
	"mailplusd/mail/model"
	"mailplusd/mail/state"

	"github.com/miekg/dns"
)

// destination gives a destination of a policy in the form in which it is kept.
func destination(name string) string {
	name = strings.TrimSpace(name)
	if name == model.AnyDestination {
		return name
	}
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return a.String()
	}
	if rest, ok := strings.CutPrefix(name, "."); ok {
		return "." + asciiDomain(rest)
	}
	return asciiDomain(name)
}

func tlsPolicyRow(p *model.TLSPolicy) api.TLSPolicyRow {
	return api.TLSPolicyRow{Domain: p.Domain, Level: p.Level, Name: slices.Clone(p.Name), Fingerprint: slices.Clone(p.Fingerprint)}
}

func (s *Server) tlsPolicyList(_ context.Context, _ *Call, in *api.ListIn) ([]api.TLSPolicyRow, error) {
	out := []api.TLSPolicyRow{}
	for p, err := range state.TLSPolicies.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		if matches(in.Search, p.Domain, p.Level, p.Name, p.Fingerprint) {
			out = append(out, tlsPolicyRow(p))
		}
	}
	return out, nil
}

// tlsPolicyShow answers for any destination: by its own policy, or the one that holds for it.
func (s *Server) tlsPolicyShow(_ context.Context, c *Call, in *api.TLSPolicyIn) (api.TLSPolicyRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return api.TLSPolicyRow{}, err
	}
	name := destination(in.Domain)
	p := pic.TLSPolicies[name]
	if p == nil && name != model.AnyDestination {
		p = pic.TLSPolicy(strings.TrimPrefix(name, "."))
	}
	if p == nil {
		return api.TLSPolicyRow{}, op.Errorf(op.NotFound, "no policy holds for %s; what does is shown by mpctl delivery tls default show", in.Domain).With("mpctl delivery tls list")
	}
	return tlsPolicyRow(p), nil
}

func (s *Server) tlsPolicySet(ctx context.Context, c *Call, in *api.TLSPolicySetIn) (row api.TLSPolicyRow, err error) {
	name := destination(in.Domain)
	err = s.change(ctx, c, func(tx *state.Tx) error {
		p, err := state.TLSPolicies.Get(tx, name)
		var before any
		switch {
		case errors.Is(err, state.ErrNotFound):
			if in.Level == nil {
				return op.Errorf(op.Usage, "%s has no policy yet; say which: --level none, may, require, verify, dane or fingerprint", name)
			}
			p = &model.TLSPolicy{Domain: name, Created: time.Now().Unix()}
		case err != nil:
			return err
		default:
			before = tlsPolicyRow(p)
		}
		if in.Level != nil && *in.Level != p.Level {
			p.Level, p.Name, p.Fingerprint = *in.Level, nil, nil
		}
		if in.Name != nil {
			p.Name = slices.Clone(in.Name)
		}
		if in.Fingerprint != nil {
			p.Fingerprint = slices.Clone(in.Fingerprint)
		}
		if err := p.Validate(); err != nil {
			return err
		}
		row = tlsPolicyRow(p)
		diffRows(c, before, row)
		return state.TLSPolicies.Put(tx, p)
	})
	if err == nil {
		s.warnPolicy(c, &row)
		s.warnRelayed(c, func(p *model.TLSPolicy, _ string) bool { return p.Domain == row.Domain })
	}
	return row, err
}

// warnRelayed tells of relay domains under a policy that they can't fulfil: DANE. They are found by all
// DNS servers together, and what the inside one says has no signature.
func (s *Server) warnRelayed(c *Call, about func(p *model.TLSPolicy, domain string) bool) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return
	}
	for _, d := range slices.Sorted(maps.Keys(pic.Relayed)) {
		if p := pic.TLSPolicy(d); p != nil && p.Level == model.TLSLevelDANE && about(p, d) {
			c.Warn("mail to the relay domain %s waits until it is given up: the policy for %s wants DANE, and a relay domain's server is found by the inside DNS server, too, for which DNSSEC does not vouch; mpctl delivery tls set %s --level require", d, p.Domain, d)
		}
	}
}

// warnPolicy tells of policies that protect less than they seem to, or hold everything up.
func (s *Server) warnPolicy(c *Call, row *api.TLSPolicyRow) {
	set := s.mail.State.Current()
	switch {
	case row.Level == model.TLSLevelNone:
		c.Warn("mail to %s can be read and changed by anybody on its way", row.Domain)
	case row.Level == model.TLSLevelDANE && len(s.dnsOut(set).Validates) == 0:
		c.Warn("no DNS server that validates is trusted, so mail to %s waits: run one on this host, or trust one with mpctl net dns set --dnssec all", row.Domain)
	case row.Domain == model.AnyDestination && row.Level != model.TLSLevelMay:
		c.Warn("mail to all servers that can't do that waits until it is given up; mpctl queue stats shows how much it is")
	}
}

func (s *Server) tlsPolicyDelete(ctx context.Context, c *Call, in *api.TLSPolicyIn) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		p, err := getRow(tx, state.TLSPolicies, "TLS policy", destination(in.Domain), "mpctl delivery tls list")
		if err != nil {
			return err
		}
		diffRows(c, tlsPolicyRow(p), nil)
		return state.TLSPolicies.Delete(tx, p.Domain)
	})
}

// daneState says whether TLSA records count, and why not.
func (s *Server) daneState(set *model.Settings) string {
	switch {
	case set.Queue.TLS == "none":
		return "off: no TLS (queue.tls)"
	case !set.Queue.DANE:
		return "off: mpctl delivery tls default set --dane on"
	case set.Network.DNSSEC == "none":
		return "off: no DNS server is believed (mpctl net dns set --dnssec)"
	}
	if by := s.dnsOut(set).Validates; len(by) > 0 {
		return "on, if validated by " + strings.Join(by, ", ")
	}
	return "off: no DNS server on this host that could validate (mpctl net dns set --dnssec)"
}

// validating says whose word on DNSSEC counts, and whether it says anything (RFC 4035 §3.2.3).
func (s *Server) validating(ctx context.Context, f *findings) {
	set := s.mail.State.Current()
	trusted := s.dnsOut(set).Validates
	if !set.Queue.DANE || set.Queue.TLS == "none" || len(trusted) == 0 {
		f.add("info", "dns", "DANE", "run a DNS server that validates on this host, or mpctl net dns set --dnssec all", "is %s", s.daneState(set))
		return
	}
	for _, server := range trusted {
		m := new(dns.Msg)
		m.SetQuestion(".", dns.TypeSOA)
		m.SetEdns0(1232, true)
		m.AuthenticatedData = true
		resp, err := dnsask.Exchange(ctx, m, withPort(server), dnsTime)
		switch {
		case err != nil:
			f.add("warning", "dns", "DANE", "mpctl net dns show", "DNS server %s does not answer", server)
		case resp.AuthenticatedData:
			f.add("ok", "dns", "DANE", "", "is on: DNS server %s checks DNSSEC", server)
		default:
			f.add("info", "dns", "DANE", "switch on DNSSEC validation in the DNS server "+server, "has no effect: DNS server %s does not check DNSSEC", server)
		}
	}
}

func (s *Server) tlsDefaultOut(set *model.Settings) api.TLSDefaultOut {
	out := api.TLSDefaultOut{TLS: set.Queue.TLS, DANE: s.daneState(set), STS: "on", Reports: set.Queue.TLSReports}
	switch {
	case set.Queue.TLS == "none":
		out.STS = "off: no TLS (queue.tls)"
	case !set.Queue.MTASTS:
		out.STS = "off: mpctl delivery tls default set --mta-sts on"
	}
	return out
}

func (s *Server) tlsDefaultShow(context.Context, *Call, *op.None) (api.TLSDefaultOut, error) {
	return s.tlsDefaultOut(s.mail.State.Current()), nil
}

func (s *Server) tlsDefaultSet(ctx context.Context, c *Call, in *api.TLSDefaultSetIn) (out api.TLSDefaultOut, err error) {
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		assign(&set.Queue.TLS, in.TLS)
		assign(&set.Queue.DANE, in.DANE)
		assign(&set.Queue.MTASTS, in.STS)
		assign(&set.Queue.TLSReports, in.Reports)
		out = s.tlsDefaultOut(set)
		return nil
	})
	if err == nil && out.TLS == "none" && in.TLS != nil {
		c.Warn("mail to other servers goes in clear, whatever they offer, unless a policy says otherwise")
	}
	if err == nil && in.Reports != nil && *in.Reports {
		domain := s.mail.State.Current().System.Domain
		if keys, kerr := getDKIM(s.mail.State, domain); kerr != nil || len(keys.Signing()) == 0 {
			c.Warn("reports come from postmaster@%s, and their receivers ignore them without a DKIM signature of that domain (RFC 8460 §3): mpctl domain dkim enable %s", domain, domain)
		}
	}
	return out, err
}

func trustedCARow(ca *model.TrustedCA) api.TrustedCARow {
	row := api.TrustedCARow{Name: ca.Name}
	list, err := ca.Certificates()
	if err != nil {
		row.Subject = "can't be read: " + err.Error()
		return row
	}
	sum := sha256.Sum256(list[0].Raw)
	row.Subject, row.NotAfter, row.Count, row.Fingerprint = list[0].Subject.String(), list[0].NotAfter.UTC().Format(time.DateOnly), len(list), hex.EncodeToString(sum[:])
	return row
}

func (s *Server) trustedCAAdd(ctx context.Context, c *Call, in *api.TrustedCAAddIn) (row api.TrustedCARow, err error) {
	ca := &model.TrustedCA{Name: in.Name, Cert: in.Cert, Created: time.Now().Unix()}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if has, err := state.TrustedCAs.Has(tx, ca.Name); err != nil {
			return err
		} else if has {
			return exists("trusted CA", ca.Name, "mpctl delivery tls ca delete '"+ca.Name+"'")
		}
		if err := ca.Validate(); err != nil {
			return err
		}
		row = trustedCARow(ca)
		diffRows(c, nil, row)
		return state.TrustedCAs.Put(tx, ca)
	})
	if err == nil {
		list, _ := ca.Certificates()
		for _, x := range list {
			if time.Now().After(x.NotAfter) {
				c.Warn("the certificate of %s has expired on %s: nothing that it signed is valid", x.Subject, x.NotAfter.UTC().Format(time.DateOnly))
			}
		}
	}
	return row, err
}

func (s *Server) trustedCAList(_ context.Context, _ *Call, in *api.ListIn) ([]api.TrustedCARow, error) {
	out := []api.TrustedCARow{}
	for ca, err := range state.TrustedCAs.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		if row := trustedCARow(ca); matches(in.Search, row.Name, row.Subject, row.Fingerprint) {
			out = append(out, row)
		}
	}
	return out, nil
}

func (s *Server) trustedCADelete(ctx context.Context, c *Call, in *api.TrustedCAIn) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		ca, err := getRow(tx, state.TrustedCAs, "trusted CA", in.Name, "mpctl delivery tls ca list")
		if err != nil {
			return err
		}
		diffRows(c, trustedCARow(ca), nil)
		return state.TrustedCAs.Delete(tx, in.Name)
	})
}
