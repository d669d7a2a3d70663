package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"mailplusd/mail/maillog"
	"mailplusd/mail/model"
	"mailplusd/mail/remote"
	"mailplusd/mail/state"
)

// attempt is one message on one way.
type attempt struct {
	dest   string // what limits count by
	entry  entry
	msg    model.QueueMessage
	domain string        // of all recipients, unless there is a route
	route  *remote.Route // nil: by MX of domain
	list   []model.QueueRcpt
}

// way is what recipients of one attempt have in common.
type way struct {
	domain string
	route  remote.Route // zero: none
}

// load reads what an attempt is about, and tells whether there is anything to try. Recipients
// that go another way by now are put back.
func (q *Queue) load(a *attempt) bool {
	msg, rcpts, err := q.State.QueuedSome(a.entry.id, a.entry.numbers())
	if err != nil {
		if !errors.Is(err, state.ErrNotFound) {
			q.Log.Error("queue can't be read", "queue", uint64(a.entry.id), "err", err)
			q.rescan()
			time.AfterFunc(time.Second, q.Wake)
		}
		q.cancel(a)
		return false
	}
	q.mu.Lock()
	horizon := q.sched.at.At
	q.mu.Unlock()
	a.msg = msg
	keep := map[uint32]bool{}
	var first way
	var back []state.Due
	for _, r := range rcpts {
		if r.State == model.QueueHeld || r.Next > horizon {
			continue
		}
		w, route := way{domain: r.Domain}, q.route(&msg, &r)
		if route != nil {
			w = way{route: *route}
		}
		if len(a.list) > 0 && w != first || remote.Destination(route, r.Domain) != a.dest {
			back = append(back, state.Due{Queue: msg.ID, N: r.N})
			continue
		}
		if len(a.list) == 0 {
			first, a.domain, a.route = w, r.Domain, route
		}
		a.list = append(a.list, r)
		keep[r.N] = true
	}
	if len(a.list) == 0 {
		q.cancel(a)
	}
	q.mu.Lock()
	for _, n := range a.entry.numbers() {
		if len(a.list) > 0 && !keep[n] {
			q.unmark(msg.ID, []uint32{n})
		}
	}
	q.sched.again = append(q.sched.again, back...)
	q.mu.Unlock()
	if len(a.list) == 0 {
		if len(back) > 0 {
			q.Wake()
		}
		return false
	}
	a.entry = entry{id: msg.ID, n: a.list[0].N}
	for _, r := range a.list[1:] {
		a.entry.etc = append(a.entry.etc, r.N)
	}
	return true
}

// attempt tries once and records the outcome.
func (q *Queue) attempt(ctx context.Context, a *attempt) {
	defer q.done(&a.entry)
	msg := &a.msg
	results := q.Remote.Deliver(ctx, remote.Job{
		From: msg.From, EnvID: msg.EnvID, Ret: msg.Ret, Domain: a.domain, Route: a.route, Rcpts: a.list, UTF8: msg.UTF8, EightBit: msg.EightBit,
		Size: msg.Size - int64(msg.Skip) + int64(len(msg.Prefix)), Open: func() (io.ReadCloser, error) { return q.open(msg) },
	})
	down, reason := len(results) > 0, ""
	for i := range results {
		if down = down && results[i].Down; down {
			reason = results[i].Reason
		}
	}
	if ctx.Err() != nil {
		q.over(a.dest, false, "")
		return // stopping: what is not known to be delivered is tried again
	}
	q.over(a.dest, down, reason)
	o := outcomes{q: q, msg: msg}
	for i := range results {
		r := rcpt(a.list, results[i].N)
		res := q.judge(msg, r, &results[i])
		q.report(msg, r, &res, &results[i])
		o.add(r, res, results[i].DSN)
	}
	o.record(ctx)
}

// putOff has what waits for a destination that rests wait until it is tried again.
func (q *Queue) putOff(ctx context.Context, d *delay) {
	const batch = 200
	for list := d.list; len(list) > 0; {
		n := min(len(list), batch)
		var ops []state.Operation
		for _, e := range list[:n] {
			if ctx.Err() != nil {
				break
			}
			msg, rcpts, err := q.State.QueuedSome(e.id, e.numbers())
			if err != nil {
				if !errors.Is(err, state.ErrNotFound) {
					q.rescan()
				}
				continue
			}
			o := outcomes{q: q, msg: &msg}
			for i := range rcpts {
				if rcpts[i].State == model.QueueHeld {
					continue
				}
				res := remote.Result{N: rcpts[i].N, Outcome: model.OutcomeDeferred, Reason: fmt.Sprintf("not tried, %s is down: %s", d.dest, d.reason)}
				a := q.judge(&msg, &rcpts[i], &res)
				if a.Waiting = a.Outcome == model.OutcomeDeferred; a.Waiting {
					a.Next = min(q.spread(d.until), msg.Expires)
				} else {
					q.report(&msg, &rcpts[i], &a, &res)
				}
				o.add(&rcpts[i], a, false)
			}
			if o.silent() {
				ops = append(ops, o.rest)
			} else {
				o.record(ctx)
			}
		}
		if err := q.recorder.do(ctx, ops...); err != nil && ctx.Err() == nil {
			q.Log.Warn("mail for a destination that is down not put off; it is looked at again", "destination", d.dest, "err", err)
			t := time.NewTimer(time.Second)
			select {
			case <-ctx.Done():
			case <-t.C:
			}
			t.Stop()
			q.rescan()
		}
		q.mu.Lock()
		for _, e := range list[:n] {
			q.unmark(e.id, e.numbers())
		}
		q.mu.Unlock()
		list = list[n:]
	}
	q.Wake()
}

