package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"mailplusd/mail/dsn"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// outcomes gathers what an attempt has done for the recipients of a message. What the sender is
// told of is recorded in the entry of the notification, kind by kind.
type outcomes struct {
	q                        *Queue
	msg                      *model.QueueMessage
	rest                     state.Attempt // nobody is told
	failed, relayed, delayed told
}

// told are recipients of one notification.
type told struct {
	kind dsn.Kind
	op   state.Attempt
	list []dsn.Rcpt
}

func (t *told) add(kind dsn.Kind, a state.AttemptResult, d dsn.Rcpt) {
	t.kind = kind
	t.op.Results, t.list = append(t.op.Results, a), append(t.list, d)
}

// add takes in one recipient. passedOn: the other server does what was asked for in NOTIFY.
func (o *outcomes) add(r *model.QueueRcpt, a state.AttemptResult, passedOn bool) {
	o.rest.Queue = o.msg.ID
	if o.msg.From == "" { // a message without sender gets no notification (RFC 5321 §6.1)
		o.rest.Results = append(o.rest.Results, a)
		return
	}
	d := dsn.Rcpt{Address: r.Address, ORcpt: r.ORcpt, Code: a.Code, Reason: a.Reason, Remote: a.Remote, At: o.q.Now()}
	if a.Waiting {
		d.Remote = r.Remote
	}
	switch {
	case a.Outcome == model.OutcomeFailed && dsn.Wanted(r, dsn.Failed):
		o.failed.add(dsn.Failed, a, d)
	case a.Outcome == model.OutcomeDelivered && dsn.Wanted(r, dsn.Relayed) && !passedOn:
		o.relayed.add(dsn.Relayed, a, d)
	case a.Outcome == model.OutcomeDeferred && o.late() && dsn.Wanted(r, dsn.Delayed):
		d.Until = time.Unix(0, o.msg.Expires)
		o.delayed.add(dsn.Delayed, a, d)
	default:
		o.rest.Results = append(o.rest.Results, a)
	}
}

// late tells whether the sender is to be told of a delay now: once, after queue.delay-warning.
func (o *outcomes) late() bool {
	hours := o.q.State.Current().Queue.DelayWarnHours
	return hours > 0 && !o.msg.Warned && o.q.Now().UnixNano() >= o.msg.Created+int64(hours)*int64(time.Hour)
}

// silent tells whether nobody is notified.
func (o *outcomes) silent() bool {
	return len(o.failed.list)+len(o.relayed.list)+len(o.delayed.list) == 0
}

// record stores the outcomes. What can't be stored, as when the disk is full, is stored later: the
// message is not tried again because of that, since the other server may have it.
func (o *outcomes) record(ctx context.Context) {
	if len(o.rest.Results) > 0 {
		o.store(ctx, func(ctx context.Context) error { return o.q.recorder.do(ctx, o.rest) })
	}
	for _, t := range []*told{&o.failed, &o.relayed, &o.delayed} {
		if len(t.list) == 0 {
			continue
		}
		t.op.Queue, t.op.Warned = o.msg.ID, t.kind == dsn.Delayed
		rep := dsn.Report{
			Kind: t.kind, Hostname: o.q.State.Current().System.Hostname, To: o.q.sender(o.msg.From), EnvID: o.msg.EnvID,
			Arrived: time.Unix(0, o.msg.Created), Now: o.q.Now(), Rcpts: t.list,
			Full: t.kind == dsn.Failed && o.msg.Ret == "FULL" && o.msg.Size <= dsn.MaxFull, // RFC 3461 §4.3
		}
		rep.Original = o.q.original(o.msg, rep.Full)
		raw := rep.Build()
		o.store(ctx, func(ctx context.Context) error { return o.q.Notify(ctx, o.msg.From, raw, t.op) })
	}
}

// Waits between attempts to store an outcome.
const (
	storeAgain = 100 * time.Millisecond
	storeMost  = time.Minute
)

// store stores an outcome, again and again if it must, until the queue stops or another node acts.
func (o *outcomes) store(ctx context.Context, do func(context.Context) error) {
	for wait := storeAgain; ; wait = min(2*wait, storeMost) {
		err := do(context.WithoutCancel(ctx))
		if err == nil || errors.Is(err, state.ErrNotFound) { // the message was cleared meanwhile
			return
		}
		o.q.Log.Error("outcome of a delivery attempt not stored; that is tried again, and should this server stop before, the message may arrive twice", "queue", uint64(o.msg.ID), "err", err)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if !o.q.Leading() {
			return
		}
	}
}

// sender is whom a notification names as its reader.
func (q *Queue) sender(from string) string {
	if q.Sender == nil {
		return from
	}
	return q.Sender(from)
}

// original reads a message, or its header, as it went out.
func (q *Queue) original(msg *model.QueueMessage, full bool) []byte {
	r, err := q.open(msg)
	if err != nil {
		return nil
	}
	defer r.Close()
	limit := int64(64 << 10)
	if full {
		limit = 2 * dsn.MaxFull // with the fields that a forward has put in front
	}
	raw, _ := io.ReadAll(io.LimitReader(r, limit))
	if i := bytes.Index(raw, []byte("\r\n\r\n")); i >= 0 && !full {
		raw = raw[:i+2]
	}
	return raw
}
