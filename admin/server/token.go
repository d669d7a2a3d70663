package server

import (
	"context"
	"errors"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/auth"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) tokenAdd(ctx context.Context, c *Call, in *api.TokenAddIn) (row api.TokenRow, err error) {
	token, hash := auth.NewToken()
	now := time.Now()
	if in.Cert != "" {
		if hash, err = auth.CertHash([]byte(in.Cert), now); err != nil {
			return row, op.Errorf(op.Refused, "%v", err)
		}
		token = ""
	}
	t := &model.Token{Name: in.Name, User: model.FoldName(in.User), Hash: hash, Cert: in.Cert != "", Created: now.Unix(), Expires: now.AddDate(0, 0, max(in.Days, 1)).Unix()}
	if err := model.ValidateUserName(in.Name); err != nil {
		return row, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		u, err := getUser(tx, in.User)
		if err != nil {
			return err
		}
		t.Source = u.Source
		if has, err := state.Tokens.Has(tx, t.Name); err != nil {
			return err
		} else if has {
			return exists("token", t.Name, "mpctl token delete "+t.Name)
		}
		return state.Tokens.Put(tx, t)
	})
	row = tokenRow(t)
	row.Token = token
	return row, err
}

func tokenRow(t *model.Token) api.TokenRow {
	row := api.TokenRow{Name: t.Name, Kind: "token", User: t.User, Expires: stamp(t.Expires)}
	if t.Cert {
		row.Kind = "certificate"
	}
	if t.Session {
		row.Kind = "session"
	}
	return row
}

func (s *Server) tokenList(context.Context, *Call, *op.None) ([]api.TokenRow, error) {
	out := []api.TokenRow{}
	for t, err := range state.Tokens.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		out = append(out, tokenRow(t))
	}
	return out, nil
}

func (s *Server) tokenDelete(ctx context.Context, c *Call, in *api.TokenIn) (op.None, error) {
	err := s.change(ctx, c, func(tx *state.Tx) error { return state.Tokens.Delete(tx, in.Name) })
	if errors.Is(err, state.ErrNotFound) {
		err = notFound("token", in.Name, "mpctl token list")
	}
	return op.None{}, err
}
