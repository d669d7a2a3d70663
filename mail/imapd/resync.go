package imapd

import (
	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
)

// resync tells a client that comes back what has changed since a mod-sequence: VANISHED
// (EARLIER), then the flags of new and changed messages (RFC 7162 §3.2.5).
func (ss *session) resync(q *imapparse.Qresync) error {
	known := uidRanges{{1, 1<<32 - 1}}
	if q.Known != nil {
		known = newRanges(q.Known, 0)
	}
	if err := ss.vanishedEarlier(q.ModSeq, known, ss.matched(q)); err != nil {
		return err
	}
	for i := range ss.view.Messages {
		m := &ss.view.Messages[i]
		if m.ModSeq <= q.ModSeq || !known.has(uint32(m.UID)) {
			continue
		}
		ss.putFlagsOf(i, true)
		if err := ss.sendFull(); err != nil {
			return err
		}
	}
	return nil
}

// matched gives the highest UID up to which the client's pairs of sequence number and UID are
// still right, so that nothing below was expunged (RFC 7162 §3.2.5.2); 0 when it gave none.
func (ss *session) matched(q *imapparse.Qresync) model.UID {
	var out model.UID
	seqs, uids := newCursor(q.Seqs), newCursor(q.SeqUIDs)
	for range maxPairs {
		seq, ok1 := seqs.next()
		uid, ok2 := uids.next()
		if !ok1 || !ok2 || int64(seq) > int64(len(ss.view.Messages)) || uint32(ss.view.Messages[seq-1].UID) != uid {
			break
		}
		out = model.UID(uid)
	}
	return out
}

const maxPairs = 100_000

// cursor gives the numbers of a set one by one, in the set's order.
type cursor struct {
	set imapparse.Set
	at  uint64
}

func newCursor(s imapparse.Set) *cursor { return &cursor{set: s} }

func (c *cursor) next() (uint32, bool) {
	if len(c.set) == 0 {
		return 0, false
	}
	r := c.set[0]
	from, to := min(r.From, r.To), max(r.From, r.To)
	n := uint64(from) + c.at
	if c.at++; n == uint64(to) {
		c.set, c.at = c.set[1:], 0
	}
	return uint32(n), true
}

// vanishedEarlier lists what was expunged since a mod-sequence and is in known. When some of
// that is forgotten, it lists every UID that the mailbox doesn't have (any more); UIDs up to
// matched are known to be there then.
func (ss *session) vanishedEarlier(since uint64, known uidRanges, matched model.UID) error {
	v := ss.view
	uids, ok, err := ss.srv.Store.Expunged(v.Mailbox.ID, since, v.ModSeq())
	if err != nil {
		return err
	}
	mark := len(ss.buf)
	ss.put("* VANISHED (EARLIER) ")
	start := len(ss.buf)
	var set setWriter
	if ok {
		for _, u := range uids {
			if _, here := v.Index(u); !here && known.has(uint32(u)) {
				ss.buf = set.add(ss.buf, uint32(u))
			}
		}
		ss.buf = set.end(ss.buf)
	} else {
		ss.buf = ss.missing(ss.buf, known, matched)
	}
	if len(ss.buf) == start {
		ss.buf = ss.buf[:mark]
		return nil
	}
	ss.put("\r\n")
	return ss.sendFull()
}

// missing writes the UIDs of known that aren't in the view, above a UID and below UIDNEXT.
func (ss *session) missing(b []byte, known uidRanges, above model.UID) []byte {
	v := ss.view
	first := true
	hole := func(from, to uint32) {
		if from > to {
			return
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		w := setWriter{from: from, to: to, any: true}
		b = w.end(b)
	}
	for _, r := range known {
		from, to := max(r[0], uint32(above)+1), min(r[1], uint32(v.Mailbox.UIDNext)-1)
		if from > to {
			continue
		}
		i, _ := v.Index(model.UID(from))
		for ; i < len(v.Messages) && uint32(v.Messages[i].UID) <= to; i++ {
			hole(from, uint32(v.Messages[i].UID)-1)
			from = uint32(v.Messages[i].UID) + 1
		}
		if from != 0 {
			hole(from, to)
		}
	}
	return b
}
