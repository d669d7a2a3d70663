package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
)

// accountIDs finds whose mail is meant: the account of a user, or those that a deleted user of
// that name had. deleted tells which.
func (s *Server) accountIDs(user string) (ids []model.AccountID, deleted bool, err error) {
	if a := s.accountOf(user); a != nil {
		return []model.AccountID{a.ID}, false, nil
	}
	ids, err = s.mail.State.GoneAccounts(model.FoldName(user))
	if err == nil && len(ids) == 0 {
		err = notFound("user", user, "mpctl user list")
	}
	return ids, true, err
}

// keptBox is a mailbox as its owner knows it, or knew it.
type keptBox struct {
	model.Mailbox
	gone int64 // when it was deleted, Unix seconds; 0: it is there
}

// count is what can be given back of it.
func (b *keptBox) count() (n int, size int64) {
	if b.gone != 0 {
		return int(b.Messages + b.Kept), b.Size + b.KeptSize
	}
	return int(b.Kept), b.KeptSize
}

// boxesOf lists a user's mailboxes, then his deleted ones; mailbox, when not empty, chooses those of that name.
func (s *Server) boxesOf(user, mailbox string) ([]keptBox, error) {
	ids, _, err := s.accountIDs(user)
	if err != nil {
		return nil, err
	}
	var out []keptBox
	for _, id := range ids {
		live, err := s.mail.State.Mailboxes(id)
		if err != nil {
			return nil, err
		}
		for _, m := range live {
			out = append(out, keptBox{Mailbox: m})
		}
		gone, err := s.mail.State.GoneMailboxes(id)
		if err != nil {
			return nil, err
		}
		for _, g := range gone {
			out = append(out, keptBox{g.Row, max(g.At, 1)})
		}
	}
	if mailbox == "" {
		return out, nil
	}
	name := model.CanonicalMailboxName(mailbox)
	out = slices.DeleteFunc(out, func(b keptBox) bool { return b.Name != name })
	if len(out) == 0 {
		return nil, notFound("mailbox", mailbox, "mpctl mailbox list "+user)
	}
	return out, nil
}

func mailboxRow(b *keptBox) api.MailboxRow {
	r := api.MailboxRow{
		Name: b.Name, Use: string(b.Use), Messages: int(b.Messages), Unseen: int(b.Unseen), Size: b.Size, Subscribed: b.Subscribed,
		UIDValidity: b.UIDValidity, UIDNext: uint32(b.UIDNext), Created: stamp(b.Created), ID: fmt.Sprint(uint64(b.ID)), Deleted: stamp(b.gone),
	}
	r.Expunged, r.Kept = b.count()
	if b.gone != 0 {
		r.Messages, r.Unseen, r.Size = 0, 0, 0
	}
	return r
}

func (s *Server) mailboxList(_ context.Context, _ *Call, in *api.MailboxUserIn) ([]api.MailboxRow, error) {
	boxes, err := s.boxesOf(in.User, "")
	out := []api.MailboxRow{}
	for i := range boxes {
		out = append(out, mailboxRow(&boxes[i]))
	}
	return out, err
}

func (s *Server) mailboxShow(_ context.Context, _ *Call, in *api.MailboxIn) ([]api.MailboxRow, error) {
	boxes, err := s.boxesOf(in.User, in.Mailbox)
	out := []api.MailboxRow{}
	for i := range boxes {
		out = append(out, mailboxRow(&boxes[i]))
	}
	return out, err
}

