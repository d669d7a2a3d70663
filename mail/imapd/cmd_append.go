package imapd

import (
	"errors"
	"io"
	"strconv"
	"strings"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
)

// Limits of one APPEND (RFC 3502 lets it bring many messages).
const (
	maxAppend      = 1000    // messages
	maxAppendHeld  = 2 << 20 // octets of them in memory; what is above waits in files
	maxAppendFiles = 64      // files
)

// appending is an APPEND under way: messages stream into spools, none is held in memory as a literal.
type appending struct {
	ss    *session
	box   model.Mailbox
	msgs  []store.NewMessage
	held  int64
	files int
}

// doAppend is APPEND with any number of messages, all or none of which are stored in one entry.
func (ss *session) doAppend(_, text string) error {
	a := appending{ss: ss}
	done := false
	defer func() {
		if !done {
			a.abort()
		}
	}()
	line, err := a.mailbox(text)
	if err != nil {
		return err
	}
	for {
		l, ok := literalAt(line)
		if !ok {
			break
		}
		if line, err = a.message(line, l); err != nil {
			return err
		}
	}
	if len(a.msgs) == 0 || line != "" {
		return bad{"APPEND needs a mailbox and literals"}
	}
	done = true // the store takes the spools
	placed, err := ss.srv.Store.Append(ss.ctx, a.box.ID, a.msgs)
	if err != nil {
		return err
	}
	if err := ss.announce(true); err != nil {
		return err
	}
	uids := make([]model.UID, len(placed))
	for i := range placed {
		uids[i] = placed[i].UID
	}
	return selectDone{"[APPENDUID " + strconv.FormatUint(uint64(placed[0].UIDValidity), 10) + " " + uidSet(uids) + "] APPEND completed"}
}

func (a *appending) abort() {
	for i := range a.msgs {
		a.msgs[i].Spool.Abort()
	}
}

// mailbox reads the mailbox's name, which may be a literal, and gives what stands behind it.
func (a *appending) mailbox(text string) (line string, err error) {
	ss := a.ss
	var raw string
	if l, ok := literalAt(text); ok && !l.binary && text[:l.at] == " " {
		if l.size > maxEarlyLiteral {
			return "", ss.refuse(text, bad{"the mailbox name is too long"})
		}
		lit, next, err := ss.literal(l)
		if err != nil {
			return "", err
		}
		raw, line = string(lit), next
	} else {
		p := imapparse.New(text, nil)
		err := p.Space()
		if err == nil {
			raw, err = p.Mailbox()
		}
		if err != nil {
			return "", ss.refuse(text, usual(err))
		}
		line = p.Rest()
	}
	name, err := ss.decodeName(raw)
	if err == nil {
		err = ss.fresh()
	}
	if err == nil {
		a.box, err = ss.srv.Store.Mailbox(ss.account.ID, name)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = no{"TRYCREATE", "there is no such mailbox"}
	}
	if err != nil {
		return "", ss.refuse(line, err)
	}
	return line, nil
}

// message takes in one message; line announces it, what comes back is the line behind it.
func (a *appending) message(line string, l literal) (next string, err error) {
	ss := a.ss
	msg, ext, err := a.attributes(line[:l.at], l.binary)
	switch {
	case err != nil:
	case l.size == 0:
		err = no{"CANNOT", "the message is empty"}
	case l.size > ss.appendLimit():
		err = no{"TOOBIG", "the message is larger than " + strconv.FormatInt(ss.appendLimit(), 10) + " octets"}
	case len(a.msgs) >= maxAppend || a.files >= maxAppendFiles:
		err = no{"LIMIT", "too many messages in one APPEND, send fewer"}
	}
	if err != nil {
		return "", ss.refuse(line, err)
	}
	if l.sync {
		if err := ss.goAhead(); err != nil {
			return "", err
		}
	}
	full, err := a.spool(&msg, l.size)
	if err != nil {
		return "", err
	}
	if next, err = ss.nextLine(); err != nil {
		return "", err
	}
	if ext {
		closed, ok := strings.CutPrefix(next, ")")
		if !ok && full == nil {
			full = bad{"UTF8 (…) has no end"}
		}
		next = closed
	}
	if full != nil {
		return "", ss.refuse(next, full)
	}
	return next, nil
}

// spool takes the octets in. When they can't be kept (full) they are read all the same, to stay in step.
func (a *appending) spool(msg *store.NewMessage, n int64) (full, lost error) {
	sp := a.ss.srv.Store.NewSpool(0)
	msg.Spool = sp
	a.msgs = append(a.msgs, *msg) // from here on abort sees to it
	_, err := io.Copy(writerFunc(func(b []byte) (int, error) {
		if full == nil {
			_, full = sp.Write(b)
		}
		return len(b), nil
	}), a.ss.c.Literal(n))
	if err != nil {
		return nil, &connError{err}
	}
	if a.held += n; n > maxAppendHeld/2 || a.held > maxAppendHeld {
		a.held -= n
		a.files++
		if full == nil {
			full = sp.Spill()
		}
	}
	if segment.IsNoSpace(full) {
		full = no{"OVERQUOTA", "the disk is full, try again later"}
	}
	return full, nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// attributes reads flags and date of a message, and whether it comes as UTF8 (~{n}) (RFC 6855 §4).
func (a *appending) attributes(head string, binary bool) (msg store.NewMessage, utf8 bool, err error) {
	p := imapparse.New(head, nil)
	if err = p.Space(); err != nil {
		return msg, false, usual(err)
	}
	if p.Peek() == '(' {
		var list []string
		if list, err = p.Flags(); err == nil {
			err = p.Space()
		}
		if err != nil {
			return msg, false, usual(err)
		}
		if msg.Flags, msg.Keywords, err = splitFlags(list); err != nil {
			return msg, false, err
		}
	}
	if p.Peek() == '"' {
		if msg.Date, err = p.DateTime(); err == nil {
			err = p.Space()
		}
		if err != nil {
			return msg, false, usual(err)
		}
	}
	if p.More() {
		word, err := p.Atom()
		switch {
		case err != nil || !strings.EqualFold(word, "UTF8") || !binary:
			return msg, false, bad{"flags, a date or a literal expected"}
		case !a.ss.has(featUTF8):
			return msg, false, bad{"ENABLE UTF8=ACCEPT first"}
		case p.Rest() != " (":
			return msg, false, bad{"UTF8 needs a literal in parentheses"}
		}
		return msg, true, nil
	}
	return msg, false, nil
}
