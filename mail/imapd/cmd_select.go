package imapd

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/view"
)

func (ss *session) putInt(n int64) { ss.buf = strconv.AppendInt(ss.buf, n, 10) }

func (ss *session) doSelect(p *imapparse.Parser, readOnly bool) error {
	if ss.view != nil {
		ss.view = nil
		ss.put("* OK [CLOSED] the mailbox before is closed\r\n")
	}
	m, err := ss.find(p)
	if err != nil {
		return err
	}
	if err := p.End(); err != nil {
		return usual(err)
	}
	v, err := view.Open(ss.srv.Store, m, readOnly)
	if err != nil {
		return err
	}
	ss.view, ss.readOnly = v, readOnly
	ss.putFlagList()
	ss.put("* ")
	ss.putInt(int64(len(v.Messages)))
	ss.put(" EXISTS\r\n* ")
	ss.putInt(int64(v.Recent()))
	ss.put(" RECENT\r\n")
	if n := v.FirstUnseen(); n > 0 {
		ss.put("* OK [UNSEEN ")
		ss.putInt(int64(n))
		ss.put("] first unseen message\r\n")
	}
	ss.put("* OK [UIDVALIDITY ")
	ss.putInt(int64(v.Mailbox.UIDValidity))
	ss.put("] UIDs are valid\r\n* OK [UIDNEXT ")
	ss.putInt(int64(v.Mailbox.UIDNext))
	ss.put("] predicted next UID\r\n")
	if readOnly {
		return ss.finishSelect("[READ-ONLY] EXAMINE completed")
	}
	if v.Mailbox.UIDNext > v.Mailbox.RecentFloor {
		if err := ss.srv.Store.Seen(ss.ctx, m.ID, v.Mailbox.UIDNext); err != nil {
			ss.log.Warn("recent messages not recorded", "err", err)
		}
	}
	return ss.finishSelect("[READ-WRITE] SELECT completed")
}

// selectDone carries the text of the tagged answer.
type selectDone struct{ text string }

func (s selectDone) Error() string { return s.text }

func (ss *session) finishSelect(text string) error { return selectDone{text} }

// putFlagList announces the flags in use and that new keywords are welcome.
func (ss *session) putFlagList() {
	ss.put(`* FLAGS (\Answered \Flagged \Deleted \Seen \Draft`)
	for _, k := range ss.view.Mailbox.Keywords {
		ss.put(" ", k)
	}
	ss.put(")\r\n")
	if ss.readOnly {
		ss.put("* OK [PERMANENTFLAGS ()] nothing can be changed\r\n")
		return
	}
	ss.put(`* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft`)
	for _, k := range ss.view.Mailbox.Keywords {
		ss.put(" ", k)
	}
	ss.put(` \*)] limited only by their number`, "\r\n")
}

// announce tells what has changed since the last time.
func (ss *session) announce(expunge bool) error {
	if ss.view == nil {
		return nil
	}
	u, err := ss.view.Poll(expunge)
	if err != nil {
		return err
	}
	if u.Gone {
		ss.put("* BYE the mailbox was deleted\r\n")
		ss.bye = true
		return nil
	}
	for _, n := range u.Expunged {
		ss.put("* ")
		ss.putInt(int64(n))
		ss.put(" EXPUNGE\r\n")
	}
	if u.Keywords {
		ss.putFlagList()
	}
	if u.Exists {
		ss.put("* ")
		ss.putInt(int64(len(ss.view.Messages)))
		ss.put(" EXISTS\r\n* ")
		ss.putInt(int64(ss.view.Recent()))
		ss.put(" RECENT\r\n")
	}
	for _, i := range u.Flags {
		ss.putFlagsOf(i, false)
	}
	return nil
}

// putFlagsOf writes an untagged FETCH with the flags of a message.
func (ss *session) putFlagsOf(i int, uid bool) {
	m := &ss.view.Messages[i]
	ss.put("* ")
	ss.putInt(int64(i + 1))
	ss.put(" FETCH (")
	if uid {
		ss.put("UID ")
		ss.putInt(int64(m.UID))
		ss.put(" ")
	}
	ss.putFlags(m)
	ss.put(")\r\n")
}

// putFlags writes FLAGS (…), canonical.
func (ss *session) putFlags(m *view.Message) {
	ss.put("FLAGS (")
	first := true
	sep := func() {
		if !first {
			ss.buf = append(ss.buf, ' ')
		}
		first = false
	}
	for _, f := range model.SystemFlags {
		if m.Flags&f.Bit != 0 {
			sep()
			ss.buf = append(ss.buf, f.Name...)
		}
	}
	if m.Recent {
		sep()
		ss.put(`\Recent`)
	}
	for _, k := range m.Keywords {
		if int(k) < len(ss.view.Mailbox.Keywords) {
			sep()
			ss.put(ss.view.Mailbox.Keywords[k])
		}
	}
	ss.buf = append(ss.buf, ')')
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
	ss.view = nil
	return nil
}

