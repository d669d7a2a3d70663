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

// ldapOut shows a binding as r has it.
func (s *Server) ldapOut(r state.Reader) (out api.LDAPOut, err error) {
	l, err := binding(r, model.SourceLDAP)
	if err != nil {
		return out, err
	}
	out = api.LDAPOut{
		URIs: l.URIs, TLS: l.TLS, CA: subjects(l.CA), BindDN: l.BindDN, Password: s.secretState(l.Password), BaseDN: l.BaseDN, UserFilter: l.UserFilter, GroupFilter: l.GroupFilter,
		DisabledFilter: l.DisabledFilter, NameAttr: l.NameAttr, DisplayAttr: l.DisplayAttr, NicknameAttr: l.NicknameAttr, GroupAttr: l.GroupAttr,
		MemberAttrs: l.MemberAttrs, AdminGroup: l.AdminGroup, SyncMinutes: l.SyncMinutes, Timeout: l.TimeoutSec, CacheMinutes: l.CacheMinutes,
	}
	out.SyncStatus, err = syncStatus(r, l.Source)
	return out, err
}

func (s *Server) ldapBind(ctx context.Context, c *Call, in *api.LDAPBindIn) (out api.LDAPOut, err error) {
	if err := alreadyBound(s.mail.State); err != nil {
		return out, err
	}
	l := model.DefaultLDAP()
	l.URIs, l.BaseDN, l.BindDN, l.TLS, l.CA, l.Created = in.URIs, in.BaseDN, in.BindDN, in.TLS, in.CA, time.Now().Unix()
	if l.TLS == "" {
		l.TLS = model.LDAPStartTLS
	}
	set := api.LDAPSetIn{DisabledFilter: in.DisabledFilter, NameAttr: in.NameAttr, GroupAttr: in.GroupAttr, MemberAttrs: in.MemberAttrs, Password: in.Password, BindingSet: in.BindingSet}
	if err := s.ldapAssign(&l, &set); err != nil {
		return out, err
	}
	return storeBinding(ctx, s, c, &l, s.ldapOut)
}

// ldapAssign takes over what is given.
func (s *Server) ldapAssign(l *model.LDAP, in *api.LDAPSetIn) (err error) {
	assign(&l.BaseDN, in.BaseDN)
	assign(&l.BindDN, in.BindDN)
	assign(&l.TLS, in.TLS)
	assignBinding(l, &in.BindingSet)
	assign(&l.DisabledFilter, in.DisabledFilter)
	assign(&l.NameAttr, in.NameAttr)
	assign(&l.GroupAttr, in.GroupAttr)
	if len(in.URIs) > 0 {
		l.URIs = in.URIs
	}
	if len(in.MemberAttrs) > 0 {
		l.MemberAttrs = in.MemberAttrs
	}
	assignCA(l, in.CA, in.SystemCA)
	if l.BindDN == "" {
		l.Password = ""
	}
	if in.Password != "" {
		l.Password, err = s.mail.Vault.Seal(mail.DirectorySecret, string(in.Password))
	}
	return err
}

func (s *Server) ldapShow(context.Context, *Call, *op.None) (api.LDAPOut, error) {
	return s.ldapOut(s.mail.State)
}

func (s *Server) ldapSet(ctx context.Context, c *Call, in *api.LDAPSetIn) (out api.LDAPOut, err error) {
	return changeBinding(ctx, s, c, model.SourceLDAP, func(l *model.LDAP) error { return s.ldapAssign(l, in) }, s.ldapOut)
}
