package commit

import (
	"context"
	"slices"
	"time"

	"mailplusd/mail/autoreply"
	"mailplusd/mail/flow"
	"mailplusd/mail/model"
	"mailplusd/mail/route"
	"mailplusd/mail/state"
)

// reply is an automatic reply that goes into the entry of the mail that it answers.
type reply struct {
	user string
	*written
	op  state.Reply
	out state.Replied
}

// replyPeriod is how long a sender that was answered gets no other reply.
const replyPeriod = int64(model.ReplyDays * 24 * time.Hour)

// replies writes those replies that the sender has not got lately, as far as this node knows; the
// state machine looks again. What can't be written is logged: mail doesn't wait for it.
func (c *Committer) replies(ctx context.Context, e *flow.Envelope) (out []*reply) {
	for _, r := range e.Replies {
		sender := autoreply.Sender(e.From, r)
		a := e.Directory.User(r.User)
		if a == nil || a.MainAddress() == "" {
			continue
		}
		at, err := c.Store.State().RepliedAt(a.ID, sender)
		if err == nil && at != 0 && c.Now().UnixNano()-at < replyPeriod {
			continue
		}
		if err == nil {
			var x *reply
			x, err = c.writeReply(ctx, e, r)
			if x != nil {
				x.op.Account, x.op.Sender, x.op.Period, x.op.Most = a.ID, sender, replyPeriod, model.MaxReplied
				out = append(out, x)
			}
		}
		if err != nil {
			c.Slog.Warn("automatic reply not written", "user", r.User, "to", e.From.String(), "id", e.ID, "err", err)
		}
	}
	return out
}

// writeReply stores the text of a reply and plans its way.
func (c *Committer) writeReply(ctx context.Context, e *flow.Envelope, r *model.AutoReply) (*reply, error) {
	id := c.NewID()
	raw := autoreply.Build(e, e.Directory.User(r.User), r, id, c.Now())
	rcpt := &flow.Recipient{Address: e.From, Notify: "NEVER"}
	var err error
	if rcpt.Resolved, err = route.Resolve(e.Directory, e.From.Local, e.From.Domain); err != nil {
		return nil, err
	}
	x := &reply{user: r.User}
	if x.written, err = c.write(ctx, e, id, rcpt, raw, false); err != nil {
		return nil, err
	}
	x.op.Deliver = x.ops
	return x, nil
}

// notASCII tells whether there is anything but ASCII.
func notASCII(raw []byte) bool {
	return slices.ContainsFunc(raw, func(c byte) bool { return c >= 0x80 })
}

// reportReplies writes the mail log's lines of the replies that went out (R10.80). Those that go
// to other servers get theirs from the queue.
func (c *Committer) reportReplies(list []*reply) {
	for _, x := range list {
		to := x.e.Rcpts[0].Address.String()
		switch {
		case x.out.Sent:
			c.Slog.Info("automatic reply", "id", x.e.ID, "user", x.user, "to", to)
			c.report(x.e, &x.plan, x.size)
		case x.out.Full:
			c.Slog.Warn("no automatic reply: too many senders were answered lately", "user", x.user, "to", to, "limit", model.MaxReplied)
		}
	}
}
