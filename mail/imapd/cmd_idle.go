package imapd

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"mailplusd/mail/state"
)

// doIdle is RFC 2177: what is pending is told first, then every change as it happens.
func (ss *session) doIdle(tag, text string) error {
	if text != "" {
		return ss.refuse(text, bad{"IDLE takes no arguments"})
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
			line, err := ss.readLine()
			if err != nil {
				return err
			}
			if !strings.EqualFold(string(bytes.TrimSpace(line)), "DONE") {
				return ss.refuse(string(line), bad{"DONE expected"})
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