func (s *Server) mailboxExpunged(_ context.Context, c *Call, in *api.MailboxExpungedIn) ([]api.ExpungedRow, error) {
	boxes, err := s.boxesOf(in.User, in.Mailbox)
	if err != nil {
		return nil, err
	}
	f, err := newExpungedFilter(&in.ExpungedFilter)
	if err != nil {
		return nil, err
	}
	out, limit, more := []api.ExpungedRow{}, max(in.Limit, 1), false
	days := s.mail.State.Current().Storage.ExpungedDays
	for i := range boxes {
		b := &boxes[i]
		err := f.each(s.mail.State, b, func(k *state.KeptMessage) bool {
			if more = len(out) == limit; more {
				return false
			}
			t := textOf(k)
			out = append(out, api.ExpungedRow{
				ID: idOf(k.Ref()), Mailbox: b.Name, Expunged: stamp(k.At), Received: stamp(k.State.Date), From: t.From, Subject: t.Subject,
				Size: k.State.Size, Flags: flagNames(k.State.Flags, k.Keywords), Until: stamp(k.At + int64(days)*86400),
			})
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	if more {
		c.Warn("there is more; --limit %d, or narrow it down", limit*10)
	}
	return out, nil
}

// flagNames names a message's flags as IMAP does.
func flagNames(f model.Flags, keywords []string) []string {
	out := []string{}
	for _, sf := range model.SystemFlags {
		if f&sf.Bit != 0 {
			out = append(out, sf.Name)
		}
	}
	return append(out, keywords...)
}

// flagBits is flagNames the other way.
func flagBits(names []string) (f model.Flags, keywords []string) {
	for _, name := range names {
		i := slices.IndexFunc(model.SystemFlags, func(sf struct {
			Bit  model.Flags
			Name string
		}) bool {
			return strings.EqualFold(sf.Name, name)
		})
		switch {
		case i >= 0:
			f |= model.SystemFlags[i].Bit
		case !strings.HasPrefix(name, `\`) && len(keywords) < model.MaxMessageKeywords:
			keywords = append(keywords, name)
		}
	}
	return f, keywords
}

// mailboxRestore gives back what the filter chooses, in entries of a thousand messages.
func (s *Server) mailboxRestore(ctx context.Context, c *Call, in *api.MailboxRestoreIn) ([]api.MailboxRestored, error) {
	boxes, err := s.boxesOf(in.User, in.Mailbox)
	if err != nil {
		return nil, err
	}
	f, err := newExpungedFilter(&in.ExpungedFilter)
	if err != nil {
		return nil, err
	}
	target, err := s.restoreTarget(in)
	if err != nil {
		return nil, err
	}
	out := []api.MailboxRestored{}
	for i := range boxes {
		b := &boxes[i]
		into := b.Name
		if in.Into != "" {
			into = model.CanonicalMailboxName(in.Into)
		}
		if err := model.ValidateMailboxName(into); err != nil {
			return out, err
		}
		row := api.MailboxRestored{Mailbox: b.Name, Into: into}
		var refs []state.MessageRef
		err := f.each(s.mail.State, b, func(k *state.KeptMessage) bool {
			refs = append(refs, k.Ref())
			row.Messages++
			row.Size += k.State.Size
			return true
		})
		if err == nil && row.Messages > 0 {
			c.Diff(op.FieldDiff{Field: b.Name, New: fmt.Sprintf("%d messages, %d octets, into %s", row.Messages, row.Size, into)})
			if !c.DryRun {
				row.Messages, err = s.giveBack(ctx, target, into, refs)
			}
			out = append(out, row)
		}
		if err != nil {
			return out, err
		}
	}
	if len(out) == 0 {
		c.Warn("nothing matches: mpctl mailbox expunged %s shows what can be given back", in.User)
	}
	return out, nil
}

// restoreTarget is the account that gets the mail.
func (s *Server) restoreTarget(in *api.MailboxRestoreIn) (model.AccountID, error) {
	user := in.User
	if in.IntoUser != "" {
		user = in.IntoUser
	}
	if a := s.accountOf(user); a != nil {
		return a.ID, nil
	}
	if in.IntoUser != "" {
		return 0, notFound("user", user, "mpctl user list")
	}
	return 0, refused(fmt.Sprintf("the user %s is deleted, so his mail has no place to go back to", user), "mpctl mailbox restore "+user+" … --into-user OTHER")
}

// giveBack restores messages into a mailbox, which is made if need be.
func (s *Server) giveBack(ctx context.Context, account model.AccountID, into string, refs []state.MessageRef) (n int, err error) {
	box, err := s.ensureMailbox(ctx, account, into)
	if err != nil {
		return 0, err
	}
	for part := range slices.Chunk(refs, state.MaxKeptPurge) {
		var done state.KeptRestored
		if err := s.mail.State.Do(ctx, []state.Operation{state.KeptRestore{To: box.ID, From: part}}, &done); err != nil {
			return n, err
		}
		n += len(done.Placed)
	}
	return n, nil
}

// ensureMailbox finds a mailbox or makes it.
func (s *Server) ensureMailbox(ctx context.Context, account model.AccountID, name string) (model.Mailbox, error) {
	if err := s.mail.Store.EnsureDefaults(ctx, account); err != nil {
		return model.Mailbox{}, err
	}
	box, err := s.mail.Store.Mailbox(account, name)
	if !errors.Is(err, store.ErrNotFound) {
		return box, err
	}
	box, err = s.mail.Store.Create(ctx, account, name, "")
	if errors.Is(err, store.ErrExists) { // by a client, just now
		return s.mail.Store.Mailbox(account, name)
	}
	if err == nil { // clients list what is subscribed
		err = s.mail.Store.Subscribe(ctx, box.ID, true)
	}
	return box, err
}
