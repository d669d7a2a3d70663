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
	set, err := state.LoadSettings(r)
	if err != nil {
		return out, err
	}
	out = api.LDAPOut{
		URIs: l.URIs, TLS: l.TLS, CA: subjects(l.CA), BindDN: l.BindDN, Password: s.secretState(l.Password), BaseDN: l.BaseDN, UserFilter: l.UserFilter, GroupFilter: l.GroupFilter,
		DisabledFilter: l.DisabledFilter, NameAttr: l.NameAttr, DisplayAttr: l.DisplayAttr, NicknameAttr: l.NicknameAttr, GroupAttr: l.GroupAttr,
		MemberAttrs: l.MemberAttrs, AdminGroup: l.AdminGroup, SyncMinutes: l.SyncMinutes, Timeout: l.TimeoutSec, CacheMinutes: l.CacheMinutes,
		InForce: set.System.Source == model.SourceLDAP,
	}
	st, err := lastSync(r, l.Source)
	if err == nil {
		out.Synced, out.Error, out.Users, out.Groups, out.Disabled, out.Gone = stamp(st.Done), st.Error, st.Users, st.Groups, st.Disabled, st.Gone
		out.Unsupported, out.LeftOut, out.Notes = st.Unsupported, st.LeftOut, st.Notes
	}
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
	set := api.LDAPSetIn{UserFilter: in.UserFilter, GroupFilter: in.GroupFilter, DisabledFilter: in.DisabledFilter, NameAttr: in.NameAttr, DisplayAttr: in.DisplayAttr,
		NicknameAttr: in.NicknameAttr, GroupAttr: in.GroupAttr, MemberAttrs: in.MemberAttrs, AdminGroup: in.AdminGroup, SyncMinutes: in.SyncMinutes,
		Timeout: in.Timeout, CacheMinutes: in.CacheMinutes, Password: in.Password}
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
	assign(&l.UserFilter, in.UserFilter)
	assign(&l.GroupFilter, in.GroupFilter)
	assign(&l.DisabledFilter, in.DisabledFilter)
	assign(&l.NameAttr, in.NameAttr)
	assign(&l.DisplayAttr, in.DisplayAttr)
	assign(&l.NicknameAttr, in.NicknameAttr)
	assign(&l.GroupAttr, in.GroupAttr)
	assign(&l.AdminGroup, in.AdminGroup)
	assign(&l.SyncMinutes, in.SyncMinutes)
	assign(&l.TimeoutSec, in.Timeout)
	assign(&l.CacheMinutes, in.CacheMinutes)
	l.AdminGroup = model.FoldName(l.AdminGroup)
	if len(in.URIs) > 0 {
		l.URIs = in.URIs
	}
	if len(in.MemberAttrs) > 0 {
		l.MemberAttrs = in.MemberAttrs
	}
	if in.SystemCA {
		l.CA = ""
	}
	if in.CA != "" {
		l.CA = in.CA
	}
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
