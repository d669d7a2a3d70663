package server

import (
	"context"
	"errors"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/certs"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func certRow(r *model.Certificate) api.CertRow {
	row := api.CertRow{Name: r.Name, Source: r.Source, Default: r.Default}
	info, err := certs.Check(&certs.Certificate{CertPEM: []byte(r.Cert), KeyPEM: []byte(r.Key)}, time.Unix(r.Created, 0))
	if err != nil {
		row.Issuer = "can't be read: " + err.Error()
		return row
	}
	row.Names, row.Issuer, row.Fingerprint = info.Names, info.Issuer, info.Fingerprint
	row.NotBefore, row.NotAfter = info.NotBefore.Format(time.DateOnly), info.NotAfter.Format(time.DateOnly)
	row.Days = int(time.Until(info.NotAfter).Hours() / 24)
	return row
}

func getCert(r state.Reader, name string) (*model.Certificate, error) {
	c, err := state.Certificates.Get(r, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound("certificate", name, "mpctl cert list")
	}
	return c, err
}

func (s *Server) certList(context.Context, *Call, *op.None) ([]api.CertRow, error) {
	out := []api.CertRow{}
	for r, err := range state.Certificates.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		out = append(out, certRow(r))
	}
	return out, nil
}

func (s *Server) certShow(_ context.Context, _ *Call, in *api.CertIn) (api.CertRow, error) {
	r, err := getCert(s.mail.State, in.Name)
	if err != nil {
		return api.CertRow{}, err
	}
	return certRow(r), nil
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

func (s *Server) certImport(ctx context.Context, c *Call, in *api.CertImportIn) (api.CertRow, error) {
	if err := model.ValidateUserName(in.Name); err != nil {
		return api.CertRow{}, err
	}
	if _, err := certs.Check(&certs.Certificate{CertPEM: []byte(in.Cert), KeyPEM: []byte(in.Key)}, time.Now()); err != nil {
		return api.CertRow{}, op.Errorf(op.Refused, "%v", err)
	}
	r := &model.Certificate{Name: in.Name, Cert: in.Cert, Key: string(in.Key), Source: "imported", Default: in.Default, Created: time.Now().Unix()}
	err := s.change(ctx, c, func(tx *state.Tx) error {
		if old, err := state.Certificates.Get(tx, r.Name); err == nil && old.Default {
			r.Default = true
		}
		return putCert(tx, r)
	})
	return certRow(r), err
}

func (s *Server) certRenew(ctx context.Context, c *Call, in *api.CertIn) (row api.CertRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		r, err := getCert(tx, in.Name)
		if err != nil {
			return err
		}
		if r.Source != "self-signed" {
			return refused("only a self-signed certificate can be renewed here; import the new one", "mpctl cert import "+r.Name+" --cert FILE --key-file FILE")
		}
		before := certRow(r)
		made, err := certs.SelfSigned(r.Name, before.Names, time.Now())
		if err != nil {
			return err
		}
		r.Cert, r.Key, r.Created = string(made.CertPEM), string(made.KeyPEM), time.Now().Unix()
		row = certRow(r)
		c.diff = nil
		diffRows(c, before, row)
		return putCert(tx, r)
	})
	return row, err
}

func (s *Server) certDelete(ctx context.Context, c *Call, in *api.CertIn) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		r, err := getCert(tx, in.Name)
		if err != nil {
			return err
		}
		if r.Default {
			return refused("the default certificate can't be deleted", "mpctl cert import OTHER --default …")
		}
		return state.Certificates.Delete(tx, r.Name)
	})
}
