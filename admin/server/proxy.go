package server

import (
	"context"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

func proxyRows(list []string, how string) []api.ProxyRow {
	out := []api.ProxyRow{}
	for _, n := range list {
		out = append(out, api.ProxyRow{Network: n, How: how})
	}
	return out
}

func (s *Server) proxyShow(context.Context, *Call, *op.None) ([]api.ProxyRow, error) {
	return proxyRows(s.mail.State.Current().Network.Proxies, "PROXY"), nil
}

func (s *Server) xclientShow(context.Context, *Call, *op.None) ([]api.ProxyRow, error) {
	return proxyRows(s.mail.State.Current().Network.XClient, "XCLIENT"), nil
}

// setProxies stores one of the lists, each network in the form in which it is compared.
func (s *Server) setProxies(how string, to func(*model.Network) *[]string) func(context.Context, *Call, *api.ProxySetIn) ([]api.ProxyRow, error) {
	return func(ctx context.Context, c *Call, in *api.ProxySetIn) ([]api.ProxyRow, error) {
		var list []string
		for _, n := range in.Networks {
			p, err := model.ParsePrefix(n)
			if err != nil {
				return nil, op.Errorf(op.Usage, "%q is no address or network; write it like 192.0.2.7 or 192.0.2.0/24", n)
			}
			list = append(list, p.String())
		}
		_, err := s.changeSettings(ctx, c, func(set *model.Settings) error { *to(&set.Network) = list; return nil })
		if err == nil && how == "PROXY" && len(list) > 0 {
			c.Warn("connections from there without a PROXY header are closed from now on; have the proxy send it")
		}
		return proxyRows(list, how), err
	}
}
