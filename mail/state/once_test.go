package state

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/model"
)

// shaky is a pair's log whose answers get lost.
type shaky struct {
	direct
	lose   []error // one for each try: nil answers, ErrUncertain commits first, ErrNoLeader doesn't
	tries  int
	seen   map[string]bool
	paired bool
}

func (s *shaky) Paired() bool { return s.paired }

func (s *shaky) ProposeOnce(ctx context.Context, data []byte) ([]byte, uint64, error) {
	s.tries++
	s.seen[string(data)] = true
	var lost error
	if len(s.lose) > 0 {
		lost, s.lose = s.lose[0], s.lose[1:]
	}
	if errors.Is(lost, ErrNoLeader) {
		return nil, 0, lost
	}
	res, index, err := s.direct.Propose(ctx, data)
	if lost != nil {
		return nil, 0, lost
	}
	return res, index, err
}

func openShaky(t testing.TB) (*State, *shaky) {
	s, _ := open(t)
	p := &shaky{direct: direct{s: s}, seen: map[string]bool{}, paired: true}
	s.SetProposer(p)
	return s, p
}

func TestDeliverOnceAcrossLeaders(t *testing.T) {
	s, p := openShaky(t)
	p.lose = []error{ErrNoLeader, ErrUncertain, ErrUncertain, ErrNoLeader, nil}
	out := deliver(t, s, 1, 1, 2)
	if p.tries != 5 || len(p.seen) != 1 {
		t.Fatalf("%d tries of %d different entries", p.tries, len(p.seen))
	}
	for _, l := range out.Local {
		m, err := s.Mailbox(l.Mailbox)
		if err != nil || m.Messages != 1 || l.UID != 1 {
			t.Fatalf("%+v %v", m, err)
		}
	}
	// Rows whose versions have moved on by their own first try.
	p.lose = []error{ErrUncertain, nil}
	if err := s.Update(context.Background(), func(tx *Tx) error { _, err := tx.Next("n"); return err }); err != nil {
		t.Fatal(err)
	}
	if row, err := Sequences.Get(s, "n"); err != nil || row.Last != 1 {
		t.Fatalf("%+v %v", row, err)
	}
}

func TestDoStopsTrying(t *testing.T) {
	s, p := openShaky(t)
	ctx, cancel := context.WithCancel(context.Background())
	p.lose = []error{ErrUncertain}
	for range 1000 {
		p.lose = append(p.lose, ErrNoLeader)
	}
	go func() { // while Do waits
		cancel()
	}()
	err := s.Do(ctx, []Operation{Counter{Name: "n", Add: 1}})
	if !errors.Is(err, ErrUncertain) || !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v: the caller must know that it may have happened", err)
	}
	p.paired = false
	p.tries = 0
	if err := s.Do(context.Background(), []Operation{Counter{Name: "n", Add: 1}}); err != nil || p.tries != 0 {
		t.Fatalf("a single node remembers nothing: %v", err)
	}
}

func TestOpIDNamesNodeAndEpoch(t *testing.T) {
	s, _ := open(t)
	s.node = 1
	alone(t, s, 0x0102)
	id, next := s.opID(), s.opID()
	if id.String()[:16] != "0001000000000102" || id == next {
		t.Fatalf("%s %s", id, next)
	}
}

