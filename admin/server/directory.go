package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail"
	"mailplusd/mail/directory"
	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/vault"
)

// What bindings to an LDAP directory and to an Active Directory domain have in common.

func (s *Server) bindDirectory() {
	bind(s, api.LDAPBind, s.ldapBind)
	bind(s, api.LDAPShow, s.ldapShow)
	bind(s, api.LDAPSet, s.ldapSet)
	bind(s, api.LDAPUnbind, s.unbind(model.SourceLDAP))
	bind(s, api.LDAPTest, s.testDirectory(model.SourceLDAP))
	bind(s, api.LDAPSync, s.syncDirectory(model.SourceLDAP))
	bind(s, api.ADBind, s.adBind)
	bind(s, api.ADShow, s.adShow)
	bind(s, api.ADSet, s.adSet)
	bind(s, api.ADUnbind, s.unbind(model.SourceDomain))
	bind(s, api.ADTest, s.testDirectory(model.SourceDomain))
	bind(s, api.ADSync, s.syncDirectory(model.SourceDomain))
}

// directoryCommand is the start of the commands about the directory of a source.
func directoryCommand(source string) string { return "mpctl directory " + mail.DirectoryNoun(source) }

// howToBind are the commands that bind a directory of each source.
var howToBind = map[string]string{
	model.SourceLDAP:   "mpctl directory ldap bind --uri ldap://HOST --base-dn DN …",
	model.SourceDomain: "mpctl directory ad bind --domain AD.EXAMPLE.COM --bind-user NAME --bind-password-file FILE",
}

// notBound says that there is no binding of a source.
func notBound(r state.Reader, source string) error {
	l, err := directory.Bound(r)
	switch {
	case err != nil:
		return err
	case l == nil && source == model.SourceLDAP:
		return op.Errorf(op.NotFound, "no directory is bound").With(howToBind[source])
	case l == nil:
		return op.Errorf(op.NotFound, "no Active Directory domain is bound").With(howToBind[source])
	case l.AD():
		return op.Errorf(op.NotFound, "no LDAP directory is bound; the Active Directory domain %s is", l.Realm).With(directoryCommand(l.Source) + " show")
	}
	return op.Errorf(op.NotFound, "no Active Directory domain is bound; an LDAP directory is").With(directoryCommand(l.Source) + " show")
}

// binding reads the binding of a source.
func binding(r state.Reader, source string) (*model.LDAP, error) {
	l, err := state.Directories.Get(r, source)
	if errors.Is(err, state.ErrNotFound) {
		return nil, notBound(r, source)
	}
	return l, err
}

// assignBinding takes over what is given of the flags that every kind of directory has.
func assignBinding(l *model.LDAP, in *api.BindingSet) {
	assign(&l.UserFilter, in.UserFilter)
	assign(&l.GroupFilter, in.GroupFilter)
	assign(&l.DisplayAttr, in.DisplayAttr)
	assign(&l.NicknameAttr, in.NicknameAttr)
	assign(&l.AdminGroup, in.AdminGroup)
	assign(&l.SyncMinutes, in.SyncMinutes)
	assign(&l.TimeoutSec, in.Timeout)
	assign(&l.CacheMinutes, in.CacheMinutes)
	l.AdminGroup = model.FoldName(l.AdminGroup)
}

// assignCA takes over whose certificates are trusted; neither: as before.
func assignCA(l *model.LDAP, ca string, system bool) {
	if system {
		l.CA = ""
	}
	if ca != "" {
		l.CA = ca
	}
}

// syncStatus shows how the last synchronisation of a source ended.
func syncStatus(r state.Reader, source string) (out api.SyncStatus, err error) {
	set, err := state.LoadSettings(r)
	if err != nil {
		return out, err
	}
	st, err := lastSync(r, source)
	if err != nil {
		return out, err
	}
	return api.SyncStatus{
		InForce: set.System.Source == source, Synced: stamp(st.Done), Error: st.Error, Users: st.Users, Groups: st.Groups,
		Disabled: st.Disabled, Gone: st.Gone, Unsupported: st.Unsupported, LeftOut: st.LeftOut, Notes: st.Notes,
	}, nil
}

// alreadyBound refuses a second binding (R5.06).
func alreadyBound(r state.Reader) error {
	l, err := directory.Bound(r)
	if err == nil && l != nil {
		err = refused("a directory is bound already, and there can be one at a time", directoryCommand(l.Source)+" set …, or "+directoryCommand(l.Source)+" unbind --yes first")
	}
	return err
}

// secretState says whether the password of a binding can be read.
func (s *Server) secretState(sealed string) string {
	if sealed == "" {
		return "not set"
	}
	if _, err := s.mail.Vault.Unseal(mail.DirectorySecret, sealed); errors.Is(err, vault.ErrNoKey) {
		return "not readable on this node"
	}
	return "set"
}

