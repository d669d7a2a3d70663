package server

import (
	"context"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// adOut shows a binding as r has it, and the domain controllers as this node finds them.
func (s *Server) adOut(r state.Reader) (out api.ADOut, err error) {
	l, err := binding(r, model.SourceDomain)
	if err != nil {
		return out, err
	}
	out = api.ADOut{
		Domain: l.Realm, Short: l.Short, Servers: l.URIs, FromDNS: len(l.URIs) == 0, TLS: l.TLS, CA: subjects(l.CA), BindUser: l.BindDN, Password: s.secretState(l.Password),
		BaseDN: l.BaseDN, UserFilter: l.UserFilter, GroupFilter: l.GroupFilter, DisplayAttr: l.DisplayAttr, NicknameAttr: l.NicknameAttr,
		AdminGroup: l.AdminGroup, SyncMinutes: l.SyncMinutes, Timeout: l.TimeoutSec, CacheMinutes: l.CacheMinutes,
	}
	out.SyncStatus, err = syncStatus(r, l.Source)
	return out, err
}

func (s *Server) adShow(ctx context.Context, c *Call, _ *op.None) (api.ADOut, error) {
	out, err := s.adOut(s.mail.State)
	if err != nil || !out.FromDNS {
		return out, err
	}
	_, client, err := s.mail.Bound()
	if err == nil && client != nil {
		out.Servers, err = client.Servers(ctx)
	}
	if err != nil {
		c.Warn("%v", err)
	}
	return out, nil
}

func (s *Server) adBind(ctx context.Context, c *Call, in *api.ADBindIn) (out api.ADOut, err error) {
	if err := alreadyBound(s.mail.State); err != nil {
		return out, err
	}
	l := model.DefaultAD(asciiDomain(in.Domain))
	l.Created = time.Now().Unix()
	set := api.ADSetIn{User: &in.User, Password: in.Password, URIs: in.URIs, CA: in.CA, BaseDN: in.BaseDN, BindingSet: in.BindingSet}
	if in.TLS != "" {
		set.TLS = &in.TLS
	}
	if err := s.adAssign(&l, &set); err != nil {
		return out, err
	}
	return storeBinding(ctx, s, c, &l, s.adOut)
}

// adAssign takes over what is given.
func (s *Server) adAssign(l *model.LDAP, in *api.ADSetIn) (err error) {
	assign(&l.BindDN, in.User)
	assign(&l.TLS, in.TLS)
	assignBinding(l, &in.BindingSet)
	if in.BaseDN != nil {
		if l.BaseDN = *in.BaseDN; l.BaseDN == "" {
			l.BaseDN = l.RootDN()
		}
	}
	if len(in.URIs) > 0 {
		l.URIs = in.URIs
	}
	if in.FromDNS {
		l.URIs = nil
	}
	assignCA(l, in.CA, in.SystemCA)
	if in.Password != "" {
		l.Password, err = s.mail.Vault.Seal(mail.DirectorySecret, string(in.Password))
	}
	return err
}

func (s *Server) adSet(ctx context.Context, c *Call, in *api.ADSetIn) (out api.ADOut, err error) {
	return changeBinding(ctx, s, c, model.SourceDomain, func(l *model.LDAP) error { return s.adAssign(l, in) }, s.adOut)
}
