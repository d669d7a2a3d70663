package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mailplusd/mail/directory"
	"mailplusd/mail/flow"
	"mailplusd/mail/login"
	"mailplusd/mail/maillog"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
	"mailplusd/mail/wire"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// session is one SMTP connection after EHLO. Its methods are the phases of a transaction.
type session struct {
	srv   *Server
	kind  Kind
	gate  *wire.SMTPConn
	log   *slog.Logger
	ip    netip.Addr         // of the client that log names
	actor *directory.Account // logged in
	e     *flow.Envelope     // the transaction under way
}

func (s *Server) newSession(kind Kind, c *smtp.Conn) (smtp.Session, error) {
	gate := wire.FromSMTP(c.Conn())
	ss := &session{srv: s, kind: kind, gate: gate}
	e, err := ss.envelope()
	if err != nil {
		return nil, err
	}
	for _, phase := range []flow.Phase{flow.Connect, flow.Helo} {
		if v := s.Chain.Run(context.Background(), phase, e, nil); v.Action != flow.Pass {
			ss.refused(e, nil, v)
			return nil, reply(v)
		}
	}
	ss.log.Debug("smtp session", "helo", gate.Helo())
	return ss, nil
}

// envelope starts a transaction with what the connection knows.
func (ss *session) envelope() (*flow.Envelope, error) {
	pic, err := ss.srv.Directory.Now()
	if err != nil {
		return nil, &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Directory not available, try again later"}
	}
	set := ss.srv.Settings()
	ip := ss.gate.RemoteIP()
	if ss.log == nil || ip != ss.ip { // XCLIENT has named another one
		ss.ip, ss.log = ip, ss.srv.Log.With("conn", ss.gate.ID(), "listener", string(ss.kind), "client", ip.String())
	}
	if !ss.gate.Authenticated() { // STARTTLS began the session anew (RFC 3207 §4.2)
		ss.actor = nil
	}
	e := &flow.Envelope{
		ID: NewID(), Conn: ss.gate.ID(), Direction: flow.In, Listener: string(ss.kind), Client: ip,
		Helo: ss.gate.Helo(), Actor: ss.asNow(pic), At: ss.srv.Now(), Settings: set, Directory: pic, DNS: ss.srv.DNS, Rates: ss.srv.Rates,
		Local: ss.srv.Local(ip), Trusted: pic.Trusts(ip), Usage: ss.srv.Store.State().Usage,
	}
	proto := "ESMTP"
	if st, ok := ss.gate.TLSState(); ok {
		proto += "S"
		e.TLS = tls.VersionName(st.Version) + " " + tls.CipherSuiteName(st.CipherSuite)
	}
	if ss.actor != nil {
		proto += "A"
	}
	e.Proto = proto
	if ss.actor != nil || e.Trusted || e.Local && set.Delivery.LANExempt {
		e.Direction = flow.Out
	}
	return e, nil
}

// asNow is who has logged in as he is now: his policy, groups and addresses may have changed since;
// nil when nobody has, or when he is no more.
func (ss *session) asNow(pic *directory.Picture) *directory.Account {
	if ss.actor == nil {
		return nil
	}
	return pic.ByID(ss.actor.ID)
}

// maySend tells whether a login still counts: whose account is disabled, for his password is known to
// others, say, sends nothing more by a connection that is open.
func (ss *session) maySend(now *directory.Account) bool {
	return ss.actor == nil || now != nil && now.Usable() && !slices.Contains(now.Deny, model.MailService(login.SMTP))
}

var errMayNot = &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "This account may not send mail any more"}

// AuthMechanisms is empty unless a password may be sent now (A.32).
func (ss *session) AuthMechanisms() []string {
	if !ss.mayAuth() {
		return nil
	}
	return []string{sasl.Plain, sasl.Login}
}

func (ss *session) mayAuth() bool {
	if ss.actor != nil || !ss.srv.Settings().Delivery.AuthEnabled {
		return false
	}
	return login.PasswordAllowed(ss.srv.Settings().Services.PlainLogin, ss.gate.IsTLS(), ss.gate.RemoteIP()) &&
		(ss.kind != Submission || ss.gate.IsTLS())
}

