package state

import (
	"context"
	"slices"
	"strings"
	"testing"

	"mailplusd/mail/model"
)

func enqueue(t testing.TB, s *side, n byte, rcpts ...string) model.QueueID {
	t.Helper()
	op := Deliver{Body: body(n), Size: 10, Queue: &QueueAdd{Message: model.QueueMessage{From: "a@b.test"}}}
	for _, r := range rcpts {
		op.Queue.Rcpts = append(op.Queue.Rcpts, model.QueueRcpt{Address: r, Domain: "y.test"})
	}
	var out Delivered
	if err := s.Do(context.Background(), []Operation{op}, &out); err != nil {
		t.Fatal(err)
	}
	return out.Queue
}

// queued lists what is still to be sent, as body:recipient.
func queued(t testing.TB, s *side) string {
	t.Helper()
	var out []string
	err := s.QueueScan(0, func(q *model.QueueMessage, list []model.QueueRcpt) bool {
		for _, r := range list {
			out = append(out, string('0'+rune(q.Body[0]))+":"+r.Address)
		}
		if int(q.Open) != len(list) {
			t.Errorf("message %d says %d open recipients, there are %d", q.ID, q.Open, len(list))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestSplitQueue(t *testing.T) {
	// covers: I.77
	var first, second model.QueueID
	x := cut(t, true, func(t testing.TB, s *side) {
		first = enqueue(t, s, 1, "x", "y", "z")
		second = enqueue(t, s, 2, "x")
	})
	done := func(id model.QueueID, n uint32) Attempt {
		return Attempt{Queue: id, Results: []AttemptResult{{N: n, Outcome: model.OutcomeDelivered}}}
	}
	mustDo(t, x.a.State, done(first, 0))
	mustDo(t, x.b.State, done(first, 1), done(second, 0))
	mustDo(t, x.a.State, QueueChange{Action: QueueHold, Queue: first, Rcpts: []uint32{2}})
	qa, qb := enqueue(t, x.a, 3, "x"), enqueue(t, x.b, 4, "x", "y")
	if qa == qb {
		t.Fatal("one number for two messages")
	}
	mustDo(t, x.b.State, done(qb, 0))
	mustDo(t, x.b.State, done(enqueue(t, x.b, 5, "x"), 0))
	// An entry that was proposed on a and, without an answer, again on b; b has sent it.
	e := Entry{ID: OpID{9}, Time: x.a.clock(), Once: true}
	op, err := NewOp(Deliver{Body: body(6), Size: 1, Queue: &QueueAdd{Rcpts: []model.QueueRcpt{{Address: "x"}, {Address: "y"}}}})
	if err != nil {
		t.Fatal(err)
	}
	e.Ops = []Op{op}
	data, err := EncodeEntry(&e)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*side{x.a, x.b} {
		raw, _, err := s.log.Propose(context.Background(), data)
		if err != nil {
			t.Fatal(err)
		}
		var out Delivered
		if err := decodeResult(raw, []any{&out}); err != nil {
			t.Fatal(err)
		}
		if s == x.b {
			mustDo(t, s.State, done(out.Queue, 0))
		}
	}
	x.both(func(t testing.TB, w *side, _ *MergeReport) {
		if got := queued(t, w); got != "1:z 3:x 4:y 6:y" {
			t.Errorf("queue: %s", got)
		}
		_, list, err := w.Queued(first)
		if err != nil || len(list) != 1 || list[0].State != model.QueueHeld {
			t.Errorf("%+v %v", list, err)
		}
		if due, _, _ := w.DueBefore(1<<62, 10); len(due) != 3 {
			t.Errorf("due: %+v", due)
		}
	})
}

func TestSplitRowsAndCounters(t *testing.T) {
	ctx := context.Background()
	token := func(s *side, name string, hash byte) {
		err := s.Update(ctx, func(tx *Tx) error { return Tokens.Put(tx, &model.Token{Name: name, User: "u", Hash: []byte{hash}}) })
		if err != nil {
			t.Fatal(err)
		}
	}
	password := func(s *side, name, hash string) {
		err := s.Update(ctx, func(tx *Tx) error {
			tx.Own()
			return Users.Put(tx, &model.User{ID: 1, Name: name, Hash: hash})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	x := cut(t, true, func(t testing.TB, s *side) {
		for _, name := range []string{"u", "v"} {
			id := model.AccountID(len(name) + int(name[0]))
			if err := s.Update(ctx, func(tx *Tx) error { return Users.Put(tx, &model.User{ID: id, Name: name, Hash: "old"}) }); err != nil {
				t.Fatal(err)
			}
		}
		token(s, "t", 1)
		mustDo(t, s.State, Counter{Name: "n", Add: 10})
	})
	password(x.a, "u", "from a") // a new ID: refused on b, allowed on a, which owns the settings
	token(x.a, "t", 2)
	logged := &model.AdminEvent{Time: 0x0102_0304_fafb_fcfd, Actor: "root"} // whose key is no text
	for _, s := range []*side{x.a, x.b} {                                   // whichever loses
		if err := s.Update(ctx, func(tx *Tx) error { return AdminLog.Put(tx, logged) }); err != nil {
			t.Fatal(err)
		}
		logged = &model.AdminEvent{Time: logged.Time + 1, Actor: "alice"}
	}
	x.b.now = nowPlus(1) // b is later
	err := x.b.Update(ctx, func(tx *Tx) error {
		u, err := Users.Get(tx, "v")
		if err != nil {
			return err
		}
		u.Hash = "from b"
		tx.Own()
		return Users.Put(tx, u)
	})
	if err != nil {
		t.Fatal(err)
	}
	token(x.b, "t", 3)
	token(x.b, "only b", 4)
	mustDo(t, x.a.State, Counter{Name: "n", Add: 5})
	mustDo(t, x.b.State, Counter{Name: "n", Add: -3})
	x.both(func(t testing.TB, w *side, rep *MergeReport) {
		if n, _ := w.Counter("n"); n != 12 {
			t.Errorf("counter %d, want 12", n)
		}
		if log, err := AdminLog.List(w, ""); err != nil || len(log) != 2 {
			t.Errorf("admin log of both sides: %+v %v", log, err)
		}
		v, err := Users.Get(w, "v")
		if err != nil || v.Hash != "from b" {
			t.Errorf("own password of the other side: %+v %v", v, err)
		}
		var names []string
		for _, hash := range []byte{2, 3, 4} {
			list, err := Tokens.Find(w, IndexTokenHash, string([]byte{hash}))
			if err != nil || len(list) != 1 {
				t.Fatalf("token %d: %+v %v", hash, list, err)
			}
			names = append(names, list[0].Name)
		}
		if names[1] != "t" || !strings.HasPrefix(names[0], "t (conflict ") || names[2] != "only b" {
			t.Errorf("tokens %q: the later one keeps the name", names)
		}
	})
	// Settings of the side that owns them: held by b only when b is merged into a.
	w := newSide(t, 0, x.b.log.log)
	w.seq.Add(1 << 41)
	rep := x.merge(x.a, w)
	if rep.Counts.Settings == 0 || !slices.ContainsFunc(rep.Lines, func(l string) bool { return strings.Contains(l, `user "u"`) }) {
		t.Errorf("a setting was passed over in silence: %+v", rep)
	}
}

func TestDigestSeesEverySpace(t *testing.T) {
	ctx := context.Background()
	s := newSide(t, 0, nil)
	seen := map[[32]byte]bool{}
	fresh := func(what string) {
		t.Helper()
		d, err := s.Digest(ctx)
		if err != nil || d.Applied != s.Applied() {
			t.Fatalf("%+v %v", d, err)
		}
		if seen[d.Sum] {
			t.Errorf("%s changes nothing", what)
		}
		seen[d.Sum] = true
	}
	fresh("nothing")
	deliver(t, s.State, 1, 1)
	fresh("a message")
	inbox := s.inbox(t)
	before, err := s.MailboxDigest(inbox)
	if err != nil {
		t.Fatal(err)
	}
	mustDo(t, s.State, flagOp(inbox, 1, model.FlagSeen))
	fresh("a flag")
	if d, err := s.MailboxDigest(inbox); err != nil || d.Hash == before.Hash || d.Messages != 1 || d.UIDNext != 2 {
		t.Errorf("%+v %v", d, err)
	}
	q := enqueue(t, s, 2, "x")
	fresh("a queued message")
	mustDo(t, s.State, QueueChange{Action: QueueHold, Queue: q})
	fresh("a held recipient")
	if err := s.ChangeSettings(ctx, func(m *model.Settings) error { return m.Set("delivery.max-hops", "9") }); err != nil {
		t.Fatal(err)
	}
	fresh("a setting")
	mustDo(t, s.State, Counter{Name: "n", Add: 1})
	fresh("a counter")
	mustDo(t, s.State, EpochStart{Epoch: 1, Owner: "a", Phase: PhasePair})
	fresh("an epoch")
	mustDo(t, s.State, Started{Node: 1, Rcpts: []StartedFor{{Queue: q}}})
	fresh("an attempt")
	mustDo(t, s.State, Reply{Account: 1, Sender: make([]byte, senderOctets), Period: 1, Most: 1})
	fresh("a reply")
	other := newSide(t, 0, s.log.log)
	d1, _ := s.Digest(ctx)
	d2, err := other.Digest(ctx)
	if err != nil || d1 != d2 {
		t.Errorf("one log, two digests: %v", err)
	}
	mustDo(t, s.State, Counter{Name: "n", Add: 0})
	if d, _ := s.Digest(ctx); d.Sum != d1.Sum {
		t.Error("an entry without effect changes the digest")
	}
}

func TestJournalIsCut(t *testing.T) {
	defer func(n uint64) { journalCount = n }(journalCount)
	journalCount = 20
	s := newSide(t, 0, nil)
	count := func() (n int) {
		h := s.acquire()
		defer h.release()
		it, err := h.NewIter(rangeOf([]byte{spaceJournal}))
		if err != nil {
			t.Fatal(err)
		}
		defer it.Close()
		for it.First(); it.Valid(); it.Next() {
			n++
		}
		return n
	}
	run := func(n int) {
		for range n {
			mustDo(t, s.State, Counter{Name: "n", Add: 1})
		}
	}
	run(5)
	if n := count(); n != 0 {
		t.Errorf("a single node keeps %d lines", n)
	}
	mustDo(t, s.State, EpochStart{Epoch: 1, Owner: "a", Phase: PhasePair})
	run(100)
	if n := count(); n < 20 || n > 41 {
		t.Errorf("in sync: %d lines of generations of 20", n)
	}
	mustDo(t, s.State, PairSet{Epoch: 1, Phase: PhaseSolo})
	before := count()
	run(100)
	if n := count(); n != before+100 {
		t.Errorf("alone: %d lines, want %d", n, before+100)
	}
	mustDo(t, s.State, PairSet{Epoch: 1, Phase: PhasePair})
	if n := count(); n != 0 {
		t.Errorf("in sync again: %d lines", n)
	}
	if _, err := s.NewReplay("a", 0, 3); err == nil {
		t.Error("a fork before the journal begins")
	}
	mustDo(t, s.State, PairSet{Epoch: 1, Phase: PhaseSingle})
	run(3)
	if n := count(); n != 0 {
		t.Errorf("single again: %d lines", n)
	}
	if err := s.Do(context.Background(), []Operation{Merge{}}); err == nil {
		t.Error("a merge into a node that knows nothing of what it did")
	}
}
