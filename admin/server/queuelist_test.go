package server

import (
	"context"
	"fmt"
	"testing"
	"time"

	"mailplusd/admin/api"
	"mailplusd/mail"
	"mailplusd/mail/model"
	"mailplusd/mail/queue"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
)

// queueOf makes a server with n queued messages that have failed a few times.
func queueOf(t testing.TB, n int) *Server {
	st, _ := statetest.Open(t)
	ctx := context.Background()
	now := time.Now()
	for from := 0; from < n; from += 500 {
		var ops []state.Operation
		for i := from; i < min(from+500, n); i++ {
			domain := fmt.Sprintf("d%d.test", i%50)
			ops = append(ops, state.Deliver{Body: model.BodyID{1}, Size: int64(i), Queue: &state.QueueAdd{
				Message: model.QueueMessage{From: "a@b.test", Subject: "a subject", Created: now.Add(-time.Hour).UnixNano(), Expires: now.Add(time.Hour * 100).UnixNano()},
				Rcpts:   []model.QueueRcpt{{Address: fmt.Sprintf("user%d@%s", i, domain), Domain: domain}},
			}})
		}
		if err := st.Do(ctx, ops); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		for from := 1; from <= n; from += 500 {
			var ops []state.Operation
			for i := from; i < min(from+500, n+1); i++ {
				ops = append(ops, state.Attempt{Queue: model.QueueID(i), Results: []state.AttemptResult{{
					Outcome: model.OutcomeDeferred, Next: now.Add(time.Hour).UnixNano(), Code: 450, Reason: "450 4.2.0 greylisted, come back later", Remote: "mx.d.test [192.0.2.1]",
				}}})
			}
			if err := st.Do(ctx, ops); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &Server{mail: &mail.Server{State: st, Queue: &queue.Queue{Now: time.Now}}}
}

func TestQueueShowAndStats(t *testing.T) {
	// covers: R10.47 R10.51 R10.58
	s := queueOf(t, 120)
	steps, err := s.queueShow(context.Background(), nil, &api.QueueIn{ID: "7"})
	if err != nil || len(steps) != 4 {
		t.Fatalf("%+v %v", steps, err)
	}
	for i, what := range []string{"try 1", "try 2", "try 3", "next"} {
		if s := steps[i]; s.What != what || s.Reason != "450 4.2.0 greylisted, come back later" || s.At == "" || s.Rcpt != "user6@d6.test" {
			t.Errorf("%d: %+v", i, s)
		}
	}
	stats, err := s.queueStats(context.Background(), nil, &api.QueueStatsIn{Limit: 3})
	if err != nil || len(stats) != 3 {
		t.Fatalf("%+v %v", stats, err)
	}
	if st := stats[0]; st.Destination != "d0.test" || st.Recipients != 3 || st.Deferred != 3 || st.Oldest == "" || st.Reason == "" || st.Next == "" {
		t.Errorf("%+v", st)
	}
	if stats, err = s.queueStats(context.Background(), nil, &api.QueueStatsIn{QueueFilter: api.QueueFilter{Recipient: "user119@"}, Limit: 9}); err != nil || len(stats) != 1 || stats[0].Recipients != 1 {
		t.Errorf("filtered: %+v %v", stats, err)
	}
}

// BenchmarkQueueList lists and filters 100,000 queued messages.
func BenchmarkQueueList(b *testing.B) {
	s := queueOf(b, 100_000)
	for name, f := range map[string]api.QueueFilter{"all": {}, "domain": {Domain: "d7.test"}, "reason": {Reason: "nothing like it"}, "search": {Search: "user99999@"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.queueList(context.Background(), nil, &api.QueueListIn{QueueFilter: f, Limit: 1_000_000}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