// spread sets a time behind until, later by up to an eighth of the wait.
func (q *Queue) spread(until time.Time) int64 {
	wait := max(until.Sub(q.Now()), 0)
	return until.UnixNano() + rand.Int64N(int64(wait)/8+1)
}

func rcpt(list []model.QueueRcpt, n uint32) *model.QueueRcpt {
	for i := range list {
		if list[i].N == n {
			return &list[i]
		}
	}
	return &model.QueueRcpt{N: n}
}

// judge turns a failure for now into one for good when the message's life time has run out, and
// otherwise sets the next attempt: doubled each time, with a little disorder.
func (q *Queue) judge(msg *model.QueueMessage, r *model.QueueRcpt, res *remote.Result) state.AttemptResult {
	a := state.AttemptResult{N: res.N, Outcome: res.Outcome, Code: res.Code, Reason: res.Reason, Remote: res.Remote, TLS: res.TLS}
	if a.Outcome != model.OutcomeDeferred {
		return a
	}
	now, set := q.Now(), q.State.Current().Queue
	if now.UnixNano() >= msg.Expires {
		a.Outcome = model.OutcomeFailed
		a.Reason = "not delivered within " + time.Duration(msg.Expires-msg.Created).Round(time.Minute).String() + "; the last answer was: " + a.Reason
		return a
	}
	wait := Backoff(r.Attempts, set)
	wait += time.Duration(rand.Int64N(int64(wait)/8 + 1))
	a.Next = min(now.Add(wait).UnixNano(), msg.Expires)
	return a
}

// Backoff is the wait behind an attempt: min-backoff, doubled each time, max-backoff at most (I.28).
func Backoff(attempts uint32, set model.Queue) time.Duration {
	wait, most := time.Duration(set.MinBackoffSec)*time.Second, time.Duration(set.MaxBackoffSec)*time.Second
	for range min(attempts, 30) {
		if wait *= 2; wait >= most {
			return most
		}
	}
	return min(wait, most)
}

// open reads a message as it goes out: without the Return-Path of local delivery, and with what a
// forward puts in front.
func (q *Queue) open(msg *model.QueueMessage) (io.ReadCloser, error) {
	b, err := q.Body(msg.Body)
	if err != nil {
		return nil, err
	}
	if _, err := b.Seek(int64(msg.Skip), io.SeekStart); err != nil {
		b.Close()
		return nil, err
	}
	if len(msg.Prefix) == 0 {
		return b, nil
	}
	return &prefixed{Reader: io.MultiReader(bytes.NewReader(msg.Prefix), b), Closer: b}, nil
}

type prefixed struct {
	io.Reader
	io.Closer
}

// report writes a line of the mail log: sent or bounced per remote recipient (R10.77, R10.79).
func (q *Queue) report(msg *model.QueueMessage, r *model.QueueRcpt, a *state.AttemptResult, res *remote.Result) {
	ev := maillog.Event{
		TraceID: msg.TraceID, MessageID: msg.MessageID, Sender: msg.From, Recipient: r.Address, Subject: msg.Subject, Size: msg.Size,
		Remote: a.Remote, Code: a.Code, Reason: a.Reason, TLS: a.TLS,
	}
	switch a.Outcome {
	case model.OutcomeDelivered:
		ev.Type, ev.Status = maillog.Sent, maillog.Sent
	case model.OutcomeFailed:
		ev.Type, ev.Status = maillog.Bounced, maillog.Bounced
	default:
		ev.Type = maillog.Deferred
	}
	q.MailLog.Emit(ev)
	args := []any{"id", msg.TraceID, "queue", uint64(msg.ID), "to", r.Address, "outcome", string(a.Outcome), "remote", a.Remote, "tls", a.TLS, "reason", a.Reason}
	if res.Note != "" {
		args = append(args, "note", res.Note)
	}
	if res.Doubt {
		q.Log.Warn("delivery; the connection was lost between the end of the text and its answer: the message may have arrived, and may arrive twice", args...)
		return
	}
	q.Log.Info("delivery", args...)
}
