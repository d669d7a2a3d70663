package server

import (
	"context"
	"errors"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"

	"github.com/miekg/dns"
)

func connectionPolicy(d *model.Delivery) api.ConnectionPolicyOut {
	return api.ConnectionPolicyOut{RejectUnknownClient: d.KnownClient, LimitConnections: d.LimitConns, MaxConnections: d.ClientConns,
		LimitMessages: d.LimitMessages, MaxMessages: d.ClientMessages, LimitRate: d.LimitRate, MaxRate: d.ClientRate}
}

func (s *Server) connectionPolicyShow(context.Context, *Call, *op.None) (api.ConnectionPolicyOut, error) {
	return connectionPolicy(&s.mail.State.Current().Delivery), nil
}

func (s *Server) connectionPolicySet(ctx context.Context, c *Call, in *api.ConnectionPolicySetIn) (out api.ConnectionPolicyOut, err error) {
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		d := &set.Delivery
		assign(&d.KnownClient, in.RejectUnknownClient)
		assign(&d.LimitConns, in.LimitConnections)
		assign(&d.ClientConns, in.MaxConnections)
		assign(&d.LimitMessages, in.LimitMessages)
		assign(&d.ClientMessages, in.MaxMessages)
		assign(&d.LimitRate, in.LimitRate)
		assign(&d.ClientRate, in.MaxRate)
		out = connectionPolicy(d)
		return nil
	})
	if err == nil && in.RejectUnknownClient != nil && *in.RejectUnknownClient {
		s.warnNoDNS(ctx, c)
	}
	return out, err
}

func senderPolicy(d *model.Delivery) api.SenderPolicyOut {
	return api.SenderPolicyOut{RejectNonFQDN: d.FQDNSender, RejectUnknownDomain: d.KnownSender}
}

func (s *Server) senderPolicyShow(context.Context, *Call, *op.None) (api.SenderPolicyOut, error) {
	return senderPolicy(&s.mail.State.Current().Delivery), nil
}

func (s *Server) senderPolicySet(ctx context.Context, c *Call, in *api.SenderPolicySetIn) (out api.SenderPolicyOut, err error) {
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		assign(&set.Delivery.FQDNSender, in.RejectNonFQDN)
		assign(&set.Delivery.KnownSender, in.RejectUnknownDomain)
		out = senderPolicy(&set.Delivery)
		return nil
	})
	if err == nil && in.RejectUnknownDomain != nil && *in.RejectUnknownDomain {
		s.warnNoDNS(ctx, c)
	}
	return out, err
}

// warnNoDNS tells when DNS does not answer: every client would be asked to come again.
func (s *Server) warnNoDNS(ctx context.Context, c *Call) {
	ctx, cancel := context.WithTimeout(ctx, setUpDNS)
	defer cancel()
	if _, err := s.resolver().ask(ctx, ".", dns.TypeNS); err != nil && !errors.Is(err, errNXDomain) {
		c.Warn("mail from other servers waits as long as DNS does not answer: %v; mpctl net dns show", err)
	}
}

func (s *Server) blockList(_ context.Context, _ *Call, in *api.ListIn) ([]api.BlockRow, error) {
	out := []api.BlockRow{}
	for _, b := range s.mail.Blocks() {
		row := api.BlockRow{Network: b.Network.String(), Why: b.Why, Until: stamp(b.Until.Unix())}
		if b.Network.IsSingleIP() {
			row.Network = b.Network.Addr().String()
		}
		if matches(in.Search, row.Network, row.Why) {
			out = append(out, row)
		}
	}
	return out, nil
}

func (s *Server) blockDelete(ctx context.Context, c *Call, in *api.BlockIn) (op.None, error) {
	p, err := model.ParsePrefix(in.Address)
	if err != nil {
		return op.None{}, op.Errorf(op.Usage, "%q is no address", in.Address)
	}
	if c.DryRun {
		return op.None{}, nil
	}
	found, err := s.mail.Unblock(ctx, p.Addr())
	if err != nil {
		c.Warn("the other node does not answer: it may still refuse the client (%v); mpctl ha show", err)
	}
	if !found {
		return op.None{}, notFound("blocked client", in.Address, "mpctl delivery block list")
	}
	return op.None{}, nil
}
