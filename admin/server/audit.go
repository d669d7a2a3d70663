package server

import (
	"context"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// maxAuditObject bounds the names that one line of the admin log holds, in octets.
const maxAuditObject = 8 << 10

// subject says what a call is about, for its line in the admin log.
func (c *Call) subject(object string, input map[string]any) {
	if len(object) > maxAuditObject {
		object = strings.ToValidUTF8(object[:maxAuditObject], "") + " …"
	}
	c.event = model.AdminEvent{Time: time.Now().UnixNano(), Actor: c.Actor.String(), From: c.Actor.From, Op: c.Op.Name(), Object: object, Input: input, Result: "ok"}
	c.logged = false
}

// logChange puts the call's line of the admin log (I.13) into the transaction that makes the
// change: there is never the one without the other. A call with several transactions has one line.
func (s *Server) logChange(tx *state.Tx, c *Call) error {
	if c.Op == nil || c.Op.Spec().Effect == op.Read || s.mail.State.Current().System.SetUp == 0 {
		return nil
	}
	return s.putEvent(tx, c)
}

func (s *Server) putEvent(tx *state.Tx, c *Call) error {
	c.event.Diff = nil
	for _, d := range c.diff {
		c.event.Diff = append(c.event.Diff, model.FieldDiff(d))
	}
	return state.AdminLog.Put(tx, &c.event)
}

// audit ends a call: what failed, and what changed something outside of the state, gets its line
// here. Reads and dry runs leave none.
func (s *Server) audit(ctx context.Context, c *Call, err error) {
	if c.Op.Spec().Effect == op.Read || c.DryRun {
		return
	}
	if err != nil {
		c.event.Result = explain(err).Error()
	}
	s.log.Info("admin", "actor", c.event.Actor, "from", c.event.From, "op", c.event.Op, "object", c.event.Object, "result", c.event.Result)
	if c.logged && err == nil && len(c.diff) == len(c.event.Diff) || s.mail.State.Current().System.SetUp == 0 {
		return
	}
	if uerr := s.mail.State.Update(context.WithoutCancel(ctx), func(tx *state.Tx) error { return s.logChange(tx, c) }); uerr != nil {
		s.log.Error("admin log not written", "op", c.event.Op, "err", uerr)
	}
}

// change runs a transaction together with its line in the admin log, or only tries it in a dry run.
// out takes the results of the operations that fn has added with Also.
func (s *Server) change(ctx context.Context, c *Call, fn func(*state.Tx) error, out ...any) error {
	before := slices.Clip(c.diff)
	work := func(tx *state.Tx) error {
		c.diff = before // an earlier try was overtaken by another change
		if err := fn(tx); err != nil || c.DryRun {
			return err
		}
		return s.logChange(tx, c)
	}
	if c.DryRun {
		return s.mail.State.Try(work)
	}
	err := s.mail.State.Update(ctx, work, out...)
	c.logged = c.logged || err == nil
	return err
}
