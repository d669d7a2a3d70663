package mail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/commit"
	"mailplusd/mail/directory"
	"mailplusd/mail/flow"
	"mailplusd/mail/maillog"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/smtpd"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
)

type noLog struct{}

func (noLog) Emit(maillog.Event) {}

// sending is a server with the users alice, bob and carol in example.test, as far as it takes to send.
type sending struct {
	t    *testing.T
	st   *state.State
	dir  *directory.Directory
	com  *commit.Committer
	log  *statetest.Log
	noon time.Time
}

func newSending(t *testing.T) *sending {
	t.Helper()
	st, log := statetest.Open(t)
	bodies, err := segment.Open(segment.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bodies.Close() })
	s := &sending{t: t, st: st, log: log, dir: directory.New(st, slog.New(slog.DiscardHandler)), noon: time.Now()}
	s.com = &commit.Committer{
		Chain: Chain, Store: store.New(st, bodies), Log: noLog{}, Slog: slog.New(slog.DiscardHandler), Now: time.Now, NewID: smtpd.NewID,
		Sign: func(*flow.Envelope, []byte, []byte) []byte { return nil },
	}
	s.change(func(tx *state.Tx) error {
		for i, name := range []string{"alice", "bob", "carol"} {
			u := &model.User{ID: model.AccountID(i + 1), Name: name, Activation: model.ActivationActivate}
			if err := state.Users.Put(tx, u); err != nil {
				return err
			}
			if err := state.DomainUsers.Put(tx, &model.DomainUser{Domain: "example.test", User: name, Locals: []string{name}}); err != nil {
				return err
			}
		}
		return state.Domains.Put(tx, &model.Domain{Name: "example.test"})
	})
	return s
}

func (s *sending) change(fn func(*state.Tx) error) {
	s.t.Helper()
	if err := s.st.Update(context.Background(), fn); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sending) policy(change func(*model.Policy), users ...string) {
	p := model.DefaultPolicy()
	p.Name, p.Rank, p.Users = "of "+users[0], 1, users
	change(p)
	s.change(func(tx *state.Tx) error { return state.Policies.Put(tx, p) })
}

func (s *sending) forward(user string, keep bool, to ...string) {
	s.change(func(tx *state.Tx) error {
		return state.AutoForwards.Put(tx, &model.AutoForward{User: user, To: to, Keep: keep})
	})
}

// envelope is a message of 100 octets from alice, who has logged in.
func (s *sending) envelope(rcpts ...string) *flow.Envelope {
	s.t.Helper()
	pic, err := s.dir.Now()
	if err != nil {
		s.t.Fatal(err)
	}
	e := &flow.Envelope{
		ID: smtpd.NewID(), Direction: flow.Out, At: s.noon, Actor: pic.User("alice"), Settings: s.st.Current(), Directory: pic, Usage: s.st.Usage,
		From: message.Address{Local: "alice", Domain: "example.test"}, Body: []byte("Subject: x\r\n\r\n" + strings.Repeat("x", 86)),
	}
	for _, to := range rcpts {
		a, err := message.ParseMailbox(to, true)
		if err != nil {
			s.t.Fatal(err)
		}
		r := &flow.Recipient{Address: a}
		if v := Chain.Run(context.Background(), flow.Rcpt, e, r); v.Action != flow.Pass {
			s.t.Fatal(to, v)
		}
		e.Rcpts = append(e.Rcpts, r)
	}
	return e
}

// fromOutside makes it a message of somebody else.
func fromOutside(e *flow.Envelope) *flow.Envelope {
	e.Direction, e.Actor, e.From = flow.In, nil, message.Address{Local: "x", Domain: "outside.test"}
	return e
}

func (s *sending) commit(e *flow.Envelope) error {
	s.t.Helper()
	e.Facts = flow.Inspect(e.Body, e.Settings)
	sp := s.com.Store.NewSpool(0)
	if _, err := sp.Write(e.Body); err != nil {
		s.t.Fatal(err)
	}
	_, err := s.com.Commit(context.Background(), e, sp, model.UseInbox)
	return err
}

