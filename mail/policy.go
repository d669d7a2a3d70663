package mail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailplusd/mail/check"
	"mailplusd/mail/flow"
	"mailplusd/mail/model"
	"mailplusd/mail/wire"
)

// Client and sender are judged at RCPT, when everything is known that may excuse them (I.38, I.40).
// Who has logged in or is trusted is not asked.

// messageRate is R7.68.
func messageRate(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	d := &e.Settings.Delivery
	switch {
	case !d.LimitMessages:
		return flow.Verdict{}
	case e.Trace != nil && !e.Rates.Blocked(e.Client, e.At): // nothing is sent
		return flow.Verdict{}
	case e.Trace == nil && e.Rates.Take(e.Client, d.ClientMessages, e.At):
		return flow.Verdict{}
	}
	return flow.Refuse(450, 4, 7, 1, "Too many messages from your address, try again in a minute", fmt.Sprintf("more than %d messages within a minute from %s", d.ClientMessages, e.Client))
}

// clientName is R7.65, in the sense of Postfix's reject_unknown_client_hostname.
func clientName(ctx context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	if !e.Settings.Delivery.KnownClient {
		return flow.Verdict{}
	}
	name, err := e.DNS.ClientName(ctx, e.Client)
	switch {
	case err == nil:
		return flow.Note("%s", name)
	case errors.Is(err, check.ErrNone):
		return flow.Refuse(550, 5, 7, 25, "Client host rejected: cannot find your hostname", err.Error()) // RFC 7372 §3.3
	}
	return flow.Refuse(450, 4, 7, 25, "Client host rejected: cannot find your hostname at the moment", err.Error())
}

// senderForm is R7.63. An address literal is a full name, too (RFC 5321 §4.1.3).
func senderForm(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	domain := e.From.Domain
	if !e.Settings.Delivery.FQDNSender || e.From.IsNull() || strings.HasPrefix(domain, "[") || model.ValidateDomainName("sender", domain) == nil {
		return flow.Verdict{}
	}
	return flow.Refuse(550, 5, 1, 8, "Sender address rejected: need a fully-qualified address", e.From.String())
}

// senderDomain is R7.64: only of domains for which this server is not the final destination (A.40).
func senderDomain(ctx context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	domain := e.From.Domain
	if !e.Settings.Delivery.KnownSender || e.From.IsNull() || strings.HasPrefix(domain, "[") || e.Directory.Domains[domain] != nil {
		return flow.Verdict{}
	}
	switch err := e.DNS.SenderDomain(ctx, domain); {
	case err == nil:
		return flow.Verdict{}
	case errors.Is(err, check.ErrNullMX):
		return flow.Refuse(550, 5, 7, 27, "Sender address rejected: the domain has no mail", err.Error()) // RFC 7505 §4.2
	case errors.Is(err, check.ErrNone):
		return flow.Refuse(550, 5, 1, 8, "Sender address rejected: domain not found", err.Error())
	default:
		return flow.Refuse(450, 4, 1, 8, "Sender address rejected: domain can't be looked up at the moment", err.Error())
	}
}

// clientLimits are the limits of a listener of SMTP; who is trusted is not held to them (R7.66–R7.71).
func (s *Server) clientLimits(set *model.Settings) wire.Limits {
	d := &set.Delivery
	lim := wire.Limits{MaxConns: d.ConnectionLimit, MaxPerIP: d.PerAddressLimit}
	if d.LimitConns {
		lim.MaxPerIP = min(lim.MaxPerIP, d.ClientConns)
	}
	if d.LimitRate {
		lim.PerMinute = d.ClientRate
	}
	if pic, err := s.Directory.Now(); err == nil {
		lim.Exempt = pic.Trusted
	}
	// A proxy's connections count as its clients' as soon as it has named them.
	lim.Exempt = slices.Concat(lim.Exempt, model.Prefixes(set.Network.XClient))
	return lim
}
