// Package commit turns an accepted envelope into stored mail: trace headers in front,
// the body on disk, then one entry with every local delivery and every queued
// recipient. When Commit returns, the mail may be acknowledged, and never before.
package commit

import (
	"context"
	"crypto/sha256"
	"fmt"
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
	Chain flow.Chain // its commit phase is asked
	Store *store.Store
	Log   maillog.Emitter
	Now   func() time.Time
	// Sign gives the fields that sign a message: head, fields that are put in front of it, then text.
	Sign func(e *flow.Envelope, head, text []byte) []byte
}

// Plan is what an envelope comes to: who gets it here, and who elsewhere.
type Plan struct {
	Local  []state.DeliverTo
	Remote []model.QueueRcpt
	lines  []line
}

// line is one `received` line of the mail log.
type line struct {
	rcpt  string
	local int // index in Plan.Local, -1 for an alias
}

// MakePlan gathers the targets of all recipients, each account and address once.
func MakePlan(e *flow.Envelope, use model.SpecialUse) Plan {
	var p Plan
	accounts := map[model.AccountID]bool{}
	remote := map[string]bool{}
	for _, r := range e.Rcpts {
		if r.Resolved.Alias {
			p.lines = append(p.lines, line{r.Address.String(), -1})
		}
		for _, t := range r.Resolved.Targets {
			if t.Account != nil {
				if accounts[t.Account.ID] {
					continue
				}
				accounts[t.Account.ID] = true
				if !r.Resolved.Alias {
					p.lines = append(p.lines, line{r.Address.String(), len(p.Local)})
				}
				p.Local = append(p.Local, state.DeliverTo{Account: t.Account.ID, Use: use})
				continue
			}
			if remote[t.Address] {
				continue
			}
			remote[t.Address] = true
			_, domain, _ := model.SplitAddress(t.Address)
			q := model.QueueRcpt{Address: t.Address, Domain: model.FoldDomain(domain), Notify: r.Notify, ORcpt: r.ORcpt}
			if q.ORcpt == "" && r.Resolved.Alias {
				q.ORcpt = "rfc822;" + r.Address.String()
			}
			p.Remote = append(p.Remote, q)
		}
	}
	return p
}

// Commit stores the message of an envelope. sp is used up, whatever the outcome. with is
// applied in the same entry. The error is store.ErrNoSpace, store.ErrUnavailable or a refusal.
func (c *Committer) Commit(ctx context.Context, e *flow.Envelope, sp *segment.Spool, use model.SpecialUse, with ...state.Operation) (state.Delivered, error) {
	if v := c.Chain.Run(ctx, flow.Commit, e, nil); v.Action != flow.Pass {
		sp.Abort()
		return state.Delivered{}, fmt.Errorf("%w: %s", store.ErrUnavailable, v)
	}
	plan := MakePlan(e, use)
	same, err := c.likeness(e, sp) // of what was received
	if err == nil && len(e.Sign) > 0 {
		sp, err = c.sevenBit(e, sp)
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
	op := state.Deliver{Body: body, Size: size, Meta: meta, Local: plan.Local, Same: same}
	if len(plan.Remote) > 0 {
		op.Queue = c.queued(e, plan.Remote, size)
	}
	out, err := c.Store.Deliver(state.Unread(ctx), op, with...)
	if err != nil {
		return out, err
	}
	c.report(e, &plan, size)
	return out, nil
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

func (c *Committer) queued(e *flow.Envelope, rcpts []model.QueueRcpt, size int64) *state.QueueAdd {
	q := model.QueueMessage{
		From: e.From.String(), Skip: len(returnPath(e)), Size: size, Created: c.Now().UnixNano(),
		MessageID: e.Facts.MessageID, Subject: e.Facts.Subject, EnvID: e.EnvID, Ret: e.Ret,
		UTF8: e.UTF8, EightBit: e.EightBit, TraceID: e.ID,
	}
	if e.From.IsNull() {
		q.From = ""
	}
	if e.Actor != nil {
		q.Actor = e.Actor.Name
	}
	q.Expires = q.Created + int64(e.Settings.Queue.LifetimeHours)*int64(time.Hour)
	return &state.QueueAdd{Message: q, Rcpts: rcpts}
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

// report writes one line per user here, and one per alias (R10.72–R10.75).
func (c *Committer) report(e *flow.Envelope, p *Plan, size int64) {
	client := ""
	if e.Client.IsValid() {
		client = e.Client.String()
	}
	for _, l := range p.lines {
		c.Log.Emit(maillog.Event{
			Type: maillog.Received, Status: maillog.Received, TraceID: e.ID, MessageID: e.Facts.MessageID,
			Sender: e.From.String(), Recipient: l.rcpt, Subject: e.Facts.Subject, Size: size, ClientIP: client,
		})
	}
}
