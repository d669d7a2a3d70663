package imapd

import (
	"errors"
	"strconv"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
)

// doCopy is COPY and MOVE (RFC 6851).
func (ss *session) doCopy(p *imapparse.Parser, uid, move bool) error {
	set, err := p.Set()
	if err == nil {
		err = p.Space()
	}
	if err != nil {
		return usual(err)
	}
	name, err := ss.mailboxName(p)
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
		all.UIDValidity, all.ModSeq = out.UIDValidity, out.ModSeq
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
		if err := ss.announce(true); err != nil {
			return err
		}
		return ss.expungedText("MOVE", all.ModSeq)
	}
	if err := ss.announce(uid); err != nil {
		return err
	}
	return selectDone{code + "COPY completed"}
}

// copyBatch keeps a COPY whole for as many messages as an entry holds.
const copyBatch = 50_000
