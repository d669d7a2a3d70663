package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail"
	"mailplusd/mail/directory"
	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/vault"
)

func (s *Server) bindDirectory() {
	bind(s, api.LDAPBind, s.ldapBind)
	bind(s, api.LDAPShow, s.ldapShow)
	bind(s, api.LDAPSet, s.ldapSet)
	bind(s, api.LDAPUnbind, s.ldapUnbind)
	bind(s, api.LDAPTest, s.ldapTest)
	bind(s, api.LDAPSync, s.ldapSync)
}

var errNotBound = op.Errorf(op.NotFound, "no directory is bound").With("mpctl directory ldap bind --uri ldap://HOST --base-dn DN …")

// ldapOut shows a binding as r has it.
func (s *Server) ldapOut(r state.Reader) (out api.LDAPOut, err error) {
	l, err := state.Directories.Get(r, model.SourceLDAP)
	if errors.Is(err, state.ErrNotFound) {
		return out, errNotBound
	}
	if err != nil {
		return out, err
	}
	set, err := state.LoadSettings(r)
	if err != nil {
		return out, err
	}
	out = api.LDAPOut{
		URIs: l.URIs, TLS: l.TLS, CA: subjects(l.CA), BindDN: l.BindDN, Password: "not set", BaseDN: l.BaseDN, UserFilter: l.UserFilter, GroupFilter: l.GroupFilter,
		DisabledFilter: l.DisabledFilter, NameAttr: l.NameAttr, DisplayAttr: l.DisplayAttr, NicknameAttr: l.NicknameAttr, GroupAttr: l.GroupAttr,
		MemberAttrs: l.MemberAttrs, AdminGroup: l.AdminGroup, SyncMinutes: l.SyncMinutes, Timeout: l.TimeoutSec, CacheMinutes: l.CacheMinutes,
		InForce: set.System.Source == model.SourceLDAP,
	}
	if l.Password != "" {
		out.Password = "set"
		if _, uerr := s.mail.Vault.Unseal(mail.DirectorySecret, l.Password); errors.Is(uerr, vault.ErrNoKey) {
			out.Password = "not readable on this node"
		}
	}
	st, err := state.DirectoryStates.Get(r, model.SourceLDAP)
	if errors.Is(err, state.ErrNotFound) {
		return out, nil
	}
	if err == nil {
		out.Synced, out.Error, out.Users, out.Groups, out.Disabled, out.Gone = stamp(st.Done), st.Error, st.Users, st.Groups, st.Disabled, st.Gone
		out.Unsupported, out.LeftOut, out.Notes = st.Unsupported, st.LeftOut, st.Notes
	}
	return out, err
}

// subjects names the certificates of a PEM text.
func subjects(text string) string {
	var out []string
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return strings.Join(out, ", ")
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, cert.Subject.String())
		}
	}
}

// ldapTry asks a directory before its binding is stored.
func (s *Server) ldapTry(ctx context.Context, l *model.LDAP) error {
	if err := ldap.Validate(l); err != nil {
		return err
	}
	secret, err := s.mail.Vault.Unseal(mail.DirectorySecret, l.Password)
	if err != nil {
		return refused("the password of the binding can't be read on this node: "+err.Error(), "give it again with --bind-password-file")
	}
	var bad []string
	for _, p := range ldap.New(*l, secret).Probe(ctx) {
		if p.Err == nil {
			return nil
		}
		bad = append(bad, p.URI+": "+p.Err.Error())
	}
	return refused("the directory can't be used: "+strings.Join(bad, "; "), "ldapsearch -H "+l.URIs[0]+" -ZZ -x -D '"+l.BindDN+"' -W -b '"+l.BaseDN+"' -s base")
}

func (s *Server) ldapWarn(c *Call, l *model.LDAP) {
	for _, u := range l.URIs {
		if l.TLS == model.LDAPNoTLS && strings.HasPrefix(u, "ldap://") {
			c.Warn("passwords go to %s in clear; --tls starttls or ldaps:// protects them", u)
		}
	}
	if l.CacheMinutes > 0 {
		c.Warn("while the directory is down, who is disabled there can still log in for up to %d minutes", l.CacheMinutes)
	}
}