// Auth gives the SASL server of a mechanism.
func (ss *session) Auth(mech string) (sasl.Server, error) {
	if !ss.mayAuth() {
		return nil, &smtp.SMTPError{Code: 538, EnhancedCode: smtp.EnhancedCode{5, 7, 11}, Message: "Encryption required for authentication"}
	}
	server, err := login.NewSASL(mech, func(user string, password []byte) error { return ss.authenticate(mech, user, password) })
	if err != nil {
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return server, nil
}

func (ss *session) authenticate(mech, user string, password []byte) error {
	service := login.SMTP
	if ss.kind != SMTP {
		service = login.Submission
	}
	if err := ss.srv.Store.Fresh(context.Background()); err != nil {
		return authReply(fmt.Errorf("%w: %w", login.ErrTemporary, err))
	}
	acc, err := ss.srv.Login.Authenticate(context.Background(), login.Attempt{
		Service: service, Remote: ss.gate.RemoteIP(), TLS: ss.gate.IsTLS(), Mechanism: mech, User: user, Password: password,
	})
	if err != nil {
		ss.log.Warn("login failed", "user", user, "err", err)
		return authReply(err)
	}
	pic, err := ss.srv.Directory.Now()
	if err != nil {
		return &smtp.SMTPError{Code: 454, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "Temporary authentication failure"}
	}
	if ss.actor = pic.ByID(acc.ID); ss.actor == nil {
		return smtp.ErrAuthFailed
	}
	ss.log = ss.log.With("user", acc.Name)
	ss.log.Info("login")
	return nil
}

func authReply(err error) error {
	if login.IsTemporary(err) {
		return &smtp.SMTPError{Code: 454, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "Temporary authentication failure, try again later"}
	}
	return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "Authentication credentials invalid"}
}

// Mail starts a transaction.
func (ss *session) Mail(_ string, o *smtp.MailOptions) error {
	if err := ss.admitted(); err != nil {
		return err
	}
	// Who was made a moment ago on the other node must not be refused for good.
	if err := ss.srv.Store.Fresh(context.Background()); err != nil {
		ss.log.Warn("this node may not know the latest", "err", err)
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "Service not available, try again later"}
	}
	e, err := ss.envelope()
	if err != nil {
		return err
	}
	if !ss.maySend(e.Actor) {
		ss.log.Warn("the login does not count any more")
		return errMayNot
	}
	e.UTF8, e.EightBit = o.UTF8, o.Body == smtp.Body8BitMIME
	e.EnvID, e.Ret, e.Declared = o.EnvelopeID, string(o.Return), o.Size
	if path := ss.gate.Path(); path != "" {
		if e.From, err = message.ParseMailbox(path, o.UTF8); err != nil {
			v := flow.Refuse(553, 5, 1, 7, "Bad sender address: "+err.Error(), path)
			ss.refused(e, nil, v)
			return reply(v)
		}
	}
	if v := ss.srv.Chain.Run(context.Background(), flow.Mail, e, nil); v.Action != flow.Pass {
		ss.refused(e, nil, v)
		return reply(v)
	}
	ss.e = e
	return nil
}

// admitted refuses MAIL on submission before TLS and login (R6.16), and while nothing can be stored.
func (ss *session) admitted() error {
	if ss.kind == Submission {
		if !ss.gate.IsTLS() {
			return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Must issue a STARTTLS command first"}
		}
		if ss.actor == nil {
			return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
		}
	}
	if !ss.srv.Ready() {
		return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "Service not available, try again later"}
	}
	if ss.srv.Store.Short() {
		return storeReply(store.ErrNoSpace)
	}
	return nil
}

// Rcpt adds a recipient.
func (ss *session) Rcpt(_ string, o *smtp.RcptOptions) error {
	e := ss.e
	if e == nil {
		return &smtp.SMTPError{Code: 503, EnhancedCode: smtp.EnhancedCode{5, 5, 1}, Message: "MAIL first"}
	}
	r := &flow.Recipient{ORcpt: originalRecipient(o), Notify: notify(o)}
	path := ss.gate.Path()
	if strings.EqualFold(path, "postmaster") {
		r.Address = message.Address{Local: "postmaster"}
	} else {
		var err error
		if r.Address, err = message.ParseMailbox(path, e.UTF8); err != nil {
			v := flow.Refuse(501, 5, 1, 3, "Bad recipient address: "+err.Error(), path)
			ss.refused(e, r, v)
			return reply(v)
		}
	}
	if v := ss.srv.Chain.Run(context.Background(), flow.Rcpt, e, r); v.Action != flow.Pass {
		ss.refused(e, r, v)
		return reply(v)
	}
	e.Rcpts = append(e.Rcpts, r)
	return nil
}

