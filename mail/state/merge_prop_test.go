package state

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"mailplusd/mail/model"

	"pgregory.net/rapid"
)

// place names a message of one side: mailbox and UID.
type place struct {
	box model.MailboxID
	uid model.UID
}

// seenAll is every (mailbox, UID) that ever named a message, on whatever side, and by what.
type seenAll map[place]model.BodyID

type sideView struct {
	boxes map[model.MailboxID]model.Mailbox
	msgs  map[place]model.MessageState
}

// look reads a side, and fails when a UID names another message than it did anywhere before.
func look(t *rapid.T, s *side, seen seenAll) sideView {
	v := sideView{map[model.MailboxID]model.Mailbox{}, map[place]model.MessageState{}}
	for account := model.AccountID(1); account <= 2; account++ {
		list, err := s.Mailboxes(account)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			v.boxes[m.ID] = m
			if _, err := s.View(m.ID, 1, 1<<32-1, func(st *model.MessageState) bool {
				p := place{m.ID, st.UID}
				if b, ok := seen[p]; ok && b != st.Body {
					t.Fatalf("mailbox %x %q: UID %d names body %x and %x", uint64(m.ID), m.Name, st.UID, b[:2], st.Body[:2])
				}
				seen[p] = st.Body
				cp := *st
				cp.Keywords = nil
				v.msgs[p] = cp
				return true
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return v
}

// step does one random operation; refusals are fine.
func step(t *rapid.T, s *side, next *int) {
	boxes := []model.Mailbox{}
	for account := model.AccountID(1); account <= 2; account++ {
		list, err := s.Mailboxes(account)
		if err != nil {
			t.Fatal(err)
		}
		boxes = append(boxes, list...)
	}
	account := model.AccountID(rapid.IntRange(1, 2).Draw(t, "account"))
	name := rapid.SampledFrom([]string{"X", "Y", "X/Z"}).Draw(t, "name")
	fresh := func() (b model.BodyID) {
		*next++
		b[0], b[1], b[31] = byte(*next), byte(*next>>8), 1
		return b
	}
	pick := func() model.Mailbox {
		if len(boxes) == 0 {
			return model.Mailbox{ID: 999}
		}
		return boxes[rapid.IntRange(0, len(boxes)-1).Draw(t, "box")]
	}
	uids := func(m model.Mailbox) (out []model.UID) {
		if _, err := s.View(m.ID, 1, 1<<32-1, func(st *model.MessageState) bool {
			if rapid.IntRange(0, 2).Draw(t, "uid") == 0 {
				out = append(out, st.UID)
			}
			return true
		}); err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		return out
	}
	flags := func() model.Flags { return model.Flags(rapid.IntRange(0, 31).Draw(t, "flags")) }
	var op Operation
	switch rapid.IntRange(0, 12).Draw(t, "op") {
	case 0, 1:
		op = Deliver{Body: fresh(), Size: 5, Meta: []byte("m"), Local: []DeliverTo{{Account: account}}}
	case 2:
		op = Deliver{Body: fresh(), Size: 5, Local: []DeliverTo{{Account: 1, Flags: flags()}, {Account: 2, Use: model.UseJunk}}}
	case 3:
		op = Append{Mailbox: pick().ID, Items: []AppendItem{{Body: fresh(), Size: 7, Flags: flags()}, {Body: fresh(), Size: 7}}}
	case 4, 5:
		m := pick()
		op = SetFlags{Mailbox: m.ID, UIDs: uids(m), Mode: FlagMode(rapid.IntRange(0, 2).Draw(t, "mode")), Flags: flags()}
	case 6:
		m := pick()
		op = Expunge{Mailbox: m.ID, UIDs: uids(m)}
	case 7, 8:
		m, to := pick(), pick()
		if to.Account != m.Account {
			return
		}
		op = Copy{From: m.ID, To: to.ID, UIDs: uids(m), Move: rapid.Bool().Draw(t, "move")}
	case 9:
		op = MailboxCreate{Account: account, Name: name}
	case 10:
		op = MailboxRename{Mailbox: pick().ID, Name: name}
	case 11:
		op = MailboxDelete{Mailbox: pick().ID}
	case 12:
		op = KeptRestore{To: pick().ID, From: someKept(t, s, account)}
	}
	err := s.Do(context.Background(), []Operation{op})
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrExists) && !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}

// someKept chooses from what an account can get back.
func someKept(t *rapid.T, s *side, account model.AccountID) (out []MessageRef) {
	keptOf(t, s, account, func(k *KeptMessage) {
		if rapid.Bool().Draw(t, "give back") {
			out = append(out, k.Ref())
		}
	})
	return out
}

func keptOf(t *rapid.T, s *side, account model.AccountID, fn func(*KeptMessage)) {
	list, err := s.Mailboxes(account)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := s.GoneMailboxes(account)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range gone {
		list = append(list, g.Row)
	}
	for _, m := range list {
		if err := s.Kept(m.ID, func(k *KeptMessage) bool { fn(k); return true }); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMergeLosesNothing: a random common past, random work on both sides of a split, and a
// merge of either into the other, also one that breaks off and begins again.
func TestMergeLosesNothing(t *testing.T) {
	// covers: R11.16 I.75
	rapid.Check(t, func(rt *rapid.T) {
		seen, next := seenAll{}, 0
		work := func(s *side, what string) {
			for range rapid.IntRange(0, 12).Draw(rt, what) {
				step(rt, s, &next)
				look(rt, s, seen)
			}
		}
		var before sideView
		x := cut(t, true, func(_ testing.TB, s *side) {
			work(s, "before")
			before = look(rt, s, seen)
		})
		work(x.a, "on a")
		work(x.b, "on b")
		a, b := look(rt, x.a, seen), look(rt, x.b, seen)
		loser, winner, node, id := x.a, x.b, uint16(0), "a"
		if rapid.Bool().Draw(rt, "a wins") {
			loser, winner, node, id = x.b, x.a, 1, "b"
		}
		r, err := loser.NewReplay(id, node, x.fork)
		if err != nil {
			rt.Fatal(err)
		}
		whole, broken := newSide(t, 0, winner.log.log), newSide(t, 0, winner.log.log)
		whole.seq.Store(1 << 62)
		broken.seq.Store(1<<62 + 1<<61)
		if _, _, err := r.Run(context.Background(), into(whole, 0)); err != nil {
			rt.Fatal(err)
		}
		for {
			stop := rapid.IntRange(0, 6).Draw(rt, "stop")
			_, _, err := r.Run(context.Background(), into(broken, stop))
			if err == nil {
				break
			}
			if !errors.Is(err, errCut) {
				rt.Fatal(err)
			}
		}
		if x.digest(whole) != x.digest(broken) {
			rt.Fatal("a merge that was broken off and begun again came to something else")
		}
		m := look(rt, whole, seen)
		x.accounts(whole)
		checkMerged(rt, before, a, b, m)
		checkKept(rt, whole, seen, m)
		r.Close()
		for _, s := range []*side{x.a, x.b, whole, broken} {
			s.Close()
		}
	})
}

// checkKept: what ever came, on whatever side, is in a mailbox or can be given back.
func checkKept(t *rapid.T, s *side, seen seenAll, m sideView) {
	there := map[model.BodyID]bool{}
	for _, st := range m.msgs {
		there[st.Body] = true
	}
	for account := model.AccountID(1); account <= 2; account++ {
		keptOf(t, s, account, func(k *KeptMessage) { there[k.State.Body] = true })
	}
	for p, body := range seen {
		if !there[body] {
			t.Fatalf("body %x, which was message %v, is in no mailbox and can't be given back", body[:2], p)
		}
	}
}

func checkMerged(t *rapid.T, before, a, b, m sideView) {
	for id, box := range m.boxes {
		for _, old := range []sideView{before, a, b} {
			o, ok := old.boxes[id]
			if !ok || o.GUID != box.GUID {
				continue
			}
			if box.UIDValidity != o.UIDValidity || box.UIDNext < o.UIDNext || box.HighestModSeq < o.HighestModSeq {
				t.Fatalf("mailbox %q went back: %+v, was %+v", box.Name, box, o)
			}
		}
	}
	type slot struct {
		box  model.MailboxID
		body model.BodyID
	}
	where := func(v sideView, p place) model.MailboxID { // where a side's mailbox is after the merge
		if _, ok := m.boxes[p.box]; ok {
			return p.box
		}
		o := v.boxes[p.box]
		for id, box := range m.boxes {
			if box.Account == o.Account && box.Name == o.Name {
				return id
			}
		}
		return 0
	}
	wanted := map[slot]int{}
	anywhere := map[model.BodyID]bool{}
	got := map[slot]int{}
	for p, st := range m.msgs {
		anywhere[st.Body] = true
		got[slot{p.box, st.Body}]++
	}
	for p, old := range before.msgs {
		x, onA := a.msgs[p]
		y, onB := b.msgs[p]
		if onA && onB { // expunged by nobody: same place, same UID, flags by the rule
			now, ok := m.msgs[p]
			if !ok {
				t.Fatalf("message %v was expunged by nobody and is gone", p)
			}
			if want := old.Flags ^ (old.Flags ^ x.Flags) ^ (old.Flags^y.Flags)&^(old.Flags^x.Flags); now.Flags != want {
				t.Fatalf("message %v: flags %b, on the sides %b and %b, before %b; want %b", p, now.Flags, x.Flags, y.Flags, old.Flags, want)
			}
			wanted[slot{p.box, old.Body}]++
			continue
		}
		kept := x
		if onB {
			kept = y
		}
		changed := old.Flags ^ kept.Flags
		if (onA || onB) && changed != 0 && !(changed == model.FlagDeleted && kept.Flags&model.FlagDeleted != 0) && !anywhere[old.Body] {
			t.Fatalf("message %v was expunged on one side, changed on the other, and is nowhere", p)
		}
	}
	added := [2]map[slot]int{{}, {}}
	for i, v := range []sideView{a, b} {
		for p, st := range v.msgs {
			if _, old := before.msgs[p]; old {
				continue
			}
			to := where(v, p)
			if to == 0 {
				t.Fatalf("mailbox %q with new mail is gone", v.boxes[p.box].Name)
			}
			added[i][slot{to, st.Body}]++
		}
	}
	for s, n := range added[0] {
		added[1][s] = max(n, added[1][s])
	}
	for s, n := range added[1] {
		wanted[s] += n
	}
	for s, n := range wanted {
		if got[s] != n && m.boxes[s.box].Name != RecoveredMailbox {
			t.Fatalf("mailbox %q has body %x %d times, want %d", m.boxes[s.box].Name, s.body[:2], got[s], n)
		}
		delete(got, s)
	}
	for s, n := range got {
		if m.boxes[s.box].Name != RecoveredMailbox {
			t.Fatalf("mailbox %q has body %x %d times, want none: %s", m.boxes[s.box].Name, s.body[:2], n, fmt.Sprint(len(wanted)))
		}
	}
}