// doClose expunges silently (RFC 3501 §6.4.2).
func (ss *session) doClose() error {
	v := ss.view
	ss.view = nil
	if ss.readOnly {
		return nil
	}
	if _, err := v.Poll(false); err != nil {
		return err
	}
	return ss.expungeBatches(v, deletedUIDs(v, nil))
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
const batch = 5000

func (ss *session) expungeBatches(v *view.View, uids []model.UID) error {
	for len(uids) > 0 {
		n := min(len(uids), batch)
		if _, err := ss.srv.Store.Expunge(ss.ctx, state.Expunge{Mailbox: v.Mailbox.ID, UIDs: uids[:n], OnlyDeleted: true}); err != nil {
			return err
		}
		uids = uids[n:]
	}
	return nil
}

var errReadOnly = no{"READ-ONLY", "the mailbox was opened with EXAMINE"}

// doExpunge is EXPUNGE, and with p UID EXPUNGE (RFC 4315).
func (ss *session) doExpunge(p *imapparse.Parser) error {
	var in func(model.UID) bool
	if p != nil {
		set, err := p.Set()
		if err == nil {
			err = p.End()
		}
		if err != nil {
			return usual(err)
		}
		in = ss.uidFilter(set)
	}
	if ss.readOnly {
		return errReadOnly
	}
	if err := ss.announce(true); err != nil {
		return err
	}
	if err := ss.expungeBatches(ss.view, deletedUIDs(ss.view, in)); err != nil {
		return err
	}
	return ss.announce(true)
}

func (ss *session) uidFilter(set imapparse.Set) func(model.UID) bool {
	var largest uint32
	if n := len(ss.view.Messages); n > 0 {
		largest = uint32(ss.view.Messages[n-1].UID)
	}
	var ranges [][2]uint32
	set.Bounds(largest, func(from, to uint32) { ranges = append(ranges, [2]uint32{from, to}) })
	return func(u model.UID) bool {
		for _, r := range ranges {
			if uint32(u) >= r[0] && uint32(u) <= r[1] {
				return true
			}
		}
		return false
	}
}

// messages resolves a set to indexes of the view, ascending. A sequence number that doesn't
// exist is an error; a UID that doesn't is passed over (RFC 3501 §6.4.8).
func (ss *session) messages(set imapparse.Set, uid bool) ([]int, error) {
	msgs := ss.view.Messages
	n := len(msgs)
	if n == 0 {
		if uid {
			return nil, nil
		}
		return nil, bad{"the mailbox is empty"}
	}
	largest := uint32(n)
	if uid {
		largest = uint32(msgs[n-1].UID)
	}
	chosen := make([]bool, n)
	count := 0
	var err error
	set.Bounds(largest, func(from, to uint32) {
		lo, hi := int(from)-1, int(to)
		if uid {
			lo, _ = ss.view.Index(model.UID(from))
			hi = lo
			for hi < n && uint32(msgs[hi].UID) <= to {
				hi++
			}
		} else if lo >= n || hi > n {
			err = bad{"there is no such message"}
			return
		}
		for i := lo; i < hi; i++ {
			if !chosen[i] {
				chosen[i] = true
				count++
			}
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]int, 0, count)
	for i, c := range chosen {
		if c {
			out = append(out, i)
		}
	}
	return out, nil
}

// doIdle is RFC 2177: what is pending is told first, then every change as it happens.
func (ss *session) doIdle(tag, text string) error {
	if text != "" {
		return bad{"IDLE takes no arguments"}
	}
	if err := ss.fresh(); err != nil {
		return err
	}
	var w *state.Watch
	if ss.view != nil {
		w = ss.srv.Store.Watch(ss.view.Mailbox.ID)
		defer w.Close()
	}
	ss.put("+ idling\r\n")
	if err := ss.announce(true); err != nil {
		return err
	}
	for {
		if err := ss.send(); err != nil {
			return &connError{err}
		}
		if err := ss.c.Flush(); err != nil {
			return &connError{err}
		}
		if ss.bye {
			return errTagged
		}
		ss.buf = nil // an idle session keeps as little as it can
		ready, err := ss.waitLine(w)
		if err != nil {
			return &connError{err}
		}
		if ready {
			line, err := ss.c.ReadLine(maxLine)
			if err != nil {
				return &connError{err}
			}
			if !strings.EqualFold(string(bytes.TrimSpace(line)), "DONE") {
				return bad{"DONE expected"}
			}
			return nil
		}
		if err := ss.announce(true); err != nil {
			return err
		}
	}
}

// waitLine waits until the client sends something (true) or the mailbox changes (false).
func (ss *session) waitLine(w *state.Watch) (bool, error) {
	ctx, cancel := context.WithCancel(ss.ctx)
	defer cancel()
	if w != nil {
		w.OnWake(cancel)
		defer w.OnWake(nil)
		select {
		case <-w.C():
			return false, nil
		default:
		}
	}
	err := ss.c.WaitReadable(ctx)
	if err == nil {
		return true, nil
	}
	if errors.Is(err, context.Canceled) && ss.ctx.Err() == nil {
		select {
		case <-w.C():
		default:
		}
		return false, nil
	}
	return false, err
}
