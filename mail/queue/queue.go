// Package queue delivers what waits for other servers: it takes recipients whose turn has
// come, groups them by message and destination, tries, and records what happened in the
// replicated state. Destinations don't hold each other up: they get attempts in turns, each as
// many at a time as it has shown to bear, and one that is down rests with all of its mail.
package queue

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"mailplusd/mail/maillog"
	"mailplusd/mail/model"
	"mailplusd/mail/remote"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
)

// Deliverer tries a destination. If it has a method Close, that is called when Run ends.
type Deliverer interface {
	Deliver(ctx context.Context, j remote.Job) []remote.Result
}

// State is what the queue reads and writes.
type State interface {
	TakeDue() (list []state.Due, lost bool)
	DueFrom(from state.Due, at int64, limit int) ([]state.Due, int64, error)
	QueuedSome(id model.QueueID, numbers []uint32) (model.QueueMessage, []model.QueueRcpt, error)
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
	Route func(msg *model.QueueMessage, r *model.QueueRcpt) *remote.Route
	// Sender gives the address that a rewritten reverse path (package srs) was made from; nil: itself.
	Sender  func(from string) string
	MailLog maillog.Emitter
	Log     *slog.Logger
	Now     func() time.Time

	mu       sync.Mutex
	sched    schedule
	wg       sync.WaitGroup
	kick     chan struct{}
	recorder *recorder
}

type key struct {
	id model.QueueID
	n  uint32
}

// Processing tells whether a recipient is being tried right now.
func (q *Queue) Processing(id model.QueueID, n uint32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sched.marks[key{id, n}] != waits
}

// Run works until the context ends, and returns when no attempt is under way.
func (q *Queue) Run(ctx context.Context) {
	q.mu.Lock()
	q.sched, q.kick = newSchedule(), make(chan struct{}, 1)
	q.recorder = &recorder{state: q.State, in: make(chan recording), idle: make(chan struct{}, 1)}
	q.mu.Unlock()
	if c, ok := q.Remote.(interface{ Close() }); ok {
		defer c.Close()
	}
	w := q.State.WatchTopic(state.TopicQueue)
	defer w.Close()
	defer q.wg.Wait()
	acting := false
	for {
		wait, again := time.Hour, false
		if !q.Leading() {
			acting = false
		} else if !acting {
			if acting = q.takeOver(ctx); acting {
				q.forget()
			}
		}
		if acting {
			var next int64
			if again, next = q.start(ctx); next > 0 {
				wait = min(wait, max(time.Unix(0, next).Sub(q.Now()), 10*time.Millisecond))
			}
		} else {
			wait = time.Second
		}
		if again && ctx.Err() == nil {
			continue
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

// Wake makes the queue look again: the clock has moved, or a destination has room.
func (q *Queue) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case q.kick <- struct{}{}:
	default:
	}
}
