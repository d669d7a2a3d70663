package imapd

import (
	"errors"
	"slices"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
)

func (ss *session) doStatus(p *imapparse.Parser) error {
	name, err := ss.mailboxName(p)
	if err != nil {
		return err
	}
	if err := p.Space(); err != nil {
		return usual(err)
	}
	items, err := p.StatusItems()
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return usual(err)
	}
	m, err := ss.named(name)
	if err != nil {
		return err
	}
	if slices.Contains(items, "HIGHESTMODSEQ") {
		ss.useCondstore() // RFC 7162 §3.1
	}
	ss.putStatus(&m, items)
	return nil
}

func (ss *session) putStatus(m *model.Mailbox, items []string) {
	ss.put("* STATUS ", ss.quote(m.Name), " (")
	for i, it := range items {
		if i > 0 {
			ss.put(" ")
		}
		ss.put(it, " ")
		switch it {
		case "MESSAGES":
			ss.putInt(int64(m.Messages))
		case "RECENT":
			ss.putInt(ss.countRecent(m))
		case "UIDNEXT":
			ss.putInt(int64(m.UIDNext))
		case "UIDVALIDITY":
			ss.putInt(int64(m.UIDValidity))
		case "UNSEEN":
			ss.putInt(int64(m.Unseen))
		case "SIZE":
			ss.putInt(m.Size)
		case "DELETED":
			ss.putInt(int64(m.Deleted))
		case "APPENDLIMIT":
			ss.putInt(ss.appendLimit())
		case "HIGHESTMODSEQ":
			ss.putInt(int64(m.HighestModSeq))
		case "MAILBOXID":
			ss.put("(", objectID(m.GUID), ")")
		}
	}
	ss.put(")\r\n")
}

// countRecent counts the messages that no session was told of.
func (ss *session) countRecent(m *model.Mailbox) (n int64) {
	from := ss.srv.views.RecentFrom(m)
	if from <= 1 {
		return int64(m.Messages)
	}
	if from >= m.UIDNext {
		return 0
	}
	_, err := ss.srv.Store.View(m.ID, from, m.UIDNext-1, func(*model.MessageState) bool {
		n++
		return true
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		ss.log.Warn("recent messages not counted", "err", err)
	}
	return n
}
