package commit

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"mailplusd/mail/dsn"
	"mailplusd/mail/flow"
	"mailplusd/mail/model"
	"mailplusd/mail/route"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
)

// maxNoticeHeader is how much of a header a notice has, in octets.
const maxNoticeHeader = 64 << 10

// notice tells the sender which recipients' mailboxes have got a message, where NOTIFY asks for
// that (RFC 3461 §4.1). What goes on to another server is told by that one, or by the queue. Nobody
// is told about mail that is taken for junk: its sender is likely to be another one than it says.
// What can't be written is logged: mail doesn't wait for it.
// header is what asksNotice has read.
func (c *Committer) notice(ctx context.Context, e *flow.Envelope, header []byte) *written {
	if header == nil || e.Way == nil {
		return nil
	}
	rep := dsn.Report{
		Kind: dsn.Delivered, Hostname: e.Settings.System.Hostname, To: e.From.String(), EnvID: e.EnvID, Arrived: e.At, Now: c.Now(),
	}
	for _, r := range e.Rcpts {
		if !dsn.Wanted(&model.QueueRcpt{Notify: r.Notify}, dsn.Delivered) || !kept(e.Way, r) {
			continue
		}
		rep.Rcpts = append(rep.Rcpts, dsn.Rcpt{Address: r.Address.String(), ORcpt: r.ORcpt, Reason: "stored in the mailbox", At: rep.Now})
	}
	if len(rep.Rcpts) == 0 {
		return nil
	}
	rep.Original = header
	rcpt := &flow.Recipient{Address: e.From, Notify: "NEVER"}
	var x *written
	var err error
	if rcpt.Resolved, err = route.Resolve(e.Directory, e.From.Local, e.From.Domain); err == nil {
		x, err = c.write(ctx, e, c.NewID(), rcpt, rep.Build(), true)
	}
	if err != nil {
		c.Slog.Warn("notification of delivery not written", "to", e.From.String(), "id", e.ID, "err", err)
	}
	return x
}

// asksNotice reads the header of a message whose sender may be told that it is in a mailbox; nil: he is told
// nothing, whoever gets it.
func (c *Committer) asksNotice(e *flow.Envelope, sp *segment.Spool) []byte {
	wants := func(r *flow.Recipient) bool {
		return dsn.Wanted(&model.QueueRcpt{Notify: r.Notify}, dsn.Delivered)
	}
	if e.From.IsNull() || e.Use == model.UseJunk || !slices.ContainsFunc(e.Rcpts, wants) {
		return nil
	}
	text, release, err := sp.Bytes()
	if err != nil {
		c.Slog.Warn("notification of delivery not written", "to", e.From.String(), "id", e.ID, "err", err)
		return nil
	}
	defer release()
	if i := bytes.Index(text, []byte("\r\n\r\n")); i >= 0 {
		text = text[:i+2]
	}
	return append([]byte{}, text[:min(len(text), maxNoticeHeader)]...)
}

// kept tells whether a recipient that the sender named leads to a mailbox here, by itself or by
// forwards that stay here.
func kept(way *route.Way, r *flow.Recipient) bool {
	at := map[string]bool{}
	for _, t := range r.Resolved.Targets {
		if t.Account != nil {
			at[t.Account.Name] = true
		}
	}
	for range way.Local { // as many steps as there are accounts at most
		more := false
		for _, l := range way.Local {
			switch {
			case at[l.Account.Name] && l.Keep:
				return true
			case at[l.By] && l.By != "" && !at[l.Account.Name]:
				at[l.Account.Name], more = true, true
			}
		}
		if !more {
			return false
		}
	}
	return false
}

// originalRecipient is ORCPT for an address that the sender named, with its type (RFC 6533 §3).
func originalRecipient(r *flow.Recipient) string {
	a := r.Address.String()
	if notASCII([]byte(a)) {
		return "utf-8;" + a
	}
	return "rfc822;" + a
}

// Needs tells what a message that is written here asks of the servers that it goes to.
func Needs(raw []byte) (utf8, eightBit bool) {
	header, _, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	return notASCII(header), notASCII(raw)
}

// written is a message of this server that goes into the entry of the mail that it is about.
type written struct {
	e    *flow.Envelope
	plan Plan
	size int64
	ops  []state.Deliver

	dropped bool // it was refused, and the mail that it is about stored without it
}

// write stores a message of this server and plans its way. It has no sender, so nothing answers it.
// notice says that it tells the sender what became of his mail.
func (c *Committer) write(ctx context.Context, about *flow.Envelope, id string, rcpt *flow.Recipient, raw []byte, notice bool) (*written, error) {
	e := &flow.Envelope{
		ID: id, Direction: flow.Own, At: about.At, Settings: about.Settings, Directory: about.Directory, Rcpts: []*flow.Recipient{rcpt},
		Facts: flow.Inspect(raw, about.Settings),
	}
	e.UTF8, e.EightBit = Needs(raw)
	if v := c.Chain.Run(ctx, flow.Commit, e, nil); v.Action != flow.Pass {
		return nil, errors.New(v.String())
	}
	sp := c.Store.NewSpool(0)
	var trace, meta []byte
	holds, err := c.holds()
	if err == nil {
		_, err = sp.Write(raw)
	}
	if err == nil {
		if trace, err = c.trace(e, sp); err == nil {
			meta, err = c.Store.Summarize(trace, sp)
		}
	}
	if err != nil {
		sp.Abort()
		return nil, err
	}
	body, size, err := c.Store.CommitSpool(ctx, sp, trace)
	if err != nil {
		return nil, err
	}
	x := &written{e: e, plan: MakePlan(e, model.UseInbox), size: size}
	x.plan.Hold(e, holds, size, notice, c.Now())
	x.ops = c.operations(e, &x.plan, body, size, meta)
	return x, nil
}
