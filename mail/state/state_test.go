package state

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"mailplusd/mail/model"
)

// direct is a log in memory: it applies at once.
type direct struct {
	mu    sync.Mutex
	s     *State
	index uint64
	log   []LogEntry
}

func (d *direct) Propose(_ context.Context, data []byte) ([]byte, uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.index++
	e := LogEntry{Index: d.index, Data: data}
	d.log = append(d.log, e)
	res, err := d.s.Apply([]LogEntry{e})
	if err != nil {
		return nil, 0, err
	}
	return res[0], d.index, nil
}

func open(t testing.TB) (*State, *direct) {
	t.Helper()
	s, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	d := &direct{s: s}
	s.SetProposer(d)
	return s, d
}

func body(n byte) (b model.BodyID) { b[0] = n; return b }

func deliver(t testing.TB, s *State, n byte, accounts ...model.AccountID) Delivered {
	t.Helper()
	op := Deliver{Body: body(n), Size: 100, Meta: []byte("meta")}
	for _, a := range accounts {
		op.Local = append(op.Local, DeliverTo{Account: a})
	}
	var out Delivered
	if err := s.Do(context.Background(), []Operation{op}, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDeliverMakesDefaultMailboxes(t *testing.T) {
	// covers: I.17
	s, _ := open(t)
	out := deliver(t, s, 1, 7, 8)
	if len(out.Local) != 2 || out.Local[0].UID != 1 || out.Local[1].UID != 1 || out.Local[0].Mailbox == out.Local[1].Mailbox {
		t.Fatalf("%+v", out)
	}
	list, err := s.Mailboxes(7)
	if err != nil {
		t.Fatal(err)
	}
	uses := map[model.SpecialUse]string{}
	for _, m := range list {
		uses[m.Use] = m.Name
	}
	for _, d := range model.DefaultMailboxes {
		if uses[d.Use] != d.Name {
			t.Errorf("%s is %q, want %q", d.Use, uses[d.Use], d.Name)
		}
	}
}

func TestFlagsExpungeCopyAndChanges(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	var inbox model.MailboxID
	for i := range 5 {
		inbox = deliver(t, s, byte(i+1), 1).Local[0].Mailbox
	}
	m, _ := s.Mailbox(inbox)
	since := m.HighestModSeq
	var ch FlagsChanged
	if err := s.Do(ctx, []Operation{SetFlags{Mailbox: inbox, UIDs: []model.UID{1, 2, 99}, Mode: FlagsAdd, Flags: model.FlagSeen, Keywords: []string{"$Forwarded"}}}, &ch); err != nil {
		t.Fatal(err)
	}
	if len(ch.Changed) != 2 || ch.ModSeq != since+1 {
		t.Fatalf("%+v", ch)
	}
	trash, _ := s.MailboxID(1, "Trash")
	var cp Copied
	if err := s.Do(ctx, []Operation{Copy{From: inbox, To: trash, UIDs: []model.UID{2, 3}, Move: true}}, &cp); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(cp.From, cp.To) != "[2 3] [1 2]" {
		t.Fatalf("%+v", cp)
	}
	st, err := s.Message(trash, 1)
	if err != nil || st.Flags != model.FlagSeen || len(st.Keywords) != 1 {
		t.Fatalf("%+v %v", st, err)
	}
	c, err := s.Changes(inbox, since)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Changed) != 1 || c.Changed[0].UID != 1 || fmt.Sprint(c.Expunged) != "[2 3]" {
		t.Fatalf("%+v", c)
	}
	if c.Mailbox.Messages != 3 || c.Mailbox.Unseen != 2 || c.Mailbox.UIDNext != 6 {
		t.Fatalf("%+v", c.Mailbox)
	}
}

func TestBodyIsUnreferencedOnlyWithoutHolder(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	keepDays(t, s, 0)
	out := deliver(t, s, 1, 1, 2)
	for i, p := range out.Local {
		if err := s.Do(ctx, []Operation{Expunge{Mailbox: p.Mailbox, UIDs: []model.UID{1}}}); err != nil {
			t.Fatal(err)
		}
		un, _ := s.Unreferenced(1<<60, 10)
		if want := i; len(un) != want {
			t.Fatalf("after %d expunges: %d unreferenced", i+1, len(un))
		}
	}
	un, _ := s.Unreferenced(1<<60, 10)
	deliver(t, s, 1, 3) // the same body again
	var d Dropped
	if err := s.Do(ctx, []Operation{BodiesDropped{Bodies: un}}, &d); err != nil || len(d.Bodies) != 0 {
		t.Fatalf("dropped a body in use: %+v %v", d, err)
	}
}

func TestRefusalLeavesNothing(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	err := s.Do(ctx, []Operation{
		Deliver{Body: body(1), Size: 1, Local: []DeliverTo{{Account: 5}}},
		MailboxDelete{Mailbox: 12345},
	})
	if err != ErrNotFound {
		t.Fatalf("err = %v", err)
	}
	if list, _ := s.Mailboxes(5); len(list) != 0 {
		t.Fatalf("half applied: %+v", list)
	}
}

func TestUpdateRetriesOnConflict(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := s.Update(ctx, func(tx *Tx) error { _, err := tx.Next("n"); return err }); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	row, err := Sequences.Get(s, "n")
	if err != nil || row.Last != 8 {
		t.Fatalf("%+v %v", row, err)
	}
}

func TestUniqueIndexRefusesSecondOwner(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	add := func(user string) error {
		return s.Update(ctx, func(tx *Tx) error {
			return DomainUsers.Put(tx, &model.DomainUser{Domain: "example.test", User: user, Locals: []string{"Info"}})
		})
	}
	if err := add("a"); err != nil {
		t.Fatal(err)
	}
	if err := add("b"); err == nil {
		t.Fatal("the same address for two users")
	}
	if err := s.Update(ctx, func(tx *Tx) error { return DomainUsers.Delete(tx, "example.test/a") }); err != nil {
		t.Fatal(err)
	}
	if err := add("b"); err != nil {
		t.Fatal(err)
	}
	got, err := DomainUsers.Find(s, IndexAddress, "info@example.test")
	if err != nil || len(got) != 1 || got[0].User != "b" {
		t.Fatalf("%+v %v", got, err)
	}
}

func TestReplayIsIdempotentAndDeterministic(t *testing.T) {
	a, d := open(t)
	for i := range 20 {
		deliver(t, a, byte(i%3+1), 1, 2)
	}
	b, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 2 { // the second time everything is skipped
		if _, err := b.Apply(d.log); err != nil {
			t.Fatal(err)
		}
	}
	for _, acc := range []model.AccountID{1, 2} {
		la, _ := a.Mailboxes(acc)
		lb, _ := b.Mailboxes(acc)
		if fmt.Sprint(la) != fmt.Sprint(lb) {
			t.Fatalf("differ:\n%v\n%v", la, lb)
		}
	}
}

func TestQueueLife(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	var out Delivered
	err := s.Do(ctx, []Operation{Deliver{Body: body(9), Size: 10, Queue: &QueueAdd{
		Message: model.QueueMessage{From: "a@b.test"},
		Rcpts:   []model.QueueRcpt{{Address: "x@y.test", Domain: "y.test"}, {Address: "z@w.test", Domain: "w.test"}},
	}}}, &out)
	if err != nil {
		t.Fatal(err)
	}
	due, _, err := s.DueBefore(1<<62, 10)
	if err != nil || len(due) != 2 {
		t.Fatalf("%v %v", due, err)
	}
	later := due[0].At + 5e9
	if err := s.Do(ctx, []Operation{Attempt{Queue: out.Queue, Results: []AttemptResult{
		{N: 0, Outcome: model.OutcomeDelivered}, {N: 1, Outcome: model.OutcomeDeferred, Next: later, Code: 450, Reason: "busy"},
	}}}); err != nil {
		t.Fatal(err)
	}
	due, next, _ := s.DueBefore(later-1, 10)
	if len(due) != 0 || next != later {
		t.Fatalf("%v %d", due, next)
	}
	if err := s.Do(ctx, []Operation{QueueChange{Action: QueueHold, Queue: out.Queue}}); err != nil {
		t.Fatal(err)
	}
	if due, _, _ := s.DueBefore(1<<62, 10); len(due) != 0 {
		t.Fatalf("held, but due: %v", due)
	}
	if err := s.Do(ctx, []Operation{QueueChange{Action: QueueClear, Queue: out.Queue}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Queued(out.Queue); err != ErrNotFound {
		t.Fatalf("still there: %v", err)
	}
	if un, _ := s.Unreferenced(1<<60, 5); len(un) != 1 {
		t.Fatalf("body not released: %v", un)
	}
}

func TestSettings(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	if err := s.ChangeSettings(ctx, func(m *model.Settings) error { return m.Set("delivery.max-recipients", "17") }); err != nil {
		t.Fatal(err)
	}
	if s.Current().Delivery.MaxRecipients != 17 || s.Current().Delivery.MaxHops != 50 {
		t.Fatalf("%+v", s.Current().Delivery)
	}
	err := s.ChangeSettings(ctx, func(m *model.Settings) error {
		m.Services.SMTP = model.Listener{Enabled: true, Port: 25}
		m.Services.SMTPS = model.Listener{Enabled: true, Port: 25}
		return nil
	})
	if err == nil || s.Current().Services.SMTP.Enabled {
		t.Fatalf("two listeners on one port: %v", err)
	}
}

func BenchmarkApplyDeliver(b *testing.B) {
	s, d := open(b)
	_ = d
	ctx := context.Background()
	meta := make([]byte, 800)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		var id model.BodyID
		id[0], id[1], id[2], id[3] = byte(i), byte(i>>8), byte(i>>16), 1
		if err := s.Do(ctx, []Operation{Deliver{Body: id, Size: 4096, Meta: meta, Local: []DeliverTo{{Account: model.AccountID(i%100 + 1)}}}}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestReplacingFlagsOfSeveral: each message gets what was asked for, whatever the one before it had.
func TestReplacingFlagsOfSeveral(t *testing.T) {
	s, _ := open(t)
	for n := range byte(3) {
		deliver(t, s, n+1, 1)
	}
	box, err := s.MailboxID(1, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	set := func(op SetFlags) {
		t.Helper()
		op.Mailbox = box
		if err := s.Do(context.Background(), []Operation{op}, new(FlagsChanged)); err != nil {
			t.Fatal(err)
		}
	}
	set(SetFlags{UIDs: []model.UID{2}, Mode: FlagsAdd, Keywords: []string{"$Label"}})
	set(SetFlags{UIDs: []model.UID{1, 2, 3}, Mode: FlagsSet, Keywords: []string{"work"}})
	for uid := model.UID(1); uid <= 3; uid++ {
		m, err := s.Message(box, uid)
		if err != nil || len(m.Keywords) != 1 || m.Keywords[0] != 1 {
			t.Errorf("UID %d has keywords %v, %v; want only work, the second of the mailbox", uid, m.Keywords, err)
		}
	}
}