// sent shows the counts as "messages/octets", and who has how many messages and what is queued.
func (s *sending) sent() string {
	s.t.Helper()
	var out []string
	pic, err := s.dir.Now()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, a := range pic.Users {
		u, err := s.st.Usage(a.ID)
		if err != nil {
			s.t.Fatal(err)
		}
		boxes, err := s.st.Mailboxes(a.ID)
		if err != nil {
			s.t.Fatal(err)
		}
		n := 0
		for _, b := range boxes {
			n += int(b.Messages)
		}
		out = append(out, fmt.Sprintf("%s %d/%d has %d", a.Name, u.Messages, u.Octets, n))
	}
	queued := 0
	if err := s.st.QueueScan(0, func(_ *model.QueueMessage, list []model.QueueRcpt) bool { queued += len(list); return true }); err != nil {
		s.t.Fatal(err)
	}
	return strings.Join(out, ", ") + fmt.Sprintf(", %d queued", queued)
}

func (s *sending) wants(want string) {
	s.t.Helper()
	if got := s.sent(); got != want {
		s.t.Errorf("%s, want\n%s", got, want)
	}
}

// TestCountedSending: what a user sends counts once, here and elsewhere, however many get it; what
// others send to him, and what the server itself writes, does not.
func TestCountedSending(t *testing.T) {
	// covers: I.35 R5.63 R5.64 R5.71 R5.72 R8.84 R8.86
	s := newSending(t)
	for _, e := range []*flow.Envelope{
		s.envelope("bob@example.test"), s.envelope("x@outside.test", "y@outside.test", "bob@example.test"), fromOutside(s.envelope("alice@example.test")),
	} {
		if err := s.commit(e); err != nil {
			t.Fatal(err)
		}
	}
	own := s.envelope("bob@example.test")
	own.Direction, own.Actor, own.From = flow.Own, nil, message.Address{}
	if err := s.commit(own); err != nil {
		t.Fatal(err)
	}
	s.wants("alice 2/200 has 1, bob 0/0 has 3, carol 0/0 has 0, 2 queued")
	s.policy(func(p *model.Policy) { p.DailyCount = "2" }, "alice")
	err := s.commit(s.envelope("bob@example.test"))
	var over *state.OverLimit
	if !errors.As(err, &over) || over.Account != 1 {
		t.Fatalf("a third of two: %v", err)
	}
	s.wants("alice 2/200 has 1, bob 0/0 has 3, carol 0/0 has 0, 2 queued")
	e := s.envelope("bob@example.test")
	if v := Chain.Run(context.Background(), flow.Mail, e, nil); v.Code != 452 || v.Enhanced != [3]int{4, 7, 1} || v.Stage != "daily-limit" || !strings.Contains(v.Private, "policy of alice") {
		t.Errorf("at MAIL: %v", v)
	}
	if v := e.Exhausted(over.Usage, e.Size); v.Code != 452 || !strings.Contains(v.Public, "Daily limit of 2 messages is reached; it starts anew at ") {
		t.Errorf("at the end: %v", v)
	}
	e.At = e.At.AddDate(0, 0, 1)
	if v := Chain.Run(context.Background(), flow.Mail, e, nil); v.Action != flow.Pass {
		t.Errorf("the next day: %v", v)
	}
	e.At = s.noon.AddDate(0, 0, 2)
	if err := s.commit(e); err != nil {
		t.Errorf("another day: %v", err)
	}
	s.wants("alice 1/100 has 1, bob 0/0 has 4, carol 0/0 has 0, 2 queued")
}

