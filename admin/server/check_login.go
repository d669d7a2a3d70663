package server

import (
	"context"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/mail"
	"mailplusd/mail/directory"
	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
)

// checkLogin tells apart why a login fails (R2.58, R5.18, R5.24).
func (s *Server) checkLogin(ctx context.Context, _ *Call, in *api.CheckLoginIn) ([]api.Finding, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	f := findings{}
	a := pic.Login(in.Name)
	if a == nil {
		f.add("error", "login", in.Name, "mpctl user list --search "+in.Name, "there is no such account or address")
		return f, nil
	}
	switch {
	case pic.Source != model.SourceLocal:
		s.checkBound(ctx, &f, a, []byte(in.Password))
	case in.Password != "":
		if a.Hash == "" || !login.Compare(a.Hash, []byte(in.Password)) {
			f.add("error", "login", a.Name, "mpctl user passwd "+a.Name, "the password is wrong")
		} else {
			f.add("ok", "login", a.Name, "", "the password is right")
		}
	case a.Hash == "":
		f.add("error", "login", a.Name, "mpctl user passwd "+a.Name, "the account has no password")
	}
	switch a.Status() {
	case model.UserDisabled:
		if a.Away != "" {
			f.add("error", "login", a.Name, directoryCommand(pic.Source)+" sync, when that has changed", "the account is disabled by the directory (%s)", a.Away)
		}
		if a.Disabled {
			f.add("error", "login", a.Name, "mpctl user enable "+a.Name, "the account is disabled")
		}
	case model.UserUnsupported:
		f.add("error", "login", a.Name, "", "the account's name is not supported")
	}
	if !a.Activated {
		f.add("error", "login", a.Name, "mpctl account activate "+a.Name, "the account is not activated (decided by %s)", a.Why)
	}
	for _, d := range a.Deny {
		f.add("error", "login", a.Name, "mpctl user set "+a.Name+" --deny none", "the account may not use %s", d)
	}
	policyFindings(&f, a)
	for _, l := range s.mail.Login.Locks() {
		if name, _, _ := strings.Cut(l.Key, " "); name == a.Name || slices.Contains(a.Addresses, name) {
			f.add("warning", "login", a.Name, "mpctl login lock clear "+name, "locked out from %s until %s", l.Key, l.Until.Format(time.RFC3339))
		}
	}
	if len(a.Addresses) == 0 {
		f.add("warning", "login", a.Name, "mpctl domain user add DOMAIN "+a.Name, "the account has no address: it can't receive mail")
	}
	if !slices.ContainsFunc(f, func(x api.Finding) bool { return x.Level == "error" }) {
		f.add("ok", "login", a.Name, "", "can use mail")
	}
	return f, nil
}

// policyFindings names what the account's policy doesn't allow (R5.85, R5.87).
func policyFindings(f *findings, a *directory.Account) {
	p := a.Policy
	for _, v := range []struct {
		service     string
		on, lanOnly bool
	}{{"imap", p.IMAP, p.IMAPLANOnly}, {"pop3", p.POP3, p.POP3LANOnly}} {
		remedy := "mpctl policy set '" + p.Name + "' --" + v.service
		switch {
		case !v.on:
			f.add("error", "login", a.Name, remedy+" on", "the policy %s does not allow %s", p.Name, v.service)
		case v.lanOnly:
			f.add("warning", "login", a.Name, remedy+"-lan-only off", "the policy %s allows %s from the local network only (mpctl net lan show)", p.Name, v.service)
		}
	}
}

// checkBound asks the directory about a user and his password; without one it asks whether the directory answers.
func (s *Server) checkBound(ctx context.Context, f *findings, a *directory.Account, password []byte) {
	conf, client, err := s.mail.Bound()
	if err == nil && client == nil {
		err = mail.ErrNoDirectory
	}
	if err != nil {
		f.add("error", "directory", a.Name, directoryCommand(a.Source)+" show", "%v", err)
		return
	}
	if len(password) == 0 && !conf.AD() {
		if probes := client.Probe(ctx); !slices.ContainsFunc(probes, func(p ldap.Probe) bool { return p.Err == nil }) {
			f.add("error", "directory", a.Name, directoryCommand(a.Source)+" test", "the directory can't be asked: %v", probes[0].Err)
		}
		return
	}
	s.askAbout(ctx, f, conf, client, &a.User, password)
}
