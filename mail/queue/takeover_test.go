package queue_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/queue"
	"mailplusd/mail/remote"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
	"mailplusd/mail/store/segment"
)

// hang is a destination whose answer never comes.
type hang struct{ begun chan struct{} }

func (h *hang) Deliver(ctx context.Context, _ remote.Job) []remote.Result {
	close(h.begun)
	<-ctx.Done()
	return nil
}

// The node that was sending dies with its answer outstanding: the other one leaves the
// message alone for five minutes, says why, and then sends it.
func TestTakenOverQueueWaits(t *testing.T) {
	// covers: I.77
	st, _ := statetest.Open(t)
	bodies, err := segment.Open(segment.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer bodies.Close()
	ctx := context.Background()
	id, size, err := bodies.Put(ctx, []byte("Subject: x\r\n\r\ntext\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Do(ctx, []state.Operation{state.EpochStart{Epoch: 1, Owner: "a", Phase: state.PhasePair}}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := st.Do(ctx, []state.Operation{state.Deliver{Body: model.BodyID(id), Size: size, Queue: &state.QueueAdd{
		Message: model.QueueMessage{From: "a@b.test", Created: start.UnixNano(), Expires: start.Add(time.Hour * 120).UnixNano()},
		Rcpts:   []model.QueueRcpt{{Address: "x@c.test", Domain: "c.test"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	var clock atomic.Int64
	clock.Store(start.UnixNano())
	node := func(number uint16, d queue.Deliverer) (*queue.Queue, func()) {
		q := &queue.Queue{
			State: st, Remote: d, Leading: func() bool { return true }, Node: func() (uint16, bool) { return number, true },
			MailLog: &events{}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(0, clock.Load()) },
			Body: func(b model.BodyID) (*segment.Body, error) { return bodies.Open(segment.ID(b)) },
		}
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { q.Run(ctx); close(done) }()
		return q, func() { cancel(); <-done }
	}
	h := &hang{begun: make(chan struct{})}
	_, die := node(0, h)
	<-h.begun
	die()

	s := &script{answer: func(_ int, j remote.Job) []remote.Result { return all(j, model.OutcomeDelivered, 250, "ok") }}
	s.now = start
	q, stop := node(1, s)
	defer stop()
	var waiting model.QueueRcpt
	until(t, "the other node leaves it alone", func() bool {
		st.QueueScan(0, func(_ *model.QueueMessage, rs []model.QueueRcpt) bool { waiting = rs[0]; return true })
		return strings.Contains(waiting.Reason, "may arrive twice")
	})
	if wait := time.Unix(0, waiting.Next).Sub(start); wait < 4*time.Minute || wait > 6*time.Minute {
		t.Errorf("the next attempt is after %s", wait)
	}
	s.mu.Lock()
	early := len(s.times)
	s.mu.Unlock()
	if early != 0 {
		t.Fatalf("tried %d times at once", early)
	}
	clock.Store(start.Add(6 * time.Minute).UnixNano())
	until(t, "it is sent", func() bool {
		q.Wake()
		left := 0
		st.QueueScan(0, func(*model.QueueMessage, []model.QueueRcpt) bool { left++; return true })
		return left == 0
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.times) != 1 {
		t.Errorf("sent %d times by the second node", len(s.times))
	}
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in a minute: %s", what)
		}
	}
}