// TestCountedForwards: a forward counts for him who has set it, and at his limit his mail is kept; no
// mail is refused or lost for it.
func TestCountedForwards(t *testing.T) {
	// covers: I.32 R5.59
	s := newSending(t)
	s.forward("bob", false, "x@outside.test", "y@outside.test", "carol@example.test")
	s.forward("carol", true, "z@outside.test")
	if err := s.commit(fromOutside(s.envelope("bob@example.test"))); err != nil {
		t.Fatal(err)
	}
	s.wants("alice 0/0 has 0, bob 1/100 has 0, carol 1/100 has 1, 3 queued")
	s.policy(func(p *model.Policy) { p.DailyCount = "1" }, "bob")
	if err := s.commit(fromOutside(s.envelope("bob@example.test"))); err != nil {
		t.Fatal(err)
	}
	s.wants("alice 0/0 has 0, bob 1/100 has 1, carol 1/100 has 1, 3 queued")
	// When this node doesn't know yet, the state machine decides, and the mail is kept all the same.
	e, before := fromOutside(s.envelope("bob@example.test", "carol@example.test")), len(s.log.Entries)
	e.Usage = func(model.AccountID) (model.Usage, error) { return model.Usage{}, nil }
	if err := s.commit(e); err != nil {
		t.Fatal(err)
	}
	s.wants("alice 0/0 has 0, bob 1/100 has 2, carol 2/200 has 2, 4 queued")
	if n := len(s.log.Entries) - before; n != 2 {
		t.Errorf("%d entries, want the refused one and the other", n)
	}
	// What a user forwards by hand is an ordinary message of his.
	s.policy(func(p *model.Policy) { p.DisableAutoForward = "on" }, "alice")
	if err := s.commit(s.envelope("f@outside.test")); err != nil {
		t.Fatal(err)
	}
	// A notification that is forwarded counts for nobody.
	own := s.envelope("carol@example.test")
	own.Direction, own.Actor, own.From = flow.Own, nil, message.Address{}
	if err := s.commit(own); err != nil {
		t.Fatal(err)
	}
	s.wants("alice 1/100 has 0, bob 1/100 has 2, carol 2/200 has 3, 6 queued")
}

// TestToOneselfAndForwarded: who writes to himself and forwards that sends twice; when the limit is in
// between, the forward is what he does without.
func TestToOneselfAndForwarded(t *testing.T) {
	s := newSending(t)
	s.forward("alice", false, "x@outside.test")
	if err := s.commit(s.envelope("alice@example.test")); err != nil {
		t.Fatal(err)
	}
	s.wants("alice 2/200 has 0, bob 0/0 has 0, carol 0/0 has 0, 1 queued")
	s.policy(func(p *model.Policy) { p.DailyCount = "3" }, "alice")
	if err := s.commit(s.envelope("alice@example.test")); err != nil {
		t.Fatal(err)
	}
	s.wants("alice 3/300 has 1, bob 0/0 has 0, carol 0/0 has 0, 1 queued")
	if err := s.commit(s.envelope("alice@example.test")); !errors.Is(err, state.ErrOver) {
		t.Errorf("a fourth of three: %v", err)
	}
}

// TestInternalOnly: other servers' recipients are refused, also those of a forward.
func TestInternalOnly(t *testing.T) {
	// covers: R5.81 R5.82
	s := newSending(t)
	s.policy(func(p *model.Policy) { p.InternalOnly = true }, "alice", "bob")
	s.change(func(tx *state.Tx) error {
		return state.Aliases.Put(tx, &model.Alias{Domain: "example.test", Name: "team", Members: []model.AliasMember{{Kind: model.AliasExternal, Value: "w@outside.test"}}})
	})
	e := s.envelope("bob@example.test", "team@example.test")
	refused := func(want int) {
		t.Helper()
		v := Chain.Run(context.Background(), flow.Rcpt, e, &flow.Recipient{Address: message.Address{Local: "x", Domain: "outside.test"}})
		if v.Code != want {
			t.Errorf("%v, want %d", v, want)
		}
	}
	refused(550)
	e.Actor = e.Directory.User("carol")
	e.From.Local = "carol"
	refused(0)
	e.Actor, e.From.Local = nil, "alice" // from the local network, without a login: nobody's policy counts
	refused(0)
	s.forward("bob", false, "x@outside.test", "carol@example.test")
	if err := s.commit(fromOutside(s.envelope("bob@example.test"))); err != nil {
		t.Fatal(err)
	}
	s.wants("alice 0/0 has 0, bob 1/100 has 1, carol 0/0 has 1, 0 queued")
}

