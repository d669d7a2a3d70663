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
	"mailplusd/mail/certs"
	"mailplusd/mail/certs/keeper"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) certRow(e *keeper.Entry) api.CertRow {
	row := api.CertRow{Name: e.Name, Names: e.Names, Source: e.Source, Default: e.Default, State: "ok"}
	if row.Names == nil {
		row.Names = []string{}
	}
	if is := e.Issued; is != nil && is.Failures > 0 {
		row.Failures, row.Renewal = is.Failures, "next attempt "+stamp(is.Next)
		row.State = "failed: " + is.Error
	}
	if e.Chain == "" {
		if row.State == "ok" {
			row.State = "ordered"
		}
		return row
	}
	if e.Err != nil {
		row.State = "can't be read: " + e.Err.Error()
		return row
	}
	info, now := e.Info, time.Now()
	row.Issuer, row.Fingerprint, row.Key, row.Chain = info.Issuer, info.Fingerprint, info.Key, info.Chain
	row.NotBefore, row.NotAfter = info.NotBefore.Format(time.DateOnly), info.NotAfter.Format(time.DateOnly)
	row.Days = int(info.NotAfter.Sub(now).Hours() / 24)
	if e.Source != model.CertACME || e.Issued == nil || e.Issued.Cert == "" {
		row.Names = info.Names
	} else if row.Renewal == "" {
		row.Renewal = keeper.RenewAt(info).Format(time.RFC3339)
	}
	if row.State != "ok" {
		return row
	}
	switch err := s.mail.Certs.Readable(e); {
	case err != nil:
		row.State = "not usable on this node: " + err.Error()
	case now.After(info.NotAfter):
		row.State = "expired"
	case e.Source == model.CertACME && (e.Issued == nil || e.Issued.Cert == ""):
		row.State = "ordered; the one of before serves"
	case row.Days < s.mail.State.Current().Certs.WarnDays && e.Source != model.CertACME:
		row.State = "expires soon"
	}
	return row
}

func getCert(r state.Reader, name string) (keeper.Entry, error) {
	e, err := keeper.Get(r, name)
	if errors.Is(err, state.ErrNotFound) {
		return e, notFound("certificate", name, "mpctl cert list")
	}
	return e, err
}

func (s *Server) certNow(r state.Reader, name string) (api.CertRow, error) {
	e, err := getCert(r, name)
	if err != nil {
		return api.CertRow{}, err
	}
	return s.certRow(&e), nil
}

func (s *Server) certList(context.Context, *Call, *op.None) ([]api.CertRow, error) {
	all, err := keeper.All(s.mail.State)
	out := make([]api.CertRow, 0, len(all))
	for i := range all {
		out = append(out, s.certRow(&all[i]))
	}
	return out, err
}

func (s *Server) certShow(_ context.Context, _ *Call, in *api.CertIn) (api.CertRow, error) {
	return s.certNow(s.mail.State, in.Name)
}

// putCert stores a certificate; there is one default at most.
func putCert(tx *state.Tx, r *model.Certificate) error {
	if r.Default {
		all, err := state.Certificates.List(tx, "")
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.Default && other.Name != r.Name {
				other.Default = false
				if err := state.Certificates.Put(tx, other); err != nil {
					return err
				}
			}
		}
	}
	return state.Certificates.Put(tx, r)
}

// forget removes what was ordered under a name.
func forgetIssued(tx *state.Tx, name string) error {
	err := state.IssuedCerts.Delete(tx, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	return err
}

func (s *Server) certImport(ctx context.Context, c *Call, in *api.CertImportIn) (row api.CertRow, err error) {
	if err := model.ValidateUserName(in.Name); err != nil {
		return row, err
	}
	made, _, warnings, err := certs.Import([]byte(in.Cert), []byte(in.Key), string(in.Passphrase), time.Now())
	if err != nil {
		return row, op.Errorf(op.Refused, "%v", err)
	}
	sealed, err := s.mail.Certs.Seal(in.Name, made.KeyPEM)
	if err != nil {
		return row, err
	}
	r := &model.Certificate{Name: in.Name, Cert: string(made.CertPEM), Key: sealed, Source: model.CertImported, Default: in.Default, Created: time.Now().Unix()}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if old, err := getCert(tx, r.Name); err == nil {
			r.Default = r.Default || old.Default
			diffRows(c, s.certRow(&old), s.certRow(&keeper.Entry{Certificate: r, Chain: r.Cert, Info: readCert(r.Cert)}))
		}
		if err := forgetIssued(tx, r.Name); err != nil {
			return err
		}
		if err := putCert(tx, r); err != nil {
			return err
		}
		row, err = s.certNow(tx, r.Name)
		return err
	})
	if err != nil {
		return row, err
	}
	for _, w := range warnings {
		c.Warn("%s", w)
	}
	if host := s.mail.State.Current().System.Hostname; r.Default && !covers(row.Names, host) {
		c.Warn("it is the default certificate and not for this server's name, %s: other mail servers may refuse it", host)
	}
	return row, nil
}

