package mail

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
)

// covers: I.13
func TestTrimAdminLog(t *testing.T) {
	st, _ := statetest.Open(t)
	s := &Server{State: st, leading: func() bool { return true }, log: slog.New(slog.DiscardHandler)}
	ctx := context.Background()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	if err := st.Update(ctx, func(tx *state.Tx) error {
		set, err := state.LoadSettings(tx)
		if err != nil {
			return err
		}
		set.Log.AdminDays = 30
		return state.StoreSettings(tx, set)
	}); err != nil {
		t.Fatal(err)
	}
	for day := range 1200 { // more than one batch is too old
		at := now.AddDate(0, 0, -20).Add(time.Duration(-day) * time.Hour)
		if err := st.Update(ctx, func(tx *state.Tx) error {
			return state.AdminLog.Put(tx, &model.AdminEvent{Time: at.UnixNano(), Actor: "root", Op: "test"})
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.TrimAdminLog(ctx, now); err != nil {
		t.Fatal(err)
	}
	kept, err := state.AdminLog.List(st, "")
	if err != nil || len(kept) != 241 {
		t.Errorf("%d lines are kept, want 241 (10 days of 24 and the edge); %v", len(kept), err)
	}
}

// What the other node's state and this one's have forgotten goes from this disk, too; what has come
// and is named only later stays.
func TestFollowerSweeps(t *testing.T) {
	st, _ := statetest.Open(t)
	bodies, err := segment.Open(segment.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bodies.Close() })
	hold := false
	s := &Server{State: st, Bodies: bodies, leading: func() bool { return false }, hold: func() bool { return hold }, log: slog.New(slog.DiscardHandler)}
	ctx := context.Background()
	put := func(text string) segment.ID {
		id, _, err := bodies.Put(ctx, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	var box model.MailboxID
	name := func(id segment.ID) {
		if box == 0 {
			if err := st.Do(ctx, []state.Operation{state.MailboxCreate{Account: 1, Name: "X"}}); err != nil {
				t.Fatal(err)
			}
			if box, err = st.MailboxID(1, "X"); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.Do(ctx, []state.Operation{state.Append{Mailbox: box, Items: []state.AppendItem{{Body: model.BodyID(id), Size: 1}}}}); err != nil {
			t.Fatal(err)
		}
	}
	kept, late, garbage, again := put("named"), put("named later"), put("named by nothing"), put("stored again")
	name(kept)
	now := time.Now()
	sweep := func() {
		t.Helper()
		if err := s.CollectBodies(ctx, now); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	young := put("came after the first look")
	name(late)
	put("stored again") // somebody is about to name it
	now = now.Add(nameless)
	hold = true
	sweep()
	if !bodies.Has(garbage) {
		t.Fatal("removed although bodies are held")
	}
	hold = false
	sweep()
	for id, want := range map[segment.ID]bool{kept: true, late: true, young: true, again: true, garbage: false} {
		if bodies.Has(id) != want {
			t.Errorf("%s is there: %v, want %v", id, !want, want)
		}
	}
	now = now.Add(nameless)
	sweep()
	if bodies.Has(young) {
		t.Error("what nothing has named for an hour stays")
	}
}

// Mail that a merge has recovered goes after 30 days, by the node that acts, and nothing else does.
func TestEmptyRecovered(t *testing.T) {
	st, _ := statetest.Open(t)
	leads := false
	s := &Server{State: st, Store: store.New(st, nil), leading: func() bool { return leads }, log: slog.New(slog.DiscardHandler)}
	ctx := context.Background()
	for _, name := range []string{state.RecoveredMailbox, "Other"} {
		for account := model.AccountID(1); account <= 2; account++ {
			if err := st.Do(ctx, []state.Operation{state.MailboxCreate{Account: account, Name: name}}); err != nil {
				t.Fatal(err)
			}
			box, err := st.MailboxID(account, name)
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Do(ctx, []state.Operation{state.Append{Mailbox: box, Items: []state.AppendItem{{Body: model.BodyID{1}, Size: 1, Date: 1}}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func(name string) (n uint32) {
		t.Helper()
		boxes, err := st.MailboxesWhere(func(m *model.Mailbox) bool { return m.Name == name })
		if err != nil || len(boxes) != 2 {
			t.Fatal(boxes, err)
		}
		return boxes[0].Messages + boxes[1].Messages
	}
	for _, tc := range []struct {
		days int
		lead bool
		want uint32
	}{{31, false, 2}, {29, true, 2}, {31, true, 0}} {
		leads = tc.lead
		if err := s.EmptyRecovered(ctx, time.Now().AddDate(0, 0, tc.days)); err != nil {
			t.Fatal(err)
		}
		if got := count(state.RecoveredMailbox); got != tc.want {
			t.Errorf("after %d days, acting %v: %d messages, want %d", tc.days, tc.lead, got, tc.want)
		}
	}
	if count("Other") != 2 {
		t.Error("other mail was removed")
	}
}

// What lies in a Junk mailbox, whatever its name, goes 30 days after it was filed there, be the
// message as old as it may; other mail stays. Once a day, by the node that acts.
// covers: I.18 R9.09 R9.10
func TestPurgeJunk(t *testing.T) {
	st, log := statetest.Open(t)
	leads := true
	s := &Server{State: st, Store: store.New(st, nil), leading: func() bool { return leads }, log: slog.New(slog.DiscardHandler)}
	ctx := context.Background()
	boxes := map[string]model.MailboxID{}
	for name, use := range map[string]model.SpecialUse{"Verdacht": model.UseJunk, "Junk of mine": "", "INBOX": model.UseInbox} {
		if err := st.Do(ctx, []state.Operation{state.MailboxCreate{Account: 1, Name: name, Use: use}}); err != nil {
			t.Fatal(err)
		}
		var err error
		if boxes[name], err = st.MailboxID(1, name); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(n int) {
		t.Helper()
		for _, box := range boxes {
			items := make([]state.AppendItem, n)
			for i := range items {
				items[i] = state.AppendItem{Body: model.BodyID{1}, Size: 1, Date: 1}
			}
			if err := st.Do(ctx, []state.Operation{state.Append{Mailbox: box, Items: items}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(what string, days, junk int) {
		t.Helper()
		if err := s.PurgeJunk(ctx, time.Now().AddDate(0, 0, days)); err != nil {
			t.Fatal(err)
		}
		for name, box := range boxes {
			m, err := st.Mailbox(box)
			want := 1200
			if name == "Verdacht" {
				want = junk
			}
			if err != nil || int(m.Messages) != want {
				t.Errorf("%s: %s has %d messages, want %d: %v", what, name, m.Messages, want, err)
			}
		}
	}
	set := func(days string) {
		t.Helper()
		if err := st.ChangeSettings(ctx, func(m *model.Settings) error { return m.Set("storage.junk-days", days) }); err != nil {
			t.Fatal(err)
		}
	}
	fill(1200)
	check("after 29 days", 29, 1200)
	leads = false
	check("after 31 days, the other node acts", 31, 1200)
	leads = true
	before := len(log.Entries)
	check("after 31 days", 31, 0)
	if n := len(log.Entries) - before; n != 3 {
		t.Errorf("%d entries for 1200 messages", n)
	}
	for name, box := range boxes { // what is expunged can be given back for a time
		if m, _ := st.Mailbox(box); (name == "Verdacht") != (m.Kept == 1200) {
			t.Errorf("%s keeps %d", name, m.Kept)
		}
	}
	set("0")
	s.junkPurged = time.Time{}
	if err := st.Do(ctx, []state.Operation{state.Append{Mailbox: boxes["Verdacht"], Items: []state.AppendItem{{Body: model.BodyID{1}, Size: 1, Date: 1}}}}); err != nil {
		t.Fatal(err)
	}
	check("for ever", 3000, 1)
	set("2")
	check("after a day", 1, 1)
	check("again on the same day", 1, 1)
	check("after two days, within a day of the last run", 2, 1)
	check("after three", 3, 0)
	if err := st.ChangeSettings(ctx, func(m *model.Settings) error { return m.Set("storage.junk-days", "-1") }); err == nil {
		t.Error("-1 days are taken")
	}
}