func (s *Server) ldapBind(ctx context.Context, c *Call, in *api.LDAPBindIn) (out api.LDAPOut, err error) {
	if has, err := state.Directories.Has(s.mail.State, model.SourceLDAP); err != nil {
		return out, err
	} else if has {
		return out, refused("a directory is bound already, and there can be one at a time", "mpctl directory ldap set …, or mpctl directory ldap unbind --yes first")
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
	if err := s.ldapTry(ctx, &l); err != nil {
		return out, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if has, err := state.Directories.Has(tx, l.Source); err != nil {
			return err
		} else if has {
			return refused("a directory is bound already", "mpctl directory ldap show")
		}
		if err := state.Directories.Put(tx, &l); err != nil {
			return err
		}
		if out, err = s.ldapOut(tx); err == nil {
			diffRows(c, nil, out)
		}
		return err
	})
	if err == nil {
		s.ldapWarn(c, &l)
		if !out.InForce {
			c.Warn("the accounts in force are still those of the source %s: mpctl account source set ldap --move-mail yes, or no", s.mail.State.Current().System.Source)
		}
	}
	return out, err
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
	old, err := state.Directories.Get(s.mail.State, model.SourceLDAP)
	if errors.Is(err, state.ErrNotFound) {
		return out, errNotBound
	}
	if err != nil {
		return out, err
	}
	l := *old
	if err := s.ldapAssign(&l, in); err != nil {
		return out, err
	}
	if err := s.ldapTry(ctx, &l); err != nil { // outside of the transaction: it may take long
		return out, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		before, err := s.ldapOut(tx)
		if err != nil {
			return err
		}
		now, err := state.Directories.Get(tx, model.SourceLDAP)
		if err != nil {
			return err
		}
		if err := s.ldapAssign(now, in); err != nil {
			return err
		}
		l = *now
		if err := ldap.Validate(now); err != nil {
			return err
		}
		if err := state.Directories.Put(tx, now); err != nil {
			return err
		}
		if out, err = s.ldapOut(tx); err == nil {
			diffRows(c, before, out)
		}
		return err
	})
	if err == nil {
		s.ldapWarn(c, &l)
	}
	return out, err
}

func (s *Server) ldapUnbind(ctx context.Context, c *Call, _ *op.None) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		before, err := s.ldapOut(tx)
		if err != nil {
			return err
		}
		if before.InForce {
			return refused("the accounts in force are those of the directory", "mpctl account source set local, then mpctl directory ldap unbind --yes")
		}
		diffRows(c, before, nil)
		if err := state.DirectoryStates.Delete(tx, model.SourceLDAP); err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
		return state.Directories.Delete(tx, model.SourceLDAP)
	})
}

func (s *Server) ldapTest(ctx context.Context, _ *Call, in *api.LDAPTestIn) ([]api.Finding, error) {
	conf, client, err := s.mail.Bound()
	switch {
	case err != nil:
		return nil, refused(err.Error(), "mpctl directory ldap set --bind-password-file FILE")
	case conf == nil:
		return nil, errNotBound
	}
	f := findings{}
	for _, p := range client.Probe(ctx) {
		switch {
		case p.Err != nil:
			f.add("error", "directory", p.URI, "mpctl directory ldap set …", "%v", p.Err)
		case !p.TLS:
			f.add("warning", "directory", p.URI, "mpctl directory ldap set --tls starttls", "node %s reaches it and may read it, in clear", s.node)
		default:
			f.add("ok", "directory", p.URI, "", "node %s reaches it and may read it, protected by TLS", s.node)
		}
	}
	if in.User == "" {
		return f, nil
	}
	u, err := state.Users.Get(s.mail.State, model.SourceKey(conf.Source, model.FoldName(in.User)))
	if errors.Is(err, state.ErrNotFound) {
		f.add("error", "user", in.User, "mpctl directory ldap sync", "the last synchronisation has not found such a user")
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	ok, err := client.CheckPassword(ctx, u.DN, u.Name, []byte(in.Password))
	switch {
	case err != nil:
		f.add("error", "user", u.Name, "", "%v", err)
	case !ok:
		f.add("error", "user", u.Name, "", "the directory refuses the password for %s", u.DN)
	default:
		f.add("ok", "user", u.Name, "", "the directory accepts the password for %s", u.DN)
	}
	return f, nil
}

func (s *Server) ldapSync(ctx context.Context, c *Call, in *api.LDAPSyncIn) (out api.LDAPSyncOut, err error) {
	if c.DryRun {
		return out, op.Errorf(op.Usage, "a synchronisation has no dry run; mpctl directory ldap test changes nothing")
	}
	y, err := s.mail.SyncDirectory(ctx, in.Force)
	switch {
	case errors.Is(err, mail.ErrNoDirectory):
		return out, errNotBound
	case errors.Is(err, directory.ErrVanished):
		return out, refused(err.Error(), "look at base and filter (mpctl directory ldap show); when they have really left: mpctl directory ldap sync --force")
	case errors.Is(err, ldap.ErrUnavailable):
		return out, op.Errorf(op.Unreachable, "%v", err).With("mpctl directory ldap test")
	case err != nil:
		return out, err
	}
	for _, l := range y.Lost {
		c.Warn("%s", l)
	}
	return api.LDAPSyncOut{Users: y.Users, Groups: y.Groups, Added: y.Added, Changed: y.Changed, Disabled: y.Disabled, Gone: y.Gone, Unsupported: y.Unsupported, LeftOut: y.LeftOut, Notes: y.Notes}, nil
}

// checkDirectory is the part of check all that is about the directory of the accounts.
func (s *Server) checkDirectory(ctx context.Context, c *Call, _ *op.None) ([]api.Finding, error) {
	if s.mail.State.Current().System.Source != model.SourceLDAP {
		return nil, nil
	}
	return s.ldapTest(ctx, c, &api.LDAPTestIn{})
}
