package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// accountSourceShow lists the account sources.
func (s *Server) accountSourceShow(context.Context, *Call, *op.None) ([]api.SourceRow, error) {
	now := s.mail.State.Current().System.Source
	count := map[string]int{}
	for u, err := range state.Users.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		if u.Source == "" {
			count[model.SourceLocal]++
		} else {
			count[u.Source]++
		}
	}
	bound, err := directory.Bound(s.mail.State)
	if err != nil {
		return nil, err
	}
	out := []api.SourceRow{}
	for _, t := range []string{model.SourceLocal, model.SourceLDAP, model.SourceDomain} {
		out = append(out, api.SourceRow{Type: t, InForce: t == now, Configured: t == model.SourceLocal || bound != nil && t == bound.Source, Accounts: count[t]})
	}
	return out, nil
}

// maxMoves bounds the mailboxes that change hands in one entry of the log.
const maxMoves = 1200

// accountSourceSet refuses a source whose directory is not bound (R5.09), and wants to know what
// becomes of the mail (R5.11).
func (s *Server) accountSourceSet(ctx context.Context, c *Call, in *api.SourceSetIn) ([]api.SourceRow, error) {
	from := s.mail.State.Current().System.Source
	move := in.MoveMail != nil && *in.MoveMail == "yes"
	if in.Type != model.SourceLocal && from != in.Type {
		if err := s.readyFor(ctx, c, in, from); err != nil {
			return nil, err
		}
	} else if move {
		return nil, refused("mail moves only from local accounts to those of a directory; each source keeps its mail, and has it again when it is in force", "mpctl account source set "+in.Type)
	}
	var moved moves
	err := s.change(ctx, c, func(tx *state.Tx) (err error) {
		set, err := state.LoadSettings(tx)
		if err != nil || set.System.Source == in.Type {
			return err
		}
		if set.System.Source != from {
			return op.Errorf(op.Conflict, "somebody else has changed the account source meanwhile; look again and repeat")
		}
		if moved = (moves{}); move {
			if moved, err = s.moveMail(tx, in.Type); err != nil {
				return err
			}
		}
		c.Diff(op.FieldDiff{Field: "account source", Old: from, New: in.Type})
		for _, name := range moved.names {
			c.Diff(op.FieldDiff{Field: "mail of " + name, Old: from, New: in.Type})
		}
		set.System.Source = in.Type
		if err := state.StoreSettings(tx, set); err != nil {
			return err
		}
		return s.warnSource(tx, c)
	})
	if err != nil {
		return nil, err
	}
	moved.warn(c)
	return s.accountSourceShow(ctx, c, nil)
}

// readyFor refuses a source whose directory is not bound or can't be read, and reads its accounts (R5.10).
func (s *Server) readyFor(ctx context.Context, c *Call, in *api.SourceSetIn, from string) error {
	conf, _, err := s.mail.Bound()
	switch {
	case conf == nil && err == nil, conf != nil && conf.Source != in.Type:
		return refused("no directory of type "+in.Type+" is bound", howToBind[in.Type])
	case err != nil:
		return refused(err.Error(), directoryCommand(in.Type)+" show")
	case in.MoveMail == nil && from == model.SourceLocal:
		return refused("say whether the mail of local accounts goes to the directory accounts of the same name", "mpctl account source set "+in.Type+" --move-mail yes, or no")
	case c.DryRun:
		return nil
	}
	if _, err := s.mail.SyncDirectory(ctx, false); err != nil {
		return refused("the accounts of the directory can't be read: "+err.Error(), directoryCommand(in.Type)+" test")
	}
	return nil
}

// moves are the accounts whose mail goes to another source.
type moves struct {
	names []string
	kept  []string // not moved: the other has mail already
	lost  []string // addresses of local accounts with mail that are nobody's in the other source
}

// warn says what was not moved.
func (m *moves) warn(c *Call) {
	for _, name := range m.kept {
		c.Warn("the directory account %s has mail already, so the mail of the local account %s was not moved: it is there when the source is local again", name, name)
	}
	if n := len(m.lost); n > 0 {
		c.Warn("%d addresses of local accounts that were moved are nobody's now, and mail to them is refused: %s; mpctl domain user set DOMAIN NAME --address … gives them to the directory account", n, strings.Join(m.lost[:min(n, 10)], ", "))
	}
}