func readCert(pem string) certs.Info {
	info, _ := certs.Read([]byte(pem))
	return info
}

// covers tells whether a name is among those of a certificate (RFC 6125 §6.4).
func covers(names []string, host string) bool {
	host = strings.ToLower(host)
	_, parent, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(names, func(n string) bool {
		n = strings.ToLower(n)
		return n == host || parent != "" && n == "*."+parent
	})
}

func (s *Server) certRenew(ctx context.Context, c *Call, in *api.CertRenewIn) ([]api.CertRow, error) {
	out := []api.CertRow{}
	for _, name := range in.Names { // all or none that can't be renewed
		e, err := getCert(s.mail.State, name)
		if err != nil {
			return out, err
		}
		if e.Source == model.CertImported {
			return out, refused("the certificate "+name+" was imported, so it can't be renewed here; import the new one", "mpctl cert import "+name+" --cert FILE --key-file FILE")
		}
	}
	for _, name := range in.Names {
		row, err := s.renewOne(ctx, c, name)
		if err != nil {
			return out, err
		}
		out = append(out, row)
	}
	return out, nil
}

func (s *Server) renewOne(ctx context.Context, c *Call, name string) (row api.CertRow, err error) {
	e, err := getCert(s.mail.State, name)
	if err != nil {
		return row, err
	}
	if e.Source == model.CertACME {
		if c.DryRun {
			return s.certRow(&e), nil
		}
		return s.awaitOrder(ctx, c, name, time.Now())
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		e, err := getCert(tx, name)
		if err != nil {
			return err
		}
		before := s.certRow(&e)
		made, err := certs.SelfSigned(name, before.Names, time.Now())
		if err != nil {
			return err
		}
		r := e.Certificate
		r.Cert, r.Created = string(made.CertPEM), time.Now().Unix()
		if r.Key, err = s.mail.Certs.Seal(name, made.KeyPEM); err != nil {
			return err
		}
		if err := putCert(tx, r); err != nil {
			return err
		}
		if row, err = s.certNow(tx, name); err == nil {
			diffRows(c, before, row)
		}
		return err
	})
	return row, err
}

func (s *Server) certSet(ctx context.Context, c *Call, in *api.CertSetIn) (row api.CertRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		e, err := getCert(tx, in.Name)
		if err != nil {
			return err
		}
		before := s.certRow(&e)
		if in.Default != nil && !*in.Default && e.Default {
			return refused("there must be a default certificate; make another one it", "mpctl cert set OTHER --default on")
		}
		if in.Default != nil && *in.Default {
			if e.Chain == "" {
				return refused(in.Name+" is ordered and not issued yet", "mpctl cert show "+in.Name)
			}
			e.Default = true
		}
		if err := putCert(tx, e.Certificate); err != nil {
			return err
		}
		if row, err = s.certNow(tx, in.Name); err == nil {
			diffRows(c, before, row)
		}
		return err
	})
	return row, err
}

func (s *Server) certDelete(ctx context.Context, c *Call, in *api.CertDeleteIn) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		all, err := keeper.All(tx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(e keeper.Entry) bool { return e.Name == in.Name })
		if i < 0 {
			return notFound("certificate", in.Name, "mpctl cert list")
		}
		gone, others := all[i], slices.Delete(slices.Clone(all), i, i+1)
		if gone.Default {
			remedy := "mpctl cert import OTHER --cert FILE --key-file FILE --default on"
			if i := slices.IndexFunc(others, func(e keeper.Entry) bool { return e.Chain != "" }); i >= 0 {
				remedy = "mpctl cert set " + others[i].Name + " --default on"
			}
			return refused("the default certificate can't be deleted; make another one it", remedy)
		}
		if name, err := s.onlyFor(tx, &gone, others); err != nil {
			return err
		} else if name != "" && !in.Force {
			return refused(fmt.Sprintf("it is the only certificate for %s, a name that clients use", name), "mpctl cert delete "+in.Name+" --force on --yes")
		}
		diffRows(c, s.certRow(&gone), nil)
		if err := forgetIssued(tx, in.Name); err != nil {
			return err
		}
		return state.Certificates.Delete(tx, in.Name)
	})
}

// usedNames lists the host names under which clients come to this system.
func usedNames(r state.Reader) ([]string, error) {
	set, err := state.LoadSettings(r)
	if err != nil {
		return nil, err
	}
	out := []string{set.System.Hostname}
	for d, err := range state.Domains.All(r, "") {
		if err != nil {
			return nil, err
		}
		for _, name := range append([]string{d.Name}, d.Additional...) {
			out = append(out, "mail."+name, "autoconfig."+name, "autodiscover."+name)
		}
	}
	return out, nil
}

// onlyFor gives a name that clients use and that no other certificate is for.
func (s *Server) onlyFor(r state.Reader, e *keeper.Entry, others []keeper.Entry) (string, error) {
	names, err := usedNames(r)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if covers(e.Info.Names, name) && !slices.ContainsFunc(others, func(o keeper.Entry) bool { return covers(o.Info.Names, name) }) {
			return name, nil
		}
	}
	return "", nil
}
