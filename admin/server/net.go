package server

import (
	"context"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail"
	"mailplusd/mail/model"
)

func (s *Server) netInterfaceList(context.Context, *Call, *op.None) ([]api.InterfaceRow, error) {
	list, err := mail.Interfaces()
	if err != nil {
		return nil, err
	}
	set := s.mail.State.Current().System
	out := []api.InterfaceRow{}
	for _, i := range list {
		row := api.InterfaceRow{Name: i.Name, State: "down", MAC: i.MAC, Serves: set.SetUp != 0 && (set.Interface == "all" || set.Interface == i.Name)}
		if i.Up {
			row.State = "up"
		}
		for _, a := range i.Addresses {
			row.Addresses = append(row.Addresses, a.String())
			row.Serves = row.Serves || set.Interface == a.Addr().String()
		}
		out = append(out, row)
	}
	return out, nil
}

func (s *Server) netLANShow(context.Context, *Call, *op.None) ([]api.LANRow, error) {
	out := []api.LANRow{{Network: "127.0.0.0/8", Why: "this machine"}, {Network: "::1/128", Why: "this machine"}}
	for _, p := range s.mail.LocalSubnets() {
		out = append(out, api.LANRow{Network: p.String(), Why: "connected"})
	}
	for _, n := range s.mail.State.Current().Network.LAN {
		out = append(out, api.LANRow{Network: n, Why: "set"})
	}
	return out, nil
}

func (s *Server) netLANSet(ctx context.Context, c *Call, in *api.LANSetIn) ([]api.LANRow, error) {
	var list []string
	for _, n := range in.Networks {
		p, err := model.ParsePrefix(n)
		if err != nil {
			return nil, op.Errorf(op.Usage, "%q is no network; write it like 192.168.1.0/24", n)
		}
		list = append(list, p.String())
	}
	if _, err := s.changeSettings(ctx, c, func(set *model.Settings) error { set.Network.LAN = list; return nil }); err != nil {
		return nil, err
	}
	return s.netLANShow(ctx, c, nil)
}
