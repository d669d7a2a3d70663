package pop3d

import (
	"errors"
	"fmt"
	"strings"

	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/wire"
)

func (ss *session) mayLogin() bool {
	return login.PasswordAllowed(ss.srv.Settings().Services.PlainLogin, ss.c.IsTLS(), ss.c.RemoteIP())
}

func (ss *session) doUser(arg string) error {
	if !ss.mayLogin() {
		return ss.fail("AUTH", "encryption is required, use STLS first")
	}
	if arg == "" {
		return ss.wrong("USER needs a name")
	}
	ss.user = arg
	return ss.ok("")
}

// doPass takes the rest of the line as it is: a password may have spaces in it (RFC 1939 §7).
func (ss *session) doPass(arg string) error {
	if ss.user == "" {
		return ss.wrong("USER first")
	}
	user := ss.user
	ss.user = ""
	return ss.answerLogin(ss.authenticate("USER", user, []byte(arg)))
}

// doAuth is RFC 5034; without an argument it lists the mechanisms.
func (ss *session) doAuth(arg string) error {
	if arg == "" {
		text := "+OK\r\n"
		if ss.mayLogin() {
			text += "PLAIN\r\nLOGIN\r\n"
		}
		_, err := ss.c.WriteString(text + ".\r\n")
		return err
	}
	if !ss.mayLogin() {
		return ss.fail("AUTH", "encryption is required, use STLS first")
	}
	mech, initial, _ := strings.Cut(arg, " ")
	asked := false
	server, err := login.NewSASL(mech, func(user string, password []byte) error {
		asked = true
		return ss.authenticate(mech, user, password)
	})
	if err != nil {
		return ss.wrong("the mechanism is not offered")
	}
	var lost error
	err = login.Exchange(server, initial, func(challenge string) (string, error) {
		if _, lost = ss.c.WriteString("+ " + challenge + "\r\n"); lost != nil {
			return "", lost
		}
		ss.c.TraceIn(wire.TraceSecret)
		defer ss.c.TraceIn(wire.TraceLines)
		line, err := ss.c.ReadLine(maxAuthLine)
		if err != nil && !errors.Is(err, wire.ErrLineTooLong) {
			lost = err
		}
		return string(line), err
	})
	switch {
	case lost != nil:
		return lost
	case errors.Is(err, login.ErrCanceled):
		return ss.fail("", "cancelled")
	case errors.Is(err, login.ErrBase64), errors.Is(err, wire.ErrLineTooLong):
		return ss.wrong("the answer is not base64, or too long")
	case err != nil && !asked && !errors.Is(err, login.ErrPassword):
		return ss.wrong("the answer is not what the mechanism wants")
	}
	return ss.answerLogin(err)
}

func (ss *session) answerLogin(err error) error {
	switch {
	case err == nil:
		var size int64
		for _, m := range ss.messages {
			size += m.size
		}
		return ss.ok(fmt.Sprintf("%d messages (%d octets)", len(ss.messages), size))
	case errors.Is(err, errInUse):
		return ss.fail("IN-USE", "the mailbox is open in another session")
	case login.IsTemporary(err):
		return ss.fail("SYS/TEMP", "can't log in at the moment")
	}
	ss.log.Warn("login failed", "err", err)
	return ss.fail("AUTH", "login failed")
}

var errInUse = errors.New("maildrop in use")

// authenticate logs in, locks the maildrop and takes the snapshot.
func (ss *session) authenticate(mech, user string, password []byte) error {
	if err := ss.srv.Store.Fresh(ss.ctx); err != nil {
		return fmt.Errorf("%w: %w", login.ErrTemporary, err)
	}
	acc, err := ss.srv.Login.Authenticate(ss.ctx, login.Attempt{
		Service: login.POP3, Remote: ss.c.RemoteIP(), TLS: ss.c.IsTLS(), Mechanism: mech, User: user, Password: password,
	})
	if err != nil {
		return err
	}
	if !ss.srv.lock(ss.ctx, acc.ID) {
		return errInUse
	}
	if err := ss.open(acc); err != nil {
		ss.srv.unlock(acc.ID)
		return fmt.Errorf("%w: %w", login.ErrTemporary, err)
	}
	ss.account, ss.locked = acc, true
	ss.log = ss.log.With("user", acc.Name)
	ss.log.Info("login")
	return nil
}

func (ss *session) open(acc *login.Account) error {
	if err := ss.srv.Store.EnsureDefaults(ss.ctx, acc.ID); err != nil {
		return err
	}
	box, err := ss.srv.Store.Mailbox(acc.ID, "INBOX")
	if err != nil {
		return err
	}
	ss.messages = nil
	ss.mailbox, err = ss.srv.Store.View(box.ID, 1, 1<<32-1, func(st *model.MessageState) bool {
		ss.messages = append(ss.messages, message{uid: st.UID, size: st.Size, body: st.Body})
		return true
	})
	return err
}

func (ss *session) doSTLS(string) error {
	if !ss.c.CanTLS() {
		return ss.fail("", "TLS is not available or active already")
	}
	if err := ss.ok("begin TLS"); err != nil {
		return err
	}
	ss.user, ss.utf8 = "", false // what was said in clear counts no more (RFC 2595 §4)
	return ss.c.StartTLS(ss.ctx)
}