// lastSync is how the last synchronisation of a source ended; empty when there was none.
func lastSync(r state.Reader, source string) (*model.DirectoryState, error) {
	st, err := state.DirectoryStates.Get(r, source)
	if errors.Is(err, state.ErrNotFound) {
		return &model.DirectoryState{}, nil
	}
	return st, err
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

// clientFor makes a client for a binding, checked, that is perhaps not stored.
func (s *Server) clientFor(l *model.LDAP) (*ldap.Client, error) {
	if err := ldap.Validate(l); err != nil {
		return nil, err
	}
	secret, err := s.mail.Vault.Unseal(mail.DirectorySecret, l.Password)
	if err != nil {
		return nil, refused("the password of the binding can't be read on this node: "+err.Error(), "give it again with --bind-password-file")
	}
	return s.mail.DirectoryClient(l, secret), nil
}

// tryBinding asks a directory before its binding is stored, and learns from a domain what it is called.
func (s *Server) tryBinding(ctx context.Context, l *model.LDAP) error {
	client, err := s.clientFor(l)
	if err != nil {
		return err
	}
	var bad []string
	for _, p := range client.Probe(ctx) {
		if p.Err == nil {
			if l.AD() {
				l.Short, err = client.Short(ctx)
			}
			return err
		}
		bad = append(bad, p.URI+": "+p.Err.Error())
	}
	text := strings.Join(bad, "; ")
	if l.AD() {
		return refused("the domain can't be used: "+text, "host -t SRV _ldap._tcp.dc._msdcs."+l.Realm+", or name a domain controller with --uri ldap://HOST")
	}
	return refused("the directory can't be used: "+text, "ldapsearch -H "+l.URIs[0]+" -ZZ -x -D '"+l.BindDN+"' -W -b '"+l.BaseDN+"' -s base")
}

func (s *Server) warnBinding(c *Call, l *model.LDAP) {
	for _, u := range l.URIs {
		if l.TLS == model.LDAPNoTLS && strings.HasPrefix(u, "ldap://") {
			c.Warn("passwords go to %s in clear; --tls starttls or ldaps:// protects them", u)
		}
	}
	if l.CacheMinutes > 0 {
		c.Warn("while the directory is down, who is disabled there can still log in for up to %d minutes", l.CacheMinutes)
	}
}

// storeBinding stores a new binding that works.
func storeBinding[Out any](ctx context.Context, s *Server, c *Call, l *model.LDAP, show func(state.Reader) (Out, error)) (out Out, err error) {
	if err := s.tryBinding(ctx, l); err != nil {
		return out, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if err := alreadyBound(tx); err != nil {
			return err
		}
		if err := state.Directories.Put(tx, l); err != nil {
			return err
		}
		if out, err = show(tx); err == nil {
			diffRows(c, nil, out)
		}
		return err
	})
	if err == nil {
		s.warnBinding(c, l)
		if set := s.mail.State.Current(); set.System.SetUp == 0 {
			c.Warn("next: mpctl setup new --domain example.com --account-type %s", l.Source)
		} else if set.System.Source != l.Source {
			c.Warn("the accounts in force are still those of the source %s: mpctl account source set %s --move-mail yes, or no", set.System.Source, l.Source)
		}
	}
	return out, err
}

// changeBinding changes a binding when it works as changed.
func changeBinding[Out any](ctx context.Context, s *Server, c *Call, source string, assign func(*model.LDAP) error, show func(state.Reader) (Out, error)) (out Out, err error) {
	l, err := binding(s.mail.State, source)
	if err != nil {
		return out, err
	}
	if err := assign(l); err != nil {
		return out, err
	}
	if err := s.tryBinding(ctx, l); err != nil { // outside of the transaction: it may take long
		return out, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		before, err := show(tx)
		if err != nil {
			return err
		}
		now, err := binding(tx, source)
		if err != nil {
			return err
		}
		if err := assign(now); err != nil {
			return err
		}
		now.Short = l.Short
		if err := ldap.Validate(now); err != nil {
			return err
		}
		if err := state.Directories.Put(tx, now); err != nil {
			return err
		}
		if out, err = show(tx); err == nil {
			diffRows(c, before, out)
		}
		return err
	})
	if err == nil {
		s.warnBinding(c, l)
	}
	return out, err
}

// unbind forgets a binding and how its last synchronisation ended. Accounts, groups and mail stay.
func (s *Server) unbind(source string) func(context.Context, *Call, *op.None) (op.None, error) {
	return func(ctx context.Context, c *Call, _ *op.None) (op.None, error) {
		return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
			l, err := binding(tx, source)
			if err != nil {
				return err
			}
			set, err := state.LoadSettings(tx)
			if err != nil {
				return err
			}
			if set.System.Source == source {
				return refused("the accounts in force are those of the directory", "mpctl account source set local, then "+directoryCommand(source)+" unbind --yes")
			}
			c.Diff(op.FieldDiff{Field: "directory", Old: strings.Join(append([]string{l.Realm}, l.URIs...), " ")})
			if err := state.DirectoryStates.Delete(tx, source); err != nil && !errors.Is(err, state.ErrNotFound) {
				return err
			}
			return state.Directories.Delete(tx, source)
		})
	}
}

