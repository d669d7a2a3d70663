package imapd

import (
	"context"
	"strconv"
	"time"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/view"
)

func (ss *session) putInt(n int64) { ss.buf = strconv.AppendInt(ss.buf, n, 10) }

// doSelect is SELECT and EXAMINE, with the parameters of RFC 7162.
func (ss *session) doSelect(p *imapparse.Parser, readOnly bool) error {
	name, err := ss.mailboxName(p)
	if err != nil {
		return err
	}
	args, err := p.Select()
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return usual(err)
	}
	if args.Qresync != nil && !ss.has(featQresync) {
		return bad{"ENABLE QRESYNC comes first"} // RFC 7162 §3.2.5
	}
	if ss.view != nil {
		ss.closeView()
		ss.put("* OK [CLOSED] the mailbox before is closed\r\n")
	}
	if args.Condstore {
		ss.enabled |= featCondstore
	}
	if err := ss.fresh(); err != nil {
		return err
	}
	m, err := ss.srv.Store.Mailbox(ss.account.ID, name)
	if err != nil {
		return err
	}
	v, err := ss.srv.views.Open(ss.srv.Store, m, readOnly)
	if err != nil {
		return err
	}
	ss.view, ss.readOnly, ss.saved = v, readOnly, nil
	ss.putOpened(name)
	if q := args.Qresync; q != nil && q.UIDValidity == v.Mailbox.UIDValidity {
		if err := ss.resync(q); err != nil {
			return err
		}
	}
	if readOnly {
		return selectDone{"[READ-ONLY] EXAMINE completed"}
	}
	ss.recordSeen(ss.ctx, v)
	return selectDone{"[READ-WRITE] SELECT completed"}
}

// putOpened describes the mailbox that was selected.
func (ss *session) putOpened(name string) {
	v := ss.view
	ss.putFlagList()
	ss.putCount(len(v.Messages), "EXISTS")
	ss.putRecent()
	if ss.has(featRev2) {
		ss.put(`* LIST () "/" `, ss.quote(name), "\r\n") // RFC 9051 §6.3.2
	} else if n := v.FirstUnseen(); n > 0 {
		ss.put("* OK [UNSEEN ")
		ss.putInt(int64(n))
		ss.put("] first unseen message\r\n")
	}
	ss.put("* OK [UIDVALIDITY ")
	ss.putInt(int64(v.Mailbox.UIDValidity))
	ss.put("] UIDs are valid\r\n* OK [UIDNEXT ")
	ss.putInt(int64(v.Mailbox.UIDNext))
	ss.put("] predicted next UID\r\n* OK [MAILBOXID (", objectID(v.Mailbox.GUID), ")] is its name for ever\r\n")
	ss.putHighest()
}

func (ss *session) putHighest() {
	ss.put("* OK [HIGHESTMODSEQ ")
	ss.putInt(int64(ss.view.Told()))
	ss.put("] highest mod-sequence\r\n")
}

// useCondstore turns CONDSTORE on for a client that uses a part of it (RFC 7162 §3.1).
func (ss *session) useCondstore() {
	if ss.has(featCondstore) {
		return
	}
	ss.enabled |= featCondstore
	if ss.view != nil {
		ss.putHighest()
	}
}

// selectDone carries the text of the tagged answer.
type selectDone struct{ text string }

func (s selectDone) Error() string { return s.text }

// closeView leaves the mailbox. That its messages are no longer \Recent is noted for good.
func (ss *session) closeView() {
	v := ss.view
	ss.view, ss.saved = nil, nil
	if v == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ss.ctx), closeTimeout)
	defer cancel()
	ss.recordSeen(ctx, v)
}

// closeTimeout bounds the last words of a session whose client may be gone.
const closeTimeout = 5 * time.Second

func (ss *session) recordSeen(ctx context.Context, v *view.View) {
	below := v.Unrecorded()
	if below == 0 {
		return
	}
	if err := ss.srv.Store.Seen(ctx, v.Mailbox.ID, below); err != nil {
		ss.log.Warn("recent messages not recorded", "err", err)
		return
	}
	v.Recorded(below)
}

func (ss *session) doNoop() error {
	if ss.view == nil {
		return nil
	}
	if err := ss.fresh(); err != nil {
		return err
	}
	return ss.announce(true)
}

func (ss *session) doUnselect() error {
	ss.closeView()
	return nil
}

// doClose expunges silently (RFC 3501 §6.4.2). A client that resynchronises is told to ask from the
// last thing on that it was told, when others have changed something meanwhile.
func (ss *session) doClose() error {
	v := ss.view
	told := v.Told()
	ss.closeView()
	if ss.readOnly {
		return nil
	}
	if _, err := v.Poll(false); err != nil {
		return err
	}
	modseq, entries, err := ss.expungeBatches(v, deletedUIDs(v, nil))
	if err != nil || modseq == 0 {
		return err
	}
	if modseq != told+entries {
		modseq = told
	}
	return ss.expungedText("CLOSE", modseq)
}

// expungedText is OK with the new mod-sequence for those who resynchronise (RFC 7162 §3.2.7 and 3.2.8).
func (ss *session) expungedText(name string, modseq uint64) error {
	if !ss.has(featQresync) || modseq == 0 {
		return nil
	}
	return selectDone{"[HIGHESTMODSEQ " + strconv.FormatUint(modseq, 10) + "] " + name + " completed"}
}

func deletedUIDs(v *view.View, in func(model.UID) bool) (out []model.UID) {
	for i := range v.Messages {
		m := &v.Messages[i]
		if m.Flags&model.FlagDeleted != 0 && !m.Gone && (in == nil || in(m.UID)) {
			out = append(out, m.UID)
		}
	}
	return out
}

// batch bounds the messages that one entry changes.
const batch = 25_000

// expungeBatches removes messages that are still \Deleted and gives the last mod-sequence, 0 when
// there were none, and how many mod-sequences it took.
func (ss *session) expungeBatches(v *view.View, uids []model.UID) (modseq, entries uint64, err error) {
	for len(uids) > 0 {
		n := min(len(uids), batch)
		out, err := ss.srv.Store.Expunge(ss.ctx, state.Expunge{Mailbox: v.Mailbox.ID, UIDs: uids[:n], OnlyDeleted: true})
		if err != nil {
			return modseq, entries, err
		}
		if out.ModSeq > 0 {
			modseq, entries = out.ModSeq, entries+1
		}
		uids = uids[n:]
	}
	return modseq, entries, nil
}

var errReadOnly = no{"READ-ONLY", "the mailbox was opened with EXAMINE"}

// doExpunge is EXPUNGE, and with p UID EXPUNGE (RFC 4315).
func (ss *session) doExpunge(p *imapparse.Parser) error {
	name := "EXPUNGE"
	var in func(model.UID) bool
	if p != nil {
		set, err := p.Set()
		if err == nil {
			err = p.End()
		}
		if err != nil {
			return usual(err)
		}
		name, in = "UID EXPUNGE", ss.uidFilter(set)
	}
	if ss.readOnly {
		return errReadOnly
	}
	if err := ss.announce(true); err != nil || ss.bye {
		return err
	}
	modseq, _, err := ss.expungeBatches(ss.view, deletedUIDs(ss.view, in))
	if err != nil {
		return err
	}
	if err := ss.announce(true); err != nil || modseq == 0 {
		return err
	}
	return ss.expungedText(name, ss.view.ModSeq())
}
