// Package queue delivers what waits for other servers: it takes recipients whose turn has
// come, groups them by message and destination, tries, and records what happened in the
// replicated state. Destinations don't hold each other up.
package queue

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"mailplusd/mail/dsn"
	"mailplusd/mail/maillog"
	"mailplusd/mail/model"
	"mailplusd/mail/remote"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
)

// Deliverer tries a destination.
type Deliverer interface {
	Deliver(ctx context.Context, j remote.Job) []remote.Result
}

// State is what the queue reads and writes.
type State interface {
	DueBefore(at int64, limit int) ([]state.Due, int64, error)
	Queued(id model.QueueID) (model.QueueMessage, []model.QueueRcpt, error)
	WatchTopic(state.Topic) *state.Watch
	Do(ctx context.Context, ops []state.Operation, out ...any) error
	Current() *model.Settings
}

// Queue is the scheduler of one node; it works only while the node leads.
type Queue struct {
	State   State
	Remote  Deliverer
	Body    func(model.BodyID) (*segment.Body, error)
	Notify  func(ctx context.Context, to string, raw []byte, with state.Operation) error // delivers a DSN in the entry of with
	Leading func() bool
	// Node is this node's number, and whether there is another one: then attempts are noted
	// before they begin, so that a node that takes over doesn't repeat at once what may have
	// arrived. nil: this node is alone.
	Node func() (number uint16, paired bool)
	// Route gives the way to a recipient's destination; nil, or a nil result: by MX of its domain.
	// It is asked often and must answer from memory.
	Route   func(msg *model.QueueMessage, r *model.QueueRcpt) *remote.Route
	MailLog maillog.Emitter
	Log     *slog.Logger
	Now     func() time.Time

	mu     sync.Mutex
	active map[key]bool   // being tried
	dest   map[string]int // attempts per destination
	wg     sync.WaitGroup
	kick   chan struct{}
}

type key struct {
	id model.QueueID
	n  uint32
}

// Processing tells whether a recipient is being tried right now.
func (q *Queue) Processing(id model.QueueID, n uint32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.active[key{id, n}]
}

const dueBatch = 2000

// Run works until the context ends, and returns when no attempt is under way.
func (q *Queue) Run(ctx context.Context) {
	q.mu.Lock()
	q.active, q.dest, q.kick = map[key]bool{}, map[string]int{}, make(chan struct{}, 1)
	q.mu.Unlock()
	w := q.State.WatchTopic(state.TopicQueue)
	defer w.Close()
	defer q.wg.Wait()
	acting := false
	for {
		wait := time.Hour
		if !q.Leading() {
			acting = false
		} else if !acting {
			acting = q.takeOver(ctx)
		}
		if acting {
			next := q.start(ctx)
			if next > 0 {
				wait = min(wait, max(time.Unix(0, next).Sub(q.Now()), 10*time.Millisecond))
			}
		} else {
			wait = time.Second
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-w.C():
		case <-q.kick:
		case <-t.C:
		}
		t.Stop()
	}
}

func (q *Queue) node() (number uint16, paired bool) {
	if q.Node == nil {
		return 0, false
	}
	return q.Node()
}

