package imapd

import (
	"slices"
	"strings"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/view"
)

// splitFlags separates system flags from keywords; unknown flags with a backslash are refused.
func splitFlags(list []string) (f model.Flags, words []string, err error) {
next:
	for _, s := range list {
		if strings.EqualFold(s, `\Recent`) {
			continue // the server's own
		}
		for _, sys := range model.SystemFlags {
			if strings.EqualFold(s, sys.Name) {
				f |= sys.Bit
				continue next
			}
		}
		if strings.HasPrefix(s, `\`) {
			return 0, nil, bad{"unknown flag " + s}
		}
		if !slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, s) }) {
			words = append(words, s)
		}
	}
	return f, words, nil
}

func (ss *session) doStore(p *imapparse.Parser, uid bool) error {
	set, err := p.Set()
	if err == nil {
		err = p.Space()
	}
	var since *uint64
	if err == nil {
		since, err = p.UnchangedSince()
	}
	if err != nil {
		return usual(err)
	}
	op, silent, err := storeArgs(p)
	if err != nil {
		return err
	}
	if ss.readOnly {
		return errReadOnly
	}
	list, err := ss.messages(set, uid)
	if err != nil {
		return err
	}
	if since != nil {
		ss.useCondstore()
	}
	s := storing{ss: ss, op: op, list: list, silent: silent, uid: uid}
	s.op.Mailbox, s.op.UnchangedSince = ss.view.Mailbox.ID, since
	if silent {
		s.before = make([]view.Message, len(list))
		for k, i := range list {
			s.before[k] = ss.view.Messages[i]
		}
	}
	conflict, err := s.change()
	if err != nil {
		return err
	}
	if err := s.answer(conflict); err != nil {
		return err
	}
	if uid {
		if err := ss.announce(true); err != nil {
			return err
		}
	}
	if len(conflict) > 0 {
		return selectDone{"[MODIFIED " + ss.numbers(conflict, list, uid) + "] others have changed these messages"}
	}
	return nil
}

// storing is one STORE under way.
type storing struct {
	ss          *session
	op          state.SetFlags
	list        []int          // indexes of the messages
	before      []view.Message // the same, as the client knows them; when silent
	silent, uid bool
}

// change does it, as one entry in the log if it can; conflict is what others have changed (RFC 7162 §3.1.3).
func (s *storing) change() (conflict []model.UID, err error) {
	uids := s.ss.uidsOf(s.list)
	for len(uids) > 0 {
		n := min(len(uids), batch)
		s.op.UIDs = uids[:n]
		out, err := s.ss.srv.Store.SetFlags(s.ss.ctx, s.op)
		if err != nil {
			return nil, err
		}
		conflict = append(conflict, out.Conflict...)
		uids = uids[n:]
	}
	return conflict, nil
}

// answer names every message with its flags; a silent STORE only those that are not as the
// client must expect them, and with CONDSTORE the new mod-sequences.
func (s *storing) answer(conflict []model.UID) error {
	ss := s.ss
	u, err := ss.view.Poll(false)
	if err != nil {
		return err
	}
	if u.Gone {
		return ss.tell(&u, nil)
	}
	if u.Keywords {
		ss.putFlagList()
		u.Keywords = false
	}
	want := s.expectation()
	for k, i := range s.list {
		m := &ss.view.Messages[i]
		changed := len(conflict) > 0 && conflict[0] == m.UID
		if changed {
			conflict = conflict[1:]
		}
		switch {
		case m.Gone:
			continue
		case changed:
			ss.putFlagsOf(i, s.uid) // so that the client knows what is there now
		case !s.silent || !want.met(&s.before[k], m):
			ss.putFlagsOf(i, s.uid)
		case ss.has(featCondstore):
			ss.put("* ")
			ss.putInt(int64(i + 1))
			ss.put(" FETCH (UID ")
			ss.putInt(int64(m.UID))
			ss.put(" ")
			ss.putModSeq(m)
			ss.put(")\r\n")
		}
		if err := ss.sendFull(); err != nil {
			return err
		}
	}
	rest := s.list
	return ss.tell(&u, func(i int) bool { // both ascend
		for len(rest) > 0 && rest[0] < i {
			rest = rest[1:]
		}
		return len(rest) > 0 && rest[0] == i
	})
}

// numbers writes UIDs of messages of a list as the client named them.
func (ss *session) numbers(uids []model.UID, list []int, uid bool) string {
	if uid {
		return uidSet(uids)
	}
	var w setWriter
	var b []byte
	for _, i := range list {
		if len(uids) > 0 && ss.view.Messages[i].UID == uids[0] {
			uids = uids[1:]
			b = w.add(b, uint32(i+1))
		}
	}
	return string(w.end(b))
}

// expectation is what flags a silent STORE leads to when nobody else changes them.
type expectation struct {
	mode  state.FlagMode
	flags model.Flags
	words []uint16 // ascending
}

func (s *storing) expectation() expectation {
	e := expectation{mode: s.op.Mode, flags: s.op.Flags}
	for _, name := range s.op.Keywords {
		if i := slices.IndexFunc(s.ss.view.Mailbox.Keywords, func(k string) bool { return strings.EqualFold(k, name) }); i >= 0 {
			e.words = append(e.words, uint16(i))
		}
	}
	slices.Sort(e.words)
	return e
}

func (e *expectation) met(before, now *view.Message) bool {
	in := func(list []uint16, w uint16) bool { return slices.Contains(list, w) }
	switch e.mode {
	case state.FlagsAdd:
		return now.Flags == before.Flags|e.flags &&
			all(before.Keywords(), func(w uint16) bool { return in(now.Keywords(), w) }) && all(e.words, func(w uint16) bool { return in(now.Keywords(), w) }) &&
			all(now.Keywords(), func(w uint16) bool { return in(before.Keywords(), w) || in(e.words, w) })
	case state.FlagsRemove:
		return now.Flags == before.Flags&^e.flags &&
			all(now.Keywords(), func(w uint16) bool { return in(before.Keywords(), w) && !in(e.words, w) }) &&
			all(before.Keywords(), func(w uint16) bool { return in(now.Keywords(), w) || in(e.words, w) })
	}
	return now.Flags == e.flags && slices.Equal(now.Keywords(), e.words)
}

func all(list []uint16, ok func(uint16) bool) bool {
	for _, w := range list {
		if !ok(w) {
			return false
		}
	}
	return true
}

func (ss *session) uidsOf(list []int) []model.UID {
	out := make([]model.UID, 0, len(list))
	for _, i := range list {
		if m := &ss.view.Messages[i]; !m.Gone {
			out = append(out, m.UID)
		}
	}
	return out
}

// storeArgs reads [+-]FLAGS[.SILENT] and the flags.
func storeArgs(p *imapparse.Parser) (op state.SetFlags, silent bool, err error) {
	word, err := p.Atom()
	if err != nil {
		return op, false, usual(err)
	}
	word, silent = strings.CutSuffix(strings.ToUpper(word), ".SILENT")
	switch word {
	case "FLAGS":
		op.Mode = state.FlagsSet
	case "+FLAGS":
		op.Mode = state.FlagsAdd
	case "-FLAGS":
		op.Mode = state.FlagsRemove
	default:
		return op, false, bad{"FLAGS, +FLAGS or -FLAGS expected"}
	}
	if err := p.Space(); err != nil {
		return op, false, usual(err)
	}
	var list []string
	if p.Peek() == '(' {
		list, err = p.Flags()
	} else {
		for err == nil {
			var f string
			if f, err = p.Flag(); err == nil {
				list = append(list, f)
				if !p.More() {
					break
				}
				err = p.Space()
			}
		}
	}
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return op, false, usual(err)
	}
	op.Flags, op.Keywords, err = splitFlags(list)
	return op, silent, err
}
