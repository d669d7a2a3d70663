package commit

import (
	"fmt"
	"time"

	"mailplusd/mail/flow"
	"mailplusd/mail/maillog"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
)

// holds gives the rules of this moment: those of the envelope may be as old as its MAIL.
func (c *Committer) holds() ([]*model.HoldRule, error) {
	if c.Holds == nil {
		return nil, nil
	}
	rules, err := c.Holds()
	if err != nil {
		return nil, fmt.Errorf("%w: the rules that hold mail can't be read: %w", store.ErrUnavailable, err)
	}
	return rules, nil
}

// Hold marks what rules hold: each recipient elsewhere by the first rule, by name, that it meets. It
// is decided here for all mail that enters the queue, and goes into the entry as it is decided.
// notice says that the message tells a sender what became of his mail.
func (p *Plan) Hold(e *flow.Envelope, rules []*model.HoldRule, size int64, notice bool, now time.Time) {
	for i := range p.Queue {
		q := &p.Queue[i]
		q.Notice = notice
		about := model.Held{Subject: e.Facts.Subject, Size: size, Notification: notice}
		if q.From != "" {
			about.Senders = []string{q.From}
		}
		if from := e.From.String(); from != "" && from != q.From {
			about.Senders = append(about.Senders, from)
		}
		for k := range q.Rcpts {
			r := &q.Rcpts[k]
			about.Recipient, about.Domain = r.Address, r.Domain
			for _, rule := range rules {
				if rule.At(now.Unix()) && rule.Matches(&about) {
					r.State, r.HeldBy = model.QueueHeld, rule.Name
					break
				}
			}
		}
	}
}

// reportHeld writes a line for each recipient that a rule holds.
func (c *Committer) reportHeld(e *flow.Envelope, p *Plan, size int64, client string) {
	for i := range p.Queue {
		for _, r := range p.Queue[i].Rcpts {
			if r.State != model.QueueHeld {
				continue
			}
			c.Log.Emit(maillog.Event{
				Type: maillog.Held, TraceID: e.ID, MessageID: e.Facts.MessageID, Sender: p.Queue[i].From, Recipient: r.Address,
				Subject: e.Facts.Subject, Size: size, ClientIP: client, Reason: model.HeldBy(r.HeldBy),
			})
			c.Slog.Info("held in the queue", "id", e.ID, "to", r.Address, "rule", r.HeldBy)
		}
	}
}
