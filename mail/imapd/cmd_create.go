package imapd

import (
	"errors"
	"strings"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
)

// doCreate makes a mailbox and those above it (RFC 3501 §6.3.3, RFC 6154 §3).
func (ss *session) doCreate(p *imapparse.Parser) error {
	name, err := ss.mailboxName(p)
	if err != nil {
		return err
	}
	use := model.SpecialUse("")
	if p.More() {
		if use, err = createUse(p); err != nil {
			return err
		}
	}
	if err := p.End(); err != nil {
		return usual(err)
	}
	m, err := ss.srv.Store.Create(ss.ctx, ss.account.ID, name, use)
	if err != nil {
		return ss.createError(err, name, use)
	}
	return selectDone{"[MAILBOXID (" + objectID(m.GUID) + ")] CREATE completed"}
}

// createError tells a use that is taken from a name that is.
func (ss *session) createError(err error, name string, use model.SpecialUse) error {
	if use != "" && errors.Is(err, store.ErrExists) {
		if _, missing := ss.srv.Store.Mailbox(ss.account.ID, name); errors.Is(missing, store.ErrNotFound) {
			return no{"USEATTR", err.Error()}
		}
	}
	return err
}

// createUse reads (USE (\Sent)). A mailbox has one use at most.
func createUse(p *imapparse.Parser) (use model.SpecialUse, err error) {
	if err := p.Space(); err != nil {
		return "", usual(err)
	}
	var refused error
	err = p.List(func() error {
		a, err := p.Atom()
		if err != nil || !strings.EqualFold(a, "USE") {
			return errors.New("USE expected")
		}
		if err := p.Space(); err != nil {
			return err
		}
		flags, err := p.Flags()
		for _, f := range flags {
			u := useOf(f)
			switch {
			case u == "":
				refused = no{"USEATTR", "the use " + f + " is not supported"}
			case use != "" && use != u:
				refused = no{"USEATTR", "a mailbox can have one use"}
			}
			use = u
		}
		return err
	})
	if err != nil {
		return "", usual(err)
	}
	return use, refused
}

func useOf(flag string) model.SpecialUse {
	for _, d := range model.DefaultMailboxes {
		if d.Use != model.UseInbox && strings.EqualFold(flag, `\`+string(d.Use)) {
			return d.Use
		}
	}
	return ""
}
