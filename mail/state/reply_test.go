package state

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"mailplusd/mail/model"
)

func replyTo(account model.AccountID, sender byte, n byte) Reply {
	return Reply{
		Account: account, Sender: bytes.Repeat([]byte{sender}, senderOctets), Period: int64(time.Hour), Most: 3,
		Deliver: []Deliver{{Body: body(n), Size: 1, Queue: &QueueAdd{Rcpts: []model.QueueRcpt{{Address: "x"}}}}},
	}
}

func sent(t testing.TB, s *State, r Reply) Replied {
	t.Helper()
	var out Replied
	if err := s.Do(context.Background(), []Operation{r}, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReplyOnce: a sender gets one reply in the period, whoever asks and however often.
func TestReplyOnce(t *testing.T) {
	now := splitTime
	s := newSide(t, 0, nil)
	s.now = func() time.Time { return now }
	mustDo(t, s.State, Counter{Name: "n", Add: 1})
	if !sent(t, s.State, replyTo(1, 'a', 1)).Sent || sent(t, s.State, replyTo(1, 'a', 2)).Sent {
		t.Error("not once")
	}
	if !sent(t, s.State, replyTo(2, 'a', 3)).Sent || !sent(t, s.State, replyTo(1, 'b', 4)).Sent || !sent(t, s.State, replyTo(1, 'c', 5)).Sent {
		t.Error("another account's or sender's reply is held back")
	}
	if out := sent(t, s.State, replyTo(1, 'd', 6)); out.Sent || !out.Full {
		t.Errorf("a fourth sender of three: %+v", out)
	}
	if got := queued(t, s); got != "1:x 3:x 4:x 5:x" {
		t.Errorf("queue: %s", got)
	}
	now = now.Add(time.Hour - time.Second)
	if sent(t, s.State, replyTo(1, 'a', 7)).Sent {
		t.Error("too early")
	}
	now = now.Add(2 * time.Second)
	if !sent(t, s.State, replyTo(1, 'd', 8)).Sent || !sent(t, s.State, replyTo(1, 'a', 9)).Sent {
		t.Error("what is over still counts")
	}
	if at, err := s.RepliedAt(1, bytes.Repeat([]byte{'b'}, senderOctets)); at != 0 || err != nil {
		t.Errorf("b is remembered beyond the period: %d %v", at, err)
	}
	mustDo(t, s.State, AccountDelete{Account: 1})
	if at, _ := s.RepliedAt(1, bytes.Repeat([]byte{'a'}, senderOctets)); at != 0 {
		t.Error("a deleted account remembers")
	}
	err := s.Do(context.Background(), []Operation{Reply{Account: 1, Sender: []byte("short")}})
	if err == nil {
		t.Error("a sender without a name")
	}
}

// TestReplyStaysWithTheRest: the mail and its reply are one entry; an entry that is repeated replies once.
func TestReplyStaysWithTheRest(t *testing.T) {
	s := newSide(t, 0, nil)
	deliver(t, s.State, 9, 7)
	op := Deliver{Body: body(1), Size: 10, Meta: []byte("m"), Local: []DeliverTo{{Account: 7}}}
	if err := s.Do(context.Background(), []Operation{op, replyTo(7, 'a', 2), Attempt{Queue: 999}}); err == nil {
		t.Fatal("an entry with an impossible part is applied")
	}
	if at, _ := s.RepliedAt(7, bytes.Repeat([]byte{'a'}, senderOctets)); at != 0 || queued(t, s) != "" {
		t.Error("half of an entry is applied")
	}
	var placed Delivered
	var out Replied
	if err := s.Do(context.Background(), []Operation{op, replyTo(7, 'a', 2)}, &placed, &out); err != nil || !out.Sent || len(placed.Local) != 1 {
		t.Fatalf("%+v %+v %v", placed, out, err)
	}
}

// TestSplitReplies: after a split the winner knows whom the loser has answered, and one entry that
// queued several messages on both sides is recognised part by part.
func TestSplitReplies(t *testing.T) {
	x := cut(t, true, func(t testing.TB, s *side) { sent(t, s.State, replyTo(1, 'o', 1)) })
	sent(t, x.a.State, replyTo(1, 'a', 2))
	sent(t, x.b.State, replyTo(1, 'b', 3))
	e := Entry{ID: OpID{9}, Time: x.a.clock(), Once: true}
	for n, to := range []string{"first", "second", "third"} {
		op, err := NewOp(Deliver{Body: body(6), Size: 1, Queue: &QueueAdd{Message: model.QueueMessage{From: string('a' + rune(n))}, Rcpts: []model.QueueRcpt{{Address: to}}}})
		if err != nil {
			t.Fatal(err)
		}
		e.Ops = append(e.Ops, op)
	}
	data, err := EncodeEntry(&e)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*side{x.a, x.b} {
		raw, _, err := s.log.Propose(context.Background(), data)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]Delivered, 3)
		if err := decodeResult(raw, []any{&out[0], &out[1], &out[2]}); err != nil {
			t.Fatal(err)
		}
		if s == x.b { // which has sent the second
			mustDo(t, s.State, Attempt{Queue: out[1].Queue, Results: []AttemptResult{{Outcome: model.OutcomeDelivered}}})
		}
	}
	x.both(func(t testing.TB, w *side, _ *MergeReport) {
		for _, sender := range "oab" {
			if at, err := w.RepliedAt(1, bytes.Repeat([]byte{byte(sender)}, senderOctets)); at == 0 || err != nil {
				t.Errorf("%c is forgotten: %v", sender, err)
			}
		}
		if got := queued(t, w); got != "1:x 2:x 3:x 6:first 6:third" {
			t.Errorf("queue: %s", got)
		}
	})
}

// TestOwnSettingsWhileReadOnly: a user's forward and reply can be changed on a node whose settings are
// read-only, and the later change holds after a merge; a domain's rules can't.
func TestOwnSettingsWhileReadOnly(t *testing.T) {
	ctx := context.Background()
	forward := func(s *side, to string) error {
		return s.Update(ctx, func(tx *Tx) error { return AutoForwards.Put(tx, &model.AutoForward{User: "u", To: []string{to}}) })
	}
	x := cut(t, true, func(t testing.TB, s *side) {
		if err := forward(s, "old"); err != nil {
			t.Fatal(err)
		}
	})
	x.b.now = nowPlus(1) // b is later
	if err := errors.Join(forward(x.a, "from a"), forward(x.b, "from b")); err != nil {
		t.Fatal(err)
	}
	err := x.b.Update(ctx, func(tx *Tx) error { return AutoReplies.Put(tx, &model.AutoReply{User: "u", Text: "away"}) })
	if err != nil {
		t.Error(err)
	}
	if err := x.b.Update(ctx, func(tx *Tx) error { return AutoBCCs.Put(tx, &model.AutoBCC{Domain: "d", Name: "n"}) }); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a domain's rule: %v", err)
	}
	x.both(func(t testing.TB, w *side, _ *MergeReport) {
		f, err := AutoForwards.Get(w, "u")
		r, rerr := AutoReplies.Get(w, "u")
		if err != nil || f.To[0] != "from b" || rerr != nil || r.Text != "away" {
			t.Errorf("%+v %v, %+v %v", f, err, r, rerr)
		}
	})
}
