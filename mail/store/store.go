// Package store is where mail is kept: mailboxes and messages in the replicated
// state, bodies in segment files. Sessions and deliveries work through it; it makes
// sure that a body is on disk before the entry that names it is proposed.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
)

// Errors that callers tell apart; all others are faults of this node.
var (
	ErrNotFound    = state.ErrNotFound
	ErrExists      = state.ErrExists
	ErrLimit       = state.ErrLimit
	ErrInvalid     = state.ErrInvalid
	ErrNoSpace     = errors.New("the disk is full")
	ErrUnavailable = errors.New("mail can't be stored at the moment")
)

// Bodies is where bodies are kept. Put and Commit return when the body is durable
// wherever the node's promise needs it.
type Bodies interface {
	Put(ctx context.Context, pieces ...[]byte) (segment.ID, int64, error)
	NewSpool(limit int64) *segment.Spool
	Open(id segment.ID) (*segment.Body, error)
	Short() bool // new bodies are refused for want of space
}

// Store joins state and bodies.
type Store struct {
	state  *state.State
	bodies Bodies
	fresh  func(context.Context) error
	Limits message.Limits
}

// New makes a Store.
func New(s *state.State, b Bodies) *Store {
	return &Store{state: s, bodies: b, Limits: message.DefaultLimits()}
}

// State is the replicated state below the store.
func (s *Store) State() *state.State { return s.state }

// SetFresh gives the store what Fresh calls; before first use. nil: this node always knows everything.
func (s *Store) SetFresh(f func(context.Context) error) { s.fresh = f }

// Fresh waits until reads here show everything that any node acknowledged before the call, 2 s at
// most. ErrUnavailable: they may not; the client is to be told so rather than shown the past.
func (s *Store) Fresh(ctx context.Context) error {
	if s.fresh == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	if err := s.fresh(ctx); err != nil {
		return fmt.Errorf("%w: what the other node knows is not known here: %w", ErrUnavailable, err)
	}
	return nil
}

const freshTimeout = 2 * time.Second

// NewSpool takes in a body of unknown size, of limit octets at most.
func (s *Store) NewSpool(limit int64) *segment.Spool { return s.bodies.NewSpool(limit) }

// Short tells whether new messages are refused, because little space is left on the disk.
func (s *Store) Short() bool { return s.bodies.Short() }

// Body opens a body for reading.
func (s *Store) Body(id model.BodyID) (*segment.Body, error) { return s.bodies.Open(segment.ID(id)) }

// mend gives errors the names that sessions know.
func mend(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, segment.ErrNoSpace):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrExists), errors.Is(err, ErrLimit), errors.Is(err, ErrInvalid), errors.Is(err, state.ErrOver),
		errors.Is(err, context.Canceled), errors.Is(err, segment.ErrTooLarge):
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (s *Store) do(ctx context.Context, op state.Operation, out any) error {
	return mend(s.state.Do(ctx, []state.Operation{op}, out))
}

// Mailboxes lists an account's mailboxes in the order of their names.
func (s *Store) Mailboxes(account model.AccountID) ([]model.Mailbox, error) {
	return s.state.Mailboxes(account)
}

// Mailbox finds a mailbox by name; ErrNotFound.
func (s *Store) Mailbox(account model.AccountID, name string) (model.Mailbox, error) {
	id, err := s.state.MailboxID(account, model.CanonicalMailboxName(name))
	if err != nil {
		return model.Mailbox{}, err
	}
	if id == 0 {
		return model.Mailbox{}, ErrNotFound
	}
	return s.state.Mailbox(id)
}

// MailboxByID reads a mailbox; ErrNotFound.
func (s *Store) MailboxByID(id model.MailboxID) (model.Mailbox, error) { return s.state.Mailbox(id) }

// MailboxByUse finds an account's mailbox with a role; ErrNotFound.
func (s *Store) MailboxByUse(account model.AccountID, use model.SpecialUse) (model.Mailbox, error) {
	all, err := s.state.Mailboxes(account)
	if err != nil {
		return model.Mailbox{}, err
	}
	for _, m := range all {
		if m.Use == use {
			return m, nil
		}
	}
	return model.Mailbox{}, ErrNotFound
}

// EnsureDefaults makes what is missing of an account's default mailboxes. It is cheap when nothing is.
func (s *Store) EnsureDefaults(ctx context.Context, account model.AccountID) error {
	id, err := s.state.MailboxID(account, "INBOX")
	if err != nil || id != 0 {
		return err
	}
	return s.do(ctx, state.MailboxCreate{Account: account, Defaults: true}, nil)
}

// Create makes a mailbox and those above it.
func (s *Store) Create(ctx context.Context, account model.AccountID, name string, use model.SpecialUse) (model.Mailbox, error) {
	var out state.MailboxCreated
	err := s.do(ctx, state.MailboxCreate{Account: account, Name: name, Use: use}, &out)
	if err != nil {
		return out.Mailbox, err
	}
	return out.Mailbox, s.resubscribe(ctx, &out.Mailbox)
}

// Rename gives a mailbox and those below it another name.
func (s *Store) Rename(ctx context.Context, id model.MailboxID, name string) error {
	return s.do(ctx, state.MailboxRename{Mailbox: id, Name: name}, nil)
}

// Seen records that a read-write session has been told of every message below a UID.
func (s *Store) Seen(ctx context.Context, id model.MailboxID, below model.UID) error {
	return s.do(ctx, state.Seen{Mailbox: id, Below: below}, nil)
}

