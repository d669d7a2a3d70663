package imapd

import (
	"context"
	"net/mail"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	fts "mailplusd/mail/search"
)

// Index knows which messages can hold a text, so that SEARCH need not read all of them. What it
// says must be what reading them would: see package search.
type Index interface {
	Find(ctx context.Context, account model.AccountID, box model.MailboxID, field fts.Field, text string) (*fts.Found, bool)
}

// indexFields are the keys that the index knows about.
var indexFields = map[string]fts.Field{
	"TEXT": fts.Text, "BODY": fts.Body, "SUBJECT": fts.Subject, "FROM": fts.From, "TO": fts.To,
	"CC": fts.Cc, "BCC": fts.Bcc, "HEADER": fts.Header,
}

// indexed asks the index about the message in hand; it is asked once for each key of a SEARCH.
func (s *search) indexed(k *imapparse.Key) fts.Answer {
	field, ok := indexFields[k.Name]
	if !ok || s.ss.srv.Index == nil {
		return fts.Maybe
	}
	found, asked := s.found[k]
	if !asked {
		text := k.Text
		if field == fts.Header {
			text = k.Text2
		}
		box := &s.ss.view.Mailbox
		if found, ok = s.ss.srv.Index.Find(s.ss.ctx, box.Account, box.ID, field, text); !ok {
			found = nil
		}
		if s.found == nil {
			s.found = map[*imapparse.Key]*fts.Found{}
		}
		s.found[k] = found
	}
	if found == nil {
		return fts.Maybe
	}
	return found.Of(s.m.UID)
}

// matchText does the keys that look into the message.
func (s *search) matchText(k *imapparse.Key) (bool, error) {
	if a := s.indexed(k); a != fts.Maybe {
		return a == fts.Yes, nil
	}
	if ok, err := s.open(); !ok || err != nil {
		return false, err
	}
	switch k.Name {
	case "SENTBEFORE", "SENTON", "SENTSINCE":
		at, err := mail.ParseDate(s.root.Header.Get("Date"))
		return err == nil && compareDay(k.Name, at, k.Date), nil
	case "FROM", "TO", "CC", "BCC", "SUBJECT":
		return message.FieldHas(&s.root.Header, k.Name, message.Fold(k.Text)), nil
	case "HEADER":
		return message.FieldHas(&s.root.Header, k.Text, message.Fold(k.Text2)), nil
	}
	if s.words == nil {
		w := s.root.Words(s.raw)
		s.words = &w
	}
	if k.Name == "BODY" {
		return s.words.BodyHas(message.Fold(k.Text)), nil
	}
	return s.words.AnyHas(message.Fold(k.Text)), nil
}
