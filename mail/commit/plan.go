package commit

import (
	"fmt"
	"mime"
	"strings"
	"time"

	"mailplusd/mail/flow"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/route"
	"mailplusd/mail/state"
)

// Plan is what an envelope comes to: who gets it here, and who elsewhere.
type Plan struct {
	Local []state.DeliverTo
	Queue []Queued // by sender and prefix; what the sender himself has addressed comes first
	Lines []string // recipients of received lines
	Why   []string // what was done otherwise than set
}

// Queued are recipients elsewhere that get the message from one sender.
type Queued struct {
	From   string // reverse path
	Prefix string // header fields in front of the message
	Notice bool   // it tells a sender what became of his mail
	Rcpts  []model.QueueRcpt
}

// MakePlan gathers what the chain has decided. Without it only who was named gets the message.
func MakePlan(e *flow.Envelope, use model.SpecialUse) Plan {
	way := e.Way
	if way == nil {
		way = route.Spread(e.Directory, Receivers(e), nil, nil)
	}
	p := Plan{Lines: way.Lines}
	for _, l := range way.Local {
		if l.Why != "" {
			p.Why = append(p.Why, fmt.Sprintf("the forward of %s is not followed: %s", l.Account.Name, l.Why))
		}
		if l.Keep {
			p.Local = append(p.Local, state.DeliverTo{Account: l.Account.ID, Use: use})
		}
	}
	at := map[[2]string]int{}
	for i := range way.Remote {
		r := &way.Remote[i]
		from, why := sender(e, r.Domain)
		if why != "" {
			p.Why = append(p.Why, why)
		}
		key := [2]string{from, deliveredTo(r.Trail)}
		j, ok := at[key]
		if !ok {
			j = len(p.Queue)
			at[key], p.Queue = j, append(p.Queue, Queued{From: key[0], Prefix: key[1]})
		}
		p.Queue[j].Rcpts = append(p.Queue[j].Rcpts, queueRcpt(e, r))
	}
	return p
}

// Receivers are the recipients that the sender named.
func Receivers(e *flow.Envelope) []route.Receiver {
	out := make([]route.Receiver, len(e.Rcpts))
	for i, r := range e.Rcpts {
		out[i] = route.Receiver{N: i, Address: r.Address.String(), Resolved: r.Resolved}
	}
	return out
}

// sender is the reverse path under which an address elsewhere gets the message. What is passed on
// for somebody here gets one of the domain, unless the sender is of a domain hosted here; why
// says that it should and can't.
func sender(e *flow.Envelope, domain string) (from, why string) {
	switch {
	case e.From.IsNull():
		return "", ""
	case domain == "", !e.Directory.Rewrite, e.Directory.Hosts(e.From.Domain):
		return e.From.String(), ""
	case e.Directory.SRS == nil:
		return e.From.String(), "the sender is not rewritten: the secret for it can't be read"
	}
	local, err := e.Directory.SRS.Forward(e.From.Local, e.From.Domain, domain, e.At)
	if err != nil {
		return e.From.String(), fmt.Sprintf("the sender is not rewritten: the address %v", err)
	}
	return message.Address{Local: local, Domain: domain}.String(), ""
}

// deliveredTo makes the header fields by which a loop of forwards is seen (I.31). The last one to
// forward comes first.
func deliveredTo(trail []string) string {
	out := ""
	for _, a := range trail {
		out = "Delivered-To: " + mime.QEncoding.Encode("utf-8", a) + "\r\n" + out
	}
	return out
}

// DeliveredTo reads them back.
func DeliveredTo(h *message.Header) (out []string) {
	for i := range h.Fields {
		if strings.EqualFold(h.Fields[i].Name, "Delivered-To") {
			out = append(out, strings.Trim(message.Decode(h.Fields[i].Value), "<> \t"))
		}
	}
	return out
}

func queueRcpt(e *flow.Envelope, r *route.Remote) model.QueueRcpt {
	_, domain, _ := model.SplitAddress(r.Address)
	q := model.QueueRcpt{Address: r.Address, Domain: model.FoldDomain(domain)}
	if r.N < 0 { // nobody is to hear of a blind copy
		q.Notify = "NEVER"
		return q
	}
	named := e.Rcpts[r.N]
	q.Notify, q.ORcpt = named.Notify, named.ORcpt
	if q.ORcpt == "" && (r.Domain != "" || named.Resolved.Alias) && named.Address.Domain != "" {
		q.ORcpt = originalRecipient(named)
	}
	return q
}

// operations are the deliveries of a plan, of which the first one has the local ones.
func (c *Committer) operations(e *flow.Envelope, p *Plan, body model.BodyID, size int64, meta []byte) []state.Deliver {
	ops := []state.Deliver{{Body: body, Size: size, Meta: meta, Local: p.Local}}
	for i := range p.Queue {
		add := c.queued(e, &p.Queue[i], size)
		if i == 0 {
			ops[0].Queue = add
			continue
		}
		ops = append(ops, state.Deliver{Body: body, Size: size, Queue: add})
	}
	return ops
}

func (c *Committer) queued(e *flow.Envelope, to *Queued, size int64) *state.QueueAdd {
	q := model.QueueMessage{
		From: to.From, Skip: len(returnPath(e)), Size: size, Created: c.Now().UnixNano(),
		MessageID: e.Facts.MessageID, Subject: e.Facts.Subject, EnvID: e.EnvID, Ret: e.Ret,
		UTF8: e.UTF8, EightBit: e.EightBit, TraceID: e.ID, Notice: to.Notice,
	}
	if to.Prefix != "" {
		q.Prefix = []byte(to.Prefix)
	}
	if e.Actor != nil {
		q.Actor = e.Actor.Name
	}
	q.Expires = q.Created + int64(e.Settings.Queue.LifetimeHours)*int64(time.Hour)
	return &state.QueueAdd{Message: q, Rcpts: to.Rcpts}
}
