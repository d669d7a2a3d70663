package queue_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/queue"
	"mailplusd/mail/remote"
	"mailplusd/mail/state"
)

// faulty is a state that stores nothing as long as it is told so.
type faulty struct {
	queue.State
	broken atomic.Bool
	failed atomic.Int32
}

var errFull = errors.New("no space left on device")

func (f *faulty) Do(ctx context.Context, ops []state.Operation, out ...any) error {
	if f.broken.Load() {
		f.failed.Add(1)
		return errFull
	}
	return f.State.Do(ctx, ops, out...)
}

// TestFullDisk: while nothing can be stored no message is sent a second time; once there is room the
// outcomes are stored, and the sender is told once.
func TestFullDisk(t *testing.T) {
	// covers: I.28
	n := newNet()
	n.answer = func(j remote.Job) remote.Result {
		if j.Domain == "no.test" {
			return remote.Result{Outcome: model.OutcomeFailed, Code: 550, Reason: "550 5.1.1 nobody here"}
		}
		return remote.Result{Outcome: model.OutcomeDelivered, Code: 250, Reason: "250 ok"}
	}
	b := newBench(t, n, nil)
	f := &faulty{State: b.st}
	notify := b.q.Notify
	b.q.Notify = func(ctx context.Context, to string, raw []byte, with state.Operation) error {
		if f.broken.Load() {
			f.failed.Add(1)
			return errFull
		}
		return notify(ctx, to, raw, with)
	}
	b.q.State = f
	b.add("a@b.test", model.QueueRcpt{Address: "x@no.test"}, model.QueueRcpt{Address: "y@yes.test"})
	f.broken.Store(true)
	b.run()
	until(t, "both outcomes were refused more than once", func() bool { return f.failed.Load() >= 5 })
	b.skip(time.Hour) // the clock goes on: it is not their turn again
	until(t, "and again", func() bool { return f.failed.Load() >= 7 })
	if n.count("no.test") != 1 || n.count("yes.test") != 1 || len(b.rows()) != 2 {
		t.Errorf("%d and %d attempts, %d rows", n.count("no.test"), n.count("yes.test"), len(b.rows()))
	}
	f.broken.Store(false)
	until(t, "the queue is empty", func() bool { return len(b.rows()) == 0 })
	if n.count("no.test") != 1 || n.count("yes.test") != 1 {
		t.Errorf("%d and %d attempts in the end", n.count("no.test"), n.count("yes.test"))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.notices) != 1 || !strings.Contains(b.notices[0], "nobody here") {
		t.Errorf("notices: %q", b.notices)
	}
}

// TestDownOnAFullDisk: mail for a destination that is down, and can't be put off, is looked at again.
func TestDownOnAFullDisk(t *testing.T) {
	n := newNet()
	b := newBench(t, n, func(s *model.Settings) { s.Queue.PerDestination = 1 })
	f := &faulty{State: b.st}
	b.q.State = f
	b.add("a@b.test", to("u%d@dead.test", 20)...)
	answer := n.answer
	n.answer = func(j remote.Job) remote.Result { f.broken.Store(true); return answer(j) }
	b.run()
	until(t, "nothing can be stored", func() bool { return f.failed.Load() >= 3 })
	f.broken.Store(false)
	n.mu.Lock()
	n.answer = answer
	n.mu.Unlock()
	until(t, "all wait for the destination", func() bool {
		for _, r := range b.rows() {
			if r.Next <= b.time().UnixNano() {
				return false
			}
		}
		return true
	})
}
