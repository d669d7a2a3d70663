package imapd

import (
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/view"
)

// announce tells what has changed since the last time.
func (ss *session) announce(expunge bool) error {
	if ss.view == nil {
		return nil
	}
	u, err := ss.view.Poll(expunge)
	if err != nil {
		return err
	}
	return ss.tell(&u, nil)
}

// tell writes an update; messages for which skip is true are answered elsewhere.
func (ss *session) tell(u *view.Update, skip func(i int) bool) error {
	if u.Gone {
		ss.put("* BYE the mailbox was deleted\r\n")
		ss.bye = true
		return nil
	}
	if err := ss.tellExpunged(u.Expunged); err != nil {
		return err
	}
	if u.Keywords {
		ss.putFlagList()
	}
	if u.Exists {
		ss.putCount(len(ss.view.Messages), "EXISTS")
		ss.putRecent()
	}
	for _, c := range u.Changed {
		if !c.Flags && !ss.has(featCondstore) || skip != nil && skip(c.Index) {
			continue
		}
		ss.putFlagsOf(c.Index, false)
		if err := ss.sendFull(); err != nil {
			return err
		}
	}
	return nil
}

// tellExpunged writes EXPUNGE lines, or VANISHED to a client that wants it (RFC 7162 §3.2.10).
func (ss *session) tellExpunged(list []view.Expunged) error {
	if len(list) == 0 {
		return nil
	}
	if ss.has(featQresync) {
		ss.put("* VANISHED ")
		var set setWriter
		for _, e := range list {
			ss.buf = set.add(ss.buf, uint32(e.UID))
		}
		ss.buf = set.end(ss.buf)
		ss.put("\r\n")
		return nil
	}
	for _, e := range list {
		ss.putCount(e.Seq, "EXPUNGE")
		if err := ss.sendFull(); err != nil {
			return err
		}
	}
	return nil
}

// sendFull hands the answer over when it has become large.
func (ss *session) sendFull() error {
	if len(ss.buf) > sendAt {
		if err := ss.send(); err != nil {
			return &connError{err}
		}
	}
	return nil
}

func (ss *session) putCount(n int, what string) {
	ss.put("* ")
	ss.putInt(int64(n))
	ss.put(" ", what, "\r\n")
}

// putRecent counts recent messages for clients of rev1; rev2 has none (RFC 9051 appendix E).
func (ss *session) putRecent() {
	if !ss.has(featRev2) {
		ss.putCount(ss.view.CountRecent(), "RECENT")
	}
}

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

// putFlagsOf writes an untagged FETCH with the flags of a message, and what the client has asked
// to be told with them: the UID (always allowed) and the mod-sequence.
func (ss *session) putFlagsOf(i int, uid bool) {
	m := &ss.view.Messages[i]
	ss.put("* ")
	ss.putInt(int64(i + 1))
	ss.put(" FETCH (")
	if uid || ss.has(featCondstore|featRev2) {
		ss.put("UID ")
		ss.putInt(int64(m.UID))
		ss.put(" ")
	}
	ss.putFlags(m)
	if ss.has(featCondstore) {
		ss.put(" ")
		ss.putModSeq(m)
	}
	ss.put(")\r\n")
}

func (ss *session) putModSeq(m *view.Message) {
	ss.put("MODSEQ (")
	ss.putInt(int64(m.ModSeq))
	ss.put(")")
}

// putFlags writes FLAGS (…), canonical.
func (ss *session) putFlags(m *view.Message) {
	b := append(ss.buf, "FLAGS ("...)
	start := len(b)
	for _, f := range model.SystemFlags {
		if m.Flags&f.Bit != 0 {
			b = append(append(b, f.Name...), ' ')
		}
	}
	if !ss.has(featRev2) && ss.view.Recent(m.UID) {
		b = append(b, `\Recent `...)
	}
	for _, k := range m.Keywords() {
		if int(k) < len(ss.view.Mailbox.Keywords) {
			b = append(append(b, ss.view.Mailbox.Keywords[k]...), ' ')
		}
	}
	if len(b) > start {
		b = b[:len(b)-1]
	}
	ss.buf = append(b, ')')
}

// appendDate writes a date-time (RFC 3501 §9) in UTC; time's own way of it costs four times as much.
func appendDate(b []byte, unix int64) []byte {
	at := time.Unix(unix, 0).UTC()
	y, m, d := at.Date()
	if y < 1 || y > 9999 {
		return at.AppendFormat(b, "02-Jan-2006 15:04:05 -0700")
	}
	hh, mm, ss := at.Clock()
	two := func(n int) { b = append(b, byte('0'+n/10), byte('0'+n%10)) }
	two(d)
	b = append(append(append(b, '-'), m.String()[:3]...), '-')
	two(y / 100)
	two(y % 100)
	b = append(b, ' ')
	two(hh)
	b = append(b, ':')
	two(mm)
	b = append(b, ':')
	two(ss)
	return append(b, " +0000"...)
}
