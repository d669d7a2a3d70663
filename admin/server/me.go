package server

import (
	"context"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/autoconfig"
	"mailplusd/mail/directory"
)

// me is the account of who calls.
func (s *Server) me(c *Call) (*directory.Account, error) {
	a := s.accountOf(c.Actor.User)
	if a == nil {
		return nil, op.Errorf(op.Forbidden, "%s has no account here; log in as one", c.Actor.Name).With("mpctl --server HOST:PORT --login USER me show")
	}
	return a, nil
}

func (s *Server) meShow(_ context.Context, c *Call, _ *op.None) (api.MeOut, error) {
	a, err := s.me(c)
	if err != nil {
		return api.MeOut{}, err
	}
	out := api.MeOut{Name: a.Name, Addresses: a.Addresses, Activated: a.Activated}
	boxes, err := s.mail.Store.Mailboxes(a.ID)
	for _, b := range boxes {
		out.Messages += int(b.Messages)
		out.Bytes += b.Size
	}
	return out, err
}

func (s *Server) mePasswd(ctx context.Context, c *Call, in *api.MePasswdIn) (op.None, error) {
	a, err := s.me(c)
	if err != nil {
		return op.None{}, err
	}
	return op.None{}, s.setPassword(ctx, c, a.Name, []byte(in.Password), true)
}

// security is how TLS is called in tables.
var security = map[string]string{autoconfig.Implicit: "implicit", autoconfig.StartTLS: "STARTTLS", autoconfig.Clear: "none"}

func (s *Server) meClientSettings(_ context.Context, c *Call, _ *op.None) ([]api.ClientRow, error) {
	set := s.mail.State.Current()
	user := "account name or address"
	if a := s.accountOf(c.Actor.User); a != nil {
		user = a.Name
	}
	out := []api.ClientRow{}
	for _, v := range autoconfig.Services(set) { // what mail clients are told, too
		out = append(out, api.ClientRow{Service: v.Name, Server: v.Host, Port: v.Port, Security: security[v.Security], Login: user})
	}
	return out, nil
}
