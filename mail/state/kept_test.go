package state

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"mailplusd/mail/model"
)

func keepDays(t testing.TB, s *State, days int) {
	t.Helper()
	if err := s.ChangeSettings(context.Background(), func(m *model.Settings) error { return m.Set("storage.keep-expunged", fmt.Sprint(days)) }); err != nil {
		t.Fatal(err)
	}
}

func kept(t testing.TB, s *State, id model.MailboxID) (out []KeptMessage) {
	t.Helper()
	if err := s.Kept(id, func(k *KeptMessage) bool { out = append(out, *k); return true }); err != nil {
		t.Fatal(err)
	}
	return out
}

func refsOf(t testing.TB, s *State, b model.BodyID) (n uint64) {
	t.Helper()
	if err := s.Bodies(func(id model.BodyID, refs uint64) bool {
		if id == b {
			n = refs
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestExpungedIsGivenBack: flags, keywords, dates and parsed headers come back under a new UID, the
// mailbox's counters never see what is kept, and the body keeps exactly one holder.
func TestExpungedIsGivenBack(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	p := deliver(t, s, 1, 1).Local[0]
	deliver(t, s, 2, 1)
	mustDo(t, s, SetFlags{Mailbox: p.Mailbox, UIDs: []model.UID{1}, Flags: model.FlagFlagged | model.FlagDeleted, Keywords: []string{"$Work"}})
	was, err := s.Message(p.Mailbox, 1)
	if err != nil {
		t.Fatal(err)
	}
	mustDo(t, s, Expunge{Mailbox: p.Mailbox, UIDs: []model.UID{1}})
	m, _ := s.Mailbox(p.Mailbox)
	if m.Messages != 1 || m.Size != 100 || m.Kept != 1 || m.KeptSize != 100 {
		t.Errorf("%+v", m)
	}
	if _, err := s.Message(p.Mailbox, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("an expunged message can still be read: %v", err)
	}
	list := kept(t, s, p.Mailbox)
	if len(list) != 1 || list[0].State.UID != 1 || string(list[0].Meta) != "meta" || fmt.Sprint(list[0].Keywords) != "[$Work]" || list[0].At == 0 {
		t.Fatalf("%+v", list)
	}
	archive, _ := s.MailboxID(1, "Archive")
	var out KeptRestored
	ref := list[0].Ref()
	if err := s.Do(ctx, []Operation{KeptRestore{To: archive, From: []MessageRef{ref, ref, {Mailbox: 999, UID: 1}}}}, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Placed) != 1 || out.Placed[0].UID != 1 || out.Placed[0].Mailbox != archive {
		t.Fatalf("%+v", out)
	}
	now, err := s.Message(archive, 1)
	if err != nil || now.Flags != model.FlagFlagged || now.Date != was.Date || now.Size != was.Size || now.Body != was.Body || now.GUID != was.GUID || len(now.Keywords) != 1 {
		t.Errorf("%+v, was %+v: %v", now, was, err)
	}
	if meta, err := s.Meta(archive, 1); err != nil || string(meta) != "meta" {
		t.Errorf("%q %v", meta, err)
	}
	if n := refsOf(t, s, body(1)); n != 1 {
		t.Errorf("%d references", n)
	}
	if m, _ := s.Mailbox(p.Mailbox); m.Kept != 0 || m.KeptSize != 0 || len(kept(t, s, p.Mailbox)) != 0 {
		t.Errorf("%+v", m)
	}
}

// TestMovedIsNotKept: what was moved is not expunged.
func TestMovedIsNotKept(t *testing.T) {
	s, _ := open(t)
	p := deliver(t, s, 1, 1).Local[0]
	trash, _ := s.MailboxID(1, "Trash")
	mustDo(t, s, Copy{From: p.Mailbox, To: trash, UIDs: []model.UID{1}, Move: true})
	if list := kept(t, s, p.Mailbox); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if n := refsOf(t, s, body(1)); n != 1 {
		t.Errorf("%d references", n)
	}
}

// TestDeletedMailboxIsGivenBack: a deleted mailbox and a deleted account can be found and emptied
// into others; a mailbox of the same name is another one.
func TestDeletedMailboxIsGivenBack(t *testing.T) {
	s, _ := open(t)
	deliver(t, s, 9, 1)
	var made MailboxCreated
	if err := s.Do(context.Background(), []Operation{MailboxCreate{Account: 1, Name: "Work"}}, &made); err != nil {
		t.Fatal(err)
	}
	work := made.Mailbox.ID
	mustDo(t, s, Append{Mailbox: work, Items: []AppendItem{{Body: body(1), Size: 10, Keywords: []string{"k"}}, {Body: body(2), Size: 20}, {Body: body(3), Size: 30}}})
	mustDo(t, s, Expunge{Mailbox: work, UIDs: []model.UID{2}})
	mustDo(t, s, MailboxDelete{Mailbox: work})
	if id, _ := s.MailboxID(1, "Work"); id != 0 {
		t.Fatal("the name is still there")
	}
	if _, err := s.Mailbox(work); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	mustDo(t, s, MailboxCreate{Account: 1, Name: "Work"})
	gone, err := s.GoneMailboxes(1)
	if err != nil || len(gone) != 1 || gone[0].Row.Name != "Work" || gone[0].Row.Messages != 2 || gone[0].Row.Kept != 1 {
		t.Fatalf("%+v %v", gone, err)
	}
	list := kept(t, s, work)
	if len(list) != 3 {
		t.Fatalf("%+v", list)
	}
	again, _ := s.MailboxID(1, "Work")
	for i := range list { // one by one: the last one takes the mailbox away
		mustDo(t, s, KeptRestore{To: again, From: []MessageRef{list[i].Ref()}})
	}
	if gone, _ := s.GoneMailboxes(1); len(gone) != 0 {
		t.Errorf("%+v", gone)
	}
	if m, _ := s.Mailbox(again); m.Messages != 3 || m.Size != 60 || fmt.Sprint(m.Keywords) != "[k]" {
		t.Errorf("%+v", m)
	}
	mustDo(t, s, AccountDelete{Account: 1, User: "carol"})
	if ids, err := s.GoneAccounts("carol"); err != nil || fmt.Sprint(ids) != "[1]" {
		t.Errorf("%v %v", ids, err)
	}
	if ids, err := s.GoneAccounts(""); err != nil || len(ids) != 0 {
		t.Errorf("%v %v", ids, err)
	}
	for b := byte(1); b <= 3; b++ {
		if n := refsOf(t, s, body(b)); n != 1 {
			t.Errorf("body %d: %d references", b, n)
		}
	}
}

// TestPurgeForgetsWhatIsTooOld and nothing else, in pieces, and a second run does nothing.
func TestPurgeForgetsWhatIsTooOld(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s, err := Open(Options{Dir: t.TempDir(), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetProposer(&direct{s: s})
	p := deliver(t, s, 1, 1).Local[0]
	deliver(t, s, 2, 1)
	var made MailboxCreated
	if err := s.Do(context.Background(), []Operation{MailboxCreate{Account: 1, Name: "Big"}}, &made); err != nil {
		t.Fatal(err)
	}
	items := make([]AppendItem, 25)
	for i := range items {
		items[i] = AppendItem{Body: body(byte(100 + i)), Size: 1}
	}
	mustDo(t, s, Append{Mailbox: made.Mailbox.ID, Items: items})
	mustDo(t, s, Expunge{Mailbox: p.Mailbox, UIDs: []model.UID{1}})
	mustDo(t, s, Expunge{Mailbox: made.Mailbox.ID, UIDs: []model.UID{3}})
	mustDo(t, s, MailboxDelete{Mailbox: made.Mailbox.ID})
	first := now.Unix()
	now = now.Add(time.Hour)
	mustDo(t, s, Expunge{Mailbox: p.Mailbox, UIDs: []model.UID{2}})
	if some, err := s.KeptBefore(first); some || err != nil {
		t.Errorf("something is older than the first expunge: %v", err)
	}
	total, rounds := 0, 0
	for {
		var out KeptPurged
		if err := s.Do(context.Background(), []Operation{KeptPurge{Before: first + 1, Limit: 10}}, &out); err != nil {
			t.Fatal(err)
		}
		total += out.Messages
		if rounds++; !out.More {
			break
		}
	}
	if total != 26 || rounds < 3 {
		t.Errorf("%d messages in %d rounds, want 26", total, rounds)
	}
	if some, err := s.KeptBefore(first + 1); some || err != nil {
		t.Errorf("something is left: %v", err)
	}
	if list := kept(t, s, p.Mailbox); len(list) != 1 || list[0].State.UID != 2 {
		t.Errorf("%+v", list)
	}
	if gone, _ := s.GoneMailboxes(1); len(gone) != 0 {
		t.Errorf("%+v", gone)
	}
	if un, _ := s.Unreferenced(1<<60, 100); len(un) != 26 {
		t.Errorf("%d bodies without references, want 26", len(un))
	}
}

// TestNothingIsKeptWhenSwitchedOff also drops what was kept before with its mailbox.
func TestNothingIsKeptWhenSwitchedOff(t *testing.T) {
	s, _ := open(t)
	deliver(t, s, 9, 1)
	archive, _ := s.MailboxID(1, "Archive")
	mustDo(t, s, Append{Mailbox: archive, Items: []AppendItem{{Body: body(1), Size: 10}, {Body: body(2), Size: 20}}})
	mustDo(t, s, Expunge{Mailbox: archive, UIDs: []model.UID{1}})
	keepDays(t, s, 0)
	mustDo(t, s, Expunge{Mailbox: archive, UIDs: []model.UID{2}})
	if list := kept(t, s, archive); len(list) != 1 {
		t.Errorf("%+v", list)
	}
	mustDo(t, s, MailboxDelete{Mailbox: archive})
	if gone, _ := s.GoneMailboxes(1); len(gone) != 0 {
		t.Errorf("%+v", gone)
	}
	if some, _ := s.KeptBefore(1 << 40); some {
		t.Error("something is kept")
	}
	if un, _ := s.Unreferenced(1<<60, 10); len(un) != 2 {
		t.Errorf("%+v", un)
	}
}
