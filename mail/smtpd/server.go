// Package smtpd serves SMTP: it joins the go-smtp engine behind the gate (mail/wire)
// with the chain (mail/flow), login and commit. Three listeners share it: smtp (25),
// smtps (465, implicit TLS) and submission (587, TLS and login required).
package smtpd

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"mailplusd/mail/check"
	"mailplusd/mail/commit"
	"mailplusd/mail/directory"
	"mailplusd/mail/flow"
	"mailplusd/mail/login"
	"mailplusd/mail/maillog"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
	"mailplusd/mail/tally"

	"github.com/emersion/go-smtp"
)

// Kind is which of the three listeners a connection came to.
type Kind string

// The listeners.
const (
	SMTP       Kind = "smtp"
	SMTPS      Kind = "smtps"
	Submission Kind = "submission"
)

// Server is what the sessions of all listeners share.
type Server struct {
	Chain     flow.Chain
	Store     *store.Store
	Commit    *commit.Committer
	Login     *login.Login
	Directory *directory.Directory
	DNS       *check.DNS
	Rates     *tally.Rate
	Settings  func() *model.Settings
	Log       *slog.Logger
	MailLog   maillog.Emitter
	Now       func() time.Time
	// Ready tells whether mail may be accepted at all (a leader is known).
	Ready func() bool
	// Local tells whether a client is of the local network.
	Local func(netip.Addr) bool
}

// Engine makes the go-smtp server of one listener.
func (s *Server) Engine(kind Kind) *smtp.Server {
	e := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return s.newSession(kind, c) }))
	e.Domain = s.Settings().System.Hostname
	e.AllowInsecureAuth = true // the gate hides and refuses AUTH
	e.EnableSMTPUTF8, e.EnableDSN = true, true
	e.MaxLineLength, e.MaxMessageBytes, e.MaxRecipients = 0, 0, 0 // the gate and the chain limit them
	e.ErrorLog = engineLog{s.Log}
	return e
}

type engineLog struct{ log *slog.Logger }

func (l engineLog) Printf(format string, v ...any) {
	l.log.Debug("smtp engine", "text", strings.TrimSpace(fmt.Sprintf(format, v...)))
}

func (l engineLog) Println(v ...any) {
	l.log.Debug("smtp engine", "text", strings.TrimSpace(fmt.Sprintln(v...)))
}

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID makes the name of a message in log lines and trace headers.
func NewID() string {
	var b [10]byte
	rand.Read(b[:])
	return idEncoding.EncodeToString(b[:])
}

// reply turns a verdict into the engine's error. Nil for Pass.
func reply(v flow.Verdict) error {
	if v.Action == flow.Pass {
		return nil
	}
	return &smtp.SMTPError{Code: v.Code, EnhancedCode: smtp.EnhancedCode(v.Enhanced), Message: v.Public}
}

// storeReply turns an error of the store into a reply the client can act on.
func storeReply(err error) *smtp.SMTPError {
	switch {
	case errors.Is(err, store.ErrNoSpace):
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "Insufficient system storage, try again later"}
	case errors.Is(err, store.ErrLimit), errors.Is(err, store.ErrInvalid):
		return &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 2, 2}, Message: "Mailbox can't take the message"}
	}
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Message not stored, try again later"}
}
