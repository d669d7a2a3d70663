package server

import (
	"context"
	"errors"
	"slices"
	"strings"

	"mailplusd/admin/api"
	"mailplusd/mail/certs"
	"mailplusd/mail/certs/keeper"
	"mailplusd/mail/model"
	"mailplusd/mail/state"

	"github.com/miekg/dns"
)

func domainSTSRow(set *model.Settings, d *model.Domain) api.DomainSTSRow {
	row := api.DomainSTSRow{Domain: d.Name, Mode: d.STS.Mode, MaxAge: d.STS.MaxAge, ReportTo: slices.Clone(d.STS.ReportTo)}
	if row.Mode == "" {
		row.Mode = model.STSOff
	}
	if text, id := d.STSPolicy(set.System.Hostname); text != nil {
		row.ID, row.URL, row.Text = id, "https://mta-sts."+d.Name+"/.well-known/mta-sts.txt", string(text)
	}
	return row
}

func (s *Server) domainSTSShow(_ context.Context, c *Call, in *api.DomainIn) (api.DomainSTSRow, error) {
	d, err := getDomain(s.mail.State, in.Name)
	if err != nil {
		return api.DomainSTSRow{}, err
	}
	s.warnSTS(c, d)
	return domainSTSRow(s.mail.State.Current(), d), nil
}

func (s *Server) domainSTSSet(ctx context.Context, c *Call, in *api.DomainSTSSetIn) (row api.DomainSTSRow, err error) {
	var d *model.Domain
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if d, err = getDomain(tx, in.Name); err != nil {
			return err
		}
		set, err := state.LoadSettings(tx)
		if err != nil {
			return err
		}
		before := domainSTSRow(set, d)
		assign(&d.STS.Mode, in.Mode)
		assign(&d.STS.MaxAge, in.MaxAge)
		if d.STS.MaxAge == 0 && in.MaxAge == nil {
			d.STS.MaxAge = model.DefaultSTSMaxAge
		}
		if in.ReportTo != nil {
			d.STS.ReportTo = slices.DeleteFunc(slices.Clone(in.ReportTo), func(a string) bool { return a == "" })
		}
		if err := d.STS.Validate(); err != nil {
			return err
		}
		row = domainSTSRow(set, d)
		diffRows(c, before, row)
		return state.Domains.Put(tx, d)
	})
	if err == nil {
		c.Warn("publish the records as they are now: mpctl domain dns-records %s", d.Name)
		s.warnSTS(c, d)
	}
	return row, err
}

// warnSTS tells why other servers may not find the policy, or can't fulfil it.
func (s *Server) warnSTS(c *Call, d *model.Domain) {
	if d.STS.Mode == "" || d.STS.Mode == model.STSOff {
		return
	}
	set := s.mail.State.Current()
	switch a := set.Services.Autoconfig; {
	case !a.Enabled:
		c.Warn("nobody finds the policy: the HTTPS listener is off; mpctl service autoconfig set --enable on")
	case a.Port != 443:
		c.Warn("others fetch the policy from port 443, and the HTTPS listener has port %d: mpctl service autoconfig set --port 443, unless a router leads there", a.Port)
	}
	for _, name := range []string{"mta-sts." + d.Name, set.System.Hostname} {
		switch info := s.certificateFor(name); {
		case info == nil:
			c.Warn("no certificate here is for %s: others accept none but a valid one; mpctl cert import", name)
		case info.SelfSigned:
			c.Warn("the certificate for %s is self-signed, which others don't accept: mpctl cert import", name)
		}
	}
}

// certificateFor gives what a certificate of the services says that has a name; nil: none has it.
func (s *Server) certificateFor(name string) *certs.Info {
	all, err := keeper.All(s.mail.State)
	if err != nil {
		return nil
	}
	_, parent, _ := strings.Cut(name, ".")
	for _, e := range all {
		if e.Chain != "" && e.Err == nil && (slices.Contains(e.Info.Names, name) || slices.Contains(e.Info.Names, "*."+parent)) {
			return &e.Info
		}
	}
	return nil
}

// stsFound checks that other servers find the domain's MTA-STS policy as it is now.
func (s *Server) stsFound(ctx context.Context, f *findings, r resolver, domain string) {
	d, err := getDomain(s.mail.State, domain)
	if err != nil {
		return
	}
	text, id := d.STSPolicy(s.mail.State.Current().System.Hostname)
	if text == nil {
		return
	}
	remedy := "mpctl domain dns-records " + domain
	rrs, err := r.ask(ctx, "_mta-sts."+domain, dns.TypeTXT)
	if err != nil && !errors.Is(err, errNXDomain) {
		f.add("warning", "dns", domain, "", "the MTA-STS record can't be looked up: %v", err)
		return
	}
	found := ""
	for _, rr := range rrs {
		if t, ok := rr.(*dns.TXT); ok {
			found += strings.Join(t.Txt, "")
		}
	}
	switch {
	case found == "":
		f.add("error", "dns", domain, remedy, "has an MTA-STS policy and no record at _mta-sts.%s, so nobody looks at it", domain)
	case !strings.Contains(strings.ReplaceAll(found, " ", ""), "id="+id+";"):
		f.add("error", "dns", domain, remedy, "the MTA-STS record %q is not that of the policy as it is now (id=%s): others keep the old policy", found, id)
	default:
		f.add("ok", "dns", domain, "", "the MTA-STS record is that of the policy (%s)", d.STS.Mode)
	}
	if ips, err := r.addresses(ctx, "mta-sts."+domain); len(ips) == 0 {
		f.add("error", "dns", domain, remedy, "mta-sts.%s, where the MTA-STS policy is fetched, has no address: %v", domain, err)
	}
}