// moveMail gives the mailboxes of each local account that has any to the account of the same
// name of another source; where there is none, nothing is said (R5.13, R5.14). The two change their
// numbers, and with them everything that is kept under a number: mailboxes, UIDs, indexes. What an account has set for
// itself goes with its mail: forward, automatic reply and second factor.
func (s *Server) moveMail(tx *state.Tx, to string) (m moves, err error) {
	for local, err := range state.Users.All(tx, "") {
		if err != nil {
			return m, err
		}
		if local.Source != "" {
			continue
		}
		other, err := state.Users.Get(tx, model.SourceKey(to, local.Name))
		if err != nil {
			continue
		}
		boxes, err := s.mail.Store.Mailboxes(local.ID)
		if err != nil {
			return m, err
		}
		if len(boxes) == 0 {
			continue
		}
		if has, err := s.hasMail(other.ID); err != nil {
			return m, err
		} else if has {
			m.kept = append(m.kept, local.Name)
			continue
		}
		m.names = append(m.names, local.Name)
	}
	if len(m.names) > maxMoves {
		return m, refused(fmt.Sprintf("%d accounts have mail to move, more than %d at a time", len(m.names), maxMoves), "mpctl account source set "+to+" --move-mail no, then mpctl mailbox export and import")
	}
	for _, name := range m.names {
		key := model.SourceKey(to, name)
		if err := swap(tx, name, key); err != nil {
			return m, err
		}
		if err := directory.MoveKept(tx, name, key); err != nil {
			return m, err
		}
		if err := m.addresses(tx, to, name); err != nil {
			return m, err
		}
	}
	return m, nil
}

// addresses notes which addresses of a local account nobody has in the other source.
func (m *moves) addresses(tx *state.Tx, to, name string) error {
	members, err := state.DomainUsers.Find(tx, state.IndexMemberByUser, name)
	if err != nil {
		return err
	}
	for _, d := range members {
		for _, l := range d.Locals {
			address := model.FoldName(l) + "@" + d.Domain
			if owner, err := state.DomainUsers.Find(tx, state.IndexAddress, model.SourceKey(to, address)); err != nil {
				return err
			} else if len(owner) == 0 {
				m.lost = append(m.lost, address)
			}
		}
	}
	return nil
}

// swap has two accounts change their numbers.
func swap(tx *state.Tx, a, b string) error {
	x, err := state.Users.Get(tx, a)
	if err != nil {
		return err
	}
	y, err := state.Users.Get(tx, b)
	if err != nil {
		return err
	}
	if err := state.Users.Delete(tx, b); err != nil { // a number is one account's
		return err
	}
	free := y.ID
	y.ID, x.ID = x.ID, free
	if err := state.Users.Put(tx, x); err != nil {
		return err
	}
	return state.Users.Put(tx, y)
}

// hasMail tells whether an account has a message in any mailbox.
func (s *Server) hasMail(id model.AccountID) (bool, error) {
	boxes, err := s.mail.Store.Mailboxes(id)
	for _, b := range boxes {
		if b.Messages > 0 {
			return true, nil
		}
	}
	return false, err
}

// warnSource says what the accounts that are in force from now on lack.
func (s *Server) warnSource(tx *state.Tx, c *Call) error {
	pic, err := directory.Draw(tx, time.Now())
	if err != nil {
		return err
	}
	c.warning = nil // of an earlier try
	admin, unsupported, active := false, []string{}, 0
	for _, a := range pic.Users {
		admin = admin || pic.IsAdmin(a)
		if a.Status() == model.UserUnsupported {
			unsupported = append(unsupported, a.Name)
		}
		if a.Usable() {
			active++
		}
	}
	if !admin {
		c.Warn("no account of the source %s administers the system, only root at the socket does: mpctl user set NAME --admin on", pic.Source)
	}
	if active == 0 {
		c.Warn("no account is activated: mpctl account activate NAME, or mpctl account default set --activate-all on")
	}
	if len(unsupported) > 0 {
		c.Warn("%d names are not supported by mail: %s", len(unsupported), strings.Join(unsupported[:min(len(unsupported), 5)], ", "))
	}
	return nil
}
