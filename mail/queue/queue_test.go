package queue_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/mail/maillog"
	"mailplusd/mail/model"
	"mailplusd/mail/queue"
	"mailplusd/mail/remote"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
	"mailplusd/mail/store/segment"
)

// script answers attempts and moves the clock to the next one.
type script struct {
	mu     sync.Mutex
	now    time.Time
	answer func(attempt int, j remote.Job) []remote.Result
	times  []time.Time
}

func (s *script) Deliver(_ context.Context, j remote.Job) []remote.Result {
	if rc, err := j.Open(); err == nil {
		io.Copy(io.Discard, rc)
		rc.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, s.now)
	return s.answer(len(s.times), j)
}

func (s *script) clock() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now }

type events struct {
	mu   sync.Mutex
	list []maillog.Event
}

func (e *events) Emit(ev maillog.Event) { e.mu.Lock(); e.list = append(e.list, ev); e.mu.Unlock() }

// run queues a message for rcpts and lets the queue work until it is empty.
func run(t *testing.T, rcpts []string, answer func(int, remote.Job) []remote.Result) (*script, *events, []string) {
	t.Helper()
	st, _ := statetest.Open(t)
	bodies, err := segment.Open(segment.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bodies.Close() })
	id, size, err := bodies.Put(context.Background(), []byte("Return-Path: <a@b.test>\r\nSubject: x\r\n\r\ntext\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := &script{now: time.Now(), answer: answer}
	add := &state.QueueAdd{Message: model.QueueMessage{From: "a@b.test", Skip: 25, Created: s.now.UnixNano(), Expires: s.now.Add(120 * time.Hour).UnixNano()}}
	for _, r := range rcpts {
		_, d, _ := model.SplitAddress(r)
		add.Rcpts = append(add.Rcpts, model.QueueRcpt{Address: r, Domain: d})
	}
	if err := st.Do(context.Background(), []state.Operation{state.Deliver{Body: model.BodyID(id), Size: size, Queue: add}}); err != nil {
		t.Fatal(err)
	}
	ev := &events{}
	var notices []string
	var mu sync.Mutex
	q := &queue.Queue{
		State: st, Remote: s, Leading: func() bool { return true }, MailLog: ev, Log: slog.New(slog.DiscardHandler), Now: s.clock,
		Body: func(b model.BodyID) (*segment.Body, error) { return bodies.Open(segment.ID(b)) },
		Notify: func(ctx context.Context, to string, raw []byte, with state.Operation) error {
			mu.Lock()
			notices = append(notices, to+"\n"+string(raw))
			mu.Unlock()
			return st.Do(ctx, []state.Operation{with})
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { q.Run(ctx); close(done) }()
	w := st.WatchTopic(state.TopicQueue)
	defer w.Close()
	for deadline := time.After(20 * time.Second); ; {
		empty := true
		var next int64
		st.QueueScan(0, func(_ *model.QueueMessage, rs []model.QueueRcpt) bool {
			empty = false
			for _, r := range rs {
				if next == 0 || r.Next < next {
					next = r.Next
				}
			}
			return true
		})
		if empty {
			break
		}
		s.mu.Lock()
		if at := time.Unix(0, next); at.After(s.now) {
			s.now = at.Add(time.Millisecond)
		}
		s.mu.Unlock()
		q.Wake()
		select {
		case <-w.C():
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatal("the queue does not get empty")
		}
	}
	cancel()
	<-done
	return s, ev, notices
}

func all(j remote.Job, o model.Outcome, code int, reason string) []remote.Result {
	var out []remote.Result
	for _, r := range j.Rcpts {
		out = append(out, remote.Result{N: r.N, Outcome: o, Code: code, Reason: reason, Remote: "mx.c.test [192.0.2.1]"})
	}
	return out
}

func TestBouncedAfterFiveDays(t *testing.T) {
	// covers: R10.53 R2.62 I.28 R10.79
	s, ev, notices := run(t, []string{"x@c.test"}, func(_ int, j remote.Job) []remote.Result {
		return all(j, model.OutcomeDeferred, 450, "450 4.2.0 try again later")
	})
	total := s.times[len(s.times)-1].Sub(s.times[0])
	if total < 119*time.Hour || total > 121*time.Hour {
		t.Errorf("tried for %s", total)
	}
	for i := 1; i < len(s.times); i++ {
		gap := s.times[i].Sub(s.times[i-1])
		if i == 1 && (gap < 5*time.Minute || gap > 6*time.Minute) || gap > 4*time.Hour+31*time.Minute {
			t.Errorf("wait %d is %s", i, gap)
		}
	}
	if len(notices) != 1 || !strings.HasPrefix(notices[0], "a@b.test\n") || !strings.Contains(notices[0], "450 4.2.0 try again later") ||
		!strings.Contains(notices[0], "Status: 4.2.0") || !strings.Contains(notices[0], "Final-Recipient: rfc822; x@c.test") || strings.Contains(notices[0], "Return-Path") {
		t.Errorf("notices: %v", notices)
	}
	if last := ev.list[len(ev.list)-1]; last.Status != maillog.Bounced || last.Recipient != "x@c.test" {
		t.Errorf("%+v", last)
	}
}

func TestRecipientsHaveTheirOwnFate(t *testing.T) {
	// covers: R10.77 R10.78
	s, ev, notices := run(t, []string{"ok@c.test", "bad@c.test", "later@c.test", "ok@d.test"}, func(n int, j remote.Job) []remote.Result {
		var out []remote.Result
		for _, r := range j.Rcpts {
			res := remote.Result{N: r.N, Outcome: model.OutcomeDelivered, Code: 250}
			if strings.HasPrefix(r.Address, "bad") {
				res = remote.Result{N: r.N, Outcome: model.OutcomeFailed, Code: 550, Reason: "550 5.1.1 unknown"}
			}
			if strings.HasPrefix(r.Address, "later") && n < 4 {
				res = remote.Result{N: r.N, Outcome: model.OutcomeDeferred, Code: 451, Reason: "greylisted"}
			}
			out = append(out, res)
		}
		return out
	})
	sent := map[string]int{}
	for _, e := range ev.list {
		if e.Status == maillog.Resent {
			t.Errorf("written though it is only known from old databases: %+v", e)
		}
		if e.Status != "" {
			sent[e.Status+" "+e.Recipient]++
		}
	}
	for _, want := range []string{"sent ok@c.test", "bounced bad@c.test", "sent later@c.test", "sent ok@d.test"} {
		if sent[want] != 1 {
			t.Errorf("%q is there %d times: %v", want, sent[want], sent)
		}
	}
	if len(notices) != 1 || !strings.Contains(notices[0], "bad@c.test") || strings.Contains(notices[0], "later@c.test") {
		t.Errorf("%v", notices)
	}
	_ = s
}
