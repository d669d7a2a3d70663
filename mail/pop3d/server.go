// Package pop3d serves POP3 (RFC 1939) with CAPA (RFC 2449), STLS (RFC 2595), SASL
// (RFC 5034), response codes (RFC 3206) and UTF8 (RFC 6856). A session works on a
// snapshot of INBOX; deletions are done at QUIT and never before.
package pop3d

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
	"mailplusd/mail/wire"
)

// Store is what a session needs of mail/store.
type Store interface {
	Fresh(ctx context.Context) error
	EnsureDefaults(ctx context.Context, account model.AccountID) error
	Mailbox(account model.AccountID, name string) (model.Mailbox, error)
	View(id model.MailboxID, from, to model.UID, fn func(*model.MessageState) bool) (model.Mailbox, error)
	Body(id model.BodyID) (*segment.Body, error)
	Expunge(ctx context.Context, op state.Expunge) (state.Expunged, error)
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
	Log      *slog.Logger

	mu    sync.Mutex
	locks map[model.AccountID]bool // maildrops in use (RFC 1939 §3)
}

// lock takes an account's maildrop; false when another session has it.
func (s *Server) lock(id model.AccountID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks == nil {
		s.locks = map[model.AccountID]bool{}
	}
	if s.locks[id] {
		return false
	}
	s.locks[id] = true
	return true
}

func (s *Server) unlock(id model.AccountID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.locks, id)
}

// Timeouts suit POP3: ten minutes of idleness (RFC 1939 §3).
var Timeouts = wire.Timeouts{Idle: 10 * time.Minute, Command: time.Minute, Data: 3 * time.Minute, Write: 3 * time.Minute}

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
	defer ss.end()
	ss.run()
}
