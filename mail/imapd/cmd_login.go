package imapd

import (
	"errors"
	"strings"

	"mailplusd/mail/login"
	"mailplusd/mail/wire"
)

func (ss *session) mayLogin() bool {
	return login.PasswordAllowed(ss.srv.Settings().Services.PlainLogin, ss.c.IsTLS(), ss.c.RemoteIP())
}

func (ss *session) appendLimit() int64 { return int64(ss.srv.Settings().Delivery.MaxSizeMB) << 20 }

func (ss *session) doLogout() error {
	ss.put("* BYE logging out\r\n")
	ss.bye = true
	return nil
}

func (ss *session) doStartTLS(tag, text string) error {
	if text != "" {
		return ss.refuse(text, bad{"STARTTLS takes no arguments"})
	}
	if !ss.c.CanTLS() {
		return bad{"TLS is active already or not available"}
	}
	ss.put(tag, " OK begin TLS\r\n")
	if err := ss.send(); err != nil {
		return &connError{err}
	}
	if err := ss.c.StartTLS(ss.ctx); err != nil {
		return &connError{err}
	}
	return errTagged
}

func (ss *session) doLogin(_, text string) error {
	if !ss.mayLogin() {
		return ss.refuse(text, no{"PRIVACYREQUIRED", "encryption is required, use STARTTLS first"})
	}
	ss.c.TraceIn(wire.TraceSecret)
	defer ss.c.TraceIn(wire.TraceLines)
	p, err := ss.args(text)
	if err != nil {
		return err
	}
	if err := p.Space(); err != nil {
		return bad{"LOGIN needs a name and a password"}
	}
	user, err := p.AString()
	if err != nil {
		return usual(err)
	}
	if err := p.Space(); err != nil {
		return bad{"LOGIN needs a password"}
	}
	password, err := p.AString()
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return usual(err)
	}
	return ss.authenticate("LOGIN", user, []byte(password))
}

func (ss *session) doAuthenticate(_, text string) error {
	mech, initial, _ := strings.Cut(strings.TrimPrefix(text, " "), " ")
	if mech == "" {
		return ss.refuse(text, bad{"AUTHENTICATE needs a mechanism"})
	}
	if !ss.mayLogin() {
		return ss.refuse(text, no{"PRIVACYREQUIRED", "encryption is required, use STARTTLS first"})
	}
	asked := false
	server, err := login.NewSASL(mech, func(user string, password []byte) error {
		asked = true
		return ss.authenticate(mech, user, password)
	})
	if err != nil {
		return ss.refuse(text, no{"CANNOT", "the mechanism is not offered"})
	}
	var lost error
	command := text // as long as nothing else was read: a literal may follow it
	err = login.Exchange(server, initial, func(challenge string) (string, error) {
		ss.put("+ ", challenge, "\r\n")
		if err := ss.send(); err != nil {
			lost = &connError{err}
			return "", lost
		}
		ss.c.TraceIn(wire.TraceSecret)
		defer ss.c.TraceIn(wire.TraceLines)
		var line []byte
		line, lost = ss.readLine()
		command = ""
		return string(line), lost
	})
	switch {
	case lost != nil:
		return lost
	case errors.Is(err, login.ErrCanceled):
		return bad{"cancelled"}
	case errors.Is(err, login.ErrBase64):
		return ss.refuse(command, bad{"the answer is not base64"})
	case errors.Is(err, login.ErrPassword): // for somebody else
		return no{"AUTHENTICATIONFAILED", "login failed"}
	case err != nil && !asked:
		return bad{"the answer is not what the mechanism wants"}
	}
	return err
}

// fresh sees to it that what follows shows everything that was acknowledged on any node.
func (ss *session) fresh() error {
	if err := ss.srv.Store.Fresh(ss.ctx); err != nil {
		ss.log.Warn("this node may not know the latest", "err", err)
		return no{"UNAVAILABLE", "the server doesn't know the latest state at the moment, try again"}
	}
	return nil
}

// authenticate logs in and makes sure that the account has its mailboxes.
func (ss *session) authenticate(mech, user string, password []byte) error {
	if err := ss.fresh(); err != nil { // the account may have been changed by the other node
		return err
	}
	acc, err := ss.srv.Login.Authenticate(ss.ctx, login.Attempt{
		Service: login.IMAP, Remote: ss.c.RemoteIP(), TLS: ss.c.IsTLS(), Mechanism: mech, User: user, Password: password,
	})
	if err != nil {
		ss.log.Warn("login failed", "user", user, "err", err)
		if login.IsTemporary(err) {
			return no{"UNAVAILABLE", "can't log in at the moment"}
		}
		return no{"AUTHENTICATIONFAILED", "login failed"}
	}
	if err := ss.srv.Store.EnsureDefaults(ss.ctx, acc.ID); err != nil {
		return err
	}
	ss.account = acc
	ss.log = ss.log.With("user", acc.Name)
	ss.log.Info("login", "tls", ss.c.IsTLS())
	return nil
}
