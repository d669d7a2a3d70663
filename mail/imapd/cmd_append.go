package imapd

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
)

// doAppend is APPEND: the message streams into the store, it is never held in memory as a literal.
func (ss *session) doAppend(_, text string) error {
	n, sync, ok := literalAt(text)
	if !ok {
		return bad{"APPEND needs a mailbox and a literal"}
	}
	head := text[:strings.LastIndexByte(text, '{')]
	lits := [][]byte{}
	// the mailbox itself may be a literal: then what follows has the message
	if strings.TrimSpace(head) == "" {
		if n > maxEarlyLiteral {
			if err := ss.refuseLiteral(n, sync); err != nil {
				return err
			}
			return bad{"the mailbox name is too long"}
		}
		if sync {
			if err := ss.goAhead(); err != nil {
				return err
			}
		}
		name := make([]byte, n)
		if _, err := io.ReadFull(ss.c.Literal(n), name); err != nil {
			return &connError{err}
		}
		line, err := ss.c.ReadLine(maxLine)
		if err != nil {
			return &connError{err}
		}
		if n, sync, ok = literalAt(string(line)); !ok {
			return bad{"APPEND needs a literal"}
		}
		lits = append(lits, name)
		head = " \x000\x00" + string(line[:strings.LastIndexByte(string(line), '{')])
	} else if strings.IndexByte(head, 0) >= 0 {
		return bad{"NUL in a command"}
	}
	box, msg, err := ss.appendArgs(imapparse.New(head, lits))
	if err == nil && n > ss.appendLimit() {
		err = no{"TOOBIG", "the message is larger than " + strconv.FormatInt(ss.appendLimit(), 10) + " octets"}
	}
	if err == nil && n == 0 {
		err = no{"CANNOT", "the message is empty"}
	}
	if err != nil {
		if rerr := ss.refuseLiteral(n, sync); rerr != nil {
			return rerr
		}
		return err
	}
	if sync {
		if err := ss.goAhead(); err != nil {
			return err
		}
	}
	if err := ss.spool(&msg, n); err != nil {
		return err
	}
	placed, err := ss.srv.Store.Append(ss.ctx, box.ID, []store.NewMessage{msg})
	if err != nil {
		return err
	}
	if err := ss.announce(true); err != nil {
		return err
	}
	p := placed[0]
	return selectDone{"[APPENDUID " + strconv.FormatUint(uint64(p.UIDValidity), 10) + " " + strconv.FormatUint(uint64(p.UID), 10) + "] APPEND completed"}
}

// spool takes the message in; when it can't be stored the rest is read all the same, to stay in step.
func (ss *session) spool(msg *store.NewMessage, n int64) error {
	sp := ss.srv.Store.NewSpool(0)
	lit := ss.c.Literal(n)
	var full error
	_, err := io.Copy(writerFunc(func(b []byte) (int, error) {
		if full == nil {
			_, full = sp.Write(b)
		}
		return len(b), nil
	}), lit)
	if err == nil {
		_, err = ss.c.ReadLine(maxLine) // the end of the command
	}
	if err != nil {
		sp.Abort()
		return &connError{err}
	}
	if full != nil {
		sp.Abort()
		if segment.IsNoSpace(full) {
			return no{"OVERQUOTA", "the disk is full, try again later"}
		}
		return full
	}
	msg.Spool = sp
	return nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// appendArgs reads mailbox, flags and date.
func (ss *session) appendArgs(p *imapparse.Parser) (box model.Mailbox, msg store.NewMessage, err error) {
	if err = p.Space(); err != nil {
		return box, msg, usual(err)
	}
	name, err := mailboxName(p)
	if err != nil {
		return box, msg, err
	}
	if err = p.Space(); err != nil {
		return box, msg, usual(err)
	}
	if p.Peek() == '(' {
		var list []string
		if list, err = p.Flags(); err == nil {
			err = p.Space()
		}
		if err != nil {
			return box, msg, usual(err)
		}
		if msg.Flags, msg.Keywords, err = splitFlags(list); err != nil {
			return box, msg, err
		}
	}
	if p.More() {
		var at time.Time
		if at, err = p.DateTime(); err == nil {
			err = p.Space()
		}
		if err != nil {
			return box, msg, usual(err)
		}
		msg.Date = at
	}
	if err = p.End(); err != nil {
		return box, msg, usual(err)
	}
	if err := ss.fresh(); err != nil {
		return box, msg, err
	}
	box, err = ss.srv.Store.Mailbox(ss.account.ID, name)
	if errors.Is(err, store.ErrNotFound) {
		err = no{"TRYCREATE", "there is no such mailbox"}
	}
	return box, msg, err
}
