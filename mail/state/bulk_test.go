package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"mailplusd/mail/model"
)

// boxOf makes a mailbox of n messages.
func boxOf(t *testing.T, n int) (*State, model.MailboxID) {
	t.Helper()
	s, _ := open(t)
	var box MailboxCreated
	op := Append{}
	for i := range n {
		op.Items = append(op.Items, AppendItem{Body: model.BodyID{byte(i), byte(i >> 8)}, Size: int64(i + 1), Meta: []byte(fmt.Sprint("meta", i+1)), Keywords: []string{fmt.Sprint("k", i%3)}})
	}
	if err := s.Do(context.Background(), []Operation{MailboxCreate{Account: 1, Name: "a"}}, &box); err != nil {
		t.Fatal(err)
	}
	op.Mailbox = box.Mailbox.ID
	if err := s.Do(context.Background(), []Operation{op}, nil); err != nil {
		t.Fatal(err)
	}
	return s, box.Mailbox.ID
}

// TestManyAtOnce: messages read by the thousand with one iterator are treated as those that are
// read one by one, holes in the list and gone messages included.
func TestManyAtOnce(t *testing.T) {
	ctx := context.Background()
	const n = 2500
	s, a := boxOf(t, n)
	var to MailboxCreated
	if err := s.Do(ctx, []Operation{MailboxCreate{Account: 1, Name: "b"}}, &to); err != nil {
		t.Fatal(err)
	}
	b := to.Mailbox.ID
	var odd, backwards []model.UID
	for uid := model.UID(1); uid <= n+50; uid += 2 { // and some that are not there
		odd = append(odd, uid)
		backwards = append([]model.UID{uid}, backwards...)
	}
	var flagged FlagsChanged
	if err := s.Do(ctx, []Operation{SetFlags{Mailbox: a, UIDs: odd, Mode: FlagsAdd, Flags: model.FlagDeleted, Keywords: []string{"new"}}}, &flagged); err != nil {
		t.Fatal(err)
	}
	if len(flagged.Changed) != n/2 {
		t.Fatalf("%d changed", len(flagged.Changed))
	}
	for _, uids := range [][]model.UID{odd, backwards} {
		var copied Copied
		if err := s.Do(ctx, []Operation{Copy{From: a, To: b, UIDs: uids}}, &copied); err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(slices.Clone(uids), func(u model.UID) bool { return u > n })
		if !slices.Equal(copied.From, want) {
			t.Fatalf("copied %d of %d, or in another order", len(copied.From), len(want))
		}
		for i, u := range copied.To {
			meta, err := s.Meta(b, u)
			if err != nil || string(meta) != fmt.Sprint("meta", copied.From[i]) {
				t.Fatalf("copy of %d has the headers %q %v", copied.From[i], meta, err)
			}
			st, err := s.Message(b, u)
			if err != nil || st.Size != int64(copied.From[i]) || st.Flags != model.FlagDeleted || len(st.Keywords) != 2 {
				t.Fatalf("%+v %v", st, err)
			}
		}
	}
	var gone Expunged
	if err := s.Do(ctx, []Operation{Expunge{Mailbox: a, UIDs: odd, OnlyDeleted: true}}, &gone); err != nil || len(gone.UIDs) != n/2 {
		t.Fatalf("%d %v", len(gone.UIDs), err)
	}
	c, err := s.Changes(a, flagged.ModSeq)
	if err != nil || len(c.Expunged) != n/2 || len(c.Changed) != 0 || c.Mailbox.Messages != n/2 {
		t.Fatalf("%d expunged, %d changed, %d left, %v", len(c.Expunged), len(c.Changed), c.Mailbox.Messages, err)
	}
	if c, err = s.Changes(a, 1); err != nil || len(c.Changed) != n/2 || c.Changed[0].UID != 2 || len(c.Changed[0].Keywords) != 1 {
		t.Fatalf("%d changed, %v", len(c.Changed), err)
	}
	// too many keywords on one message refuse the whole
	var names []string
	for i := range model.MaxMessageKeywords {
		names = append(names, fmt.Sprint("x", i))
	}
	if err := s.Do(ctx, []Operation{SetFlags{Mailbox: a, UIDs: []model.UID{2, 4, 6, 8, 10, 12}, Mode: FlagsAdd, Keywords: names}}); !errors.Is(err, ErrLimit) {
		t.Fatal(err)
	}
}

// TestTombstonesAreForgotten: their number is bounded, the oldest go first, and who asks for
// what was forgotten is told so.
func TestTombstonesAreForgotten(t *testing.T) {
	defer func(m, k uint32) { maxTombstones, keepTombstones = m, k }(maxTombstones, keepTombstones)
	maxTombstones, keepTombstones = 20, 10
	ctx := context.Background()
	s, box := boxOf(t, 60)
	modseq := map[model.UID]uint64{}
	for uid := model.UID(1); uid <= 50; uid++ {
		var out Expunged
		if err := s.Do(ctx, []Operation{Expunge{Mailbox: box, UIDs: []model.UID{uid}}}, &out); err != nil {
			t.Fatal(err)
		}
		modseq[uid] = out.ModSeq
		m, err := s.Mailbox(box)
		if err != nil || m.Tombstones > maxTombstones {
			t.Fatalf("%+v %v", m, err)
		}
		for first := model.UID(1); first <= uid; first++ {
			since := modseq[first] - 1
			uids, ok, err := s.Expunged(box, since, out.ModSeq)
			if err != nil || ok != (since >= m.Forgotten) {
				t.Fatalf("since %d: %v %v, forgotten up to %d", since, ok, err, m.Forgotten)
			}
			if ok && len(uids) != int(uid-first)+1 {
				t.Fatalf("since the expunge of %d: %v", first, uids)
			}
		}
	}
	m, err := s.Mailbox(box)
	if err != nil || m.Forgotten < modseq[30] || m.Messages != 10 {
		t.Fatalf("%+v %v", m, err)
	}
}