// Snapshot reads a mailbox with all its messages at one moment.
func (s *Store) Snapshot(id model.MailboxID) (model.Mailbox, []model.MessageState, error) {
	var out []model.MessageState
	m, err := s.state.View(id, 1, 1<<32-1, func(st *model.MessageState) bool {
		cp := *st
		cp.Keywords = append([]uint16(nil), st.Keywords...)
		out = append(out, cp)
		return true
	})
	return m, out, err
}

// Messages calls fn for from <= UID <= to; the state is valid during fn only.
func (s *Store) Messages(id model.MailboxID, from, to model.UID, fn func(*model.MessageState) bool) error {
	_, err := s.state.View(id, from, to, fn)
	return err
}

// View is Messages together with the mailbox at the same moment.
func (s *Store) View(id model.MailboxID, from, to model.UID, fn func(*model.MessageState) bool) (model.Mailbox, error) {
	return s.state.View(id, from, to, fn)
}

// Message reads one message's state; ErrNotFound.
func (s *Store) Message(id model.MailboxID, uid model.UID) (model.MessageState, error) {
	return s.state.Message(id, uid)
}

// Changes is what happened in a mailbox since a mod-sequence.
type Changes = state.Changes

// Changes reads everything with a mod-sequence above since.
func (s *Store) Changes(id model.MailboxID, since uint64) (Changes, error) {
	return s.state.Changes(id, since)
}

// Expunged lists what was removed with since < mod-sequence <= upto; ok is false when some of it is forgotten.
func (s *Store) Expunged(id model.MailboxID, since, upto uint64) (uids []model.UID, ok bool, err error) {
	return s.state.Expunged(id, since, upto)
}

// Meta reads a message's parsed headers (message.DecodeMeta); ErrNotFound.
func (s *Store) Meta(id model.MailboxID, uid model.UID) ([]byte, error) { return s.state.Meta(id, uid) }

// Metas calls fn for from <= UID <= to; meta is valid during fn only.
func (s *Store) Metas(id model.MailboxID, from, to model.UID, fn func(uid model.UID, meta []byte) bool) error {
	return s.state.Metas(id, from, to, fn)
}

// NewMessage is a message to append; a zero Date means now.
type NewMessage struct {
	Spool    *segment.Spool
	Flags    model.Flags
	Keywords []string
	Date     time.Time
}

// Append stores messages in a mailbox, all or none; durable when it returns. The spools are used up.
func (s *Store) Append(ctx context.Context, id model.MailboxID, msgs []NewMessage) ([]state.Placed, error) {
	items, err := s.items(ctx, msgs)
	if err != nil {
		return nil, mend(err)
	}
	op := state.Append{Mailbox: id, Items: items}
	var out state.Appended
	err = s.do(ctx, op, &out)
	return out.Placed, err
}

func (s *Store) item(ctx context.Context, m NewMessage) (state.AppendItem, error) {
	meta, err := s.Summarize(nil, m.Spool)
	if err != nil {
		return state.AppendItem{}, err
	}
	body, size, err := m.Spool.Commit(ctx, nil)
	if err != nil {
		return state.AppendItem{}, err
	}
	item := state.AppendItem{Body: model.BodyID(body), Size: size, Meta: meta, Flags: m.Flags, Keywords: m.Keywords}
	if !m.Date.IsZero() {
		item.Date = m.Date.Unix()
	}
	return item, nil
}

// Summarize parses a message with prefix in front of it into the form in which the state keeps it.
func (s *Store) Summarize(prefix []byte, sp *segment.Spool) ([]byte, error) {
	raw, release, err := sp.Bytes()
	if err != nil {
		return nil, err
	}
	defer release()
	m := message.Summarize(prefix, raw, s.Limits)
	return message.EncodeMeta(nil, &m), nil
}

// CommitSpool stores prefix and a spool's octets as one body; it is durable when this returns.
func (s *Store) CommitSpool(ctx context.Context, sp *segment.Spool, prefix []byte) (model.BodyID, int64, error) {
	id, size, err := sp.Commit(ctx, prefix)
	return model.BodyID(id), size, mend(err)
}

// SetFlags changes flags.
func (s *Store) SetFlags(ctx context.Context, op state.SetFlags) (out state.FlagsChanged, err error) {
	err = s.do(ctx, op, &out)
	return out, err
}

// Expunge removes messages.
func (s *Store) Expunge(ctx context.Context, op state.Expunge) (out state.Expunged, err error) {
	err = s.do(ctx, op, &out)
	return out, err
}

// Copy copies or moves messages.
func (s *Store) Copy(ctx context.Context, op state.Copy) (out state.Copied, err error) {
	err = s.do(ctx, op, &out)
	return out, err
}

// Deliver commits one SMTP transaction: the body is durable already.
func (s *Store) Deliver(ctx context.Context, op state.Deliver, with ...state.Operation) (out state.Delivered, err error) {
	err = mend(s.state.Do(ctx, append([]state.Operation{op}, with...), &out))
	return out, err
}

// Do proposes operations as one entry; see state.Do.
func (s *Store) Do(ctx context.Context, ops []state.Operation, out ...any) error {
	return mend(s.state.Do(ctx, ops, out...))
}

// Generation rises when the whole state was replaced.
func (s *Store) Generation() uint64 { return s.state.Generation() }

// Watch wakes when one of the mailboxes changes.
func (s *Store) Watch(ids ...model.MailboxID) *state.Watch { return s.state.Watch(ids...) }

// WatchAccount wakes when an account's mailboxes change.
func (s *Store) WatchAccount(account model.AccountID) *state.Watch {
	return s.state.WatchAccount(account)
}
