package imapd

import (
	"errors"
	"slices"
	"strings"
	"time"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	fts "mailplusd/mail/search"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
	"mailplusd/mail/view"
)

// doSearch is SEARCH, with RETURN (RFC 4731, RFC 5182) and the answer that IMAP4rev2 wants.
func (ss *session) doSearch(p *imapparse.Parser, uid bool) error {
	ret, err := p.Return()
	if err != nil {
		return usual(err)
	}
	key, cs, err := p.Search()
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return usual(err)
	}
	if cs != "" && ss.has(featUTF8) { // RFC 6855 §3
		return bad{"no CHARSET after ENABLE UTF8=ACCEPT: everything is UTF-8"}
	}
	if ss.has(featRev2) && !ret.Extended {
		ret.Extended, ret.All = true, true
	}
	var found []int
	var modseq uint64
	if err = charsetOK(cs); err == nil {
		found, modseq, err = ss.searchAll(key)
	}
	if err != nil {
		ss.saveNothing(ret)
		return err
	}
	if ret.Save {
		ss.save(found, ret)
	}
	if ret.Extended {
		ss.putExtended(found, ret, uid, modseq)
	} else {
		ss.put("* SEARCH")
		ss.putNumbers(found, uid)
		if modseq > 0 && len(found) > 0 {
			ss.put(" (MODSEQ ")
			ss.putInt(int64(modseq))
			ss.put(")")
		}
		ss.put("\r\n")
	}
	return ss.announce(uid)
}

func charsetOK(cs string) error {
	if cs != "" && !strings.EqualFold(cs, "UTF-8") && !strings.EqualFold(cs, "US-ASCII") {
		return no{"BADCHARSET (UTF-8 US-ASCII)", "the charset is not supported"}
	}
	return nil
}

// searchAll gives the indexes of what matches, ascending. modseq is the highest of theirs when the
// search asks for mod-sequences, else 0 (RFC 7162 §3.1.5).
func (ss *session) searchAll(key *imapparse.Key) (found []int, modseq uint64, err error) {
	asks := key.Asks("MODSEQ")
	if asks {
		ss.useCondstore()
	}
	s := search{ss: ss, n: len(ss.view.Messages), largest: uint32(ss.view.Largest()), now: time.Now().Unix()}
	defer s.done()
	for i := range ss.view.Messages {
		m := &ss.view.Messages[i]
		if m.Gone {
			continue
		}
		s.load(i, m)
		ok, err := s.match(key)
		if err != nil {
			return nil, 0, err
		}
		if ok {
			found = append(found, i)
			modseq = max(modseq, m.ModSeq)
		}
	}
	if !asks {
		modseq = 0
	}
	return found, modseq, nil
}

// saveNothing is what a SEARCH with SAVE that is answered with NO leaves (RFC 5182 §2.1).
func (ss *session) saveNothing(ret imapparse.Return) {
	if ret.Save {
		ss.saved = nil
	}
}

// save keeps what was found for $: all of it, or with nothing but MIN and MAX those two.
func (ss *session) save(found []int, ret imapparse.Return) {
	ss.saved = make([]model.UID, 0, len(found))
	few := (ret.Min || ret.Max) && !ret.All && !ret.Count
	for k, i := range found {
		if !few || ret.Min && k == 0 || ret.Max && k == len(found)-1 {
			ss.saved = append(ss.saved, ss.view.Messages[i].UID)
		}
	}
}

func (ss *session) number(i int, uid bool) uint32 {
	if uid {
		return uint32(ss.view.Messages[i].UID)
	}
	return uint32(i + 1)
}

func (ss *session) putNumbers(list []int, uid bool) {
	for _, i := range list {
		ss.buf = append(ss.buf, ' ')
		ss.putInt(int64(ss.number(i, uid)))
	}
}

// putExtended writes ESEARCH; for SORT the list is in its order.
func (ss *session) putExtended(list []int, ret imapparse.Return, uid bool, modseq uint64) {
	if !ret.Min && !ret.Max && !ret.All && !ret.Count {
		return // SAVE alone
	}
	ss.put(`* ESEARCH (TAG "`, ss.tag, `")`)
	if uid {
		ss.put(" UID")
	}
	put := func(name string, i int) {
		ss.put(" ", name, " ")
		ss.putInt(int64(ss.number(i, uid)))
	}
	if n := len(list); n > 0 {
		if ret.Min {
			put("MIN", list[0])
		}
		if ret.Max {
			put("MAX", list[n-1])
		}
		if ret.All {
			ss.put(" ALL ")
			var w setWriter
			for _, i := range list {
				ss.buf = w.add(ss.buf, ss.number(i, uid))
			}
			ss.buf = w.end(ss.buf)
		}
		if modseq > 0 {
			if few := (ret.Min || ret.Max) && !ret.All && !ret.Count; few { // of those named only
				modseq = 0
				if ret.Min {
					modseq = ss.view.Messages[list[0]].ModSeq
				}
				if ret.Max {
					modseq = max(modseq, ss.view.Messages[list[n-1]].ModSeq)
				}
			}
			ss.put(" MODSEQ ")
			ss.putInt(int64(modseq))
		}
	}
	if ret.Count {
		ss.put(" COUNT ")
		ss.putInt(int64(len(list)))
	}
	ss.put("\r\n")
}

