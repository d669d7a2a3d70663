package server

import (
	"context"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// accountSourceShow lists the account sources. Only the own directory can be configured so far.
func (s *Server) accountSourceShow(context.Context, *Call, *op.None) ([]api.SourceRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	now := s.mail.State.Current().System.Source
	out := []api.SourceRow{}
	for _, t := range []string{"local", "ldap", "domain"} {
		row := api.SourceRow{Type: t, InForce: t == now, Configured: t == "local"}
		if row.InForce {
			row.Accounts = len(pic.Users)
		}
		out = append(out, row)
	}
	return out, nil
}

// accountSourceSet refuses a source whose directory is not configured (R5.09).
func (s *Server) accountSourceSet(ctx context.Context, c *Call, in *api.SourceSetIn) ([]api.SourceRow, error) {
	if in.Type != "local" {
		return nil, refused("no directory of type "+in.Type+" is configured", "mpctl account source show")
	}
	if _, err := s.changeSettings(ctx, c, func(set *model.Settings) error { set.System.Source = in.Type; return nil }); err != nil {
		return nil, err
	}
	return s.accountSourceShow(ctx, c, nil)
}
