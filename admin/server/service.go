package server

import (
	"context"
	"strings"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// listeners joins the settings with what is open.
func (s *Server) listeners(set *model.Settings) []api.Listener {
	v := &set.Services
	sec := func(on bool) string {
		if on {
			return "STARTTLS"
		}
		return "none"
	}
	out := []api.Listener{
		{Name: "smtp", Enabled: v.SMTP.Enabled, Port: v.SMTP.Port, TLS: "STARTTLS"},
		{Name: "smtps", Enabled: v.SMTPS.Enabled, Port: v.SMTPS.Port, TLS: "implicit"},
		{Name: "submission", Enabled: v.Submission.Enabled, Port: v.Submission.Port, TLS: "STARTTLS required"},
		{Name: "imap", Enabled: v.IMAP.Enabled, Port: v.IMAP.Port, TLS: sec(v.IMAP.TLS)},
		{Name: "imaps", Enabled: v.IMAP.Enabled && v.IMAP.TLS, Port: v.IMAP.TLSPort, TLS: "implicit"},
		{Name: "pop3", Enabled: v.POP3.Enabled, Port: v.POP3.Port, TLS: sec(v.POP3.TLS)},
		{Name: "pop3s", Enabled: v.POP3.Enabled && v.POP3.TLS, Port: v.POP3.TLSPort, TLS: "implicit"},
	}
	if a := &v.Autoconfig; a.Enabled { // off, it is no port that one would expect to see
		out = append(out, api.Listener{Name: "autoconfig", Enabled: true, Port: a.Port, TLS: "implicit"})
		if a.HTTP {
			out = append(out, api.Listener{Name: "autoconfig-http", Enabled: true, Port: a.HTTPPort, TLS: "none"})
		}
	}
	open := s.mail.Listeners.State()
	for i := range out {
		for _, l := range open {
			if l.Name == out[i].Name {
				out[i].Address, out[i].Conns, out[i].Error = l.Address, l.Conns, l.Err
			}
		}
	}
	return out
}

func (s *Server) serviceShow(context.Context, *Call, *op.None) ([]api.Listener, error) {
	return s.listeners(s.mail.State.Current()), nil
}

func (s *Server) serviceOf(prefix string) func(context.Context, *Call, *op.None) ([]api.Listener, error) {
	return func(context.Context, *Call, *op.None) ([]api.Listener, error) {
		out := []api.Listener{}
		for _, l := range s.listeners(s.mail.State.Current()) {
			if strings.HasPrefix(l.Name, prefix) {
				out = append(out, l)
			}
		}
		return out, nil
	}
}

func assign[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (s *Server) listenerSet(of func(*model.Services) *model.Listener) func(context.Context, *Call, *api.ListenerSetIn) ([]api.Listener, error) {
	return func(ctx context.Context, c *Call, in *api.ListenerSetIn) ([]api.Listener, error) {
		_, err := s.changeSettings(ctx, c, func(set *model.Settings) error {
			l := of(&set.Services)
			assign(&l.Enabled, in.Enable)
			assign(&l.Port, in.Port)
			return nil
		})
		return s.listeners(s.mail.State.Current()), err
	}
}

func (s *Server) mailboxServiceSet(of func(*model.Services) *model.MailboxService) func(context.Context, *Call, *api.MailboxServiceSetIn) ([]api.Listener, error) {
	return func(ctx context.Context, c *Call, in *api.MailboxServiceSetIn) ([]api.Listener, error) {
		_, err := s.changeSettings(ctx, c, func(set *model.Settings) error {
			l := of(&set.Services)
			assign(&l.Enabled, in.Enable)
			assign(&l.Port, in.Port)
			assign(&l.TLS, in.TLS)
			assign(&l.TLSPort, in.TLSPort)
			return nil
		})
		return s.listeners(s.mail.State.Current()), err
	}
}

func (s *Server) autoconfigSet(ctx context.Context, c *Call, in *api.AutoconfigSetIn) ([]api.Listener, error) {
	_, err := s.changeSettings(ctx, c, func(set *model.Settings) error {
		a := &set.Services.Autoconfig
		assign(&a.Enabled, in.Enable)
		assign(&a.Port, in.Port)
		assign(&a.HTTP, in.HTTP)
		assign(&a.HTTPPort, in.HTTPPort)
		return nil
	})
	return s.listeners(s.mail.State.Current()), err
}

func (s *Server) interfaceSet(ctx context.Context, c *Call, in *api.InterfaceSetIn) ([]api.Listener, error) {
	_, err := s.changeSettings(ctx, c, func(set *model.Settings) error {
		set.System.Interface = in.Interface
		return nil
	})
	return s.listeners(s.mail.State.Current()), err
}

func general(set *model.Settings) api.GeneralOut {
	d := set.Delivery
	return api.GeneralOut{Hostname: set.System.Hostname, Banner: d.Banner, MaxRecipients: d.MaxRecipients, MaxHops: d.MaxHops, MaxSize: d.MaxSizeMB}
}

func (s *Server) generalShow(context.Context, *Call, *op.None) (api.GeneralOut, error) {
	return general(s.mail.State.Current()), nil
}

func (s *Server) generalSet(ctx context.Context, c *Call, in *api.GeneralSetIn) (out api.GeneralOut, err error) {
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		if in.Hostname != nil {
			set.System.Hostname = asciiDomain(*in.Hostname)
		}
		assign(&set.Delivery.Banner, in.Banner)
		assign(&set.Delivery.MaxRecipients, in.MaxRecipients)
		assign(&set.Delivery.MaxHops, in.MaxHops)
		assign(&set.Delivery.MaxSizeMB, in.MaxSize)
		out = general(set)
		return nil
	})
	if err == nil && in.Hostname != nil && !c.DryRun { // a name that DNS does not know is a warning (R7.02)
		ctx, cancel := context.WithTimeout(ctx, setUpDNS)
		defer cancel()
		f := findings{}
		s.hostDNS(ctx, &f)
		s.warnOf(c, f)
	}
	return out, err
}

func authOut(d *model.Delivery) api.AuthOut {
	return api.AuthOut{Enable: d.AuthEnabled, LANExempt: d.LANExempt, SenderMatch: d.SenderMatch, SkipTrusted: d.SkipTrusted}
}

func (s *Server) authShow(context.Context, *Call, *op.None) (api.AuthOut, error) {
	return authOut(&s.mail.State.Current().Delivery), nil
}

func (s *Server) authSet(ctx context.Context, c *Call, in *api.AuthSetIn) (out api.AuthOut, err error) {
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		d := &set.Delivery
		assign(&d.AuthEnabled, in.Enable)
		assign(&d.LANExempt, in.LANExempt)
		assign(&d.SenderMatch, in.SenderMatch)
		assign(&d.SkipTrusted, in.SkipTrusted)
		if !d.AuthEnabled && (in.LANExempt != nil && *in.LANExempt || in.SenderMatch != nil && *in.SenderMatch) {
			return refused("lan-exempt and sender-match need SMTP authentication", "mpctl delivery auth set --enable on …")
		}
		out = authOut(d)
		return nil
	})
	trusted := s.trustedNetworks()
	if err == nil && !out.Enable {
		c.Warn("without authentication the local network sends to other servers freely; daily quotas have no effect")
	}
	if err == nil && out.Enable && out.SenderMatch && !out.SkipTrusted && len(trusted) > 0 { // R7.31
		c.Warn("mail from trusted networks (%s) may be refused now: its senders belong to no login; --skip-match-trusted on lets it pass", strings.Join(trusted, ", "))
	}
	return out, err
}