// search is one SEARCH under way; a message's text is read only for keys that need it.
type search struct {
	ss      *session
	n       int
	largest uint32
	now     int64
	sets    map[*imapparse.Key]uidRanges
	needles map[*imapparse.Key]string // folded
	i       int
	m       *view.Message
	o       *opened        // the message in hand, nil: not yet
	words   *message.Words // of it, nil: not yet
	metas   metas
	found   map[*imapparse.Key]*fts.Found
}

func (s *search) load(i int, m *view.Message) {
	s.done()
	s.i, s.m, s.words = i, m, nil
}

// done lets go of the message in hand.
func (s *search) done() {
	if s.o != nil {
		s.o.close()
		s.o = nil
	}
}

// open maps and parses the message: a large one is never held in memory. A message that is gone or
// damaged matches nothing.
func (s *search) open() (bool, error) {
	if s.o != nil {
		return true, nil
	}
	if err := s.ss.ctx.Err(); err != nil { // nobody waits for what may take minutes
		return false, err
	}
	f := fetch{ss: s.ss, body: true}
	o, err := f.open(s.m.UID)
	if err == nil {
		if _, _, err = o.parsed(); err != nil {
			o.close()
		}
	}
	var ce *segment.CorruptError
	switch {
	case errors.Is(err, store.ErrNotFound), errors.As(err, &ce), errors.Is(err, segment.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	s.o = o
	return true, nil
}

var flagKeys = map[string]struct {
	bit model.Flags
	on  bool
}{
	"ANSWERED": {model.FlagAnswered, true}, "DELETED": {model.FlagDeleted, true}, "DRAFT": {model.FlagDraft, true}, "FLAGGED": {model.FlagFlagged, true}, "SEEN": {model.FlagSeen, true},
	"UNANSWERED": {model.FlagAnswered, false}, "UNDELETED": {model.FlagDeleted, false}, "UNDRAFT": {model.FlagDraft, false}, "UNFLAGGED": {model.FlagFlagged, false}, "UNSEEN": {model.FlagSeen, false},
}

func (s *search) match(k *imapparse.Key) (bool, error) {
	if f, ok := flagKeys[k.Name]; ok {
		return s.m.Flags&f.bit != 0 == f.on, nil
	}
	switch k.Name {
	case "ALL":
		return true, nil
	case "AND":
		for _, sub := range k.Keys {
			if ok, err := s.match(sub); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	case "OR":
		if ok, err := s.match(k.Keys[0]); ok || err != nil {
			return ok, err
		}
		return s.match(k.Keys[1])
	case "NOT":
		ok, err := s.match(k.Keys[0])
		return !ok, err
	case "SET":
		if k.Set.Saved() {
			return s.saved(), nil
		}
		return s.inSet(k, uint32(s.n), uint32(s.i+1)), nil
	case "UID":
		if k.Set.Saved() {
			return s.saved(), nil
		}
		return s.inSet(k, s.largest, uint32(s.m.UID)), nil
	case "RECENT":
		return s.recent(), nil
	case "OLD":
		return !s.recent(), nil
	case "NEW":
		return s.recent() && s.m.Flags&model.FlagSeen == 0, nil
	case "EMAILID":
		return s.emailID(k.Text)
	case "THREADID": // nothing has one
		return false, nil
	case "OLDER":
		return s.m.Date <= s.now-int64(k.Num), nil
	case "YOUNGER":
		return s.m.Date >= s.now-int64(k.Num), nil
	case "MODSEQ":
		return s.m.ModSeq >= k.Mod, nil
	case "KEYWORD", "UNKEYWORD":
		return s.keyword(k.Text) == (k.Name == "KEYWORD"), nil
	case "LARGER":
		return s.m.Size > int64(k.Size), nil
	case "SMALLER":
		return s.m.Size < int64(k.Size), nil
	case "BEFORE", "ON", "SINCE":
		return compareDay(k.Name, time.Unix(s.m.Date, 0).UTC(), k.Date), nil
	}
	return s.matchText(k)
}

// inSet resolves a key's set once: it may have thousands of parts.
func (s *search) inSet(k *imapparse.Key, largest, n uint32) bool {
	r, ok := s.sets[k]
	if !ok {
		if s.sets == nil {
			s.sets = map[*imapparse.Key]uidRanges{}
		}
		r = newRanges(k.Set, largest)
		s.sets[k] = r
	}
	return r.has(n)
}

func (s *search) saved() bool {
	_, ok := slices.BinarySearch(s.ss.saved, s.m.UID)
	return ok
}

func (s *search) recent() bool { return !s.ss.has(featRev2) && s.ss.view.Recent(s.m.UID) }

func (s *search) keyword(name string) bool {
	i := slices.IndexFunc(s.ss.view.Mailbox.Keywords, func(k string) bool { return strings.EqualFold(k, name) })
	return i >= 0 && slices.Contains(s.m.Keywords(), uint16(i))
}

// compareDay compares dates without time and zone (RFC 3501 §6.4.4).
func compareDay(key string, at, day time.Time) bool {
	y, m, d := at.Date()
	date := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	switch strings.TrimPrefix(key, "SENT") {
	case "BEFORE":
		return date.Before(day)
	case "SINCE":
		return !date.Before(day)
	}
	return date.Equal(day)
}
