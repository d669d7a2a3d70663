// Package commit turns an accepted envelope into stored mail: trace headers in front,
// the body on disk, then one entry with every local delivery and every queued
// recipient. When Commit returns, the mail may be acknowledged, and never before.
package commit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"mailplusd/mail/flow"
	"mailplusd/mail/maillog"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
)

// Committer commits envelopes.
type Committer struct {
	Chain flow.Chain // its commit phase says what else becomes of a message
	Store *store.Store
	Log   maillog.Emitter
	Slog  *slog.Logger
	Now   func() time.Time
	NewID func() string // names a message that is written here
	// Sign gives the fields that sign a message: head, fields that are put in front of it, then text.
	Sign func(e *flow.Envelope, head, text []byte) []byte
	// Holds gives the rules that hold mail in the queue as they are now, by name; nil: there are none.
	Holds func() ([]*model.HoldRule, error)
}

// Commit stores the message of an envelope. sp is used up, whatever the outcome. with is
// applied in the same entry. The error is store.ErrNoSpace, store.ErrUnavailable or a refusal;
// state.OverLimit when who has logged in has sent as much as he may today.
func (c *Committer) Commit(ctx context.Context, e *flow.Envelope, sp *segment.Spool, use model.SpecialUse, with ...state.Operation) (state.Delivered, error) {
	e.Use, e.Size = use, sp.Size()
	if v := c.Chain.Run(ctx, flow.Commit, e, nil); v.Action != flow.Pass {
		sp.Abort()
		return state.Delivered{}, fmt.Errorf("%w: %s", store.ErrUnavailable, v)
	}
	plan := MakePlan(e, use)
	header := c.asksNotice(e, sp)
	same, err := c.likeness(e, sp) // of what was received
	if err == nil && len(e.Sign) > 0 {
		sp, err = c.sevenBit(e, sp)
	}
	var holds []*model.HoldRule
	if err == nil {
		holds, err = c.holds()
	}
	var trace, meta []byte
	if err == nil {
		trace, err = c.trace(e, sp)
	}
	if err == nil {
		meta, err = c.Store.Summarize(trace, sp)
	}
	if err != nil {
		sp.Abort()
		return state.Delivered{}, err
	}
	body, size, err := c.Store.CommitSpool(ctx, sp, trace)
	if err != nil {
		return state.Delivered{}, err
	}
	replies, notice := c.replies(ctx, e), c.notice(ctx, e, header)
	var out state.Delivered
	for {
		plan.Hold(e, holds, size, e.Direction == flow.Own && e.From.IsNull(), c.Now())
		ops := c.operations(e, &plan, body, size, meta)
		ops[0].Same = same
		if out, err = c.apply(ctx, ops, replies, notice, append(sent(e), with...)); err == nil {
			break
		}
		if !holdForwards(e, err) {
			return out, err
		}
		// Who keeps the mail instead of passing it on is one more of whom the sender may want to hear.
		plan, notice = MakePlan(e, use), c.notice(ctx, e, header)
	}
	for _, why := range plan.Why {
		c.Slog.Info("not as it is set", "id", e.ID, "why", why)
	}
	c.report(e, &plan, size)
	c.reportReplies(replies)
	if notice != nil && !notice.dropped {
		c.report(notice.e, &notice.plan, notice.size)
	}
	return out, nil
}

// apply proposes everything as one entry. A refused reply or notice must not cost the mail that it
// is about.
func (c *Committer) apply(ctx context.Context, deliver []state.Deliver, replies []*reply, notice *written, with []state.Operation) (state.Delivered, error) {
	var first state.Delivered
	var ops []state.Operation
	for _, d := range deliver {
		ops = append(ops, d)
	}
	ops = append(ops, with...)
	out := make([]any, len(ops), len(ops)+len(replies)+1)
	out[0] = &first
	if len(replies) > 0 || notice != nil {
		all := slices.Clone(ops)
		for _, r := range replies {
			all, out = append(all, r.op), append(out, &r.out)
		}
		if notice != nil {
			for _, d := range notice.ops {
				all, out = append(all, d), append(out, nil)
			}
		}
		err := c.Store.Do(state.Unread(ctx), all, out...)
		if err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, state.ErrOver) {
			return first, err
		}
		c.Slog.Error("automatic replies and notices refused", "err", err)
		for _, r := range replies {
			r.out = state.Replied{}
		}
		if notice != nil {
			notice.dropped = true
		}
	}
	err := c.Store.Do(state.Unread(ctx), ops, out[:len(ops)]...)
	return first, err
}