func TestRememberedResultsAreTrimmedAlike(t *testing.T) {
	defer func(n uint64) { onceCount = n }(onceCount)
	onceCount = 10
	s, p := openShaky(t)
	other, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var entries [][]byte
	for i := range 100 {
		mustDo(t, s, Counter{Name: "n", Add: 1})
		entries = append(entries, p.log[len(p.log)-1].Data)
		_ = i
	}
	for _, e := range p.log { // one by one, with a restart of memory in between
		if _, err := other.Apply([]LogEntry{e}); err != nil {
			t.Fatal(err)
		}
	}
	if other.once != s.once {
		t.Fatalf("%+v, %+v", other.once, s.once)
	}
	count := func(s *State) (n int) {
		h := s.acquire()
		defer h.release()
		it, err := h.NewIter(rangeOf([]byte{spaceOp}))
		if err != nil {
			t.Fatal(err)
		}
		defer it.Close()
		for it.First(); it.Valid(); it.Next() {
			n++
		}
		return n
	}
	if n := count(s); n < 10 || n > 20 || n != count(other) {
		t.Fatalf("%d results remembered here, %d there", n, count(other))
	}
	// A late repetition of one of the last ten changes nothing.
	if _, _, err := p.direct.Propose(context.Background(), entries[95]); err != nil {
		t.Fatal(err)
	}
	if n, _ := s.Counter("n"); n != 100 {
		t.Fatalf("counted twice: %d", n)
	}
	// By age: an hour later everything old is forgotten after two generations.
	s.now = func() time.Time { return time.Now().Add(time.Hour) }
	mustDo(t, s, Counter{Name: "n", Add: 1})
	s.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	mustDo(t, s, Counter{Name: "n", Add: 1})
	if n := count(s); n != 2 {
		t.Fatalf("%d results remembered after two hours", n)
	}
}

func TestClockFollowsThePeer(t *testing.T) {
	s, d := open(t)
	ahead := time.Now().Add(time.Minute).UnixNano()
	e := Entry{ID: OpID{1}, Time: ahead}
	data, err := EncodeEntry(&e)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Propose(context.Background(), data); err != nil {
		t.Fatal(err)
	}
	if got := s.clock(); got <= ahead {
		t.Fatalf("our next entry is earlier than one that is applied here")
	}
	e.Time = time.Now().Add(24 * time.Hour).UnixNano()
	data, _ = EncodeEntry(&e)
	if _, _, err := d.Propose(context.Background(), data); err != nil {
		t.Fatal(err)
	}
	if got := s.clock(); got > time.Now().Add(time.Hour).UnixNano() {
		t.Fatal("a peer with a wrong clock drags ours along")
	}
}

func TestTakeoverDelaysWhatWasUnderWay(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	mustDo(t, s, EpochStart{Epoch: 1, Owner: "a", Phase: PhasePair})
	var out Delivered
	if err := s.Do(ctx, []Operation{Deliver{Body: body(9), Size: 10, Queue: &QueueAdd{
		Message: model.QueueMessage{From: "a@b.test"},
		Rcpts:   []model.QueueRcpt{{Address: "x@y.test"}, {Address: "z@w.test"}, {Address: "v@u.test"}},
	}}}, &out); err != nil {
		t.Fatal(err)
	}
	q := out.Queue
	var n Changed
	if err := s.Do(ctx, []Operation{Started{Node: 0, Rcpts: []StartedFor{{Queue: q, N: 0}, {Queue: q, N: 1}, {Queue: 999, N: 0}}}}, &n); err != nil || n.N != 2 {
		t.Fatalf("%+v %v", n, err)
	}
	mustDo(t, s, Attempt{Queue: q, Results: []AttemptResult{{N: 1, Outcome: model.OutcomeDeferred, Next: 1, Reason: "busy"}}})
	now := s.clock()
	// The node's own take-over, after a mere restart, delays nothing; the peer's does, once.
	n = Changed{}
	if err := s.Do(ctx, []Operation{Takeover{Node: 0, Delay: TakeoverDelay}}, &n); err != nil || n.N != 0 {
		t.Fatalf("%+v %v", n, err)
	}
	for i, want := range []int{1, 0} {
		n = Changed{}
		if err := s.Do(ctx, []Operation{Takeover{Node: 1, Delay: TakeoverDelay}}, &n); err != nil || n.N != want {
			t.Fatalf("take-over %d: %+v %v", i, n, err)
		}
	}
	_, rcpts, err := s.Queued(q)
	if err != nil {
		t.Fatal(err)
	}
	if rcpts[0].Next < now+TakeoverDelay || !strings.Contains(rcpts[0].Reason, "twice") {
		t.Errorf("under way, but tried at once: %+v", rcpts[0])
	}
	if rcpts[1].Next != 1 || rcpts[1].Reason != "busy" || rcpts[2].Next > now {
		t.Errorf("delayed without need: %+v", rcpts[1:])
	}
	if due, _, _ := s.DueBefore(now, 10); len(due) != 2 {
		t.Errorf("due: %+v", due)
	}
}
