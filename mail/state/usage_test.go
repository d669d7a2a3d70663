package state

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"mailplusd/mail/model"

	"pgregory.net/rapid"
)

func send(s *State, op Sent, n byte) error {
	return s.Do(context.Background(), []Operation{Deliver{Body: body(n), Size: op.Octets, Meta: []byte("m"), Local: []DeliverTo{{Account: 9}}}, op})
}

func usage(t testing.TB, s *State, account model.AccountID) model.Usage {
	t.Helper()
	u, err := s.Usage(account)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestSentWithTheMail: the count and the mail are one: at the limit neither is kept.
func TestSentWithTheMail(t *testing.T) {
	// covers: I.35 R5.63 R5.71
	s, _ := open(t)
	op := Sent{Account: 7, Day: 20000, Messages: 1, Octets: 400, MaxMessages: 3, MaxOctets: 1000}
	for range 2 {
		if err := send(s, op, 1); err != nil {
			t.Fatal(err)
		}
	}
	err := send(s, op, 2) // 1,200 octets
	var over *OverLimit
	if !errors.As(err, &over) || !errors.Is(err, ErrOver) || *over != (OverLimit{7, model.Usage{Day: 20000, Messages: 2, Octets: 800}}) {
		t.Fatalf("%v", err)
	}
	op.Octets = 200
	if err := send(s, op, 3); err != nil { // exactly 1,000
		t.Fatal(err)
	}
	op.MaxOctets = 0
	if err := send(s, op, 4); !errors.Is(err, ErrOver) {
		t.Fatalf("a fourth message of three: %v", err)
	}
	if u := usage(t, s, 7); u != (model.Usage{Day: 20000, Messages: 3, Octets: 1000}) {
		t.Errorf("%+v", u)
	}
	box := deliver(t, s, 5, 9).Local[0]
	if box.UID != 4 {
		t.Errorf("after three messages the next one has UID %d: what was refused is there", box.UID)
	}
	// Another part of the entry that is refused takes the count with it.
	if err := s.Do(context.Background(), []Operation{Sent{Account: 8, Day: 20000, Messages: 1, Octets: 1}, Attempt{Queue: 999}}); err == nil {
		t.Error("an impossible entry is applied")
	}
	if u := usage(t, s, 8); u != (model.Usage{}) {
		t.Errorf("%+v is counted without its mail", u)
	}
	if err := send(s, Sent{Account: 7, Day: 20000, Messages: -1}, 5); !errors.Is(err, ErrInvalid) {
		t.Errorf("a count of less than nothing: %v", err)
	}
	mustDo(t, s, AccountDelete{Account: 7})
	if u := usage(t, s, 7); u != (model.Usage{}) {
		t.Errorf("a deleted account has sent %+v", u)
	}
}

// TestSentAtOnce: however many messages are on their way, exactly as many are taken as the limit says.
func TestSentAtOnce(t *testing.T) {
	// covers: I.35
	s, _ := open(t)
	const limit, tries = 20, 64
	var taken atomic.Int32
	var wg sync.WaitGroup
	for i := range tries {
		wg.Go(func() {
			err := send(s, Sent{Account: 7, Day: 20000, Messages: 1, Octets: 10, MaxMessages: limit}, byte(i))
			switch {
			case err == nil:
				taken.Add(1)
			case !errors.Is(err, ErrOver):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if u := usage(t, s, 7); taken.Load() != limit || u.Messages != limit || u.Octets != 10*limit {
		t.Errorf("%d of %d were taken, %+v is counted", taken.Load(), tries, u)
	}
}

// TestSentModel holds the counts against a simple model: an account, its day, a sum.
func TestSentModel(t *testing.T) {
	// covers: I.35 R8.90 R8.91
	rapid.Check(t, func(r *rapid.T) {
		s := newSide(t, 0, nil)
		if rapid.Bool().Draw(r, "pair") {
			mustDo(t, s.State, EpochStart{Epoch: 1, Owner: "a", Phase: PhasePair, SettingsOwner: "a"})
		}
		want := map[model.AccountID]model.Usage{}
		day := model.Day(20000)
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			id := model.AccountID(rapid.IntRange(1, 3).Draw(r, "account"))
			switch rapid.IntRange(0, 9).Draw(r, "what") {
			case 0:
				day++
			case 1:
				mustDo(t, s.State, SentClear{Accounts: []model.AccountID{id}})
				delete(want, id)
			case 2:
				mustDo(t, s.State, SentClear{All: true})
				clear(want)
			case 3:
				mustDo(t, s.State, SentClear{}) // nobody
			default:
				op := Sent{Account: id, Day: day - model.Day(rapid.IntRange(0, 1).Draw(r, "late")), Messages: int64(rapid.IntRange(1, 2).Draw(r, "n")), Octets: int64(rapid.IntRange(0, 50).Draw(r, "octets"))}
				op.MaxMessages, op.MaxOctets = int64(rapid.SampledFrom([]int{0, 3, 5}).Draw(r, "most")), int64(rapid.SampledFrom([]int{0, 60, 100}).Draw(r, "most octets"))
				u := want[id]
				if u.Day != op.Day && u.Day != op.Day+1 {
					u = model.Usage{Day: op.Day}
				}
				fits := (op.MaxMessages == 0 || u.Messages+op.Messages <= op.MaxMessages) && (op.MaxOctets == 0 || u.Octets+op.Octets <= op.MaxOctets)
				if err := send(s.State, op, 1); (err == nil) != fits {
					r.Fatalf("%+v after %+v: %v", op, u, err)
				}
				if fits {
					want[id] = model.Usage{Day: u.Day, Messages: u.Messages + op.Messages, Octets: u.Octets + op.Octets}
				}
			}
		}
		got, err := s.Usages()
		if err != nil || len(got) != len(want) {
			r.Fatalf("%v, want %v: %v", got, want, err)
		}
		for id, u := range want {
			if got[id] != u || usage(t, s.State, id) != u {
				r.Fatalf("account %d: %+v, want %+v", id, got[id], u)
			}
		}
	})
}

// TestSentOnce: an entry that is proposed again, because its answer was lost, counts once.
func TestSentOnce(t *testing.T) {
	s := newSide(t, 0, nil)
	op, err := NewOp(Sent{Account: 7, Day: 20000, Messages: 1, Octets: 5, MaxMessages: 1})
	if err != nil {
		t.Fatal(err)
	}
	data, err := EncodeEntry(&Entry{ID: OpID{9}, Time: 1, Once: true, Ops: []Op{op}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		raw, _, err := s.log.Propose(context.Background(), data)
		if err == nil {
			err = decodeResult(raw, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if u := usage(t, s.State, 7); u.Messages != 1 {
		t.Errorf("%+v", u)
	}
}

// TestSplitSent: after a split both sides' counts are added, what one has cleared is taken off, and
// what is of a day that is over there is not.
func TestSplitSent(t *testing.T) {
	// covers: I.35 I.77
	one := func(account model.AccountID, day model.Day, octets int64) Sent {
		return Sent{Account: account, Day: day, Messages: 1, Octets: octets}
	}
	x := cut(t, true, func(t testing.TB, s *side) {
		for account := model.AccountID(1); account <= 5; account++ {
			mustDo(t, s.State, one(account, 100, 10), one(account, 100, 10))
		}
	})
	mustDo(t, x.a.State, one(1, 100, 1), one(6, 101, 7))
	mustDo(t, x.b.State, one(1, 100, 2), one(1, 100, 3))
	mustDo(t, x.a.State, SentClear{Accounts: []model.AccountID{2}}, one(2, 100, 4))
	mustDo(t, x.b.State, one(2, 100, 5))
	mustDo(t, x.a.State, one(3, 101, 6)) // the next day
	mustDo(t, x.b.State, one(3, 101, 7), one(3, 101, 8))
	mustDo(t, x.a.State, one(4, 101, 6)) // only there
	mustDo(t, x.a.State, SentClear{Accounts: []model.AccountID{5}})
	x.both(func(t testing.TB, w *side, _ *MergeReport) {
		got, err := w.Usages()
		if err != nil {
			t.Fatal(err)
		}
		for account, want := range map[model.AccountID]model.Usage{
			1: {Day: 100, Messages: 5, Octets: 26}, 2: {Day: 100, Messages: 2, Octets: 9}, 3: {Day: 101, Messages: 3, Octets: 21},
			4: {Day: 101, Messages: 1, Octets: 6}, 5: {}, 6: {Day: 101, Messages: 1, Octets: 7},
		} {
			if got[account] != want {
				t.Errorf("account %d: %+v, want %+v", account, got[account], want)
			}
		}
	})
}

// BenchmarkDeliverSent compares an entry with a count to one without.
func BenchmarkDeliverSent(b *testing.B) {
	for name, counted := range map[string]bool{"plain": false, "counted": true} {
		b.Run(name, func(b *testing.B) {
			s, _ := open(b)
			deliver(b, s, 1, 9)
			op := Deliver{Body: body(1), Size: 5000, Meta: make([]byte, 600), Local: []DeliverTo{{Account: 9}}}
			b.ResetTimer()
			for i := range b.N {
				ops := []Operation{op}
				if counted {
					ops = append(ops, Sent{Account: model.AccountID(i % 500), Day: 20000, Messages: 1, Octets: 5000, MaxMessages: 1 << 40})
				}
				if err := s.Do(context.Background(), ops); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
