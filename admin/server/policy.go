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
	return api.ConnectionPolicyOut{RejectUnknownClient: d.KnownClient}
}

func (s *Server) connectionPolicyShow(context.Context, *Call, *op.None) (api.ConnectionPolicyOut, error) {
	return connectionPolicy(&s.mail.State.Current().Delivery), nil
}

func (s *Server) connectionPolicySet(ctx context.Context, c *Call, in *api.ConnectionPolicySetIn) (out api.ConnectionPolicyOut, err error) {
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		assign(&set.Delivery.KnownClient, in.RejectUnknownClient)
		out = connectionPolicy(&set.Delivery)
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
