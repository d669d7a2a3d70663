package imapd

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
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
	op.Mailbox = ss.view.Mailbox.ID
	uids := ss.uidsOf(list)
	for len(uids) > 0 {
		n := min(len(uids), batch)
		op.UIDs = uids[:n]
		if _, err := ss.srv.Store.SetFlags(ss.ctx, op); err != nil {
			return err
		}
		uids = uids[n:]
	}
	before := ss.marksOf(list)
	u, err := ss.view.Poll(false)
	if err != nil {
		return err
	}
	if u.Keywords {
		ss.putFlagList()
	}
	mine := make(map[int]bool, len(list))
	for _, i := range list {
		mine[i] = true
	}
	for _, i := range list { // the answer of STORE: every message named, unless silent
		m := &ss.view.Messages[i]
		if m.Gone || silent && ss.expected(before[i], m, op) {
			continue
		}
		ss.putFlagsOf(i, uid)
		if len(ss.buf) > sendAt {
			if err := ss.send(); err != nil {
				return &connError{err}
			}
		}
	}
	if u.Exists {
		ss.put("* ")
		ss.putInt(int64(len(ss.view.Messages)))
		ss.put(" EXISTS\r\n")
	}
	for _, i := range u.Flags {
		if !mine[i] {
			ss.putFlagsOf(i, uid)
		}
	}
	if uid {
		return ss.announce(true)
	}
	return nil
}

// marks are the flags and keywords of a message.
type marks struct {
	flags model.Flags
	words []uint16
}

// expected tells whether a message has what a silent STORE leads to when nobody else changes it.
func (ss *session) expected(before marks, now *view.Message, op state.SetFlags) bool {
	var arg []uint16
	for _, name := range op.Keywords {
		i := slices.IndexFunc(ss.view.Mailbox.Keywords, func(k string) bool { return strings.EqualFold(k, name) })
		arg = append(arg, uint16(i))
	}
	has := func(list []uint16, w uint16) bool { return slices.Contains(list, w) }
	flags, words := op.Flags, arg
	switch op.Mode {
	case state.FlagsAdd:
		flags, words = before.flags|op.Flags, append(slices.Clone(before.words), arg...)
	case state.FlagsRemove:
		flags = before.flags &^ op.Flags
		words = slices.DeleteFunc(slices.Clone(before.words), func(w uint16) bool { return has(arg, w) })
	}
	return now.Flags == flags && !slices.ContainsFunc(words, func(w uint16) bool { return !has(now.Keywords, w) }) &&
		!slices.ContainsFunc(now.Keywords, func(w uint16) bool { return !has(words, w) })
}

func (ss *session) marksOf(list []int) map[int]marks {
	out := make(map[int]marks, len(list))
	for _, i := range list {
		m := &ss.view.Messages[i]
		out[i] = marks{m.Flags, m.Keywords}
	}
	return out
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

// doCopy is COPY and MOVE (RFC 6851).
func (ss *session) doCopy(p *imapparse.Parser, uid, move bool) error {
	set, err := p.Set()
	if err == nil {
		err = p.Space()
	}
	if err != nil {
		return usual(err)
	}
	name, err := mailboxName(p)
	if err != nil {
		return err
	}
	if err := p.End(); err != nil {
		return usual(err)
	}
	if move && ss.readOnly {
		return errReadOnly
	}
	if err := ss.fresh(); err != nil {
		return err
	}
	to, err := ss.srv.Store.Mailbox(ss.account.ID, name)
	if errors.Is(err, store.ErrNotFound) {
		return no{"TRYCREATE", "there is no such mailbox"}
	}
	if err != nil {
		return err
	}
	list, err := ss.messages(set, uid)
	if err != nil {
		return err
	}
	var all state.Copied
	uids := ss.uidsOf(list)
	for len(uids) > 0 { // one entry each: all or nothing up to this size
		n := min(len(uids), copyBatch)
		out, err := ss.srv.Store.Copy(ss.ctx, state.Copy{From: ss.view.Mailbox.ID, To: to.ID, UIDs: uids[:n], Move: move})
		if err != nil {
			return err
		}
		all.UIDValidity = out.UIDValidity
		all.From, all.To = append(all.From, out.From...), append(all.To, out.To...)
		uids = uids[n:]
	}
	code := ""
	if len(all.From) > 0 {
		code = "[COPYUID " + strconv.FormatUint(uint64(all.UIDValidity), 10) + " " + uidSet(all.From) + " " + uidSet(all.To) + "] "
	}
	if move {
		if code != "" {
			ss.put("* OK ", code, "moved\r\n")
		}
		return ss.announce(true)
	}
	if err := ss.announce(uid); err != nil {
		return err
	}
	return selectDone{code + "COPY completed"}
}

// copyBatch keeps a COPY whole for as many messages as an entry holds.
const copyBatch = 50_000

// uidSet writes UIDs as a set, in their order.
func uidSet(uids []model.UID) string {
	var b []byte
	for i := 0; i < len(uids); {
		j := i
		for j+1 < len(uids) && uids[j+1] == uids[j]+1 {
			j++
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(uids[i]), 10)
		if j > i {
			b = append(b, ':')
			b = strconv.AppendUint(b, uint64(uids[j]), 10)
		}
		i = j + 1
	}
	return string(b)
}