// TestSizes: of a message by the domain of the sender, of an attachment by policy or domain, of what
// comes from outside by the domain of the recipient.
func TestSizes(t *testing.T) {
	// covers: R5.76 R5.77 R5.80 R8.80 R8.82 I.37
	s := newSending(t)
	s.change(func(tx *state.Tx) error {
		return state.Domains.Put(tx, &model.Domain{Name: "example.test", Limits: model.DomainLimits{MessageMB: 4, AttachmentMB: "1"}})
	})
	file := func(mb float64) []byte {
		return []byte("Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("QUJD", int(mb*model.MB/3)))
	}
	check := func(e *flow.Envelope, phase flow.Phase, want int, stage string) {
		t.Helper()
		e.Facts = flow.Inspect(e.Body, e.Settings)
		if v := Chain.Run(context.Background(), phase, e, nil); v.Code != want || want != 0 && v.Stage != stage {
			t.Errorf("%v of %s, want %d", v, v.Stage, want)
		}
	}
	out := func(mb float64) *flow.Envelope { e := s.envelope("bob@example.test"); e.Body = file(mb); return e }
	check(out(0.99), flow.Data, 0, "")
	check(out(1.01), flow.Data, 552, "attachment-size")
	check(fromOutside(out(0.99)), flow.Data, 0, "")
	check(fromOutside(out(1.01)), flow.Data, 552, "attachment-size")
	s.policy(func(p *model.Policy) { p.AttachmentMB = "2" }, "alice", "bob")
	check(out(1.99), flow.Data, 0, "")
	check(out(2.01), flow.Data, 552, "attachment-size")
	check(fromOutside(out(1.01)), flow.Data, 552, "attachment-size") // whatever policy bob has
	s.policy(func(p *model.Policy) { p.AttachmentMB = "off" }, "alice")
	check(out(3), flow.Data, 0, "")
	for declared, want := range map[int64]int{4 * model.MB: 0, 4*model.MB + 1: 552} {
		e := s.envelope("bob@example.test")
		e.Declared = declared
		check(e, flow.Mail, want, "declared-size")
		fromOutside(e)
		check(e, flow.Mail, 0, "") // the system's limit holds
	}
	if e := s.envelope("bob@example.test"); e.MaxSize() != 4*model.MB || fromOutside(e).MaxSize() != 10*model.MB {
		t.Errorf("%d octets", e.MaxSize())
	}
}

// TestNoticeOfHeldForward: whose forward the state machine refuses keeps the mail, and who has asked for it
// hears that it is in the mailbox, as if that had been known from the start.
func TestNoticeOfHeldForward(t *testing.T) {
	s := newSending(t)
	s.forward("bob", false, "x@far.test")
	s.policy(func(p *model.Policy) { p.DailyCount = "1" }, "bob")
	asks := func() *flow.Envelope {
		e := fromOutside(s.envelope("bob@example.test"))
		e.Rcpts[0].Notify = "SUCCESS"
		return e
	}
	if err := s.commit(asks()); err != nil {
		t.Fatal(err)
	}
	s.wants("alice 0/0 has 0, bob 1/100 has 0, carol 0/0 has 0, 1 queued") // passed on, and with it what was asked for
	e := asks()
	e.Usage = func(model.AccountID) (model.Usage, error) { return model.Usage{}, nil } // this node doesn't know yet
	if err := s.commit(e); err != nil {
		t.Fatal(err)
	}
	s.wants("alice 0/0 has 0, bob 1/100 has 1, carol 0/0 has 0, 2 queued")
	told := 0
	err := s.st.QueueScan(0, func(q *model.QueueMessage, list []model.QueueRcpt) bool {
		if q.From == "" && len(list) == 1 && list[0].Address == "x@outside.test" {
			told++
		}
		return true
	})
	if err != nil || told != 1 {
		t.Errorf("%d notifications to the sender, want 1 %v", told, err)
	}
}
