package imapd

import (
	"errors"
	"strings"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
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

// doID is RFC 2971; what the client says goes to the log.
func (ss *session) doID(p *imapparse.Parser) error {
	if p.Peek() == '(' {
		var words []string
		err := p.List(func() error {
			if len(words) > 60 {
				return errors.New("too many fields")
			}
			if p.Peek() == 'N' || p.Peek() == 'n' {
				_, err := p.Atom()
				words = append(words, "")
				return err
			}
			s, err := p.String()
			words = append(words, s)
			return err
		})
		if err != nil {
			return usual(err)
		}
		ss.log.Debug("client", "id", words)
	} else if a, err := p.Atom(); err != nil || !strings.EqualFold(a, "NIL") {
		return bad{"ID needs a list or NIL"}
	}
	ss.put(`* ID ("name" "mailplusd" "version" "`, model.Version, "\")\r\n")
	return usual(p.End())
}

func (ss *session) doStartTLS(tag, text string) error {
	if text != "" {
		return bad{"STARTTLS takes no arguments"}
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
		return no{"PRIVACYREQUIRED", "encryption is required, use STARTTLS first"}
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
		return bad{"AUTHENTICATE needs a mechanism"}
	}
	if !ss.mayLogin() {
		return no{"PRIVACYREQUIRED", "encryption is required, use STARTTLS first"}
	}
	server, err := login.NewSASL(mech, func(user string, password []byte) error { return ss.authenticate(mech, user, password) })
	if err != nil {
		return no{"CANNOT", "the mechanism is not offered"}
	}
	var lost error
	err = login.Exchange(server, initial, func(challenge string) (string, error) {
		ss.put("+ ", challenge, "\r\n")
		if lost = ss.send(); lost != nil {
			return "", lost
		}
		ss.c.TraceIn(wire.TraceSecret)
		defer ss.c.TraceIn(wire.TraceLines)
		var line []byte
		line, lost = ss.c.ReadLine(maxLine)
		return string(line), lost
	})
	switch {
	case lost != nil:
		return &connError{lost}
	case errors.Is(err, login.ErrCanceled):
		return bad{"cancelled"}
	case errors.Is(err, login.ErrBase64):
		return bad{"the answer is not base64"}
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
