package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/certs/acme"
	"mailplusd/mail/certs/keeper"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) acmeOut(r state.Reader, set *model.Settings) (api.CertACMEOut, error) {
	a := &set.Certs.ACME
	out := api.CertACMEOut{
		Directory: a.Directory, Contact: a.Contact, Terms: "not agreed", Root: len(a.Root), Challenge: a.Challenge, HTTPPort: a.HTTPPort, TLSPort: a.TLSPort,
		DNSServer: a.DNSServer, DNSZone: a.DNSZone, DNSKeyName: a.DNSKeyName, DNSAlgorithm: a.DNSAlgorithm, DNSWait: a.DNSWaitSec, EABKeyID: a.EABKeyID, KeepKey: a.KeepKey,
		Retry: a.RetrySec,
	}
	if a.Agreed == a.Directory {
		out.Terms = "agreed"
	}
	account, err := state.ACMEAccounts.Get(r, a.Directory)
	if errors.Is(err, state.ErrNotFound) {
		return out, nil
	}
	if err == nil {
		out.Account = account.Location
	}
	return out, err
}

func (s *Server) certACMEShow(context.Context, *Call, *op.None) (api.CertACMEOut, error) {
	return s.acmeOut(s.mail.State, s.mail.State.Current())
}

func (s *Server) certACMESet(ctx context.Context, c *Call, in *api.CertACMESetIn) (out api.CertACMEOut, err error) {
	var roots []string
	if in.Root != "" {
		if roots, err = acme.RootsOf(in.Root); err != nil {
			return out, op.Errorf(op.Refused, "%v", err)
		}
	}
	dnsKey, err := s.mail.Vault.Seal(keeper.DNSSecret, strings.TrimSpace(string(in.DNSKey)))
	if err != nil {
		return out, err
	}
	eabKey, err := s.mail.Vault.Seal(keeper.EABSecret, strings.TrimSpace(string(in.EABKey)))
	if err != nil {
		return out, err
	}
	var a *model.ACME
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		a = &set.Certs.ACME
		applyACME(a, in)
		if roots != nil {
			a.Root = roots
		}
		if dnsKey != "" {
			a.DNSKey = dnsKey
		}
		if eabKey != "" {
			a.EABKey = eabKey
		}
		if err := errors.Join(set.Certs.Validate(), a.Complete()); err != nil {
			return err
		}
		if err := acmePort(set); err != nil {
			return err
		}
		out, err = s.acmeOut(s.mail.State, set)
		return err
	})
	if err != nil {
		return out, err
	}
	switch {
	case a.Challenge == model.ChallengeDNS && a.DNSKeyName == "":
		c.Warn("updates of %s are not signed: whoever can send it packets with this server's address can order certificates; --dns-key-name and --dns-key-file sign them", a.DNSServer)
	case a.Challenge == model.ChallengeHTTP && a.HTTPPort != 80:
		c.Warn("ACME servers come to port 80; what comes there must be passed on to port %d", a.HTTPPort)
	case a.Challenge == model.ChallengeTLS && a.TLSPort != 443:
		c.Warn("ACME servers come to port 443; what comes there must be passed on to port %d", a.TLSPort)
	}
	return out, nil
}

// applyACME takes over what is given, secrets and roots aside.
func applyACME(a *model.ACME, in *api.CertACMESetIn) {
	assign(&a.Directory, in.Directory)
	assign(&a.Contact, in.Contact)
	if in.AgreeTerms != nil {
		if a.Agreed = ""; *in.AgreeTerms {
			a.Agreed = a.Directory
		}
	}
	if in.HostRoots {
		a.Root = nil
	}
	assign(&a.Challenge, in.Challenge)
	assign(&a.HTTPPort, in.HTTPPort)
	assign(&a.TLSPort, in.TLSPort)
	assign(&a.DNSServer, in.DNSServer)
	assign(&a.DNSZone, in.DNSZone)
	assign(&a.DNSKeyName, in.DNSKeyName)
	assign(&a.DNSAlgorithm, in.DNSAlgorithm)
	assign(&a.DNSWaitSec, in.DNSWait)
	assign(&a.EABKeyID, in.EABKeyID)
	assign(&a.KeepKey, in.KeepKey)
	assign(&a.RetrySec, in.Retry)
	if a.DNSKeyName == "" {
		a.DNSKey = ""
	}
	if a.EABKeyID == "" {
		a.EABKey = ""
	}
}

// acmePort refuses a port that is a mail service's.
func acmePort(set *model.Settings) error {
	a, shared, flag := &set.Certs.ACME, "autoconfig-http", "--http-port"
	port := a.HTTPPort
	switch a.Challenge {
	case model.ChallengeDNS:
		return nil
	case model.ChallengeTLS:
		port, shared, flag = a.TLSPort, "autoconfig", "--tls-port"
	}
	for name, p := range set.Services.Ports() {
		if p == port && name != shared {
			return refused(fmt.Sprintf("port %d is the port of %s", port, name), "mpctl cert acme set "+flag+" PORT")
		}
	}
	return nil
}

