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
	Message(id model.MailboxID, uid model.UID) (model.MessageState, error)
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
	// Elsewhere tells whether the other node of a pair serves a maildrop; nil: there is no other node.
	Elsewhere func(ctx context.Context, account model.AccountID) bool

	mu    sync.Mutex
	locks map[model.AccountID]bool // maildrops in use (RFC 1939 §3)
}

// lock takes an account's maildrop; false when another session has it, here or on the other node.
// It is taken here before the other node is asked: of two that ask each other at least one
// finds the other's.
func (s *Server) lock(ctx context.Context, id model.AccountID) bool {
	s.mu.Lock()
	if s.locks == nil {
		s.locks = map[model.AccountID]bool{}
	}
	taken := s.locks[id]
	s.locks[id] = true
	s.mu.Unlock()
	if taken {
		return false
	}
	if s.Elsewhere != nil && s.Elsewhere(ctx, id) {
		s.unlock(id)
		return false
	}
	return true
}

// InUse tells whether a session of this node has an account's maildrop.
func (s *Server) InUse(id model.AccountID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locks[id]
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
	defer func() {
		if p := recover(); p != nil {
			ss.log.Error("POP3 session panicked", "panic", p)
			ss.fail("SYS/TEMP", "server fault, it has been logged")
		}
	}()
	ss.run()
}