// likeness is equal for a message that a sender repeats because it got no answer: the same
// envelope and the same octets. In a pair both sides of a split may have got it, and the merge
// keeps one copy. A node that never had another needs none.
func (c *Committer) likeness(e *flow.Envelope, sp *segment.Spool) ([]byte, error) {
	if e.Facts.MessageID == "" || c.Store.State().Regime().Phase == state.PhaseSingle {
		return nil, nil
	}
	raw, release, err := sp.Bytes()
	if err != nil {
		return nil, err
	}
	defer release()
	h := sha256.New()
	rcpts := make([]string, len(e.Rcpts))
	for i, r := range e.Rcpts {
		rcpts[i] = r.Address.String()
	}
	slices.Sort(rcpts)
	fmt.Fprintf(h, "%q %q %q\n", e.From.String(), rcpts, e.Facts.MessageID)
	h.Write(raw)
	return h.Sum(nil)[:16], nil
}

// returnPath is the line that final delivery adds (RFC 5321 §4.4); it doesn't go out again.
func returnPath(e *flow.Envelope) string {
	if e.From.IsNull() {
		return "Return-Path: <>\r\n"
	}
	return "Return-Path: <" + e.From.String() + ">\r\n"
}

// trace makes the header fields that are put in front, signatures among them.
func (c *Committer) trace(e *flow.Envelope, sp *segment.Spool) ([]byte, error) {
	var b strings.Builder
	b.WriteString(returnPath(e))
	added := c.added(e)
	if len(e.Sign) > 0 {
		text, release, err := sp.Bytes()
		if err != nil {
			return nil, err
		}
		b.Write(c.Sign(e, added, text))
		release()
	}
	if e.Direction != flow.Own {
		r := message.Received{
			From: e.Helo, FromIP: e.Client, By: e.Settings.System.Hostname, With: e.Proto, TLS: e.TLS, ID: e.ID, At: c.Now(),
		}
		if len(e.Rcpts) == 1 {
			r.For = e.Rcpts[0].Address.String()
		}
		b.WriteString(r.String())
	}
	b.Write(added)
	return []byte(b.String()), nil
}

// added are the fields that a submitted message lacks (RFC 6409 §8).
func (c *Committer) added(e *flow.Envelope) []byte {
	if e.Direction != flow.Out {
		return nil
	}
	var b strings.Builder
	if e.Facts.MessageID == "" {
		fmt.Fprintf(&b, "Message-ID: <%s@%s>\r\n", e.ID, e.Settings.System.Hostname)
	}
	if !e.Facts.HasDate {
		fmt.Fprintf(&b, "Date: %s\r\n", c.Now().Format(time.RFC1123Z))
	}
	if !e.Facts.HasFrom && !e.From.IsNull() {
		fmt.Fprintf(&b, "From: %s\r\n", e.From.String())
	}
	return []byte(b.String())
}

// report writes one line per user here, kept or passed on, and one per alias (R10.72–R10.76).
func (c *Committer) report(e *flow.Envelope, p *Plan, size int64) {
	client := ""
	if e.Client.IsValid() {
		client = e.Client.String()
	}
	for _, rcpt := range p.Lines {
		c.Log.Emit(maillog.Event{
			Type: maillog.Received, Status: maillog.Received, TraceID: e.ID, MessageID: e.Facts.MessageID,
			Sender: e.From.String(), Recipient: rcpt, Subject: e.Facts.Subject, Size: size, ClientIP: client,
		})
	}
	c.reportHeld(e, p, size, client)
}
