package imapd

import (
	"context"
	"errors"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	fts "mailplusd/mail/search"
	"mailplusd/mail/view/order"
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

// matchText does the keys that look into the message: by the index, by the ENVELOPE, or by reading it.
func (s *search) matchText(k *imapparse.Key) (ok bool, err error) {
	if a := s.indexed(k); a != fts.Maybe {
		return a == fts.Yes, nil
	}
	if ok, known, err := s.byEnvelope(k); known || err != nil {
		return ok, err
	}
	err = guard(func() (err error) {
		ok, err = s.byReading(k)
		return err
	})
	if errors.Is(err, errFault) {
		return false, nil // as one that is damaged
	}
	return ok, err
}

// needle is what a key looks for, folded once for all messages.
func (s *search) needle(k *imapparse.Key) string {
	text, ok := s.needles[k]
	if !ok {
		if text = k.Text; k.Name == "HEADER" {
			text = k.Text2
		}
		text = message.Fold(text)
		if s.needles == nil {
			s.needles = map[*imapparse.Key]string{}
		}
		s.needles[k] = text
	}
	return text
}

// byEnvelope answers from the parsed header that is kept beside each message; known is false where
// it can't tell exactly what the message would.
func (s *search) byEnvelope(k *imapparse.Key) (ok, known bool, err error) {
	name := k.Name
	switch name {
	case "SENTBEFORE", "SENTON", "SENTSINCE", "FROM", "TO", "CC", "BCC", "SUBJECT":
	case "HEADER":
		name = k.Text
	default:
		return false, false, nil
	}
	raw, ok, err := s.metas.of(s)
	if err != nil || !ok {
		return false, true, err // gone: matches nothing
	}
	meta, err := message.DecodeMeta(raw)
	if err != nil {
		return false, true, err
	}
	if k.Date.IsZero() {
		ok, known = meta.Has(name, s.needle(k))
		return ok, known, nil
	}
	env, known := message.SplitEnvelope(meta.Envelope)
	if !known {
		return false, false, nil
	}
	at, ok := order.SentDate(message.NString(env[message.EnvDate]))
	return ok && compareDay(name, at, k.Date), true, nil
}

// byReading looks into the message itself.
func (s *search) byReading(k *imapparse.Key) (bool, error) {
	if ok, err := s.open(); !ok || err != nil {
		return false, err
	}
	root := s.o.root
	switch k.Name {
	case "SENTBEFORE", "SENTON", "SENTSINCE":
		at, ok := order.SentDate(root.Header.Get("Date"))
		return ok && compareDay(k.Name, at, k.Date), nil
	case "FROM", "TO", "CC", "BCC", "SUBJECT":
		return message.FieldHas(&root.Header, k.Name, s.needle(k)), nil
	case "HEADER":
		return message.FieldHas(&root.Header, k.Text, s.needle(k)), nil
	}
	if s.words == nil {
		w := root.Words(s.o.raw)
		s.words = &w
	}
	if k.Name == "BODY" {
		return s.words.BodyHas(s.needle(k)), nil
	}
	return s.words.AnyHas(s.needle(k)), nil
}

// metas reads parsed headers ahead: of one message first, then of more and more, as long as a search
// goes from message to message.
type metas struct {
	f        fetch
	from, to int // indexes of messages that were read
	ahead    int
}

// of gives the parsed header of the message in hand; false: it is gone.
func (m *metas) of(s *search) ([]byte, bool, error) {
	if s.i < m.from || s.i >= m.to {
		if m.ahead = min(2*m.ahead, fetchChunk); s.i > m.to+m.ahead || m.ahead == 0 {
			m.ahead = 1
		}
		m.from, m.to = s.i, min(s.i+m.ahead, s.n)
		list := make([]int, 0, m.to-m.from)
		for i := m.from; i < m.to; i++ {
			list = append(list, i)
		}
		m.f.ss = s.ss
		n, err := m.f.loadMetas(list)
		if err != nil {
			m.to = m.from
			return nil, false, err
		}
		m.to = m.from + n
	}
	raw, ok := m.f.metas[s.m.UID]
	return raw, ok, nil
}