// orderedNames brings names into the form in which they are ordered.
func orderedNames(in []string, challenge string) ([]string, error) {
	var out []string
	for _, n := range in {
		host, wild := strings.CutPrefix(n, "*.")
		host = asciiDomain(host)
		if wild {
			host = "*." + host
		}
		if err := model.ValidateCertName("names", host); err != nil {
			return nil, err
		}
		if wild && challenge != model.ChallengeDNS {
			return nil, refused(host+" needs the challenge dns-01 (RFC 8555 §8.3)", "mpctl cert acme set --challenge dns-01 --dns-server ADDRESS")
		}
		if !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	if len(out) > model.MaxCertNames {
		return nil, model.Invalid("names", "%d names are more than %d", len(out), model.MaxCertNames)
	}
	return out, nil
}

func (s *Server) certOrder(ctx context.Context, c *Call, in *api.CertOrderIn) (row api.CertRow, err error) {
	names, err := orderedNames(in.Names, s.mail.State.Current().Certs.ACME.Challenge)
	if err != nil {
		return row, err
	}
	name := in.Name
	if name == "" {
		name = strings.TrimPrefix(names[0], "*.")
	}
	if err := model.ValidateUserName(name); err != nil {
		return row, err
	}
	if in.Background && in.Default {
		return row, refused("a certificate becomes the default one when it is there, so --default waits for it", "mpctl cert order … --background, and later mpctl cert set "+name+" --default on")
	}
	since := time.Now()
	err = s.change(ctx, c, func(tx *state.Tx) error {
		r := &model.Certificate{Name: name}
		switch old, err := getCert(tx, name); {
		case err == nil && old.Source == model.CertImported:
			return refused("the certificate "+name+" was imported; order under another name", "mpctl cert order "+strings.Join(names, " ")+" --name OTHER")
		case err == nil:
			r = old.Certificate // what it holds serves until the new one is there
		}
		before := r.Names
		r.Names, r.Source, r.Created = names, model.CertACME, time.Now().Unix()
		c.Diff(op.FieldDiff{Field: "names", Old: strings.Join(before, ","), New: strings.Join(names, ",")})
		if err := putCert(tx, r); err != nil {
			return err
		}
		row, err = s.certNow(tx, name)
		return err
	})
	if err != nil || c.DryRun {
		return row, err
	}
	if in.Background {
		s.mail.Certs.Start(name, since)
		return row, nil
	}
	if row, err = s.awaitOrder(ctx, c, name, since); err != nil || !in.Default || row.State != "ok" {
		return row, err
	}
	return s.certSet(ctx, c, &api.CertSetIn{Name: name, Default: &in.Default})
}

// awaitOrder orders a certificate and waits for what the server says, as long as the call may take.
func (s *Server) awaitOrder(ctx context.Context, c *Call, name string, since time.Time) (api.CertRow, error) {
	select {
	case err := <-s.mail.Certs.Start(name, since):
		if err != nil {
			row, _ := s.certNow(s.mail.State, name)
			return row, op.Errorf(op.Failed, "%s was not issued: %v", name, err).With("mpctl cert show " + name + "; it is tried again by itself, " + row.Renewal)
		}
	case <-ctx.Done():
		c.Warn("the order goes on: mpctl cert show %s", name)
	}
	return s.certNow(s.mail.State, name)
}

// checkCerts tells what is wrong with the certificates, and which names they are not for.
func (s *Server) checkCerts(_ context.Context, _ *Call, _ *op.None) ([]api.Finding, error) {
	f := findings{}
	all, err := keeper.All(s.mail.State)
	if err != nil {
		return f, err
	}
	warnings, err := s.mail.Certs.Warnings()
	if err != nil {
		return f, err
	}
	bad := map[string]bool{}
	for _, w := range warnings {
		level := "warning"
		if w.Error {
			level = "error"
		}
		bad[w.Name] = true
		f.add(level, "certs", w.Name, w.Remedy, "%s", w.Text)
	}
	for i := range all {
		if e := &all[i]; !bad[e.Name] && e.Chain != "" {
			f.add("ok", "certs", e.Name, "", "%s, until %s", e.Source, e.Info.NotAfter.Format(time.DateOnly))
		}
	}
	set := s.mail.State.Current()
	names := []string{set.System.Hostname}
	if set.Services.Autoconfig.Enabled {
		if names, err = usedNames(s.mail.State); err != nil {
			return f, err
		}
		names = slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "mail.") && n != set.System.Hostname })
	}
	for _, name := range names {
		order := "mpctl cert order " + name
		i := slices.IndexFunc(all, func(e keeper.Entry) bool { return e.Name == s.mail.Keyring.Serves(name) })
		switch {
		case i < 0:
			f.add("error", "certs", name, order, "no certificate serves it, so TLS fails")
		case !covers(all[i].Info.Names, name):
			f.add("warning", "certs", name, order, "is served with the certificate %s, which is for %s", all[i].Name, strings.Join(all[i].Info.Names, ", "))
		case all[i].Info.SelfSigned:
			f.add("info", "certs", name, order, "is served with a self-signed certificate, which clients warn about")
		}
	}
	return f, nil
}
