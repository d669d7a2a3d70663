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

func (s *Server) dnsOut(set *model.Settings) api.DNSOut {
	out := api.DNSOut{Source: "set", DNSSEC: set.Network.DNSSEC, Validates: []string{}}
	list := set.Network.Resolvers
	if len(list) == 0 {
		out.Source, list = "host", s.resolver().servers
	}
	for _, a := range list {
		if mail.Validates(set, withPort(a)) {
			out.Validates = append(out.Validates, a)
		}
	}
	if len(list) > 0 {
		out.Preferred, out.Alternate = list[0], list[1:]
	}
	return out
}

func (s *Server) netDNSShow(context.Context, *Call, *op.None) (api.DNSOut, error) {
	return s.dnsOut(s.mail.State.Current()), nil
}

func (s *Server) netDNSSet(ctx context.Context, c *Call, in *api.DNSSetIn) (out api.DNSOut, err error) {
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		list := set.Network.Resolvers
		var first []string
		rest := in.Alternate
		if len(list) > 0 {
			first = list[:1]
			if rest == nil {
				rest = list[1:]
			}
		}
		if in.Preferred != nil {
			if first = []string{*in.Preferred}; *in.Preferred == "" {
				first, rest = nil, nil
			}
		}
		if len(first) == 0 && len(rest) > 0 {
			return op.Errorf(op.Usage, "an alternate DNS server needs a preferred one: --preferred ADDRESS")
		}
		assign(&set.Network.DNSSEC, in.DNSSEC)
		set.Network.Resolvers = append(first[:len(first):len(first)], rest...)
		out = s.dnsOut(set)
		return nil
	})
	if err == nil && in.DNSSEC != nil && out.DNSSEC == "all" {
		c.Warn("who can answer in the name of a DNS server elsewhere can make DANE worthless: the way to it must be safe")
	}
	return out, err
}