// takeOver has what another node may be trying wait, before this one begins to deliver.
func (q *Queue) takeOver(ctx context.Context) bool {
	number, paired := q.node()
	if !paired {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out state.Changed
	err := q.State.Do(ctx, []state.Operation{state.Takeover{Node: number, Delay: state.TakeoverDelay}}, &out)
	if err != nil {
		q.Log.Warn("queue not taken over yet", "err", err)
		return false
	}
	if out.N > 0 {
		q.Log.Warn("attempts were under way on the other node; they are repeated later, as their outcome is not known", "recipients", out.N)
	}
	return true
}

// start begins attempts for what is due and gives the time of the next one.
func (q *Queue) start(ctx context.Context) (next int64) {
	now := q.Now()
	due, next, err := q.State.DueBefore(now.UnixNano(), dueBatch)
	if err != nil {
		q.Log.Error("queue can't be read", "err", err)
		return now.Add(time.Second).UnixNano()
	}
	set := q.State.Current().Queue
	byMessage := map[model.QueueID][]uint32{}
	var order []model.QueueID
	var begun []attempt
	q.mu.Lock()
	for _, d := range due {
		if q.active[key{d.Queue, d.N}] {
			continue
		}
		if byMessage[d.Queue] == nil {
			order = append(order, d.Queue)
		}
		byMessage[d.Queue] = append(byMessage[d.Queue], d.N)
	}
	q.mu.Unlock()
	for _, id := range order {
		msg, rcpts, err := q.State.Queued(id)
		if err != nil {
			continue // cleared meanwhile
		}
		for _, a := range q.group(&msg, rcpts, byMessage[id]) {
			if q.reserve(msg.ID, a.dest, a.list, set) {
				begun = append(begun, a)
			}
		}
	}
	if err := q.note(ctx, begun); err != nil {
		q.Log.Warn("attempts can't be noted, so they don't begin", "err", err)
		for _, a := range begun {
			q.free(a)
		}
		return now.Add(time.Second).UnixNano()
	}
	for _, a := range begun {
		q.wg.Add(1)
		go func() {
			defer q.wg.Done()
			q.attempt(ctx, &a)
			q.free(a)
			q.Wake()
		}()
	}
	return next
}

// attempt is one message to one destination.
type attempt struct {
	msg    model.QueueMessage
	dest   string        // what limits count by
	domain string        // of all recipients, unless there is a route
	route  *remote.Route // nil: by MX of domain
	list   []model.QueueRcpt
}

// way is what recipients of one attempt have in common.
type way struct {
	domain string
	route  remote.Route // zero: none
}

// group puts those recipients whose numbers are given together that go the same way.
func (q *Queue) group(msg *model.QueueMessage, rcpts []model.QueueRcpt, numbers []uint32) (out []attempt) {
	at := map[way]int{}
	for _, r := range rcpts {
		if !slices.Contains(numbers, r.N) {
			continue
		}
		var route *remote.Route
		if q.Route != nil {
			route = q.Route(msg, &r)
		}
		w := way{domain: r.Domain}
		if route != nil {
			w = way{route: *route}
		}
		i, ok := at[w]
		if !ok {
			i = len(out)
			at[w] = i
			out = append(out, attempt{msg: *msg, dest: remote.Destination(route, r.Domain), domain: r.Domain, route: route})
		}
		out[i].list = append(out[i].list, r)
	}
	return out
}

// note records the attempts that are about to begin, all in one entry. A node that is alone doesn't.
func (q *Queue) note(ctx context.Context, begun []attempt) error {
	number, paired := q.node()
	if !paired || len(begun) == 0 {
		return nil
	}
	op := state.Started{Node: number}
	for _, a := range begun {
		for _, r := range a.list {
			op.Rcpts = append(op.Rcpts, state.StartedFor{Queue: a.msg.ID, N: r.N})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return q.State.Do(ctx, []state.Operation{op})
}

// reserve takes a place for an attempt unless the destination, or everything, has enough of
// them; then it is tried again when one of those ends.
func (q *Queue) reserve(id model.QueueID, dest string, list []model.QueueRcpt, set model.Queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	total := 0
	for _, n := range q.dest {
		total += n
	}
	if q.dest[dest] >= set.PerDestination || total >= set.Concurrency {
		return false
	}
	q.dest[dest]++
	for _, r := range list {
		q.active[key{id, r.N}] = true
	}
	return true
}

func (q *Queue) free(a attempt) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dest[a.dest]--; q.dest[a.dest] == 0 {
		delete(q.dest, a.dest)
	}
	for _, r := range a.list {
		delete(q.active, key{a.msg.ID, r.N})
	}
}

// Wake makes the queue look again: the clock has moved, or a destination has room.
func (q *Queue) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// attempt tries once and records the outcome.
func (q *Queue) attempt(ctx context.Context, at *attempt) {
	msg, list := at.msg, at.list
	tctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	j := remote.Job{From: msg.From, EnvID: msg.EnvID, Ret: msg.Ret, Domain: at.domain, Route: at.route, Rcpts: list, UTF8: msg.UTF8, EightBit: msg.EightBit,
		Size: msg.Size - int64(msg.Skip), Open: func() (io.ReadCloser, error) { return q.open(&msg) }}
	results := q.Remote.Deliver(tctx, j)
	if ctx.Err() != nil {
		return // stopping: what is not known to be delivered is tried again
	}
	op := state.Attempt{Queue: msg.ID}
	var failed, relayed []dsn.Rcpt
	for i := range results {
		res, r := &results[i], rcpt(list, results[i].N)
		a := q.judge(&msg, r, res)
		op.Results = append(op.Results, a)
		q.report(&msg, r, a)
		d := dsn.Rcpt{Address: r.Address, ORcpt: r.ORcpt, Code: a.Code, Reason: a.Reason, Remote: a.Remote, At: q.Now()}
		switch {
		case a.Outcome == model.OutcomeFailed && dsn.Wanted(r, dsn.Failed):
			failed = append(failed, d)
		case a.Outcome == model.OutcomeDelivered && dsn.Wanted(r, dsn.Relayed):
			relayed = append(relayed, d)
		}
	}
	q.record(ctx, &msg, op, failed, relayed)
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

// record stores the outcome, and a notification to the sender in the same entry. A message without
// sender gets none (RFC 5321 §6.1).
func (q *Queue) record(ctx context.Context, msg *model.QueueMessage, op state.Attempt, failed, relayed []dsn.Rcpt) {
	ctx = context.WithoutCancel(ctx)
	var err error
	kind, list := dsn.Failed, failed
	if len(failed) == 0 {
		kind, list = dsn.Relayed, relayed
	}
	if len(list) > 0 && msg.From != "" {
		rep := dsn.Report{
			Kind: kind, Hostname: q.State.Current().System.Hostname, To: msg.From, EnvID: msg.EnvID,
			Arrived: time.Unix(0, msg.Created), Now: q.Now(), Rcpts: list, Header: q.header(msg),
		}
		err = q.Notify(ctx, msg.From, rep.Build(), op)
	} else {
		err = q.State.Do(ctx, []state.Operation{op})
	}
	if err != nil {
		q.Log.Error("delivery attempt not recorded; it is tried again and may arrive twice", "queue", uint64(msg.ID), "err", err)
	}
}

// open reads a message as it goes out: without the Return-Path of local delivery.
func (q *Queue) open(msg *model.QueueMessage) (io.ReadCloser, error) {
	b, err := q.Body(msg.Body)
	if err != nil {
		return nil, err
	}
	if _, err := b.Seek(int64(msg.Skip), io.SeekStart); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (q *Queue) header(msg *model.QueueMessage) []byte {
	r, err := q.open(msg)
	if err != nil {
		return nil
	}
	defer r.Close()
	raw, _ := io.ReadAll(io.LimitReader(r, 64<<10))
	if i := bytes.Index(raw, []byte("\r\n\r\n")); i >= 0 {
		raw = raw[:i+2]
	}
	return raw
}

// report writes a line of the mail log: sent or bounced per remote recipient (R10.77, R10.79).
func (q *Queue) report(msg *model.QueueMessage, r *model.QueueRcpt, a state.AttemptResult) {
	ev := maillog.Event{
		TraceID: msg.TraceID, MessageID: msg.MessageID, Sender: msg.From, Recipient: r.Address, Subject: msg.Subject, Size: msg.Size,
		Remote: a.Remote, Code: a.Code, Reason: a.Reason,
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
	q.Log.Info("delivery", "id", msg.TraceID, "queue", uint64(msg.ID), "to", r.Address, "outcome", string(a.Outcome), "remote", a.Remote, "tls", a.TLS, "reason", a.Reason)
}