func notify(o *smtp.RcptOptions) string {
	if o == nil {
		return ""
	}
	words := make([]string, len(o.Notify))
	for i, n := range o.Notify {
		words[i] = string(n)
	}
	return strings.Join(words, ",")
}

func originalRecipient(o *smtp.RcptOptions) string {
	if o == nil || o.OriginalRecipient == "" {
		return ""
	}
	return strings.ToLower(string(o.OriginalRecipientType)) + ";" + o.OriginalRecipient
}

// Data takes the message, asks the chain and commits. 250 leaves only when it returns nil.
func (ss *session) Data(r io.Reader) error {
	e := ss.e
	if e == nil {
		return &smtp.SMTPError{Code: 503, EnhancedCode: smtp.EnhancedCode{5, 5, 1}, Message: "MAIL and RCPT first"}
	}
	ss.e = nil
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	limit := e.MaxSize()
	sp := ss.srv.Store.NewSpool(limit)
	defer sp.Abort()
	buf := copyBuffers.Get().(*[]byte)
	_, err := io.CopyBuffer(sp, ss.gate.Body(r), *buf)
	copyBuffers.Put(buf)
	if err != nil {
		return ss.spoolReply(e, err, limit)
	}
	e.At = ss.srv.Now() // a client can take its time: what it sends counts for the day on which it is accepted
	if pic, err := ss.srv.Directory.Now(); err == nil && !ss.maySend(ss.asNow(pic)) {
		return errMayNot
	}
	if err := ss.inspect(ctx, e, sp); err != nil {
		return err
	}
	var over *state.OverLimit
	if _, err := ss.srv.Commit.Commit(ctx, e, sp, e.Use); errors.As(err, &over) {
		v := e.Exhausted(over.Usage, e.Size)
		v.Stage = "daily-limit"
		ss.refused(e, nil, v)
		return reply(v)
	} else if err != nil {
		rep := storeReply(err)
		ss.log.Error("message not stored", "id", e.ID, "from", e.From.String(), "err", err)
		return rep
	}
	ss.log.Info("accepted", "id", e.ID, "from", e.From.String(), "rcpts", len(e.Rcpts), "size", sp.Size(), "message_id", e.Facts.MessageID)
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "OK: stored as " + e.ID}
}

// copyBuffers hold what is on its way from a client to a spool.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// commitTimeout bounds how long a client waits for its 250.
const commitTimeout = 30 * time.Second

// inspect reads what the chain needs of the message and asks it.
func (ss *session) inspect(ctx context.Context, e *flow.Envelope, sp *segment.Spool) error {
	raw, release, err := sp.Bytes()
	if err != nil {
		return storeReply(err)
	}
	defer release()
	e.Body, e.Facts = raw, flow.Inspect(raw, e.Settings)
	v := ss.srv.Chain.Run(ctx, flow.Data, e, nil)
	e.Body = nil
	switch v.Action {
	case flow.Pass:
	case flow.Junk:
		e.Use = model.UseJunk
	default:
		ss.refused(e, nil, v)
		return reply(v)
	}
	return nil
}

func (ss *session) spoolReply(e *flow.Envelope, err error, limit int64) error {
	if segment.IsTooLarge(err) {
		v := flow.Refuse(552, 5, 3, 4, fmt.Sprintf("Message is larger than %d MB", limit>>20), "")
		ss.refused(e, nil, v)
		return reply(v)
	}
	if segment.IsNoSpace(err) {
		ss.log.Error("disk full", "id", e.ID)
		return storeReply(err)
	}
	ss.log.Info("message not received", "id", e.ID, "err", err)
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "Message not received"}
}

// Reset forgets the transaction.
func (ss *session) Reset() { ss.e = nil }

// Logout ends the session.
func (ss *session) Logout() error { return nil }

// refused writes one log line and one event for a decision against the client.
func (ss *session) refused(e *flow.Envelope, r *flow.Recipient, v flow.Verdict) {
	ev := maillog.Event{
		Type: maillog.Rejected, TraceID: e.ID, Sender: e.From.String(), ClientIP: e.Client.String(),
		Code: v.Code, Reason: v.String(), MessageID: e.Facts.MessageID, Subject: e.Facts.Subject,
	}
	if r != nil {
		ev.Recipient = r.Address.String()
	}
	ss.srv.MailLog.Emit(ev)
	ss.log.Info("refused", "id", e.ID, "stage", v.Stage, "from", ev.Sender, "to", ev.Recipient, "verdict", v.String())
}
