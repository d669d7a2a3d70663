package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/queue"
	"mailplusd/mail/remote"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
	"mailplusd/mail/store/segment"
)

// bench is a queue with a body that all messages share.
type bench struct {
	t    testing.TB
	st   *state.State
	q    *queue.Queue
	body model.BodyID
	size int64
	now  time.Time

	mu      sync.Mutex
	clock   time.Duration
	notices []string
}

func newBench(t testing.TB, d queue.Deliverer, set func(*model.Settings)) *bench {
	st, _ := statetest.Open(t)
	bodies, err := segment.Open(segment.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bodies.Close() })
	id, size, err := bodies.Put(context.Background(), []byte("Subject: x\r\n\r\ntext\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, st: st, body: model.BodyID(id), size: size, now: time.Now()}
	b.q = &queue.Queue{
		State: st, Remote: d, Leading: func() bool { return true }, MailLog: &events{}, Log: slog.New(slog.DiscardHandler), Now: b.time,
		Body: func(b model.BodyID) (*segment.Body, error) { return bodies.Open(segment.ID(b)) },
		Notify: func(ctx context.Context, to string, raw []byte, with state.Operation) error {
			b.mu.Lock()
			b.notices = append(b.notices, string(raw))
			b.mu.Unlock()
			return st.Do(ctx, []state.Operation{with})
		},
	}
	if set != nil {
		if err := st.ChangeSettings(context.Background(), func(s *model.Settings) error { set(s); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bench) time() time.Time { b.mu.Lock(); defer b.mu.Unlock(); return b.now.Add(b.clock) }

func (b *bench) skip(d time.Duration) { b.mu.Lock(); b.clock += d; b.mu.Unlock(); b.q.Wake() }

func (b *bench) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { b.q.Run(ctx); close(done) }()
	b.t.Cleanup(func() { cancel(); <-done })
}

// add queues one message for each address, 500 in an entry.
func (b *bench) add(from string, rcpts ...model.QueueRcpt) {
	var ops []state.Operation
	for _, r := range rcpts {
		_, r.Domain, _ = model.SplitAddress(r.Address)
		now := b.time().UnixNano()
		ops = append(ops, state.Deliver{Body: b.body, Size: b.size, Queue: &state.QueueAdd{
			Message: model.QueueMessage{From: from, Created: now, Expires: now + int64(120*time.Hour)}, Rcpts: []model.QueueRcpt{r},
		}})
		if len(ops) == 500 {
			b.do(ops)
			ops = nil
		}
	}
	b.do(ops)
}

func (b *bench) do(ops []state.Operation) {
	if len(ops) > 0 {
		if err := b.st.Do(context.Background(), ops); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) rows() (list []model.QueueRcpt) {
	b.st.QueueScan(0, func(_ *model.QueueMessage, rs []model.QueueRcpt) bool { list = append(list, rs...); return true })
	return list
}

func to(format string, n int) (list []model.QueueRcpt) {
	for i := range n {
		list = append(list, model.QueueRcpt{Address: fmt.Sprintf(format, i)})
	}
	return list
}

// netw is a deliverer that does as its destination's name says.
type netw struct {
	mu     sync.Mutex
	tried  map[string]int // by domain
	now    map[string]int
	most   map[string]int
	answer func(j remote.Job) remote.Result
	gate   chan struct{} // attempts to slow.test wait for it
}

func newNet() *netw {
	n := &netw{tried: map[string]int{}, now: map[string]int{}, most: map[string]int{}, gate: make(chan struct{})}
	n.answer = func(j remote.Job) remote.Result {
		if strings.HasPrefix(j.Domain, "dead") {
			return remote.Result{Outcome: model.OutcomeDeferred, Reason: "can't connect to 192.0.2.1:25: connection refused", Down: true, Remote: "mx.dead.test [192.0.2.1]"}
		}
		return remote.Result{Outcome: model.OutcomeDelivered, Code: 250, Reason: "250 ok"}
	}
	return n
}

func (n *netw) Deliver(ctx context.Context, j remote.Job) (out []remote.Result) {
	n.mu.Lock()
	n.tried[j.Domain]++
	n.now[j.Domain]++
	n.most[j.Domain] = max(n.most[j.Domain], n.now[j.Domain])
	n.mu.Unlock()
	if j.Domain == "slow.test" {
		select {
		case <-n.gate:
		case <-ctx.Done():
		}
	}
	n.mu.Lock()
	n.now[j.Domain]--
	answer := n.answer
	n.mu.Unlock()
	for _, r := range j.Rcpts {
		res := answer(j)
		res.N = r.N
		out = append(out, res)
	}
	return out
}

func (n *netw) count(domain string) int { n.mu.Lock(); defer n.mu.Unlock(); return n.tried[domain] }

// A thousand messages for a slow destination, and as many for a dead one, in front of one for
// another: it goes out at once, and the dead one is not asked a thousand times.
func TestDestinationsDontHoldEachOtherUp(t *testing.T) {
	// covers: I.28 I.30
	n := newNet()
	b := newBench(t, n, nil)
	b.add("a@b.test", to("u%d@slow.test", 1000)...)
	b.add("a@b.test", to("u%d@dead.test", 1000)...)
	b.add("a@b.test", to("u%d@quick.test", 10)...)
	b.run()
	until(t, "the quick ones are sent", func() bool { return n.count("quick.test") == 10 })
	until(t, "the dead destination's mail is put off", func() bool {
		waiting := 0
		for _, r := range b.rows() {
			if r.Domain == "dead.test" && r.State == model.QueueDeferred {
				waiting++
			}
		}
		return waiting == 1000
	})
	if c := n.count("dead.test"); c > 2 {
		t.Errorf("the dead destination was tried %d times", c)
	}
	untried := 0
	for _, r := range b.rows() {
		if r.Domain == "dead.test" && strings.HasPrefix(r.Reason, "not tried, dead.test is down: can't connect") && r.Attempts == 0 {
			untried++
		}
	}
	if untried < 998 {
		t.Errorf("%d say that they were not tried", untried)
	}
	if b.q.DownUntil("dead.test").IsZero() || !b.q.DownUntil("quick.test").IsZero() {
		t.Error("which destination is down is not known")
	}
	before := n.count("dead.test")
	b.skip(7 * time.Minute)
	until(t, "it is probed again", func() bool { return n.count("dead.test") > before })
	n.mu.Lock()
	n.answer = func(remote.Job) remote.Result { return remote.Result{Outcome: model.OutcomeDelivered, Code: 250} }
	n.mu.Unlock()
	close(n.gate)
	until(t, "everything is sent when it is back", func() bool { b.skip(10 * time.Minute); return len(b.rows()) == 0 })
	if n.count("slow.test") != 1000 || n.most["slow.test"] > 5 {
		t.Errorf("slow.test: %d attempts, %d at a time", n.count("slow.test"), n.most["slow.test"])
	}
}

// Mail that waits for a destination that is down for ever comes back all the same.
func TestDownForFiveDays(t *testing.T) {
	// covers: R10.53 I.28
	n := newNet()
	b := newBench(t, n, nil)
	b.add("a@b.test", to("u%d@dead.test", 20)...)
	b.run()
	until(t, "all are given up", func() bool { b.skip(20 * time.Minute); return len(b.rows()) == 0 })
	if age := b.time().Sub(b.now); age < 119*time.Hour {
		t.Errorf("given up after %s", age)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.notices) != 20 {
		t.Errorf("%d notices for 20 messages", len(b.notices))
	}
	for _, text := range b.notices {
		if !strings.Contains(text, "connection refused") || !strings.Contains(text, "Action: failed") {
			t.Fatalf("a notice without the cause:\n%s", text)
		}
	}
}

// A delay is told once for each message, to those who want it, and never to nobody.
func TestDelayWarning(t *testing.T) {
	// covers: I.28
	n := newNet()
	n.answer = func(remote.Job) remote.Result {
		return remote.Result{Outcome: model.OutcomeDeferred, Code: 450, Reason: "450 4.2.1 busy"}
	}
	b := newBench(t, n, func(s *model.Settings) { s.Queue.DelayWarnHours = 4 })
	b.add("a@b.test", model.QueueRcpt{Address: "x@c.test"}, model.QueueRcpt{Address: "never@c.test", Notify: "FAILURE"})
	b.add("", model.QueueRcpt{Address: "bounce@c.test"})
	b.run()
	told := func() int { b.mu.Lock(); defer b.mu.Unlock(); return len(b.notices) }
	for n.count("c.test") < 9 {
		if b.time().Sub(b.now) < 3*time.Hour+50*time.Minute && told() > 0 {
			t.Fatal("told too early")
		}
		b.skip(10 * time.Minute)
		time.Sleep(time.Millisecond) // the clock is the test's own; this only gives way
	}
	until(t, "the sender is told", func() bool { b.skip(10 * time.Minute); return told() > 0 })
	more := n.count("c.test") + 9
	until(t, "further attempts", func() bool { b.skip(10 * time.Minute); return n.count("c.test") >= more })
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.notices) != 1 {
		t.Fatalf("%d notices:\n%s", len(b.notices), strings.Join(b.notices, "\n"))
	}
	for _, want := range []string{"Action: delayed", "x@c.test", "450 4.2.1 busy", "Will-Retry-Until: ", "Status: 4.2.1"} {
		if !strings.Contains(b.notices[0], want) {
			t.Errorf("%q is not in\n%s", want, b.notices[0])
		}
	}
	if strings.Contains(b.notices[0], "never@c.test") {
		t.Error("told about a recipient whose NOTIFY has no DELAY")
	}
}

// Success is told by the server that the message was passed to, if it can.
func TestSuccessIsToldOnce(t *testing.T) {
	for _, passed := range []bool{false, true} {
		n := newNet()
		n.answer = func(remote.Job) remote.Result {
			return remote.Result{Outcome: model.OutcomeDelivered, Code: 250, Reason: "250 ok", DSN: passed}
		}
		b := newBench(t, n, nil)
		b.add("a@b.test", model.QueueRcpt{Address: "x@c.test", Notify: "SUCCESS"})
		b.run()
		until(t, "sent", func() bool { return len(b.rows()) == 0 })
		b.mu.Lock()
		if (len(b.notices) == 0) != passed {
			t.Errorf("passed on %v: %d notices", passed, len(b.notices))
		}
		b.mu.Unlock()
	}
}

// A recipient remembers its last attempts, no more than ten.
func TestTriesAreRemembered(t *testing.T) {
	// covers: R10.51
	n := newNet()
	i := 0
	n.answer = func(remote.Job) remote.Result {
		i++
		return remote.Result{Outcome: model.OutcomeDeferred, Code: 450, Reason: fmt.Sprintf("450 try %d %s", i, strings.Repeat("é", 400)), Remote: "mx [192.0.2.1]", TLS: "TLS 1.3"}
	}
	b := newBench(t, n, nil)
	b.add("a@b.test", model.QueueRcpt{Address: "x@c.test"})
	b.run()
	until(t, "15 attempts", func() bool {
		b.skip(time.Hour)
		rows := b.rows()
		return len(rows) == 1 && rows[0].Attempts == 15
	})
	tries, err := state.Tries(&b.rows()[0])
	if err != nil || len(tries) != model.MaxTries {
		t.Fatalf("%d tries, %v", len(tries), err)
	}
	if last := tries[len(tries)-1]; !strings.HasPrefix(last.Reason, "450 try 15") || last.Code != 450 || last.TLS != "TLS 1.3" || last.At <= tries[0].At || len(last.Reason) > 300 {
		t.Errorf("%+v", last)
	}
}

// Routes: recipients of different domains that go the same way are one attempt.
func TestRoutes(t *testing.T) {
	n := newNet()
	var mu sync.Mutex
	var got []remote.Job
	n.answer = func(j remote.Job) remote.Result {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, j)
		return remote.Result{Outcome: model.OutcomeDelivered, Code: 250}
	}
	b := newBench(t, n, nil)
	relay := &remote.Route{Host: "relay.test", Port: 587, TLS: remote.TLSRequire}
	b.q.Route = func(_ *model.QueueMessage, r *model.QueueRcpt) *remote.Route {
		if r.Domain == "direct.test" {
			return nil
		}
		return relay
	}
	add := &state.QueueAdd{Message: model.QueueMessage{From: "a@b.test", Created: b.now.UnixNano(), Expires: b.now.Add(time.Hour).UnixNano()}}
	for _, a := range []string{"x@one.test", "y@direct.test", "z@two.test"} {
		_, domain, _ := model.SplitAddress(a)
		add.Rcpts = append(add.Rcpts, model.QueueRcpt{Address: a, Domain: domain})
	}
	b.do([]state.Operation{state.Deliver{Body: b.body, Size: b.size, Queue: add}})
	b.run()
	until(t, "sent", func() bool { return len(b.rows()) == 0 })
	n.mu.Lock()
	defer n.mu.Unlock()
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 3 || n.tried["one.test"]+n.tried["two.test"] != 1 || n.tried["direct.test"] != 1 {
		t.Errorf("%d results, attempts %v", len(got), n.tried)
	}
	for _, j := range got {
		if (j.Route == nil) != (j.Domain == "direct.test") {
			t.Errorf("%s goes by %+v", j.Domain, j.Route)
		}
	}
}
