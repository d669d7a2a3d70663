// Package imapd serves IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051) with the extensions that
// capability.go names. It is our own engine: commands.go names every command, and each of them
// is a file. What a mailbox looks like to a session is package view's; arguments are read by imapparse.
package imapd

import (
	"context"
	"log/slog"
	"net"

	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
	"mailplusd/mail/view"
	"mailplusd/mail/wire"
)

// Store is what sessions need of mail/store.
type Store interface {
	Fresh(ctx context.Context) error
	Mailboxes(account model.AccountID) ([]model.Mailbox, error)
	Mailbox(account model.AccountID, name string) (model.Mailbox, error)
	MailboxByID(id model.MailboxID) (model.Mailbox, error)
	Create(ctx context.Context, account model.AccountID, name string, use model.SpecialUse) (model.Mailbox, error)
	EnsureDefaults(ctx context.Context, account model.AccountID) error
	Rename(ctx context.Context, id model.MailboxID, name string) error
	Delete(ctx context.Context, id model.MailboxID) error
	Subscribe(ctx context.Context, id model.MailboxID, on bool) error
	Subscriptions(account model.AccountID) ([]string, error)
	Unsubscribe(ctx context.Context, account model.AccountID, name string) error
	Seen(ctx context.Context, id model.MailboxID, below model.UID) error
	View(id model.MailboxID, from, to model.UID, fn func(*model.MessageState) bool) (model.Mailbox, error)
	Changes(id model.MailboxID, since uint64) (state.Changes, error)
	Expunged(id model.MailboxID, since, upto uint64) (uids []model.UID, ok bool, err error)
	Message(id model.MailboxID, uid model.UID) (model.MessageState, error)
	Metas(id model.MailboxID, from, to model.UID, fn func(uid model.UID, meta []byte) bool) error
	Body(id model.BodyID) (*segment.Body, error)
	NewSpool(limit int64) *segment.Spool
	Append(ctx context.Context, id model.MailboxID, msgs []store.NewMessage) ([]state.Placed, error)
	SetFlags(ctx context.Context, op state.SetFlags) (state.FlagsChanged, error)
	Expunge(ctx context.Context, op state.Expunge) (state.Expunged, error)
	Copy(ctx context.Context, op state.Copy) (state.Copied, error)
	Generation() uint64
	Watch(ids ...model.MailboxID) *state.Watch
}

// Authenticator checks a login.
type Authenticator interface {
	Authenticate(ctx context.Context, a login.Attempt) (*login.Account, error)
}

// Server is what the sessions share.
type Server struct {
	Store    Store
	Login    Authenticator
	Settings func() *model.Settings
	Index    Index // nil: SEARCH reads messages
	Log      *slog.Logger

	views    view.Cache
	maxMetas int // 0: the constant; smaller in tests
}

// Serve accepts sessions until the listener is closed.
func (s *Server) Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		conn, ok := c.(*wire.Conn)
		if !ok {
			c.Close()
			continue
		}
		go s.session(conn)
	}
}

func (s *Server) session(c *wire.Conn) {
	defer c.Close()
	ctx, cancel := c.Context(context.Background())
	defer cancel()
	ss := &session{srv: s, c: c, ctx: ctx, log: s.Log.With("conn", c.ID(), "client", c.RemoteIP().String())}
	defer func() {
		if p := recover(); p != nil {
			ss.log.Error("IMAP session panicked", "panic", p)
			c.WriteString("* BYE server fault, it has been logged\r\n")
			c.Flush()
		}
	}()
	ss.run()
	ss.closeView()
}