// testDirectory asks each server from this node, and about one user.
func (s *Server) testDirectory(source string) func(context.Context, *Call, *api.LDAPTestIn) ([]api.Finding, error) {
	return func(ctx context.Context, _ *Call, in *api.LDAPTestIn) ([]api.Finding, error) {
		command := directoryCommand(source)
		if _, err := binding(s.mail.State, source); err != nil {
			return nil, err
		}
		conf, client, err := s.mail.Bound()
		switch {
		case err != nil:
			return nil, refused(err.Error(), command+" set --bind-password-file FILE")
		case conf == nil || conf.Source != source:
			return nil, notBound(s.mail.State, source)
		}
		f := findings{}
		for _, p := range client.Probe(ctx) {
			switch {
			case p.Err != nil:
				f.add("error", "directory", p.URI, command+" set …", "%v", p.Err)
			case !p.TLS:
				f.add("warning", "directory", p.URI, command+" set --tls starttls", "node %s reaches it and may read it, in clear", s.node)
			default:
				f.add("ok", "directory", p.URI, "", "node %s reaches it and may read it, protected by TLS", s.node)
			}
		}
		if in.User == "" {
			return f, nil
		}
		return f, s.testUser(ctx, &f, conf, client, in)
	}
}

// testUser tells what the directory says about a user and his password.
func (s *Server) testUser(ctx context.Context, f *findings, conf *model.LDAP, client *ldap.Client, in *api.LDAPTestIn) error {
	u, err := state.Users.Get(s.mail.State, model.SourceKey(conf.Source, model.FoldName(in.User)))
	if errors.Is(err, state.ErrNotFound) {
		f.add("error", "user", in.User, directoryCommand(conf.Source)+" sync", "the last synchronisation has not found such a user")
		return nil
	}
	if err != nil {
		return err
	}
	s.askAbout(ctx, f, conf, client, u, []byte(in.Password))
	return nil
}

// askAbout asks a directory what keeps a user from logging in, and whether a password is his; none: not
// about it.
func (s *Server) askAbout(ctx context.Context, f *findings, conf *model.LDAP, client *ldap.Client, u *model.User, password []byte) {
	who, test := ldap.Who{DN: u.DN, Name: u.Name, GUID: u.GUID}, directoryCommand(conf.Source)+" test"
	if conf.AD() {
		why, err := client.State(ctx, who)
		if err != nil {
			f.add("error", "directory", u.Name, test, "%v: logins fail for the moment", err)
			return
		}
		for _, w := range why {
			f.add("error", "user", u.Name, "in Active Directory: set the account right", "%s", w)
		}
	}
	if len(password) == 0 {
		return
	}
	switch v, err := client.CheckPassword(ctx, who, password); {
	case err != nil:
		f.add("error", "directory", u.Name, test, "%v: logins fail for the moment", err)
	case !v.Right && v.Why != "":
		f.add("error", "login", u.Name, "", "the directory refuses the password for %s: %s", u.DN, v.Why)
	case !v.Right:
		f.add("error", "login", u.Name, "", "the directory refuses the password for %s", u.DN)
	default:
		f.add("ok", "login", u.Name, "", "the directory accepts the password for %s", u.DN)
	}
}

func (s *Server) syncDirectory(source string) func(context.Context, *Call, *api.LDAPSyncIn) (api.LDAPSyncOut, error) {
	return func(ctx context.Context, c *Call, in *api.LDAPSyncIn) (out api.LDAPSyncOut, err error) {
		command := directoryCommand(source)
		if c.DryRun {
			return out, op.Errorf(op.Usage, "a synchronisation has no dry run; %s test changes nothing", command)
		}
		if _, err := binding(s.mail.State, source); err != nil {
			return out, err
		}
		y, err := s.mail.SyncDirectory(ctx, in.Force)
		switch {
		case errors.Is(err, mail.ErrNoDirectory):
			return out, notBound(s.mail.State, source)
		case errors.Is(err, directory.ErrVanished):
			return out, refused(err.Error(), "look at base and filter ("+command+" show); when they have really left: "+command+" sync --force")
		case errors.Is(err, ldap.ErrUnavailable):
			return out, op.Errorf(op.Unreachable, "%v", err).With(command + " test")
		case err != nil:
			return out, err
		}
		for _, l := range append(y.Renamed, y.Lost...) {
			c.Warn("%s", l)
		}
		return api.LDAPSyncOut{Users: y.Users, Groups: y.Groups, Added: y.Added, Changed: y.Changed, Disabled: y.Disabled, Gone: y.Gone, Unsupported: y.Unsupported, LeftOut: y.LeftOut, Notes: y.Notes}, nil
	}
}

// checkDirectory is the part of check all that is about the directory of the accounts.
func (s *Server) checkDirectory(ctx context.Context, c *Call, _ *op.None) ([]api.Finding, error) {
	source := s.mail.State.Current().System.Source
	if source == model.SourceLocal {
		return nil, nil
	}
	return s.testDirectory(source)(ctx, c, &api.LDAPTestIn{})
}
