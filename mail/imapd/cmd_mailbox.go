package imapd

import (
	"errors"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
)

// named looks a mailbox up as everything that was acknowledged has left it.
func (ss *session) named(name string) (model.Mailbox, error) {
	if err := ss.fresh(); err != nil {
		return model.Mailbox{}, err
	}
	return ss.srv.Store.Mailbox(ss.account.ID, name)
}

// doDelete removes a mailbox. Those below it stay; its name is then listed as \NonExistent.
func (ss *session) doDelete(p *imapparse.Parser) error {
	name, err := ss.mailboxName(p)
	if err == nil {
		err = usual(p.End())
	}
	if err != nil {
		return err
	}
	m, err := ss.named(name)
	if err != nil {
		return err
	}
	if err := ss.srv.Store.Delete(ss.ctx, m.ID); err != nil {
		return err
	}
	if ss.view != nil && ss.view.Mailbox.ID == m.ID {
		ss.view, ss.saved = nil, nil
	}
	return nil
}

// doRename renames a mailbox and all below it, in one entry.
func (ss *session) doRename(p *imapparse.Parser) error {
	from, err := ss.mailboxName(p)
	if err != nil {
		return err
	}
	if err := p.Space(); err != nil {
		return usual(err)
	}
	to, err := ss.mailboxName(p)
	if err == nil {
		err = usual(p.End())
	}
	if err != nil {
		return err
	}
	m, err := ss.named(from)
	if err != nil {
		return err
	}
	if err := ss.srv.Store.Rename(ss.ctx, m.ID, to); err != nil {
		return err
	}
	if m.Use != model.UseInbox { // INBOX stays
		ss.putOldName(from, to)
	}
	return nil
}

func (ss *session) doSubscribe(p *imapparse.Parser, on bool) error {
	name, err := ss.mailboxName(p)
	if err == nil {
		err = usual(p.End())
	}
	if err != nil {
		return err
	}
	m, err := ss.named(name)
	if err != nil {
		if !on && errors.Is(err, store.ErrNotFound) {
			return ss.srv.Store.Unsubscribe(ss.ctx, ss.account.ID, name)
		}
		return err
	}
	if !on {
		if err := ss.srv.Store.Unsubscribe(ss.ctx, ss.account.ID, name); err != nil {
			return err
		}
	}
	return ss.srv.Store.Subscribe(ss.ctx, m.ID, on)
}
